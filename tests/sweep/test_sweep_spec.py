"""Sweep files: what they define, and one sentence for every way in which they cannot work."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from vagram_ray.rllib import load_extensions
from vagram_ray.sweep.spec import Scale, Sweep, SweepError, seed_tuple
from vagram_ray.sweep.sweep_file import load_sweep_file, modules_beside


class Config:
    """Stands in for an MBPOConfig, of which a sweep file only passes an instance on."""

    def to_settings(self) -> None: ...


def sweep(**changes: Any) -> Sweep:
    return Sweep(**{"name": "a", "config": Config(), "epochs": 3, **changes})


def test_a_number_of_seeds_stands_for_the_first_ones_and_a_list_for_itself() -> None:
    assert seed_tuple(3) == (0, 1, 2)
    assert seed_tuple([7, 3]) == (7, 3)


@pytest.mark.parametrize("seeds", [0, -1, True, [], [1, 1], [-1], [2**63], "3", [1.5], None])
def test_unusable_seeds_are_refused(seeds: Any) -> None:
    with pytest.raises(ValueError, match="seeds="):
        seed_tuple(seeds)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"name": "a/b"}, "name='a/b'"),
        ({"epochs": 0}, "epochs=0"),
        ({"seeds": 0}, "seeds=0"),
        ({"num_samples": 0}, "num_samples=0"),
        ({"checkpoint_every": 0}, "checkpoint_every=0"),
        ({"config": {"env": "Hopper-v4"}}, "MBPOConfig"),
        ({"scales": {"smoke": {"epochs": 1}}}, "Scale"),
    ],
)
def test_unusable_fields_are_named(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        sweep(**changes)


def test_a_scale_replaces_what_it_sets_and_inherits_the_rest() -> None:
    wide = sweep(seeds=16, epochs=300, scales={"smoke": Scale(seeds=2, overrides={"utd_ratio": 1}), "paper": Scale()})
    smoke, overrides = wide.at_scale("smoke")
    assert (smoke.seeds, smoke.epochs, dict(overrides)) == (2, 300, {"utd_ratio": 1})
    paper, overrides = wide.at_scale("paper")
    assert (paper.seeds, paper.epochs, dict(overrides)) == (16, 300, {})


def test_the_default_scale_is_laptop_and_a_sweep_without_scales_runs_as_written() -> None:
    assert sweep(scales={"laptop": Scale(epochs=9)}).at_scale(None)[0].epochs == 9
    assert sweep().at_scale(None)[0].epochs == 3
    with pytest.raises(SweepError, match="no scale 'laptop'; give --scale smoke or paper"):
        sweep(scales={"smoke": Scale(), "paper": Scale()}).at_scale(None)
    with pytest.raises(SweepError, match="no scale 'smoke'; leave --scale away"):
        sweep().at_scale("smoke")


GOOD = """
from vagram_ray.sweep import Sweep
class Config:
    def to_settings(self): ...
SWEEP = Sweep(name="good", config=Config(), epochs=1)
"""


def test_a_sweep_file_may_lie_anywhere(tmp_path: Path) -> None:
    file = tmp_path / "deep" / "good.py"
    file.parent.mkdir()
    file.write_text(GOOD)
    assert load_sweep_file(file).name == "good"


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("missing.py", None, "no sweep file at"),
        ("sweep.txt", "", "not a Python file"),
        ("empty.py", "x = 1\n", "defines no sweep"),
        ("other.py", "SWEEP = 3\n", "is of type int"),
        ("raises.py", "x = 1\ny = undefined\n", "failed in line 2: NameError"),
        ("syntax.py", "x = 1\ny = = 2\n", "failed in line 2: SyntaxError"),
        ("exits.py", "raise SystemExit(3)\n", "failed in line 1: SystemExit: 3"),
        ("bad.py", GOOD.replace("epochs=1", "epochs=-1"), "failed in line 5: epochs=-1 is not usable"),
    ],
)
def test_files_that_cannot_work_get_one_sentence(tmp_path: Path, name: str, text: str | None, says: str) -> None:
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises(SweepError, match=says) as caught:
        load_sweep_file(tmp_path / name)
    assert caught.value.exit_code == 2
    assert caught.value.message.endswith(".")
    assert "\n" not in caught.value.message


def test_what_the_sweep_file_registers_reaches_the_trials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from vagram_ray.core import model_losses

    monkeypatch.setattr(model_losses, "_REGISTRY", dict(model_losses._REGISTRY))
    plain = "from vagram_ray.rllib import MBPOConfig\nfrom vagram_ray.sweep import Sweep\n"
    sweep = "SWEEP = Sweep(name='own', config=MBPOConfig().environment('Pendulum-v1'), epochs=1)\n"
    loss = (
        "from vagram_ray.core.model_losses import register_model_loss\n"
        "@register_model_loss('own_loss')\n"
        "def own_loss(prediction, target):\n    return (prediction.reward - target.reward).square()\n"
    )
    file = tmp_path / "own.py"
    file.write_text(plain + sweep)
    assert tuple(load_sweep_file(file).config.extensions) == ()
    file.write_text(plain + loss + sweep)
    assert tuple(load_sweep_file(file).config.extensions) == (str(file.resolve()),)


def test_modules_beside_a_sweep_file_and_an_extension_are_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))
    for folder, name in (("a", "beside_a_sweep"), ("b", "beside_an_extension")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / f"{name}.py").write_text("VALUE = 7\n")
        (tmp_path / folder / "mujoco.py").write_text("raise ImportError\n")
    file, extension = tmp_path / "a" / "good.py", tmp_path / "b" / "mine.py"
    file.write_text(f"import mujoco\nimport beside_a_sweep\n{GOOD}")
    extension.write_text("import mujoco\nimport beside_an_extension\n")
    assert load_sweep_file(file).name == "good"
    load_extensions(str(extension))
    assert sys.modules["beside_a_sweep"].VALUE == sys.modules["beside_an_extension"].VALUE == 7
    assert [module.__name__ for module in modules_beside()] == ["beside_a_sweep"]


@pytest.mark.parametrize("variants", [["4x200"], {"size": ["4x200"]}, {"size": {"4x200": 200}}, {3: {}}, None])
def test_variants_of_another_shape_are_refused(make_config: Any, variants: Any) -> None:
    with pytest.raises(ValueError, match=r"variants=.* is not usable: it maps an axis to named groups of settings"):
        Sweep(name="s", config=make_config(), epochs=1, variants=variants)


def test_a_scale_replaces_variants_axis_by_axis(make_config: Any) -> None:
    tasks, sizes = {"a": {"gamma": 0.9}}, {"small": {"num_layers": 1}}
    scale = Scale(variants={"size": {"tiny": {"num_layers": 2}}, "task": {}})
    sweep = Sweep(
        name="s", config=make_config(), epochs=1, variants={"task": tasks, "size": sizes}, scales={"laptop": scale}
    )
    assert sweep.at_scale("laptop")[0].variants == {"size": {"tiny": {"num_layers": 2}}}
