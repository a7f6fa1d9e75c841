"""What others rely on beside the code: versions that agree, hosted CI, citation, licence, images, hooks."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

import vagram_ray

pytestmark = pytest.mark.ci

ROOT = Path(__file__).resolve().parents[1]
PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
PYTHONS = re.findall(r"Python :: (3\.\d+)", "\n".join(PROJECT["classifiers"]))
HADOLINT = shutil.which("hadolint", path=str(Path(sys.executable).parent)) or shutil.which("hadolint")


def read_yaml(name: str) -> Any:
    return yaml.safe_load((ROOT / name).read_text())


# -- versions --------------------------------------------------------------------------------------------------


def test_changelog_has_unreleased_on_top_and_then_this_version() -> None:
    headings = re.findall(r"^## (\S+)(?: \((\d{4}-\d\d-\d\d)\))?$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert [name for name, _ in headings[:2]] == ["Unreleased", vagram_ray.__version__]
    dates = [date for _, date in headings[1:]]
    assert all(dates) and dates == sorted(dates, reverse=True)


def test_citation_has_this_version_and_the_paper() -> None:
    citation = read_yaml("CITATION.cff")
    assert str(citation["version"]) == vagram_ray.__version__
    assert citation["license"] == PROJECT["license"] == "MIT"
    (paper,) = citation["references"]
    assert [author["family-names"] for author in paper["authors"]] == ["Voelcker", "Liao", "Garg", "Farahmand"]
    assert paper["year"] == 2022


@pytest.mark.parametrize("name", ["cluster/Dockerfile", "cluster/README.md"])
def test_images_have_this_version(name: str) -> None:
    assert set(re.findall(r"vagram-ray:([\d.]+\d)", (ROOT / name).read_text())) == {vagram_ray.__version__}


# -- schemas ---------------------------------------------------------------------------------------------------


def schema_errors(schema: str, *files: Path) -> str:
    """What the schema that ``check-jsonschema`` brings has against the files; empty if nothing."""
    pytest.importorskip("check_jsonschema", reason="the schemas are those of the extra `test`")
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", f"vendor.{schema}", *map(str, files)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    return "" if done.returncode == 0 else done.stdout + done.stderr


@pytest.mark.parametrize(
    ("schema", "pattern"),
    [
        ("github-workflows", ".github/workflows/*.yml"),
        ("github-issue-forms", ".github/ISSUE_TEMPLATE/[!c]*.yml"),
        ("github-issue-config", ".github/ISSUE_TEMPLATE/config.yml"),
        ("citation-file-format", "CITATION.cff"),
    ],
)
def test_file_is_what_its_schema_says(schema: str, pattern: str) -> None:
    files = sorted(ROOT.glob(pattern))
    assert files
    assert not schema_errors(schema, *files)


def test_the_schema_would_notice_a_mistake(tmp_path: Path) -> None:
    wrong = tmp_path / "ci.yml"
    wrong.write_text((ROOT / ".github/workflows/ci.yml").read_text().replace("runs-on:", "runs-onn:"))
    assert "runs-onn" in schema_errors("github-workflows", wrong)


# -- CI, images, hooks -----------------------------------------------------------------------------------------


def test_hosted_ci_runs_the_readmes_command_on_every_python_that_is_claimed() -> None:
    jobs = read_yaml(".github/workflows/ci.yml")["jobs"]
    assert jobs["test"]["strategy"]["matrix"]["python"] == PYTHONS
    assert [step["run"] for step in jobs["test"]["steps"] if "run" in step] == ["bash .ci/run"]
    assert (ROOT / ".ci" / "run").is_file()
    for job in jobs.values():
        assert job["timeout-minutes"] <= 90, "a job that hangs costs a fork its minutes"


def test_pythons_start_with_the_one_that_is_required() -> None:
    assert PROJECT["requires-python"] == f">={PYTHONS[0]}"
    tried = (ROOT / "docs" / "releasing.md").read_text()
    assert all(f"| {version}" in tried for version in PYTHONS)


@pytest.mark.skipif(HADOLINT is None, reason="hadolint has no wheel for this system")
@pytest.mark.parametrize("name", ["Dockerfile", "cluster/Dockerfile"])
def test_hadolint_has_nothing_against_the_image(name: str) -> None:
    done = subprocess.run(
        [str(HADOLINT), "--no-color", "--failure-threshold", "warning", str(ROOT / name)],
        capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_laptops_image_has_the_clusters_lock_and_all_that_a_wheel_is_made_of() -> None:
    text = (ROOT / "Dockerfile").read_text()
    lock = (ROOT / "cluster" / "requirements.lock").read_text()
    (python,) = re.findall(r"--python-version (\S+)", lock)
    assert f"FROM python:{python}-" in text
    assert "COPY cluster/requirements.lock " in text
    allowed = set(re.findall(r"^!(\S+)$", (ROOT / ".dockerignore").read_text(), flags=re.MULTILINE))
    needed = {"pyproject.toml", "setup.py", "README.md", "LICENSE", "NOTICE", "cluster", "tune_configs", "vagram_ray"}
    assert allowed == needed
    own = re.findall(r"^!(\S+)$", (ROOT / "cluster" / "Dockerfile.dockerignore").read_text(), flags=re.MULTILINE)
    assert set(own) <= allowed, "a builder that knows only .dockerignore builds the cluster's image, too"


def test_the_devcontainer_is_a_stage_of_that_image() -> None:
    build = json.loads((ROOT / ".devcontainer" / "devcontainer.json").read_text())["build"]
    dockerfile = ROOT / ".devcontainer" / build["dockerfile"]
    assert re.search(rf"^FROM \S+ AS {build['target']}$", dockerfile.read_text(), flags=re.MULTILINE)
    assert (ROOT / ".devcontainer" / build["context"]).resolve() == ROOT


def test_hooks_are_tools_of_the_extra_test() -> None:
    """Hooks from repositories of their own would have other versions than CI."""
    tools = {re.split(r"[\[<>= ]", text)[0] for text in PROJECT["optional-dependencies"]["test"]}
    (repository,) = read_yaml(".pre-commit-config.yaml")["repos"]
    assert repository["repo"] == "local"
    for hook in repository["hooks"]:
        assert hook["language"] == "system"
        assert hook["entry"].split()[0] in tools


def test_every_bound_of_a_dependency_stands_beside_a_reason() -> None:
    """Upper bounds: a comment on the line, or right above it."""
    lines = (ROOT / "pyproject.toml").read_text().splitlines()
    start = lines.index("dependencies = [")
    for number, line in enumerate(lines[start : lines.index("]", start)], start):
        if "<" in line and line.strip().startswith('"'):
            assert "#" in line or lines[number - 1].strip().startswith("#"), line
