"""Which checkpoints of a run stay."""

from __future__ import annotations

from pathlib import Path

import pytest
from pyarrow.fs import LocalFileSystem

from tests.checkpoint.conftest import CONFIG, NumberedRing, state_with
from vagram_ray.checkpoint import CheckpointHistory, Kept, read_checkpoint
from vagram_ray.checkpoint.history import numbered_checkpoints


@pytest.mark.parametrize(
    ("kept", "left"),
    [
        (1, [9]),
        (3, [7, 8, 9]),
        ("all", list(range(1, 10))),
        ("every 4 epochs", [4, 8, 9]),
        ("every 3", [3, 6, 8, 9]),
        ("every 1 epoch", list(range(1, 10))),
    ],
)
def test_what_is_kept_is_whole(tmp_path: Path, kept: int | str, left: list[int]) -> None:
    """Segments of the buffer too, with which older ones share them."""
    history, ring = CheckpointHistory(LocalFileSystem(), str(tmp_path), kept), NumberedRing(2, 40)
    for number in range(1, 10):
        ring.num_added += 7
        history.write(number, CONFIG, state_with(ring), ring)
    found = numbered_checkpoints(LocalFileSystem(), str(tmp_path))
    assert [number for number, _ in found] == left
    for number, folder in found:
        rows = read_checkpoint(folder)[1]["agent"]["replay"]["rows"]
        assert rows.shape[1] == min(40, 7 * number)
    assert len(found) <= Kept.of(kept).most(9, None)


@pytest.mark.parametrize("value", [0, -1, True, 2.0, None, "some", "every", "every 0 epochs", "every x"])
def test_other_values_are_refused_with_what_there_is(value: object) -> None:
    with pytest.raises(
        ValueError, match=r"^checkpoints_kept=.* is not usable: give how many of the newest, 'all', or "
    ):
        Kept.of(value)


def test_the_most_there_can_be_follows_the_interval() -> None:
    assert Kept.of("all").most(100, None) == 100
    assert Kept.of("all").most(100, 30) == 4
    assert Kept.of(2).most(100, None) == 2
    assert Kept.of("every 10 epochs").most(100, None) == 12


def test_in_words() -> None:
    words = [str(Kept.of(value)) for value in (1, 2, 5, "all", "every 10")]
    assert words == ["the last one", "the last two", "the last 5", "all", "those of every 10 epochs and the last two"]
