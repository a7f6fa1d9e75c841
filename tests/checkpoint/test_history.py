"""The checkpoints of one run: what grows by appending is written by appending, and the newest whole one is found."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow.fs import LocalFileSystem

from tests.checkpoint.conftest import CONFIG, NumberedRing, state_with
from vagram_ray.checkpoint import CheckpointHistory, ForeignCheckpointError, newest_whole
from vagram_ray.checkpoint import segments as segments_module


def run(history: CheckpointHistory, ring: NumberedRing, numbers: range, steps: int = 10) -> None:
    for number in numbers:
        ring.num_added += steps
        history.write(number, CONFIG, state_with(ring, number=number), ring)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def run_folder(tmp_path: Path) -> Path:
    (tmp_path / "run").mkdir()
    return tmp_path / "run"


def test_the_newest_are_kept_and_read(place):
    place[0].create_dir(place[1], recursive=True)
    history, ring = CheckpointHistory(*place, keep=2), NumberedRing(2, 1000)
    run(history, ring, range(1, 6))
    listed = {info.base_name for info in place[0].get_file_info(_selector(place[1]))}
    assert listed == {"checkpoint_000004", "checkpoint_000005", "replay"}
    number, config, state = CheckpointHistory(*place).read_newest()
    assert number == 5 and config == CONFIG and state["agent"]["number"] == 5
    assert state["agent"]["replay"]["rows"][0, :, 1].tolist() == ring.ring()
    assert newest_whole(*place).path.endswith("checkpoint_000005")


def _selector(path):
    from pyarrow.fs import FileSelector

    return FileSelector(path)


@settings(max_examples=60, deadline=None)
@given(
    capacity=st.integers(1, 40),
    steps=st.lists(st.integers(0, 25), min_size=1, max_size=12),
    restarts=st.sets(st.integers(0, 11)),
)
def test_the_ring_comes_back_whatever_was_written_when(tmp_path_factory, capacity, steps, restarts):
    folder = str(tmp_path_factory.mktemp("run"))
    history, ring = CheckpointHistory(LocalFileSystem(), folder), NumberedRing(1, capacity)
    for number, count in enumerate(steps):
        if number in restarts:  # a new process goes on from what lies there
            history = CheckpointHistory(LocalFileSystem(), folder)
            history.read_newest()
            history.clean()
        ring.num_added += count
        history.write(number, CONFIG, state_with(ring), ring)
        _, _, state = CheckpointHistory(LocalFileSystem(), folder).read_newest()
        replay = state["agent"]["replay"]
        assert replay["num_added"] == ring.num_added
        if ring.num_added:
            assert replay["rows"][0, :, 1].tolist() == ring.ring()


def test_what_is_written_grows_with_what_is_new(run_folder, monkeypatch):
    written = []
    original = segments_module.write_file_atomically
    monkeypatch.setattr(
        segments_module, "write_file_atomically", lambda *args: (written.append(len(args[2])), original(*args))
    )
    history, ring = CheckpointHistory(LocalFileSystem(), str(run_folder)), NumberedRing(1, 10**6)
    run(history, ring, range(1, 65), steps=100)
    per_row = 8
    total_rows = sum(written) / per_row
    assert total_rows < 6400 * 7  # log2(64) + 1 times each at most; whole buffers would be 6400 * 32
    assert len(history._segments) <= 7


def test_large_segments_are_not_written_again(run_folder, monkeypatch):
    monkeypatch.setattr(segments_module, "SEGMENT_BYTES", 1)
    history, ring = CheckpointHistory(LocalFileSystem(), str(run_folder)), NumberedRing(1, 10**6)
    run(history, ring, range(1, 9))
    assert [(own.first, own.last) for own in history._segments] == [(10 * k, 10 * k + 10) for k in range(8)]


def test_segments_of_dropped_checkpoints_go(run_folder):
    history, ring = CheckpointHistory(LocalFileSystem(), str(run_folder), keep=1), NumberedRing(1, 25)
    run(history, ring, range(1, 20))
    assert names(run_folder / "replay") == sorted(segment.name for segment in history._segments)
    assert len(names(run_folder / "replay")) <= 4


def test_a_damaged_checkpoint_gives_way_to_the_one_before(run_folder, caplog):
    history, ring = CheckpointHistory(LocalFileSystem(), str(run_folder)), NumberedRing(1, 1000)
    run(history, ring, range(1, 4))
    (run_folder / "checkpoint_000003" / "state.json").write_text("{}")
    history = CheckpointHistory(LocalFileSystem(), str(run_folder))
    assert history.read_newest()[0] == 2
    assert "checkpoint_000003" in caplog.text and "passed over" in caplog.text
    ring.num_added = 20
    run(history, ring, range(4, 5))  # the damaged one goes, the one before stays
    assert names(run_folder) == ["checkpoint_000002", "checkpoint_000004", "replay"]
    assert CheckpointHistory(LocalFileSystem(), str(run_folder)).read_newest()[0] == 4


def test_a_damaged_checkpoint_is_replaced_by_one_of_the_same_number(run_folder):
    history, ring = CheckpointHistory(LocalFileSystem(), str(run_folder)), NumberedRing(1, 1000)
    run(history, ring, range(1, 4))
    (run_folder / "checkpoint_000003" / "manifest.json").unlink()
    history = CheckpointHistory(LocalFileSystem(), str(run_folder))
    assert history.read_newest()[0] == 2
    ring.num_added = 20
    run(history, ring, range(3, 4))
    assert names(run_folder) == ["checkpoint_000002", "checkpoint_000003", "replay"]
    assert CheckpointHistory(LocalFileSystem(), str(run_folder)).read_newest()[0] == 3


def test_without_a_checkpoint_there_is_none(run_folder):
    assert CheckpointHistory(LocalFileSystem(), str(run_folder)).read_newest() is None
    assert newest_whole(LocalFileSystem(), str(run_folder / "nowhere")) is None


def test_one_of_another_version_is_not_passed_over(run_folder):
    history, ring = CheckpointHistory(LocalFileSystem(), str(run_folder)), NumberedRing(1, 1000)
    run(history, ring, range(1, 3))
    manifest = run_folder / "checkpoint_000002" / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"version": 1', '"version": 2'))
    with pytest.raises(ForeignCheckpointError):
        CheckpointHistory(LocalFileSystem(), str(run_folder)).read_newest()


def test_what_a_killed_process_left_is_deleted(run_folder, tmp_path):
    history, ring = CheckpointHistory(LocalFileSystem(), str(run_folder)), NumberedRing(1, 1000)
    run(history, ring, range(1, 3))
    (run_folder / ".tmp-checkpoint_000003-abcd").mkdir()
    (run_folder / "replay" / ".tmp-half").touch()
    (run_folder / ".tmp-stdout-abcd").touch()
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "kept").touch()
    (run_folder / ".tmp-old-checkpoint_000002-abcd").symlink_to(elsewhere)
    (run_folder / ".tmp-old-checkpoint_000001-abcd").symlink_to(tmp_path / "nowhere")
    (run_folder / "replay" / "000000000020-000000000030-00000000.safetensors").touch()
    (run_folder / "progress.csv").touch()
    before = {segment.name for segment in history._segments}
    history = CheckpointHistory(LocalFileSystem(), str(run_folder))
    history.read_newest()
    history.clean()
    assert names(run_folder) == ["checkpoint_000001", "checkpoint_000002", "progress.csv", "replay"]
    assert set(names(run_folder / "replay")) >= before
    assert names(elsewhere) == ["kept"]
    assert history.read_newest()[0] == 2


def test_a_folder_that_cannot_be_written_leaves_the_checkpoints(run_folder, monkeypatch):
    history, ring = CheckpointHistory(LocalFileSystem(), str(run_folder)), NumberedRing(1, 1000)
    run(history, ring, range(1, 3))

    def fail(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(segments_module, "write_file_atomically", fail)
    ring.num_added += 10
    with pytest.raises(OSError, match="No space"):
        history.write(3, CONFIG, state_with(ring), ring)
    assert names(run_folder) == ["checkpoint_000001", "checkpoint_000002", "replay"]
    monkeypatch.undo()
    history.write(4, CONFIG, state_with(ring), ring)  # and it can go on
    assert CheckpointHistory(LocalFileSystem(), str(run_folder)).read_newest()[0] == 4


def test_a_damaged_segment_is_written_anew(run_folder):
    """The trial goes on from the checkpoint before, and writes the very same segment again."""
    history, ring = CheckpointHistory(LocalFileSystem(), str(run_folder)), NumberedRing(1, 1000)
    run(history, ring, range(1, 4))
    newest = history._segments[-1]
    path = run_folder / "replay" / newest.name
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    history = CheckpointHistory(LocalFileSystem(), str(run_folder))
    assert history.read_newest()[0] == 2
    ring.num_added = 20
    run(history, ring, range(3, 4))
    assert newest in history._segments
    assert CheckpointHistory(LocalFileSystem(), str(run_folder)).read_newest()[0] == 3


def test_a_folder_that_was_never_finished_is_not_kept_for_a_checkpoint(run_folder):
    history, ring = CheckpointHistory(LocalFileSystem(), str(run_folder)), NumberedRing(1, 1000)
    run(history, ring, range(1, 3))
    (run_folder / "checkpoint_000003").mkdir()
    (run_folder / "checkpoint_000003" / "state.json").touch()
    run(history, ring, range(4, 5))
    assert names(run_folder) == ["checkpoint_000002", "checkpoint_000004", "replay"]
