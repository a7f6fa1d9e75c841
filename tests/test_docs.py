"""What the documentation tells users to type works."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from vagram_ray.core import model_losses
from vagram_ray.core.model_losses import get_model_loss
from vagram_ray.rllib import MBPOConfig
from vagram_ray.sweep.spec import Sweep, load_sweep_file

ROOT = Path(__file__).resolve().parents[1]


def python_blocks(page: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", (ROOT / page).read_text(), flags=re.DOTALL)


def block_with(page: str, text: str) -> str:
    return next(block for block in python_blocks(page) if text in block)


def test_the_example_loss_registers_through_extensions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_losses, "_REGISTRY", dict(model_losses._REGISTRY))
    file = tmp_path / "my_losses.py"
    file.write_text(block_with("docs/extending.md", "my_taylor"))
    config = MBPOConfig().environment("Pendulum-v1").training(extensions=[str(file)], model_loss="my_taylor")
    config.validate()
    assert get_model_loss("my_taylor").prepare is not None


def test_the_readmes_sweep_file_is_a_sweep(tmp_path: Path) -> None:
    file = tmp_path / "my_sweep.py"
    file.write_text(block_with("README.md", "SWEEP = Sweep"))
    sweep = load_sweep_file(file)
    assert isinstance(sweep, Sweep)
    assert (sweep.seeds, sweep.epochs) == (16, 300)


def test_the_readmes_agent_builds_from_a_valid_configuration() -> None:
    code = block_with("README.md", "build_algo").split("for _ in")[0].replace("algo = (", "config = (")
    names: dict[str, MBPOConfig] = {}
    exec(code.replace("    .build_algo()\n", ""), {}, names)
    names["config"].validate()


@pytest.mark.parametrize("file", sorted((ROOT / "tune_configs").glob("*.py")), ids=lambda path: path.stem)
def test_every_sweep_file_has_the_three_scales(file: Path) -> None:
    assert set(load_sweep_file(file).scales) == {"smoke", "laptop", "paper"}


def test_pages_link_to_files_that_exist() -> None:
    for page in [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]:
        for target in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"
