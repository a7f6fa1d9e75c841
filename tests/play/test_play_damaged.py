"""Whatever has happened to a checkpoint's files: it is read as it was written, or one sentence says what is wrong."""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyarrow.fs import LocalFileSystem

from vagram_ray.checkpoint import CheckpointError, CheckpointFolder, read_checkpoint
from vagram_ray.checkpoint.files import checksum
from vagram_ray.commands import InputError
from vagram_ray.play.checkpoint import SavedAgent, read_agent
from vagram_ray.play.locate import find_checkpoint

NAMES = ("agent.safetensors", "imagined.safetensors", "state.json", "config.json", "manifest.json")
JSON_NAMES = ("state.json", "config.json", "manifest.json")
ODD_VALUES: tuple[Any, ...] = (
    None, True, -1, 0, 1, 2.5, float("inf"), float("nan"), "", "x", "../x", [], [None], [[1]], {}, {"a": None},
    {"$tensor": "nowhere"}, {"$float": "x"}, {"object": "a.b"},
)  # fmt: skip

Damage = Callable[[bytes], bytes | None]
"""What becomes of a file's content; None: the file is gone."""

many = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@st.composite
def damages(draw: st.DrawFn) -> tuple[str, Damage]:
    """A name of the damage, and the damage."""
    kind = draw(st.sampled_from(("flip", "overwrite", "cut", "insert", "drop", "empty", "delete")))
    share, noise = draw(st.floats(0.0, 1.0, exclude_max=True)), draw(st.binary(min_size=1, max_size=40))

    def damage(content: bytes) -> bytes | None:
        at = int(share * len(content))
        before, after = content[:at], content[at:]
        return {
            "flip": before + bytes([after[0] ^ (noise[0] or 1)]) + after[1:],
            "overwrite": before + noise + after[len(noise) :],
            "cut": before,
            "insert": before + noise + after,
            "drop": before + after[len(noise) :],
            "empty": b"",
            "delete": None,
        }[kind]

    return f"{kind} at {share:.3f} with {noise!r}", damage


@pytest.fixture(scope="module")
def whole(trial: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trial's folder with one checkpoint."""
    folder = tmp_path_factory.mktemp("damaged") / "trial"
    shutil.copytree(trial, folder)
    for number in (8, 9):
        shutil.rmtree(folder / f"checkpoint_{number:06d}")
    return folder


@pytest.fixture(scope="module")
def original(whole: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    return read(whole)


@pytest.fixture(scope="module")
def files(whole: Path) -> list[Path]:
    """All that a checkpoint consists of, the segment of the replay buffer included."""
    return [*(whole / "checkpoint_000010" / name for name in NAMES), *(whole / "replay").iterdir()]


def read(whole: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    return read_checkpoint(CheckpointFolder(LocalFileSystem(), str(whole / "checkpoint_000010")))


def use(agent: SavedAgent) -> None:
    """Everything that is built of an agent."""
    agent.actor()
    agent.values()
    agent.dynamics()


def same(a: Any, b: Any) -> bool:
    if isinstance(a, torch.Tensor):
        return isinstance(b, torch.Tensor) and a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, dict):
        return isinstance(b, dict) and a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return type(a) is type(b) and a == b


def check_sentence(error: Exception) -> None:
    text = str(error)
    assert "\n" not in text and text.endswith((".", "?")) and "checkpoint_000010" in text, text


class Changed:
    """A file with another content inside the block."""

    def __init__(self, file: Path, content: bytes | None) -> None:
        self._file, self._content = file, content

    def __enter__(self) -> None:
        self._before = self._file.read_bytes()
        self._file.unlink()
        if self._content is not None:
            self._file.write_bytes(self._content)

    def __exit__(self, *_: object) -> None:
        self._file.write_bytes(self._before)


# -- files that are not as they were written -------------------------------------------------------------------


@many
@given(index=st.integers(0, 5), named=damages())
def test_a_damaged_checkpoint_is_refused_or_read_as_it_was_written(
    whole: Path, files: list[Path], original, index: int, named: tuple[str, Damage]
) -> None:
    content = named[1](files[index].read_bytes())
    with Changed(files[index], content):
        try:
            assert same(read(whole), original), files[index].name
        except CheckpointError as error:
            text = str(error)
            assert "\n" not in text and text.endswith(".") and whole.name in text


@many
@given(index=st.integers(0, 5), named=damages())
def test_playing_a_damaged_checkpoint_is_a_sentence_or_changes_nothing(
    whole: Path, files: list[Path], original, index: int, named: tuple[str, Damage]
) -> None:
    folder = whole / "checkpoint_000010"
    expected = {name: original[1]["agent"][name] for name in ("sac", "dynamics")}
    with Changed(files[index], named[1](files[index].read_bytes())):
        try:
            first, second = read_agent(folder, 3), read_agent(folder, 5)
        except InputError as error:
            check_sentence(error)
            first = None
        if first is not None:
            use(first)
            for part in ("critic", "target_critic"):
                halves = torch.cat([agent.state["sac"][part] for agent in (first, second)])
                assert torch.equal(halves, expected["sac"][part])
            flat = torch.cat([agent.state["dynamics"]["flat"] for agent in (first, second)])
            assert torch.equal(flat, expected["dynamics"]["flat"])
        try:
            assert find_checkpoint(whole) == folder
        except InputError as error:
            check_sentence(error)


@pytest.mark.parametrize("name", NAMES)
def test_a_folder_in_place_of_a_file(whole: Path, tmp_path: Path, name: str) -> None:
    folder = Path(shutil.copytree(whole, tmp_path / "trial")) / "checkpoint_000010"
    (folder / name).unlink()
    (folder / name).mkdir()
    with pytest.raises(InputError) as caught:
        find_checkpoint(folder.parent)
    check_sentence(caught.value)
    if name != "imagined.safetensors":  # which is not read
        with pytest.raises(InputError) as caught:
            read_agent(folder)
        check_sentence(caught.value)


# -- files that fit their checksums and make no sense, as another program might write them -----------------------


def paths_of(plain: Any, prefix: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Where the values of nested JSON lie, the outermost included."""
    items = plain.items() if isinstance(plain, dict) else enumerate(plain) if isinstance(plain, list) else ()
    return [prefix, *(path for key, value in items for path in paths_of(value, (*prefix, key)))]


def put(plain: Any, path: tuple[Any, ...], value: Any, remove: bool) -> Any:
    """The same with another value at ``path``, or without what lies there."""
    if not path:
        return value
    changed = copy.deepcopy(plain)
    parent = changed
    for key in path[:-1]:
        parent = parent[key]
    if remove:
        del parent[path[-1]]
    else:
        parent[path[-1]] = value
    return changed


def signed(folder: Path, name: str, content: bytes) -> bytes:
    """The manifest with size and checksum of a file's new content."""
    manifest = json.loads((folder / "manifest.json").read_bytes())
    manifest["files"][name] = {"bytes": len(content), "sha256": checksum(content)}
    return json.dumps(manifest).encode()


@pytest.mark.parametrize("name", JSON_NAMES)
@many
@given(data=st.data(), odd=st.sampled_from(ODD_VALUES), remove=st.booleans())
def test_values_that_make_no_sense_are_a_sentence(whole: Path, name: str, data: Any, odd: Any, remove: bool) -> None:
    folder = whole / "checkpoint_000010"
    plain = json.loads((folder / name).read_bytes())
    content = json.dumps(put(plain, data.draw(st.sampled_from(paths_of(plain))), odd, remove)).encode()
    manifest = content if name == "manifest.json" else signed(folder, name, content)
    with Changed(folder / name, content), Changed(folder / "manifest.json", manifest):
        try:
            read(whole)
        except CheckpointError as error:
            assert "\n" not in str(error)
        try:
            agent = read_agent(folder)
            agent.actor()
            agent.values()
            if agent.settings.model_based:
                agent.dynamics()
        except InputError as error:
            check_sentence(error)
