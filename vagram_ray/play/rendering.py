"""Pictures of an environment without a screen: which renderer works here, and a camera for one environment."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from importlib.util import find_spec
from typing import Any

import gymnasium as gym
import numpy as np

from vagram_ray.envs import EnvironmentSpec, EnvironmentSpecError, SeedVectorEnv
from vagram_ray.play.errors import PlayError

BACKENDS = ("egl", "osmesa", "glfw")
"""MuJoCo's, in the order in which they are tried: EGL draws on a GPU where there is one, and needs no screen."""
PROBE_SECONDS = 60
_PROBE = """
import mujoco
model = mujoco.MjModel.from_xml_string("<mujoco><worldbody><geom size='1'/></worldbody></mujoco>")
data = mujoco.MjData(model)
mujoco.mj_forward(model, data)
with mujoco.Renderer(model, 16, 16) as renderer:
    renderer.update_scene(data)
    renderer.render()
"""
_DRAWN_WITHOUT_MUJOCO = ("gymnasium.envs.classic_control", "vagram_ray.envs")
_PACKAGES = (
    "for MuJoCo environments a renderer that needs no screen (on Debian and Ubuntu: apt-get install libegl1 "
    "libgl1-mesa-dri, or libosmesa6), for Pendulum and cartpole pip install 'gymnasium[classic-control]'"
)


def choose_renderer(env_id: str, works: Callable[[str], bool] | None = None) -> str | None:
    """Set ``MUJOCO_GL`` to the first renderer that works, unless it is set. Returns it.

    To be called before MuJoCo is imported, which looks at it once. Each renderer is tried in a process of its own,
    because a failed one cannot be taken back. Nothing is tried for environments that are drawn without MuJoCo.

    Args:
        env_id: Gymnasium id.
        works: Tells whether a renderer works (by default: by drawing a picture with it).

    Raises:
        PlayError: ``MUJOCO_GL`` is set to something else than a renderer.
    """
    # Pygame shall look for neither a screen nor a sound card.
    for variable in ("SDL_VIDEODRIVER", "SDL_AUDIODRIVER"):
        os.environ.setdefault(variable, "dummy")
    os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")
    chosen = os.environ.get("MUJOCO_GL")
    if _is_drawn_without_mujoco(env_id) or find_spec("mujoco") is None:
        return chosen
    if chosen:
        if chosen not in BACKENDS:
            raise PlayError(f"MUJOCO_GL={chosen!r} draws no pictures; unset it, or set it to {' or '.join(BACKENDS)}.")
        return chosen
    for backend in BACKENDS:
        if (works or renderer_works)(backend):
            os.environ["MUJOCO_GL"] = backend
            return backend
    return None


def renderer_works(backend: str) -> bool:
    """Whether MuJoCo draws with this renderer, in a process of its own."""
    environment = {**os.environ, "MUJOCO_GL": backend}
    environment.pop("PYOPENGL_PLATFORM", None)
    try:
        probe = subprocess.run(
            [sys.executable, "-c", _PROBE], env=environment, capture_output=True, timeout=PROBE_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        return False
    return probe.returncode == 0


@dataclass
class Camera:
    """Takes pictures of the environment that ``filmed_environment`` makes.

    Attributes:
        is_on: Whether a picture is taken after the next step.
        picture: The last one, (height, width, 3) uint8.
        step_seconds: Simulated seconds per step, as far as the environment tells.
    """

    is_on: bool = True
    picture: np.ndarray = field(default_factory=lambda: np.zeros((0, 0, 3), dtype=np.uint8))
    step_seconds: float | None = None
    _env: gym.Env | None = None

    def point_at(self, env: gym.Env) -> None:
        """Film this environment from now on."""
        self._env = env
        self.step_seconds = step_seconds(env)

    def shoot(self) -> None:
        """Take a picture of now.

        Raises:
            PlayError: The environment draws none here.
        """
        assert self._env is not None
        env_id = self._env.spec.id if self._env.spec else str(self._env)
        try:
            picture: Any = self._env.render()
        except Exception as error:  # each renderer has its own ways to fail
            raise _no_pictures(env_id, error) from error
        if not isinstance(picture, np.ndarray) or picture.ndim != 3 or picture.shape[2] != 3:
            raise PlayError(f"environment {env_id!r} draws no pictures; leave --video away.")
        self.picture = picture.astype(np.uint8)


class _Filmed(gym.Wrapper):
    """Has a picture taken after each step for which the camera is on."""

    def __init__(self, env: gym.Env, camera: Camera) -> None:
        super().__init__(env)
        self._camera = camera

    def step(self, action: Any) -> Any:
        result = self.env.step(action)
        if self._camera.is_on:
            self._camera.shoot()
        return result


@dataclass(frozen=True)
class _FilmedSpec(EnvironmentSpec):
    camera: Camera = field(default_factory=Camera, hash=False)

    def make(self, seed: int, *, evaluation: bool = False) -> gym.Env:
        env = super().make(seed, evaluation=evaluation)
        self.camera.point_at(env)
        return _Filmed(env, self.camera)


@contextmanager
def filmed_environment(spec: EnvironmentSpec, seed: int, camera: Camera) -> Iterator[SeedVectorEnv]:
    """The evaluation environment of one seed with a camera in it.

    Raises:
        PlayError: It cannot be drawn. The sentence names what to install.
    """
    keywords = {**spec.env_kwargs, "render_mode": "rgb_array"}
    given = {item.name: getattr(spec, item.name) for item in fields(spec)}
    filmed = _FilmedSpec(**{**given, "env_kwargs": keywords}, camera=camera)
    try:
        envs = SeedVectorEnv(filmed, (seed,), evaluation=True)
    except EnvironmentSpecError as error:
        if "render_mode" in str(error):
            raise PlayError(
                f"environment {spec.env_id!r} draws no pictures (it takes no render_mode='rgb_array'); "
                "leave --video away."
            ) from error
        raise _no_pictures(spec.env_id, error) from error
    try:
        yield envs
    finally:
        envs.close()


def check_pictures(spec: EnvironmentSpec, seed: int) -> None:
    """Draw one picture, so that what is missing shows before anything is played.

    Raises:
        PlayError: As ``filmed_environment`` and ``Camera.shoot``.
    """
    camera = Camera()
    with filmed_environment(spec, seed, camera) as envs:
        envs.reset()
        camera.shoot()


def step_seconds(env: gym.Env) -> float | None:
    """Simulated seconds per step (MuJoCo's and Pendulum's ``dt``, cartpole's ``tau``), or None if there is neither."""
    for name in ("dt", "tau"):
        value = env.get_wrapper_attr(name) if env.has_wrapper_attr(name) else None
        if isinstance(value, int | float) and value > 0:
            return float(value)
    return None


def _is_drawn_without_mujoco(env_id: str) -> bool:
    registered = gym.registry.get(env_id.rpartition(":")[2])
    return registered is not None and str(registered.entry_point).startswith(_DRAWN_WITHOUT_MUJOCO)


def _no_pictures(env_id: str, error: BaseException) -> PlayError:
    lines = str(error).strip().splitlines()
    reason = f"{type(error).__name__}: {lines[0].rstrip('.')}" if lines else type(error).__name__
    tried = os.environ.get("MUJOCO_GL") or f"none of {', '.join(BACKENDS)} works here"
    return PlayError(
        f"environment {env_id!r} cannot be drawn here ({reason}; MUJOCO_GL: {tried}); install what is missing, "
        f"{_PACKAGES}; or leave --video away."
    )
