"""A film of a policy: an mp4 in real time, and a contact sheet of evenly spaced frames of its first episode."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from vagram_ray.envs import EnvironmentSpec
from vagram_ray.play.episodes import Episode, Policy, format_return, play_episodes
from vagram_ray.play.errors import PlayError
from vagram_ray.play.rendering import Camera, filmed_environment

MAX_FPS = 50
"""Frames per second of a film at most. A simulator with shorter steps has some left out."""
DEFAULT_FPS = 30
"""For environments that do not tell how long a step takes."""
MIN_SECONDS = 6.0
"""Of a film: a policy that falls at once is shown in several episodes, as far as they were played."""
HOLD_SECONDS = 1.0
"""How long the last state of an episode stays."""
SHEET_COLUMNS, SHEET_ROWS = 4, 3
_STRIP_HEIGHT = 0.075
"""Height of the caption's strip, as a share of the picture's."""


@dataclass(frozen=True)
class Film:
    """What was filmed.

    Attributes:
        episodes: As they were played before the camera.
        frames: Number of frames in the mp4.
        fps: Of the mp4.
        sheet: Frames of the contact sheet, of the first episode, as (step, return so far, picture).
        step_seconds: Simulated seconds per step, if known.
    """

    episodes: tuple[Episode, ...]
    frames: int
    fps: float
    sheet: tuple[tuple[int, float, np.ndarray], ...]
    step_seconds: float | None


def check_video_file(path: Path) -> None:
    """Refuse what cannot become a video before anything is played.

    Raises:
        PlayError: The name does not end with .mp4, or the encoder is not installed.
    """
    if path.suffix.lower() != ".mp4":
        raise PlayError(f"--video {str(path)!r} is not usable: the file's name has to end with .mp4.")
    if path.is_dir():
        raise PlayError(f"--video {str(path)!r} is a folder; give the name of a file in it.")
    for module, package in (("imageio_ffmpeg", "imageio-ffmpeg"), ("PIL", "pillow"), ("matplotlib", "matplotlib")):
        try:
            __import__(module)
        except ImportError as error:
            raise PlayError(f"--video needs {package}, which is not installed: pip install {package}.") from error
    import imageio_ffmpeg

    try:
        imageio_ffmpeg.get_ffmpeg_exe()
    except RuntimeError as error:
        raise PlayError("--video needs the program ffmpeg: install it, or reinstall imageio-ffmpeg.") from error


def film_episodes(spec: EnvironmentSpec, seed: int, act: Policy, lengths: Sequence[int], path: Path) -> Film:
    """Play the first evaluation episodes of a seed once more, before the camera, and write the mp4.

    It is the first episode, and as many of the following ones as make ``MIN_SECONDS``.

    Args:
        spec: The environment.
        seed: Its seed.
        act: Observations (1, D) to actions (1, A) in [-1, 1].
        lengths: Steps of the episodes, known from having played them.
        path: The file.

    Raises:
        PlayError: The environment cannot be drawn, or the file not be written.
    """
    camera = Camera(is_on=False)
    with filmed_environment(spec, seed, camera) as envs:
        stride, fps = timing(camera.step_seconds)
        with _mp4(path, fps) as write:
            chosen = episodes_to_film(lengths, camera.step_seconds or 1 / DEFAULT_FPS)
            director = _Director(camera, chosen, stride, round(HOLD_SECONDS * fps), write)
            episodes = play_episodes(act, envs, len(chosen), director)
    return Film(tuple(episodes), director.num_frames, fps, tuple(director.sheet), camera.step_seconds)


class _Director:
    """Decides at each step of the episodes whether a picture is taken, and what becomes of it."""

    def __init__(
        self, camera: Camera, lengths: Sequence[int], stride: int, hold: int, write: Callable[[np.ndarray], None]
    ) -> None:
        self._camera, self._lengths, self._stride, self._hold, self._write = camera, lengths, stride, hold, write
        self._episode = -1
        self._in_film: set[int] = set()
        self._in_sheet: set[int] = set()
        self.sheet: list[tuple[int, float, np.ndarray]] = []
        self.num_frames = 0

    def __call__(self, step: int, total: float) -> None:
        if step == 0:
            self._begin()
        picture = self._camera.picture
        if step in self._in_sheet:
            self.sheet.append((step, total, picture))
        if step in self._in_film:
            number = f"episode {self._episode + 1}   " if len(self._lengths) > 1 else ""
            frame = with_caption(picture, number + caption(step, total, self._camera.step_seconds))
            for _ in range(1 + (self._hold if step == self._lengths[self._episode] else 0)):
                self._write(frame)
                self.num_frames += 1
        self._camera.is_on = step + 1 in self._in_film | self._in_sheet

    def _begin(self) -> None:
        self._episode += 1
        length = self._lengths[self._episode]
        self._in_film = {*range(0, length + 1, self._stride), length}
        self._in_sheet = set(sheet_steps(length)) if self._episode == 0 else set()
        self._camera.shoot()


def episodes_to_film(lengths: Sequence[int], step_seconds: float) -> list[int]:
    """The lengths of the first episodes that together are a film, or of all where they are too short."""
    chosen: list[int] = []
    for length in lengths:
        if sum(chosen) * step_seconds >= MIN_SECONDS and chosen:
            break
        chosen.append(length)
    return chosen


def timing(step_seconds: float | None) -> tuple[int, float]:
    """Steps per frame and frames per second of a film in real time."""
    if step_seconds is None:
        return 1, float(DEFAULT_FPS)
    stride = max(1, math.ceil(round(1.0 / (step_seconds * MAX_FPS), 6)))
    return stride, 1.0 / (step_seconds * stride)


def sheet_steps(length: int) -> list[int]:
    """Evenly spaced steps of an episode, its first and last state included."""
    return sorted({round(step) for step in np.linspace(0, length, SHEET_COLUMNS * SHEET_ROWS)})


def caption(step: int, total: float, step_seconds: float | None) -> str:
    """``step 40 (2.00 s)   return -12.3``."""
    time = f" ({step * step_seconds:.2f} s)" if step_seconds is not None else ""
    return f"step {step}{time}   return {format_return(total)}"


def with_caption(picture: np.ndarray, text: str) -> np.ndarray:
    """A picture with a strip of text below it, both sides even as encoders need them."""
    from matplotlib import get_data_path
    from PIL import Image, ImageDraw, ImageFont

    height, width = picture.shape[:2]
    strip = max(20, round(height * _STRIP_HEIGHT))
    canvas = Image.new("RGB", (width + width % 2, height + strip + (height + strip) % 2), (26, 26, 26))
    canvas.paste(Image.fromarray(picture), (0, 0))
    font = ImageFont.truetype(f"{get_data_path()}/fonts/ttf/DejaVuSans.ttf", round(strip * 0.5))
    draw = ImageDraw.Draw(canvas)
    draw.text((strip * 0.4, height + strip / 2), text, fill=(240, 240, 240), font=font, anchor="lm")
    return np.asarray(canvas)


def write_contact_sheet(film: Film, title: str, path: Path) -> None:
    """A PNG with the film's evenly spaced frames, each with its time and the return so far."""
    from matplotlib.figure import Figure

    height, width = film.sheet[0][2].shape[:2]
    cell = 2.7
    rows = math.ceil(len(film.sheet) / SHEET_COLUMNS)
    size = (SHEET_COLUMNS * cell + 0.3, rows * (cell * height / width + 0.22) + 0.75)
    figure = Figure(figsize=size, dpi=110, facecolor="white")
    grid = figure.subplots(rows, SHEET_COLUMNS, squeeze=False).ravel()
    for axes in grid[len(film.sheet) :]:
        axes.set_axis_off()
    for axes, (step, total, picture) in zip(grid, film.sheet, strict=False):
        axes.imshow(picture, interpolation="antialiased")
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set_color("#cccccc")
        axes.set_title(caption(step, total, film.step_seconds), fontsize=8.5, color="#333333", pad=4)
    first = film.episodes[0]
    result = f"return {format_return(first.episode_return)} in {len(first)} steps"
    top = 1 - 0.62 / size[1]
    figure.subplots_adjust(0.15 / size[0], 0.1 / size[1], 1 - 0.15 / size[0], top, wspace=0.06, hspace=0.18)
    figure.text(0.15 / size[0], 1 - 0.2 / size[1], title, fontsize=12, weight="bold", va="center")
    figure.text(1 - 0.15 / size[0], 1 - 0.2 / size[1], result, fontsize=10, ha="right", va="center", color="#333333")
    figure.savefig(path)


@contextmanager
def _mp4(path: Path, fps: float) -> Iterator[Callable[[np.ndarray], None]]:
    """A function that appends frames to a new file. The first one decides the size."""
    import imageio_ffmpeg

    writer: Any = None

    def write(frame: np.ndarray) -> None:
        nonlocal writer
        if writer is None:
            size = (frame.shape[1], frame.shape[0])
            writer = imageio_ffmpeg.write_frames(
                str(path), size, fps=fps, codec="libx264", quality=7, macro_block_size=2,
                output_params=["-movflags", "+faststart"],
            )  # fmt: skip
            writer.send(None)
        writer.send(np.ascontiguousarray(frame))

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield write
    except OSError as error:
        lines = str(error).strip().splitlines()
        raise PlayError(f"--video {str(path)!r} cannot be written ({lines[0] if lines else error}).") from error
    finally:
        if writer is not None:
            writer.close()
