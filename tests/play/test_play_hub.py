"""Exported agents on Hugging Face, with a stand-in for ``huggingface_hub`` that keeps repositories in folders."""

from __future__ import annotations

import inspect
import shutil
import sys
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from click.testing import CliRunner, Result

from tests.play.conftest import Saved
from vagram_ray.play.commandline import main as play
from vagram_ray.play.export import main as export
from vagram_ray.play.push import main as push


class StandIn:
    """What of the package is used: ``HfApi.create_repo``, ``HfApi.upload_folder`` and ``snapshot_download``."""

    def __init__(self, root: Path) -> None:
        self.root, self.private = root, {}
        self.error: Exception | None = None

    def create_repo(self, repo_id: str, *, private: bool | None = None, exist_ok: bool = False) -> None:
        if self.error:
            raise self.error
        assert exist_ok
        self.private.setdefault(repo_id, private)
        (self.root / repo_id).mkdir(parents=True, exist_ok=True)

    def upload_folder(self, *, repo_id: str, folder_path: Path, allow_patterns: Any, commit_message: str) -> str:
        for file in Path(folder_path).rglob("*"):
            if any(fnmatch(file.relative_to(folder_path).as_posix(), pattern) for pattern in allow_patterns):
                shutil.copy(file, self.root / repo_id / file.name)
        return f"https://hub.example/{repo_id}/commit/1"

    def snapshot_download(self, repo_id: str, *, revision: str | None, allow_patterns: Any) -> str:
        """Links to files, as the package's cache has them."""
        if self.error:
            raise self.error
        snapshot = self.root / "cache" / repo_id / (revision or "main")
        shutil.rmtree(snapshot, ignore_errors=True)
        snapshot.mkdir(parents=True)
        for file in (self.root / repo_id).iterdir():
            if any(fnmatch(file.name, pattern) for pattern in allow_patterns):
                (snapshot / file.name).symlink_to(file)
        return str(snapshot)


@pytest.fixture
def hugging_face(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[StandIn]:
    stand_in = StandIn(tmp_path / "hub")
    module = ModuleType("huggingface_hub")
    vars(module).update(HfApi=lambda: stand_in, snapshot_download=stand_in.snapshot_download)
    monkeypatch.setitem(sys.modules, "huggingface_hub", module)
    yield stand_in


@pytest.fixture(scope="module")
def folder(pendulum: Saved, tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("exported") / "own"
    done = CliRunner().invoke(export, [str(pendulum.folder), str(target), "--episodes", "2"])
    assert done.exit_code == 0, done.output
    return target


def run(command: Any, *arguments: object) -> Result:
    return CliRunner().invoke(command, [str(argument) for argument in arguments])


def refusal(done: Result) -> str:
    assert done.exit_code == 2 and len(done.output.splitlines()) == 1, done.output
    return done.output


def test_a_dry_run_pushes_nothing(folder: Path, hugging_face: StandIn) -> None:
    done = run(push, folder, "me/own", "--dry-run")
    assert done.exit_code == 0, done.output
    assert "agent.safetensors" in done.output and "Nothing was pushed" in done.output
    assert not hugging_face.root.exists()


def test_an_agent_of_an_extension_is_pushed_without_it(
    folder: Path, hugging_face: StandIn, tmp_path: Path, rewrite_config
) -> None:
    copy = Path(shutil.copytree(folder, tmp_path / "own"))
    rewrite_config(copy, model_loss="loss_of_an_extension")
    assert "was trained with model_loss='loss_of_an_extension'" in refusal(run(play, copy))
    done = run(push, copy, "me/own")
    assert done.exit_code == 0, done.output


def test_what_was_pushed_is_played_from_there(
    folder: Path, hugging_face: StandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = Path(shutil.copytree(folder, tmp_path / "own"))
    (copy / "notes.txt").write_text("mine alone")
    done = run(push, copy, "me/own", "--private")
    assert done.exit_code == 0 and "https://hub.example/me/own/commit/1" in done.output, done.output
    assert hugging_face.private == {"me/own": True}
    pushed = {file.name for file in (hugging_face.root / "me" / "own").iterdir()}
    assert pushed == {file.name for file in folder.iterdir()}
    (hugging_face.root / "me" / "own" / "malware.py").write_text("raise SystemExit")
    monkeypatch.chdir(tmp_path)
    here, there = (
        run(play, source, "--episodes", "2").output.splitlines()[1:] for source in (folder, "hf://me/own@v1")
    )
    assert here == there and any("mean" in line for line in here)
    assert not (hugging_face.root / "cache" / "me" / "own" / "v1" / "malware.py").exists()
    done = run(play, "hf://me/own", "--episodes", "1", "--model", "--horizon", "2")
    assert done.exit_code == 0, done.output
    assert list((tmp_path / "play").glob("*-model.png"))  # not in the cache


def test_what_cannot_be_pushed_is_one_sentence(
    folder: Path, pendulum: Saved, hugging_face: StandIn, tmp_path: Path
) -> None:
    assert "is no repository; give OWNER/NAME" in refusal(run(push, folder, "own"))
    assert "is no exported agent; make one with" in refusal(run(push, pendulum.folder, "me/own"))
    assert "There is nothing at" in refusal(run(push, tmp_path / "nowhere", "me/own"))
    copy = Path(shutil.copytree(folder, tmp_path / "own"))
    (copy / "agent.safetensors").write_bytes(b"")
    assert "is damaged" in refusal(run(push, copy, "me/own", "--dry-run"))
    hugging_face.error = OSError("401 Client Error\nlog in first")
    assert (
        "was not pushed to 'me/own' (401 Client Error log in first)"
        in run(push, folder, "me/own").output.splitlines()[-1]
    )


def test_what_cannot_be_had_is_one_sentence(hugging_face: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "is no address; give hf://OWNER/NAME" in refusal(run(play, "hf://own"))
    hugging_face.error = RuntimeError("no network")
    assert "'hf://me/own' cannot be had (no network)" in refusal(run(play, "hf://me/own"))
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    assert "pip install 'vagram_ray[hub]'" in refusal(run(play, "hf://me/own"))


def test_a_repository_without_an_agent_is_one_sentence(hugging_face: StandIn) -> None:
    (hugging_face.root / "me" / "empty").mkdir(parents=True)
    assert "holds no checkpoint" in refusal(run(play, "hf://me/empty"))


def test_the_stand_in_is_called_as_the_package_is() -> None:
    package = pytest.importorskip("huggingface_hub", reason="installed with the extra `hub`")
    real = {
        "create_repo": package.HfApi.create_repo,
        "upload_folder": package.HfApi.upload_folder,
        "snapshot_download": package.snapshot_download,
    }
    for name, function in real.items():
        used = inspect.signature(getattr(StandIn, name)).parameters
        assert {*used} - {"self"} <= {*inspect.signature(function).parameters}, name
