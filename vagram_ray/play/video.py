"""A film of a policy: an mp4 in real time, and a contact sheet of evenly spaced frames of its first episode."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np

from vagram_ray.commands import InputError
from vagram_ray.envs import EnvironmentSpec, SeedVectorEnv
from vagram_ray.play.episodes import format_return
from vagram_ray.play.rendering import step_seconds, take_picture, watched_environment
from vagram_ray.text import reason

MAX_FPS = 50
"""Frames per second of a film at most. A simulator with shorter steps has some left out."""
DEFAULT_FPS = 30
"""For environments that do not tell how long a step takes."""
MIN_SECONDS = 6.0
"""Of a film: a policy that falls at once is shown in several episodes, as far as they are played."""
HOLD_SECONDS = 1.0
"""How long the last state of an episode stays."""
SHEET_COLUMNS, SHEET_ROWS = 4, 3
_STRIP_HEIGHT = 0.075
"""Height of the caption's strip, as a share of the picture's."""
_SHEET_WIDTH, _SHEET_STRIP = 1400, 40
_SMALLEST_FONT = 6


def check_video_file(path: Path) -> None:
    """Refuse what cannot become a video before anything is played.

    Raises:
        InputError: The name does not end with .mp4, or the encoder is not installed.
    """
    if path.suffix.lower() != ".mp4":
        raise InputError(f"--video {str(path)!r} is not usable: the file's name has to end with .mp4.")
    if path.is_dir():
        raise InputError(f"--video {str(path)!r} is a folder; give the name of a file in it.")
    for module, package in (("imageio_ffmpeg", "imageio-ffmpeg"), ("PIL", "pillow"), ("matplotlib", "matplotlib")):
        try:
            __import__(module)
        except ImportError as error:
            raise InputError(f"--video needs {package}, which is not installed: pip install {package}.") from error
    import imageio_ffmpeg

    try:
        imageio_ffmpeg.get_ffmpeg_exe()
    except RuntimeError as error:
        raise InputError("--video needs the program ffmpeg: install it, or reinstall imageio-ffmpeg.") from error


class Film:
    """Films the episodes of an environment into an mp4: the first one, and more until they make ``MIN_SECONDS``.

    Args:
        path: The file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.fps = float(DEFAULT_FPS)
        self.frames = 0
        """Number of frames in the mp4."""
        self.episodes = 0
        self.first_episode = 0
        """Number of frames of the first episode."""
        self._seconds: float | None = None  # of a step
        self._stride = 1
        self._steps = 0  # of the whole film
        self._is_on = True
        self._writer: Any = None

    def look(self, env: gym.Env[Any, Any], step: int, total: float, ended: bool) -> None:
        """Take a picture where it is time for one (:data:`vagram_ray.play.rendering.Look`)."""
        if step == 0:
            self._begin(env)
        if not self._is_on:
            return
        self._steps += step > 0
        if step % self._stride and not ended:
            return
        frame = with_caption(take_picture(env), f"episode {self.episodes}   {caption(step, total, self._seconds)}")
        for _ in range(1 + (round(HOLD_SECONDS * self.fps) if ended else 0)):
            self._write(frame)
        if self.episodes == 1:
            self.first_episode += 1

    def close(self) -> None:
        """End the file."""
        if self._writer is not None:
            with _written(self.path):
                self._writer.close()

    def _begin(self, env: gym.Env[Any, Any]) -> None:
        if self.episodes == 0:
            self._seconds = step_seconds(env)
            self._stride, self.fps = timing(self._seconds)
        self._is_on = self._steps * (self._seconds or 1 / DEFAULT_FPS) < MIN_SECONDS
        self.episodes += self._is_on

    def _write(self, frame: np.ndarray) -> None:
        import imageio_ffmpeg

        with _written(self.path):
            if self._writer is None:
                self._writer = imageio_ffmpeg.write_frames(
                    str(self.path), (frame.shape[1], frame.shape[0]), fps=self.fps, codec="libx264", quality=7,
                    macro_block_size=2, output_params=["-movflags", "+faststart"],
                )  # fmt: skip
                self._writer.send(None)
            self._writer.send(np.ascontiguousarray(frame))
        self.frames += 1


@contextmanager
def _written(path: Path) -> Iterator[None]:
    """While a file is written: one sentence where it cannot be. The playing between frames stays outside."""
    try:
        yield
    except OSError as error:
        raise InputError(f"--video {str(path)!r} cannot be written ({reason(error)}).") from error


@contextmanager
def filmed(
    spec: EnvironmentSpec, seed: int, film: Film, lasting: Sequence[dict[str, Any] | None] | None = None
) -> Iterator[SeedVectorEnv]:
    """The evaluation environment of one seed, which is filmed while it is played (see ``watched_environment``).

    Raises:
        InputError: The environment cannot be drawn, or the file not be written.
    """
    with _written(film.path):
        film.path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with watched_environment(spec, seed, film.look, lasting) as envs:
            yield envs
    finally:
        film.close()


def timing(seconds: float | None) -> tuple[int, float]:
    """Steps per frame and frames per second of a film in real time, by the seconds of a step."""
    if seconds is None:
        return 1, float(DEFAULT_FPS)
    stride = max(1, math.ceil(round(1.0 / (seconds * MAX_FPS), 6)))
    return stride, 1.0 / (seconds * stride)


def caption(step: int, total: float, seconds: float | None) -> str:
    """``step 40 (2.00 s)   return -12.3``."""
    time = f" ({step * seconds:.2f} s)" if seconds is not None else ""
    return f"step {step}{time}   return {format_return(total)}"


def with_caption(picture: np.ndarray, text: str, strip: int | None = None) -> np.ndarray:
    """A picture with a strip of text below it, both sides even as encoders need them.

    Args:
        picture: (height, width, 3) uint8.
        text: One line. Its letters are as small as its length needs.
        strip: Height of the strip in pixels; a share of the picture's by default.
    """
    from matplotlib import get_data_path
    from PIL import Image, ImageDraw, ImageFont

    height, width = picture.shape[:2]
    strip = strip or max(20, round(height * _STRIP_HEIGHT))
    canvas = Image.new("RGB", (width + width % 2, height + strip + (height + strip) % 2), (26, 26, 26))
    canvas.paste(Image.fromarray(picture), (0, 0))
    draw, margin = ImageDraw.Draw(canvas), strip * 0.4
    for size in range(round(strip * 0.5), _SMALLEST_FONT - 1, -1):
        font = ImageFont.truetype(f"{get_data_path()}/fonts/ttf/DejaVuSans.ttf", size)
        if draw.textlength(text, font) <= width - 2 * margin:
            break
    draw.text((margin, height + strip / 2), text, fill=(240, 240, 240), font=font, anchor="lm")
    return np.asarray(canvas)


def write_contact_sheet(film: Film, title: str, path: Path) -> None:
    """A PNG with evenly spaced frames of the film's first episode, its first and last state included."""
    import imageio_ffmpeg
    from PIL import Image

    chosen = sorted({round(place) for place in np.linspace(0, film.first_episode - 1, SHEET_COLUMNS * SHEET_ROWS)})
    reader = imageio_ffmpeg.read_frames(str(film.path))
    width, height = next(reader)["size"]
    tile = (_SHEET_WIDTH // SHEET_COLUMNS, round(_SHEET_WIDTH / SHEET_COLUMNS * height / width))
    sheet = Image.new("RGB", (_SHEET_WIDTH, tile[1] * math.ceil(len(chosen) / SHEET_COLUMNS)), "white")
    for number, frame in zip(range(film.first_episode), reader, strict=False):
        if number in chosen:
            row, column = divmod(chosen.index(number), SHEET_COLUMNS)
            picture = Image.frombytes("RGB", (width, height), frame).resize(tile)
            sheet.paste(picture, (column * tile[0], row * tile[1]))
    reader.close()
    with _written(path):
        Image.fromarray(with_caption(np.asarray(sheet), title, _SHEET_STRIP)).save(path)
