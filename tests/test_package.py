"""What is handed to others: wheel and source distribution are complete, and a wheel runs from an empty folder."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from email.parser import HeaderParser
from pathlib import Path

import pytest

import vagram_ray

pytestmark = pytest.mark.ci

ROOT = Path(__file__).resolve().parents[1]
VERSION = vagram_ray.__version__
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
BUILD = """
import sys
from setuptools import build_meta
folder = sys.argv[1]  # setuptools changes the arguments
build_meta.build_sdist(folder)
build_meta.build_wheel(folder)
"""
SMOKE = ["distractors", "--scale", "smoke", "--wandb", "offline"]


def source_files() -> list[str]:
    """Files of the project: Git's, or in a source distribution all that are there."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        skipped = {"__pycache__", ".pytest_cache", "build", "dist"}
        files = [file.relative_to(ROOT) for file in ROOT.rglob("*") if file.is_file()]
        return [file.as_posix() for file in files if not skipped & set(file.parts)]
    return [name for name in listed.stdout.splitlines() if (ROOT / name).is_file()]


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with sdist and wheel, built from a copy of the sources by the backend itself: nothing is downloaded."""
    folder = tmp_path_factory.mktemp("dist")
    sources = tmp_path_factory.mktemp("sources")
    for name in source_files():
        (sources / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, sources / name)
    built = subprocess.run(
        [sys.executable, "-c", BUILD, str(folder)], cwd=sources, capture_output=True, text=True, timeout=300
    )
    assert built.returncode == 0, built.stderr[-4000:]
    return folder


@pytest.fixture(scope="module")
def wheel(dist: Path) -> Path:
    return dist / f"vagram_ray-{VERSION}-py3-none-any.whl"


def test_wheel_holds_the_package_the_sweep_files_and_nothing_else(wheel: Path) -> None:
    expected = {name for name in source_files() if name.startswith("vagram_ray/")}
    expected |= {f"vagram_ray/{name}" for name in source_files() if name.startswith("tune_configs/")}
    assert "vagram_ray/py.typed" in expected and "vagram_ray/tune_configs/distractors.py" in expected
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if not name.startswith(f"vagram_ray-{VERSION}.dist-info/")}
        assert names == expected
        for name in expected:
            source = ROOT / name.replace("vagram_ray/tune_configs/", "tune_configs/")
            assert archive.read(name) == source.read_bytes(), name


def test_wheel_says_what_it_is(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        info = f"vagram_ray-{VERSION}.dist-info"
        metadata = HeaderParser().parsestr(archive.read(f"{info}/METADATA").decode())
        licences = {name: archive.read(f"{info}/licenses/{name}") for name in ("LICENSE", "NOTICE")}
        commands = archive.read(f"{info}/entry_points.txt").decode()
    assert licences == {name: (ROOT / name).read_bytes() for name in licences}
    assert (metadata["Version"], metadata["License-Expression"]) == (VERSION, "MIT")
    assert metadata["Requires-Python"] == ">=3.11"
    for name in PYPROJECT["project"]["scripts"]:
        assert f"{name} = vagram_ray." in commands


def test_source_distribution_holds_every_file_of_the_project(dist: Path) -> None:
    top = f"vagram_ray-{VERSION}"
    with tarfile.open(dist / f"{top}.tar.gz") as archive:
        names = {member.name.removeprefix(f"{top}/") for member in archive.getmembers() if member.isfile()}
    assert set(source_files()) - names <= {".gitignore"}


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment variables of a process that imports the wheel's package, not the clone's."""
    target = tmp_path_factory.mktemp("installed")
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", "--no-compile"]
    done = subprocess.run([*command, "--target", str(target), str(wheel)], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    others = {name: value for name, value in os.environ.items() if name not in ("RAY_ADDRESS", "PYTHONPATH")}
    return {**others, "PYTHONPATH": str(target), "COLUMNS": "120"}


def test_installed_wheel_plans_a_packaged_sweep_from_an_empty_folder(installed: dict[str, str], tmp_path: Path) -> None:
    script = Path(installed["PYTHONPATH"]) / "bin" / "vagram-sweep"

    def vagram_sweep(*arguments: str) -> str:
        done = subprocess.run(
            [sys.executable, str(script), *arguments],
            cwd=tmp_path, env=installed, capture_output=True, text=True, timeout=300,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert vagram_sweep("--version").startswith(f"vagram_ray {VERSION} (")
    assert len(vagram_sweep("--list").splitlines()) == len(list((ROOT / "tune_configs").glob("*.py")))
    assert "distractors at scale smoke: 2 cells x 2 seeds x 2 epochs" in vagram_sweep(*SMOKE, "--dry-run")
    assert not list(tmp_path.iterdir())
    vagram_sweep("--copy", "distractors", ".")
    assert (tmp_path / "distractors.py").read_bytes() == (ROOT / "tune_configs" / "distractors.py").read_bytes()


@pytest.mark.slow
def test_wheel_in_a_fresh_environment_runs_the_smoke_sweep(wheel: Path, tmp_path: Path) -> None:
    """A virtual environment of its own; those dependencies that are installed here are used from here."""
    environment, work = tmp_path / "environment", tmp_path / "empty"
    work.mkdir()
    subprocess.run([sys.executable, "-m", "venv", str(environment)], check=True, timeout=300)
    python = environment / "bin" / "python"
    (site,) = environment.glob("lib/python*/site-packages")
    (here,) = {Path(module.__file__ or "").parents[1] for module in (__import__("torch"), __import__("ray"))}
    (site / "dependencies.pth").write_text(f"{here}\n")  # several GB that need not be there twice
    subprocess.run([python, "-m", "pip", "install", "--quiet", str(wheel)], check=True, timeout=900)
    users = {name: value for name, value in os.environ.items() if name not in ("RAY_ADDRESS", "PYTHONPATH")}
    where = subprocess.run(
        [python, "-c", "import vagram_ray; print(vagram_ray.__file__)"],
        cwd=work, env=users, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert where.stdout.strip() == str(site / "vagram_ray" / "__init__.py")
    done = subprocess.run(
        [environment / "bin" / "vagram-sweep", *SMOKE],
        cwd=work, env=users, capture_output=True, text=True, timeout=1200,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
    assert "Complete: every seed of 2 cells came to its end (4 in all)." in done.stdout
    results = work / "results" / "distractors-smoke"
    assert (results / "sweep_file.py").read_bytes() == (ROOT / "tune_configs" / "distractors.py").read_bytes()
