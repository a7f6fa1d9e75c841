"""One checkpoint: complete or not there, and nothing that is not as it was written is taken for it."""

import errno
import json
import os
from pathlib import Path

import pytest
import torch
from pyarrow.fs import LocalFileSystem

from tests.checkpoint.conftest import CONFIG, NumberedRing, state_with
from vagram_ray.checkpoint import CheckpointError, CheckpointFolder, DamagedCheckpointError, ForeignCheckpointError
from vagram_ray.checkpoint import folder as folder_module
from vagram_ray.checkpoint.folder import read_checkpoint, write_checkpoint


def written(path: Path, num_added: int = 5, **more) -> CheckpointFolder:
    ring = NumberedRing(2, capacity=8)
    ring.num_added = num_added
    folder = CheckpointFolder(LocalFileSystem(), str(path))
    write_checkpoint(folder, CONFIG, state_with(ring, **more), ring)
    return folder


@pytest.mark.parametrize("num_added", [0, 1, 5, 8, 11, 16, 29])
def test_what_was_written_is_read(place, num_added):
    ring = NumberedRing(2, capacity=8)
    ring.num_added = num_added
    folder = CheckpointFolder(place[0], f"{place[1]}/checkpoint")
    place[0].create_dir(place[1], recursive=True)
    imagined = {"rows": torch.rand(2, 3)}
    write_checkpoint(folder, CONFIG, state_with(ring, imagined=imagined, count=3), ring)
    assert folder.is_whole()
    config, state = read_checkpoint(folder)
    assert config == CONFIG and state["agent"]["count"] == 3
    assert torch.equal(state["agent"]["imagined"]["rows"], imagined["rows"])
    assert torch.equal(state["agent"]["weights"], torch.arange(6.0).view(2, 3))
    if num_added:
        assert state["agent"]["replay"]["rows"][1, :, 1].tolist() == ring.ring()
        assert state["agent"]["replay"]["rows"][:, 0, 0].tolist() == [0.0, 1.0]


def test_without_buffers_neither_is_read(tmp_path):
    folder = written(tmp_path / "c", imagined={"rows": torch.rand(2, 3)})
    (tmp_path / "c" / "imagined.safetensors").unlink()
    for segment in (tmp_path / "c" / "replay").iterdir():
        segment.unlink()
    _, state = read_checkpoint(folder, with_buffers=False)
    assert set(state["agent"]) == {"weights"}
    with pytest.raises(DamagedCheckpointError, match=r"imagined\.safetensors is missing"):
        read_checkpoint(folder)


def test_the_files_execute_nothing_and_are_json_and_safetensors(tmp_path):
    written(tmp_path / "c")
    assert {path.suffix for path in (tmp_path / "c").rglob("*") if path.is_file()} == {".json", ".safetensors"}


@pytest.mark.parametrize("call", range(1, 6))
def test_a_disk_that_fills_up_leaves_the_old_checkpoint_and_no_trace(tmp_path, monkeypatch, call):
    folder = written(tmp_path / "c", count=1)
    before = read_checkpoint(folder)[1]["agent"]["count"]
    calls = []

    def write_file(filesystem, path, content):
        calls.append(path)
        if len(calls) == call:
            Path(path).write_bytes(content[: len(content) // 2])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        Path(path).write_bytes(content)

    monkeypatch.setattr(folder_module, "write_file", write_file)
    with pytest.raises(OSError, match="No space left"):
        written(tmp_path / "c", count=2)
    assert len(calls) == call
    assert [path.name for path in tmp_path.iterdir()] == ["c"]
    assert read_checkpoint(folder)[1]["agent"]["count"] == before == 1


def test_a_checkpoint_takes_the_place_of_the_one_before(tmp_path):
    written(tmp_path / "c", count=1)
    folder = written(tmp_path / "c", count=2)
    assert read_checkpoint(folder)[1]["agent"]["count"] == 2
    assert [path.name for path in tmp_path.iterdir()] == ["c"]


def test_in_an_object_store_the_manifest_comes_last(tmp_path, monkeypatch):
    from pyarrow.fs import SubTreeFileSystem

    names = []
    monkeypatch.setattr(
        folder_module, "write_file", lambda filesystem, path, content: names.append(path.rpartition("/")[2])
    )
    filesystem = SubTreeFileSystem(str(tmp_path), LocalFileSystem())
    ring = NumberedRing(1, 4)
    write_checkpoint(CheckpointFolder(filesystem, "c"), CONFIG, state_with(ring), ring)
    assert names[-1] == "manifest.json" and len(names) == 5


@pytest.mark.parametrize("name", ["agent.safetensors", "imagined.safetensors", "state.json", "config.json"])
@pytest.mark.parametrize("change", ["flip", "cut", "remove"])
def test_a_damaged_file_is_found(tmp_path, name, change):
    folder = written(tmp_path / "c", imagined={"rows": torch.rand(2, 3)})
    path = tmp_path / "c" / name
    content = bytearray(path.read_bytes())
    if change == "remove":
        path.unlink()
    elif change == "cut":
        path.write_bytes(content[:-1])
    else:
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
    assert folder.is_whole() == (change == "flip")  # a look at sizes alone does not see it, reading does
    with pytest.raises(DamagedCheckpointError, match=name):
        read_checkpoint(folder)


@pytest.mark.parametrize("change", ["flip", "remove"])
def test_a_damaged_segment_is_found(tmp_path, change):
    folder = written(tmp_path / "c")
    [segment] = (tmp_path / "c" / "replay").iterdir()
    content = bytearray(segment.read_bytes())
    content[-1] ^= 1
    segment.write_bytes(content) if change == "flip" else segment.unlink()
    with pytest.raises(DamagedCheckpointError, match=r"damaged|missing"):
        read_checkpoint(folder)


def edited(tmp_path: Path, edit) -> CheckpointFolder:
    folder = written(tmp_path / "c")
    path = tmp_path / "c" / "manifest.json"
    manifest = json.loads(path.read_text())
    edit(manifest)
    path.write_text(json.dumps(manifest))
    return folder


def test_another_format_is_named(tmp_path):
    folder = edited(tmp_path, lambda manifest: manifest.update(version=99))
    with pytest.raises(ForeignCheckpointError, match=r"format vagram_ray.checkpoint 99.*reads vagram_ray.checkpoint 1"):
        read_checkpoint(folder)


@pytest.mark.parametrize("name", ["../../etc/passwd", "/etc/passwd", "x.safetensors"])
def test_a_manifest_cannot_name_files_elsewhere(tmp_path, name):
    folder = edited(tmp_path, lambda manifest: manifest["segments"][0].update(name=name))
    with pytest.raises(DamagedCheckpointError, match="makes no sense"):
        read_checkpoint(folder)
    folder = edited(tmp_path, lambda manifest: manifest.update(replay=name))
    with pytest.raises(DamagedCheckpointError, match="makes no sense"):
        read_checkpoint(folder)


def test_what_is_no_checkpoint_is_said(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / "rllib_checkpoint.json").touch()
    (tmp_path / "half").mkdir()
    (tmp_path / "half" / "state.json").touch()
    for name, message in [
        ("empty", "is no checkpoint of MBPO: there is no manifest.json"),
        ("nowhere", "is no checkpoint of MBPO"),
        ("old", "RLlib's own format"),
        ("half", "is not complete"),
    ]:
        with pytest.raises(CheckpointError, match=message):
            read_checkpoint(CheckpointFolder(LocalFileSystem(), str(tmp_path / name)))


def test_settings_that_json_has_no_word_for_come_back(tmp_path):
    ring = NumberedRing(1, 4)
    folder = CheckpointFolder(LocalFileSystem(), str(tmp_path / "c"))
    config = {"seeds": [0], "settings": {"env_config": {"limit": float("inf")}}}
    write_checkpoint(folder, config, state_with(ring), ring)
    assert read_checkpoint(folder)[0] == config
