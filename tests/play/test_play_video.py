"""Films: what is chosen, what is written, and one sentence where it cannot be done."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import gymnasium
import imageio_ffmpeg
import numpy as np
import pytest
from PIL import Image

from vagram_ray.commands import InputError
from vagram_ray.envs import EnvironmentSpec, SeedVectorEnv, never_terminates, register_termination
from vagram_ray.play.episodes import Episode, Policy, play_episodes
from vagram_ray.play.rendering import draw_without_screen
from vagram_ray.play.video import (
    HOLD_SECONDS,
    Film,
    caption,
    check_video_file,
    filmed,
    timing,
    with_caption,
    write_contact_sheet,
)

PENDULUM = EnvironmentSpec("Pendulum-v1", num_distractors=2, env_kwargs={"max_episode_steps": 30})


@pytest.fixture(autouse=True)
def own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MUJOCO_GL", "SDL_VIDEODRIVER", "SDL_AUDIODRIVER", "PYGAME_HIDE_SUPPORT_PROMPT", "PYOPENGL_PLATFORM"):
        monkeypatch.setenv(name, "")  # so that what is set in a test is taken back
        monkeypatch.delenv(name)


def push(obs: np.ndarray) -> np.ndarray:
    return np.sin(obs[:, :1] * 7).astype(np.float32)


def push_joints(obs: np.ndarray) -> np.ndarray:
    return np.repeat(push(obs), 3, axis=1)


def frames_of(path: Path) -> tuple[dict, list[np.ndarray]]:
    reader: Iterator = imageio_ffmpeg.read_frames(str(path))
    meta = next(reader)
    width, height = meta["size"]
    return meta, [np.frombuffer(frame, np.uint8).reshape(height, width, 3).astype(int) for frame in reader]


def shoot(spec: EnvironmentSpec, path: Path, push: Policy = push, num_episodes: int = 1) -> tuple[Film, list[Episode]]:
    film = Film(path)
    with filmed(spec, 2, film) as envs:
        return film, play_episodes(push, envs, num_episodes)


def check_film(spec: EnvironmentSpec, path: Path, push: Policy = push) -> None:
    """Film the first episode, read the file back, and look at its frames."""
    (played,) = play_episodes(push, SeedVectorEnv(spec, (2,), evaluation=True), 1)
    film, (episode,) = shoot(spec, path, push)
    np.testing.assert_array_equal(episode.obs, played.obs)
    meta, frames = frames_of(path)
    assert len(frames) == film.frames and meta["fps"] == pytest.approx(film.fps, abs=0.02)
    pictures = [frame[: -(frame.shape[0] // 10)] for frame in frames]  # without the caption
    assert np.abs(pictures[0] - pictures[-1]).max() > 50
    moving = pictures[: len(pictures) - round(HOLD_SECONDS * film.fps)]  # then the last state stays
    assert len(moving) == film.first_episode
    changes = [np.abs(before - after).max() > 0 for before, after in zip(moving, moving[1:], strict=False)]
    assert np.mean(changes) > 0.8  # the encoder leaves out what hardly moves
    assert np.abs(moving[-1] - pictures[-1]).mean() < 1
    write_contact_sheet(film, "title", path.with_suffix(".png"))
    sheet = np.asarray(Image.open(path.with_suffix(".png")).convert("L"))
    assert sheet.shape[1] == 1400 and sheet.std() > 5
    corners = [sheet[:300, :300].astype(int), sheet[-300:, -300:].astype(int)]
    assert np.abs(corners[0] - corners[1]).max() > 50  # the first and the last state


def test_a_film_of_pendulum(tmp_path: Path) -> None:
    pytest.importorskip("pygame", reason="Pendulum is drawn with pygame: pip install 'gymnasium[classic-control]'")
    draw_without_screen()
    check_film(PENDULUM, tmp_path / "folder" / "pendulum.mp4")
    meta, frames = frames_of(tmp_path / "folder" / "pendulum.mp4")
    assert (meta["fps"], len(frames)) == (20.0, 31 + 20)  # dt = 0.05 s, first and last state included, then a second


def test_a_film_of_our_cartpole(tmp_path: Path) -> None:
    pytest.importorskip("pygame", reason="cartpole is drawn with pygame: pip install 'gymnasium[classic-control]'")
    draw_without_screen()
    check_film(EnvironmentSpec("ContinuousCartPole-v0"), tmp_path / "cartpole.mp4")


def test_a_film_of_hopper(tmp_path: Path) -> None:
    draw_without_screen()
    spec = EnvironmentSpec("Hopper-v4", num_distractors=2)
    try:
        shoot(spec, tmp_path / "trial.mp4", push_joints)
    except InputError as error:
        pytest.skip(error.message)  # no renderer here
    check_film(spec, tmp_path / "hopper.mp4", push_joints)


def test_short_episodes_are_filmed_together_until_they_make_six_seconds(tmp_path: Path) -> None:
    pytest.importorskip("pygame", reason="cartpole is drawn with pygame: pip install 'gymnasium[classic-control]'")
    draw_without_screen()
    film, episodes = shoot(EnvironmentSpec("ContinuousCartPole-v0"), tmp_path / "cartpole.mp4", num_episodes=3)
    _, frames = frames_of(tmp_path / "cartpole.mp4")
    assert film.episodes == 3 and film.first_episode == len(episodes[0]) + 1
    assert len(frames) == film.frames == sum(len(episode) + 1 for episode in episodes) + 3 * round(film.fps)
    long = EnvironmentSpec("Pendulum-v1", env_kwargs={"max_episode_steps": 50})
    film, _ = shoot(long, tmp_path / "pendulum.mp4", num_episodes=4)
    assert film.episodes == 3 and film.frames == 3 * (50 + 1 + 20)  # 2.5 s each


# -- details ---------------------------------------------------------------------------------------------------


def test_real_time_with_at_most_50_frames_a_second() -> None:
    assert timing(0.05) == (1, 20.0)
    assert timing(0.02) == (1, 50.0)
    assert timing(0.008) == (3, pytest.approx(125 / 3))
    assert timing(None) == (1, 30.0)


def test_captions() -> None:
    assert caption(40, -12.34, 0.05) == "step 40 (2.00 s)   return -12.3"
    assert caption(7, 0.0, None) == "step 7   return 0.0"
    picture = with_caption(np.zeros((101, 77, 3), dtype=np.uint8), "text")
    assert picture.shape[0] % 2 == 0 and picture.shape[1] == 78
    assert picture[101:].max() > 200 and picture[:101, :77].max() == 0


def test_letters_are_as_small_as_a_caption_needs() -> None:
    sheet = np.zeros((800, 1400, 3), dtype=np.uint8)
    short = "vagram on Pendulum-v1, seed 100, 3,000 steps"
    long = "model_loss=vagram, model_hidden_sizes=(200, 200, 200, 200), num_distractors=10, " + short
    ends, heights = [], []
    for text in (short, long, f"{long}, {long}"):
        strip = with_caption(sheet, text, 40)[800:]
        assert strip.shape == (40, 1400, 3)
        rows, columns = np.nonzero(strip.max(axis=2) > 100)
        ends.append(columns.max())
        heights.append(np.ptp(rows))
    assert 300 < ends[0] < 700 < ends[1] and max(ends) <= 1400 - 14  # margins of 16, less what smooth edges take
    assert heights[0] > 12 > heights[2] > 6


def test_a_renderer_that_is_set_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    draw_without_screen()
    assert os.environ["MUJOCO_GL"] == "egl" and os.environ["SDL_VIDEODRIVER"] == "dummy"
    monkeypatch.setenv("MUJOCO_GL", "osmesa")
    draw_without_screen()
    assert os.environ["MUJOCO_GL"] == "osmesa"


def test_without_pygame_the_sentence_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pygame", None)
    with pytest.raises(InputError, match=r"'Pendulum-v1' cannot be drawn here .*gymnasium\[classic-control\]"):
        shoot(PENDULUM, tmp_path / "film.mp4")
    assert not list(tmp_path.iterdir())


def test_without_a_renderer_the_sentence_names_the_packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_context(*args, **kwargs):
        raise RuntimeError("no context")

    import gymnasium.envs.mujoco.mujoco_rendering as mujoco_rendering

    draw_without_screen()
    monkeypatch.setattr(mujoco_rendering.OffScreenViewer, "_get_opengl_backend", no_context)
    monkeypatch.setattr(mujoco_rendering.OffScreenViewer, "__del__", lambda self: None)
    with pytest.raises(InputError, match=r"'Hopper-v4' cannot be drawn here .*no context.*libegl1 .*MUJOCO_GL=osmesa"):
        shoot(EnvironmentSpec("Hopper-v4"), tmp_path / "film.mp4", push_joints)


class Plain(gymnasium.Env):
    observation_space = gymnasium.spaces.Box(-1, 1, (2,))
    action_space = gymnasium.spaces.Box(-1, 1, (1,))

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.zeros(2, dtype=np.float32), {}

    def step(self, action):
        return np.zeros(2, dtype=np.float32), 0.0, False, False, {}


class Mute(Plain):
    def __init__(self, render_mode=None):
        self.render_mode = render_mode

    def render(self):
        return None


@pytest.mark.parametrize("kind", [Plain, Mute])
def test_an_environment_that_draws_nothing(kind: type, tmp_path: Path) -> None:
    env_id = f"Play{kind.__name__}-v0"
    gymnasium.register(env_id, kind, max_episode_steps=5)
    register_termination(env_id, never_terminates)
    try:
        with pytest.raises(InputError, match=rf"environment '{env_id}' draws no pictures.*leave --video away"):
            shoot(EnvironmentSpec(env_id), tmp_path / "film.mp4")
    finally:
        del gymnasium.registry[env_id]


def test_files_that_cannot_become_a_video(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check_video_file(tmp_path / "film.mp4")
    with pytest.raises(InputError, match=r"'film.gif' is not usable: the file's name has to end with .mp4"):
        check_video_file(Path("film.gif"))
    (tmp_path / "folder.mp4").mkdir()
    with pytest.raises(InputError, match="is a folder"):
        check_video_file(tmp_path / "folder.mp4")
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    with pytest.raises(InputError, match="--video needs imageio-ffmpeg, which is not installed: pip install"):
        check_video_file(tmp_path / "film.mp4")


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    pytest.importorskip("pygame", reason="Pendulum is drawn with pygame: pip install 'gymnasium[classic-control]'")
    (tmp_path / "file").touch()
    draw_without_screen()
    with pytest.raises(InputError, match=r"--video .* cannot be written"):
        shoot(PENDULUM, tmp_path / "file" / "film.mp4")


def test_only_what_cannot_be_written_is_told_of_the_video(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("pygame", reason="Pendulum is drawn with pygame: pip install 'gymnasium[classic-control]'")
    draw_without_screen()

    def unplugged(obs: np.ndarray) -> np.ndarray:
        raise ConnectionResetError("the robot hung up")

    with pytest.raises(ConnectionResetError, match="the robot hung up"):
        shoot(PENDULUM, tmp_path / "film.mp4", unplugged)

    def no_encoder(*arguments, **options):
        raise OSError("no space left on device")
        yield

    film = Film(tmp_path / "film.mp4")
    monkeypatch.setattr(imageio_ffmpeg, "write_frames", no_encoder)
    with pytest.raises(InputError, match=r"--video .*film.mp4' cannot be written \(no space left on device\)"):
        film._write(np.zeros((64, 64, 3), dtype=np.uint8))
