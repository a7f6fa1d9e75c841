"""What the documentation tells users to type works."""

from __future__ import annotations

import re
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium
import pytest
from click.testing import CliRunner

from vagram_ray.core import model_losses
from vagram_ray.core.model_losses import get_model_loss
from vagram_ray.envs import terminations
from vagram_ray.rllib import MBPOConfig
from vagram_ray.sweep.commandline import main
from vagram_ray.sweep.spec import Sweep
from vagram_ray.sweep.sweep_file import load_sweep_file

pytestmark = pytest.mark.ci

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
SHOWN_IN = {"docs/quickstart.md": ["train_one_agent.py"], "docs/extending.md": ["own_loss.py", "own_environment.py"]}
"""Pages whose Python code is code of these examples, which have tests of their own."""


def blocks(page: str | Path, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", (ROOT / page).read_text(), flags=re.DOTALL)


def block_with(page: str, text: str) -> str:
    return next(block for block in blocks(page, "python") if text in block)


@pytest.fixture
def registries(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What a test registers is gone after it."""
    monkeypatch.setattr(model_losses, "_REGISTRY", dict(model_losses._REGISTRY))
    monkeypatch.setattr(terminations, "_BUILDERS", dict(terminations._BUILDERS))
    environments = set(gymnasium.registry)
    yield
    for name in set(gymnasium.registry) - environments:
        del gymnasium.registry[name]


@pytest.mark.parametrize("page", SHOWN_IN)
def test_code_on_a_page_is_code_of_an_example(page: str) -> None:
    sources = [(ROOT / "examples" / name).read_text() for name in SHOWN_IN[page]]
    shown = [block for block in blocks(page, "python") if not block.startswith("MBPOConfig()")]
    assert shown
    for part in "\n\n".join(shown).split("\n\n"):
        assert any(_is_part(part.strip(), source) for source in sources), part


def _is_part(code: str, source: str) -> bool:
    """Whether the lines follow each other in the source, however they are indented there."""
    lines = [line.strip() for line in code.splitlines()]
    there = [line.strip() for line in source.splitlines()]
    return any(there[start : start + len(lines)] == lines for start in range(len(there)))


def test_the_page_on_extending_is_enough(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, registries: None) -> None:
    loss = block_with("docs/extending.md", "vagram_floor")
    code = [line for line in loss.splitlines() if line.strip()]
    assert len(code) <= 20, "a loss is 20 lines"
    (tmp_path / "my_losses.py").write_text(loss)
    (tmp_path / "my_env.py").write_text((ROOT / "examples" / "own_environment.py").read_text())
    monkeypatch.chdir(tmp_path)
    snippets = [block for block in blocks("docs/extending.md", "python") if block.startswith("MBPOConfig()")]
    assert len(snippets) == 2
    for snippet in snippets:
        config: MBPOConfig = eval(snippet, {"MBPOConfig": MBPOConfig})
        if config.env is None:
            config.environment("Pendulum-v1")
        config.validate()
    assert get_model_loss("vagram_floor").options["floor"].default == 0.1


def _commands(page: str) -> list[list[str]]:
    text = "\n".join(blocks(page, "sh")).replace("\\\n", " ")
    lines = [line for line in text.splitlines() if line.startswith("python -m vagram_ray.sweep ")]
    return [shlex.split(line, comments=True) for line in lines]


@pytest.mark.parametrize("page", ["README.md", "docs/quickstart.md", "docs/extending.md"])
def test_sweep_commands_can_be_planned(
    page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, registries: None
) -> None:
    for name in ("RAY_ADDRESS", "WANDB_MODE", "WANDB_DIR", "WANDB_SILENT", "WANDB_CONSOLE", "WANDB_ERROR_REPORTING"):
        monkeypatch.setenv(name, "")  # the command sets some of them; monkeypatch takes them back
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    for folder in ("tune_configs", "examples"):
        shutil.copytree(ROOT / folder, tmp_path / folder)
    (tmp_path / "my_losses.py").write_text(block_with("docs/extending.md", "vagram_floor"))
    commands = _commands(page)
    assert commands
    for command in commands:
        result = CliRunner().invoke(main, [*command[3:], "--dry-run", "--wandb", "disabled"])
        assert result.exit_code == 0, result.output


def test_the_readmes_sweep_file_is_a_sweep(tmp_path: Path) -> None:
    file = tmp_path / "my_sweep.py"
    file.write_text(block_with("README.md", "SWEEP = Sweep"))
    sweep = load_sweep_file(file)
    assert isinstance(sweep, Sweep)
    assert (sweep.seeds, sweep.epochs) == (16, 300)
    assert sweep.at_scale(None)[0].epochs == 13  # what runs without --scale ends within minutes
    assert sweep.at_scale("full")[0] == sweep


def test_the_readmes_agent_builds_from_a_valid_configuration() -> None:
    code = block_with("README.md", "build_algo").split("for _ in")[0].replace("algo = (", "config = (")
    names: dict[str, Any] = {}
    exec(code.replace("    .build_algo()\n", ""), {}, names)
    names["config"].validate()


@pytest.mark.parametrize("file", sorted((ROOT / "tune_configs").glob("*.py")), ids=lambda path: path.stem)
def test_every_sweep_file_has_the_three_scales(file: Path) -> None:
    assert {"smoke", "laptop", "paper"} <= set(load_sweep_file(file).scales)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_to_files_and_headings_that_exist(page: Path) -> None:
    for target, anchor in re.findall(r"\]\((?!\w+:)([^)#\s]*)(?:#([^)\s]+))?\)", page.read_text()):
        file = page.parent / target if target else page
        assert file.exists(), f"{page.name} links to {target}"
        if anchor and file.suffix == ".md":
            assert anchor in _anchors(file), f"{page.name} links to {target}#{anchor}"


def test_the_walks_of_the_architecture_pass_files_that_exist() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text()
    walks = re.findall(r"^- \*\*(.*?): (\d+) files\.\*\*(.*?)(?=^- |^## )", page, flags=re.MULTILINE | re.DOTALL)
    assert len(walks) == 3
    for title, count, text in walks:
        told = re.sub(r"\(.*?\)|For the model,.*", "", text, flags=re.DOTALL)
        files = set(re.findall(r"`(\w+/[\w/]+\.py)`", told))
        assert len(files) == int(count), title
        assert all((ROOT / "vagram_ray" / name).is_file() for name in files), title


def _anchors(page: Path) -> set[str]:
    """Anchors of a page's headings as Git forges make them; MkDocs makes the same of these headings."""
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    headings = re.findall(r"^#+ (.*?)(?: \{.*\})?$", text, flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
