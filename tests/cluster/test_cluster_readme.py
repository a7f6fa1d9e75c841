"""What ``cluster/README.md`` and the other files of ``cluster/`` name is there: files, commands, options, numbers."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import botocore.session
import click
import pytest
from botocore import xform_name
from click.testing import CliRunner
from ray.dashboard.modules.job.cli import job_cli_group
from ray.scripts.scripts import cli as ray_cli

from tests.cluster.cluster_support import CLUSTER, ROOT, load_script, read_yaml
from vagram_ray.report.__main__ import main as report_main
from vagram_ray.sweep.commandline import main as sweep_main
from vagram_ray.sweep.plan.cells import expand_cells
from vagram_ray.sweep.plan.overrides import with_overrides
from vagram_ray.sweep.spec import seed_tuple
from vagram_ray.sweep.sweep_file import load_sweep_file

pytestmark = pytest.mark.ci

README = (CLUSTER / "README.md").read_text()
INSIDE = r"(?:cluster|tune_configs|vagram_ray|docs|tests)/[\w./-]+"
"""Paths of the repository, wherever they are named."""


def commands(page: str) -> Iterator[list[str]]:
    """Words of the commands in the blocks of a page, and of those inside quotes."""
    for block in re.findall(r"```sh\n(.*?)```", page, flags=re.DOTALL):
        for line in block.replace("\\\n", " ").splitlines():
            for part in re.split(r" && ", line) if "'" not in line else [line]:
                words = shlex.split(part, comments=True)
                while words and re.match(r"^(export$|\w+=)", words[0]):
                    words.pop(0)
                if words:
                    yield words
                    for word in words:
                        yield from map(shlex.split, re.split(r"; |&& ", word) if " " in word else [])


ALL = list(commands(README))


def of(*program: str) -> list[list[str]]:
    """Arguments of the calls of a program."""
    return [words[len(program) :] for words in ALL if words[: len(program)] == list(program)]


def check(command: click.Command, words: list[str]) -> None:
    """The command has these options, and takes as many arguments."""
    context = click.Context(command)
    command.make_parser(context).parse_args(list(words))


def test_page_names_only_files_that_are_there() -> None:
    links = [link for link in re.findall(r"\]\(([^)#]+)[^)]*\)", README) if "://" not in link]
    assert len(links) > 10 and not [link for link in links if not (CLUSTER / link).exists()]
    named = {path.rstrip(".") for path in re.findall(INSIDE, README)}
    assert len(named) > 10 and not [path for path in named if not (ROOT / path).exists()]


def test_page_of_the_site_has_the_commands_of_this_one_and_names_files_that_are_there() -> None:
    page = (ROOT / "docs" / "cluster.md").read_text()
    own = list(commands(page))
    assert len(own) > 5 and not [words for words in own if words not in ALL]
    table = re.findall(r"^\| (`.*?) \|", page, flags=re.MULTILINE)
    named = {name.rstrip("/") for row in table for name in re.findall(r"`([\w./-]+)`", row)}
    assert len(named) > 8 and named <= {path.name for path in CLUSTER.iterdir()}
    assert not [path for path in re.findall(INSIDE, page) if not (ROOT / path).exists()]


@pytest.mark.parametrize("path", [path for path in sorted(CLUSTER.rglob("*")) if path.is_file()], ids=lambda p: p.name)
def test_files_name_only_files_that_are_there(path: Path) -> None:
    named = {name.rstrip(".") for name in re.findall(rf"(?<![\w/.~-]){INSIDE}", path.read_text())}
    assert not [name for name in named if not (ROOT / name).exists()]


def test_all_files_are_told_of() -> None:
    told = README + "".join(path.read_text() for path in CLUSTER.rglob("*") if path.suffix in {".yaml", ".sh", ".py"})
    for path in CLUSTER.rglob("*"):
        if (
            path.is_file()
            and path.name not in ("README.md", "Dockerfile.dockerignore")
            and "__pycache__" not in str(path)
        ):
            assert path.name in told or f'"{path.stem}"' in told, path


def test_sweeps_and_reports_have_the_options_of_the_page() -> None:
    sweeps = of("python", "-m", "vagram_ray.sweep")
    submitted = [words[words.index("--") + 1 :] for words in of("ray", "job", "submit")]
    sweeps += [words[3:] for words in submitted]
    sweeps += [words[words.index("--") + 1 :] for words in of("ray", "submit")]
    assert len(sweeps) == 6 and all(words[:3] == ["python", "-m", "vagram_ray.sweep"] for words in submitted)
    for words in sweeps:
        check(sweep_main, words)
    for words in of("python", "-m", "vagram_ray.report"):
        check(report_main, words)
    entrypoint = shlex.split(read_yaml("kuberay/rayjob.yaml")["spec"]["entrypoint"])
    check(sweep_main, entrypoint[3:])


def test_ray_has_the_commands_and_options_of_the_page() -> None:
    seen = set()
    for words in of("ray"):
        group: Any = ray_cli
        name, *rest = words
        if name == "job":
            group, (name, *rest) = job_cli_group, rest
        check(group.commands[name], rest)
        seen.add(name)
    assert seen >= {
        "up",
        "down",
        "exec",
        "submit",
        "attach",
        "dashboard",
        "rsync-down",
        "logs",
        "stop",
        "get-auth-token",
    }


def test_ray_has_the_options_with_which_the_files_start_it() -> None:
    for name in ("aws.yaml", "gcp.yaml", "local.yaml"):
        config = read_yaml(name)
        for key in ("head_start_ray_commands", "worker_start_ray_commands"):
            stop, start = config[key]
            assert stop == "ray stop"
            check(ray_cli.commands["start"], shlex.split(start.partition("ray start ")[2]))
    for group in ("headGroupSpec",):
        for option in read_yaml("kuberay/raycluster.yaml")["spec"][group]["rayStartParams"]:
            check(ray_cli.commands["start"], [f"--{option}", "1"])


@pytest.mark.parametrize("script", ["aws_account", "cost"])
def test_scripts_have_the_commands_and_options_of_the_page(script: str) -> None:
    main = load_script(script).main
    calls = of("python", f"cluster/{script}.py")
    assert calls
    for words in calls:
        if isinstance(main, click.Group):
            check(main.commands[words[0]], words[1:])
        else:
            check(main, words)


def test_aws_has_the_commands_and_options_of_the_page() -> None:
    session = botocore.session.get_session()
    calls = of("aws")
    assert len(calls) == 2
    for service, operation, *words in calls:
        model = session.get_service_model(service)
        (name,) = [name for name in model.operation_names if xform_name(name, "-") == operation]
        known = {xform_name(member, "-") for member in model.operation_model(name).input_shape.members} | {"region"}
        assert not [word for word in words if word.startswith("--") and word[2:] not in known]


@pytest.mark.parametrize("row", re.findall(r"^\| \d \| `tune_configs.*$", README, flags=re.MULTILINE))
def test_table_of_figures_is_what_the_sweep_files_say(row: str) -> None:
    _, file, trials, seeds, epochs, hours = [cell.strip() for cell in row.strip("|").split("|")]
    sweep, overrides = load_sweep_file(ROOT / file.strip("`")).at_scale("paper")
    cells = expand_cells(with_overrides(sweep, overrides, source="The override of the scale"))
    assert (int(trials), int(seeds), int(epochs)) == (len(cells), len(seed_tuple(sweep.seeds)), sweep.epochs)
    assert hours == "not measured"


def test_table_of_prices_has_the_machines_of_the_file() -> None:
    priced = set(re.findall(r"^\| ([a-z]\w+\.\w+)", README, flags=re.MULTILINE))
    types = read_yaml("aws.yaml")["available_node_types"].values()
    assert priced == {node_type["node_config"]["InstanceType"] for node_type in types}


# -- cost.py ---------------------------------------------------------------------------------------------------


def probe(folder: Path, seconds: list[float], resources: dict[str, float]) -> Path:
    """A sweep of one trial of one cell whose epochs took these seconds, and its start 10 more."""
    (folder / "records").mkdir(parents=True)
    cell = {"index": 0, "label": "a cell", "axes": {}}
    trial = {"name": "trial", "cell": 0, "seeds": [0, 1]}
    info = {"name": "x", "resources": resources, "epochs": 20, "seeds": [0, 1], "cells": [cell], "trials": [trial]}
    (folder / "sweep.json").write_text(json.dumps(info))
    records = [
        {
            "training_iteration": number + 1,
            "env_steps": 1000 * (number + 1),
            "time_total_s": 10 + sum(seconds[: number + 1]),
            "time": {"epoch_s": length - 1, "evaluation_s": 1.0},
            "seeds": {"0": {}, "1": {}},
        }
        for number, length in enumerate(seconds)
    ]
    (folder / "records" / "trial.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    return folder


def test_cost_goes_on_as_the_later_epochs_did(tmp_path: Path) -> None:
    folder = probe(tmp_path / "probe", [10.0, 10.0, 30.0, 50.0], {"CPU": 1, "GPU": 0.5})
    done = CliRunner().invoke(load_script("cost").main, [str(folder), "--epochs", "100", "--price", "2"])
    assert done.exit_code == 0, done.output
    hours = (10 + 100 + 96 * 40) / 3600 * 0.5  # the start, what was run, 96 more at the mean of the last two
    assert f"{hours:.1f}" in done.output and f"{2 * hours:.2f}" in done.output
    assert "GPU hours" in done.output and "each on 0.5 GPUs" in done.output


def test_cost_counts_each_trial_with_its_own_share(tmp_path: Path) -> None:
    folder = probe(tmp_path / "probe", [3590.0], {"CPU": 1, "GPU": 1.0})
    info = json.loads((folder / "sweep.json").read_text())
    own = {"small": 0.05, "large": 1.0}
    info["trials"] = [
        {"name": name, "cell": 0, "seeds": [seed], "resources": {"CPU": 1.0, "GPU": share}}
        for seed, (name, share) in enumerate(own.items())
    ]
    (folder / "sweep.json").write_text(json.dumps(info))
    for name in own:
        (folder / "records" / f"{name}.jsonl").write_text((folder / "records" / "trial.jsonl").read_text())
    done = CliRunner().invoke(load_script("cost").main, [str(folder), "--epochs", "1", "--price", "10"])
    assert done.exit_code == 0, done.output
    assert "10.50" in done.output and "each on 0.05 to 1 GPUs" in done.output  # 1.05 hours


@pytest.mark.parametrize(("share", "trials_on_a_gpu"), [(0.55, 1), (0.35, 2), (0.3, 3), (0.05, 20), (1.0, 1)])
def test_cost_is_of_what_a_trial_blocks(tmp_path: Path, share: float, trials_on_a_gpu: int) -> None:
    folder = probe(tmp_path / "probe", [3590.0], {"CPU": 1, "GPU": share})
    done = CliRunner().invoke(load_script("cost").main, [str(folder), "--epochs", "1", "--price", "100"])
    assert f"{100 / trials_on_a_gpu:.2f}" in done.output and "may need" not in done.output


def test_cost_asks_for_the_share_of_the_whole_length(tmp_path: Path) -> None:
    folder = probe(tmp_path / "probe", [10.0], {"CPU": 1, "GPU": 0.55})
    main = load_script("cost").main
    assert (
        "for 20 epochs, and 300 may need a larger one"
        in CliRunner().invoke(main, [str(folder), "--epochs", "300"]).output
    )
    info = json.loads((folder / "sweep.json").read_text()) | {"overrides": {"num_gpus_per_learner": 1}}
    (folder / "sweep.json").write_text(json.dumps(info))
    assert "may need" not in CliRunner().invoke(main, [str(folder), "--epochs", "300"]).output


def test_cost_of_a_sweep_without_gpus_is_in_core_hours(tmp_path: Path) -> None:
    folder = probe(tmp_path / "probe", [3600.0], {"CPU": 1, "GPU": 0})
    done = CliRunner().invoke(load_script("cost").main, [str(folder), "--epochs", "1"])
    assert "core hours" in done.output and "USD" not in done.output and "1.0" in done.output


def test_cost_of_nothing_is_one_sentence(tmp_path: Path) -> None:
    main = load_script("cost").main
    done = CliRunner().invoke(main, [str(tmp_path), "--epochs", "1"])
    assert (done.exit_code, done.output.count("\n")) == (2, 1) and "no sweep.json" in done.output
    done = CliRunner().invoke(main, [str(probe(tmp_path / "probe", [], {"CPU": 1})), "--epochs", "1"])
    assert (done.exit_code, done.output.count("\n")) == (2, 1) and "no finished epoch" in done.output
