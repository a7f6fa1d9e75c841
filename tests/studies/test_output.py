"""Result folders are written completely or not at all."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from vagram_ray.commands import InputError
from vagram_ray.play import export
from vagram_ray.studies.output import check_folder, written_at_once


def test_a_folder_appears_when_it_is_complete(tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "study"
    check_folder(folder)
    assert not (tmp_path / "deep").exists()
    with written_at_once(folder) as partial:
        (partial / "numbers.csv").write_text("1\n")
        assert not folder.exists()
    assert (folder / "numbers.csv").read_text() == "1\n"
    assert [path.name for path in folder.parent.iterdir()] == ["study"]


@pytest.mark.parametrize("given", [".", "link", "below/.."])
def test_an_empty_folder_by_another_name_is_written(
    given: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = tmp_path / "own"
    own.mkdir()
    (tmp_path / "link").symlink_to(own)
    monkeypatch.chdir(own)
    folder = tmp_path / "link" if given == "link" else Path(given)
    check_folder(folder)
    with written_at_once(folder) as partial:
        (partial / "numbers.csv").write_text("1\n")
    assert (own / "numbers.csv").read_text() == "1\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link", "own"]


def test_where_a_disk_is_mounted_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os.path, "ismount", lambda path: str(path) == str(tmp_path))
    with pytest.raises(InputError, match="is where a disk is mounted: give a folder below it"):
        check_folder(tmp_path)
    check_folder(tmp_path / "below")


def test_a_failure_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), written_at_once(tmp_path / "study") as partial:
        (partial / "numbers.csv").write_text("1\n")
        raise RuntimeError("drawing fails")
    assert list(tmp_path.iterdir()) == []


def test_an_empty_folder_is_used(tmp_path: Path) -> None:
    folder = tmp_path / "study"
    folder.mkdir()
    check_folder(folder)
    with written_at_once(folder) as partial:
        (partial / "numbers.csv").write_text("1\n")
    assert (folder / "numbers.csv").exists()


def test_results_are_never_overwritten(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match=r"There are results at .*give another --output"):
        check_folder(tmp_path)
    with pytest.raises(InputError, match="cannot be written"), written_at_once(tmp_path) as partial:
        (partial / "numbers.csv").write_text("1\n")
    assert (tmp_path / "notes.txt").read_text() == "mine"
    assert not list(tmp_path.parent.glob(".*partial"))


@pytest.mark.parametrize("place", ["/dev/null/study", "/proc/study"])
def test_a_place_that_cannot_be_written_is_one_sentence(place: str) -> None:
    with pytest.raises(InputError, match=f"--output '{place}' cannot be written") as refusal:
        check_folder(Path(place))
    assert "\n" not in refusal.value.format_message()


def test_a_folder_that_cannot_be_read_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(folder: Path) -> None:  # root may read everything
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(folder))

    monkeypatch.setattr(Path, "iterdir", denied)
    with pytest.raises(InputError, match=r"--output .* cannot be written \(.*Permission denied"):
        check_folder(tmp_path)
    with pytest.raises(InputError, match=r" cannot be written \(.*Permission denied"):
        export._check_target(tmp_path)
