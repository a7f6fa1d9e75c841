"""The sweep files that come with the package: found by name, listed, written out; and the command without arguments."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

import vagram_ray
from vagram_ray.__main__ import main as package_main
from vagram_ray.sweep.commandline import main
from vagram_ray.sweep.spec import SweepError
from vagram_ray.sweep.sweep_file import describe_sweep_file, find_sweep_file, load_sweep_file, packaged_sweeps

ROOT = Path(__file__).resolve().parents[2]
NAMES = sorted(file.stem for file in (ROOT / "tune_configs").iterdir() if file.suffix == ".py")


def invoke(*arguments: str) -> Result:
    return CliRunner().invoke(main, list(arguments))


def test_the_clones_sweep_files_are_the_packaged_ones() -> None:
    assert {"ablations", "deterministic_vs_probabilistic", "distractors", "model_size", "mujoco"} <= set(NAMES)
    assert packaged_sweeps() == {name: ROOT / "tune_configs" / f"{name}.py" for name in NAMES}


def test_a_wheels_copy_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside a wheel in site-packages, somebody else's ``tune_configs`` may lie."""
    own, others = tmp_path / "vagram_ray" / "tune_configs", tmp_path / "tune_configs"
    for folder in (own, others):
        folder.mkdir(parents=True)
        (folder / f"from_{folder.parent.name}.py").write_text("")
    monkeypatch.setattr(vagram_ray, "__file__", str(tmp_path / "vagram_ray" / "__init__.py"))
    assert packaged_sweeps() == {"from_vagram_ray": own / "from_vagram_ray.py"}


@pytest.mark.parametrize("name", NAMES)
def test_the_line_of_a_sweep_is_its_description(name: str) -> None:
    file = packaged_sweeps()[name]
    assert describe_sweep_file(file) == load_sweep_file(file).description != ""


def test_a_file_without_a_description_has_an_empty_line(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text("SWEEP = Sweep(name='own')\nother(description='no')\n")
    assert describe_sweep_file(tmp_path / "own.py") == ""


def test_list_has_a_line_for_each_and_imports_no_ray() -> None:
    code = (
        "import sys; from vagram_ray.sweep.commandline import main; main(['--list'], standalone_mode=False); "
        "print('ray' in sys.modules, 'torch' in sys.modules)"
    )
    shown = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    *lines, loaded = shown.stdout.splitlines()
    assert [line.split()[0] for line in lines] == NAMES
    line = lines[NAMES.index("distractors")]
    assert line.endswith("  Figure 4: how do the losses stand up to irrelevant dimensions of the state?")
    assert loaded == "False False"


def test_a_path_comes_before_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert find_sweep_file("distractors") == ROOT / "tune_configs" / "distractors.py"
    assert find_sweep_file("distractors.py") == Path("distractors.py"), "a path, which need not exist"
    (tmp_path / "distractors").mkdir()
    assert find_sweep_file("distractors") == ROOT / "tune_configs" / "distractors.py", "a folder is no sweep file"
    (tmp_path / "mujoco").write_text("")
    assert find_sweep_file("mujoco") == Path("mujoco")


def test_a_name_that_is_none_gets_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SweepError, match=r"at 'distractor': did you mean distractors\? `vagram-sweep --list`"):
        find_sweep_file("distractor")
    result = invoke("zzz")
    assert result.exit_code == 2
    assert result.stderr == (
        "Error: There is no sweep file and no packaged sweep at 'zzz': `vagram-sweep --list` shows those of the "
        "package.\n"
    )
    assert "'folder/nothing'" in invoke("folder/nothing").stderr


def test_a_packaged_sweep_is_planned_by_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    result = invoke("distractors", "--scale", "smoke", "--dry-run", "--wandb", "disabled")
    assert result.exit_code == 0, result.output
    assert "distractors at scale smoke: 2 cells x 2 seeds x 2 epochs" in result.output
    assert not list(tmp_path.iterdir())


def test_copy_writes_a_file_that_can_be_edited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for destination, written in ((".", "distractors.py"), ("mine.py", "mine.py")):
        result = invoke("--copy", "distractors", destination)
        assert result.exit_code == 0, result.output
        assert f"vagram-sweep {written}" in result.stdout
        assert (tmp_path / written).read_bytes() == (ROOT / "tune_configs" / "distractors.py").read_bytes()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["distractors", "."], "'distractors.py' is there already and is left as it is"),
        (["distractors", "new"], "give a folder that exists, or a new file that ends with .py"),
        (["distractors", "no/folder/a.py"], "'no/folder/a.py' cannot be written: No such file or directory"),
        (["nothing", "."], "--copy 'nothing': no packaged sweep has that name; there are ablations, "),
        (["distractors"], "'--copy' requires 2 arguments"),
    ],
)
def test_copy_refuses_in_one_sentence(
    arguments: list[str], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "distractors.py").write_text("mine")
    result = invoke("--copy", *arguments)
    assert result.exit_code == 2
    assert says in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert [(file.name, file.read_text()) for file in tmp_path.iterdir()] == [("distractors.py", "mine")]


def test_without_arguments_the_command_shows_what_one_can_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")  # an option's value that nobody typed
    result = invoke()
    assert result.exit_code == 0
    for command in ("--list", "distractors --dry-run", "--copy distractors my_sweep.py", "--help"):
        assert f"vagram-sweep {command}" in result.stdout


def test_options_without_a_sweep_are_a_mistake() -> None:
    result = invoke("--scale", "smoke")
    assert result.exit_code == 2
    assert result.stderr.startswith("Error: CONFIG.py is missing: give a sweep file, or the name of a packaged one")


@pytest.mark.parametrize("command", [main, package_main], ids=["vagram-sweep", "python -m vagram_ray"])
def test_version_is_the_packages(command: object) -> None:
    result = CliRunner().invoke(command, ["--version"])  # type: ignore[arg-type]
    assert result.exit_code == 0
    assert result.output.startswith(f"vagram_ray {vagram_ray.__version__} (Python 3.")
    assert "torch 2." in result.output and "ray 2." in result.output


def test_the_package_shows_its_commands() -> None:
    shown = CliRunner().invoke(package_main, []).output
    for module in ("sweep", "report", "play", "studies.loss_landscape", "studies.value_error"):
        assert f"python -m vagram_ray.{module} " in shown
        assert (ROOT / "vagram_ray" / module.replace(".", "/")).exists() or (
            ROOT / "vagram_ray" / f"{module.replace('.', '/')}.py"
        ).exists()


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        ("di", {"plain,distractors"}),
        ("--cop", {"plain,--copy"}),
        ("x", {"file,x"}),
    ],
)
def test_the_shell_completes_names_files_and_options(typed: str, expected: set[str]) -> None:
    environment = {
        **os.environ,
        "_VAGRAM_SWEEP_COMPLETE": "bash_complete", "COMP_WORDS": f"vagram-sweep {typed}", "COMP_CWORD": "1",
    }  # fmt: skip
    code = "from vagram_ray.sweep.commandline import main; main(prog_name='vagram-sweep')"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60
    )
    assert set(done.stdout.split()) == expected
