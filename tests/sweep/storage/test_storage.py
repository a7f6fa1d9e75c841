"""A location that cannot be used is refused in one sentence, before anything is made."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
from pyarrow import fs

from vagram_ray.sweep.spec import SweepError
from vagram_ray.sweep.storage import folder as storage_folder
from vagram_ray.sweep.storage.folder import SweepStorage


@pytest.fixture(autouse=True)
def own_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, where a sweep under a URI would put ``results``."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def refusal(location: str) -> str:
    with pytest.raises(SweepError) as error:
        SweepStorage(location, "run").check()
    message = error.value.format_message()
    assert len(message.splitlines()) == 1
    return message


def test_a_location_that_can_be_written_is_left_as_it_was(tmp_path: Path) -> None:
    for location in ("new/below", str(tmp_path / "other"), f"file://{tmp_path}/remote/below"):
        SweepStorage(location, "run").check()
        assert list(tmp_path.iterdir()) == []


def test_the_folder_of_something_else_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "there" / "run"
    folder.mkdir(parents=True)
    storage = SweepStorage("there", "run")
    storage.check()
    for left_by_a_killed_driver in (".driver.lock", "tmpa8s7.tmp"):
        (folder / left_by_a_killed_driver).write_text("")
        storage.check()
    (folder / "thesis.tex").write_text("")
    assert refusal("there") == "There is something at there/run that is no sweep; give another --name."
    (folder / "sweep.json").write_text("{}")
    storage.check()
    assert {entry.name for entry in folder.iterdir()} == {".driver.lock", "tmpa8s7.tmp", "thesis.tex", "sweep.json"}


@pytest.mark.parametrize(
    ("location", "reason"),
    [
        ("file/below", "is not a directory"),
        ("~nobodyhere/x", "Could not determine home directory"),
        ("null\0byte", "embedded null byte"),
    ],
)
def test_a_place_that_cannot_be_is_refused(location: str, reason: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    message = refusal(location)
    assert message.startswith(f"--storage {location!r} cannot be written (")
    assert message.endswith(f"{reason}); give a directory that can.")
    with pytest.raises(SweepError, match="cannot be written"):
        SweepStorage(location, "run").create()


@pytest.mark.parametrize("function", ["exists", "mkdir"])
def test_a_directory_of_somebody_else_is_refused(function: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path, *args: Any, **kwargs: Any) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, function, refuse)
    storage = SweepStorage("private/x", "run")
    with pytest.raises(SweepError) as error:
        storage.check() if function == "exists" else storage.create()
    assert error.value.format_message() == (
        "--storage 'private/x' cannot be written (Permission denied); give a directory that can."
    )


def test_a_uri_below_a_file_is_refused_and_nothing_is_made(tmp_path: Path) -> None:
    message = refusal("file:///dev/null/x")
    assert message.startswith("--storage 'file:///dev/null/x' cannot be written (Cannot create directory '/dev/null/")
    assert message.endswith("Not a directory); give a location that can.")
    assert "nothing://x" in refusal("nothing://x")
    assert list(tmp_path.iterdir()) == []


class ReadOnlyStore(fs.FileSystemHandler):  # type: ignore[misc]
    """An object store in which everything can be looked up, and either no object can be written or no folder made."""

    def __init__(self, refused: str) -> None:
        self.refused = refused

    def get_file_info(self, paths: list[str]) -> list[fs.FileInfo]:
        return [fs.FileInfo(path, fs.FileType.NotFound) for path in paths]

    def create_dir(self, path: str, recursive: bool) -> None:
        if self.refused == "create_dir":
            raise PermissionError(13, f"AccessDenied for {path.split('/')[0]}")

    def open_output_stream(self, path: str, metadata: Any) -> Any:
        raise PermissionError(13, f"AccessDenied for {path.split('/')[0]}")

    def __getattr__(self, name: str) -> Any:
        raise NotImplementedError(name)


ReadOnlyStore.__abstractmethods__ = frozenset()


@pytest.mark.parametrize("refused", ["create_dir", "open_output_stream"])
def test_a_bucket_that_can_only_be_read_is_refused(
    refused: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def resolve(uri: str) -> tuple[fs.FileSystem, str]:
        return fs.PyFileSystem(ReadOnlyStore(refused)), uri.removeprefix("s3://")

    monkeypatch.setattr("vagram_ray.checkpoint.files.resolve", resolve)
    message = refusal("s3://bucket/prefix")
    assert message == (
        "--storage 's3://bucket/prefix' cannot be written (AccessDenied for bucket); give a location that can."
    )
    assert list(tmp_path.iterdir()) == []


def test_results_that_cannot_be_made_beside_a_uri_are_named(tmp_path: Path) -> None:
    (tmp_path / "results").write_text("a file")
    assert refusal(f"file://{tmp_path}/remote").startswith("The sweep's own files cannot be written to 'results' (")


def test_a_query_stays_at_the_end_of_a_uri() -> None:
    storage = SweepStorage("s3://bucket/some/?endpoint_override=localhost:9000&scheme=http", "run")
    assert storage.uri == "s3://bucket/some/run?endpoint_override=localhost:9000&scheme=http"
    filesystem, path = fs.FileSystem.from_uri(storage.trial_folder("trial"))
    assert (type(filesystem), path) == (fs.S3FileSystem, "bucket/some/run/trial")
    assert SweepStorage("gs://bucket", "run").trial_folder("trial") == "gs://bucket/run/trial"


@pytest.mark.parametrize("location", ["s3://", "s3:///path", "gs://", "s3://?region=eu-west-1"])
def test_a_uri_without_a_bucket_is_refused(location: str) -> None:
    assert refusal(location) == f"--storage {location!r} names no bucket; give {location[:2]}://BUCKET/PATH."


def test_a_storage_that_does_not_answer_is_waited_for_and_then_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    answered, said = threading.Event(), list[str]()

    def resolve(uri: str) -> tuple[fs.FileSystem, str]:
        answered.wait(60)
        raise OSError("too late")

    monkeypatch.setattr("vagram_ray.checkpoint.files.resolve", resolve)
    monkeypatch.setattr(storage_folder, "SAY_AFTER_S", 0.01)
    monkeypatch.setattr(storage_folder, "ANSWER_WITHIN_S", 0.02)
    with pytest.raises(SweepError, match="'gs://bucket' has not answered within 0 s; check the network"):
        SweepStorage("gs://bucket", "run").check(said.append)
    answered.set()
    assert said == ["Waiting for gs://bucket to answer, at most 0 s."]
