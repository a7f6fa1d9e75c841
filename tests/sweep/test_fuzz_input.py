"""What people can type: whatever it is, it runs or is refused in a sentence, and a refusal leaves nothing behind."""

from __future__ import annotations

import os
import re
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from vagram_ray.rllib import MBPOConfig
from vagram_ray.sweep import commandline
from vagram_ray.sweep.plan import probe
from vagram_ray.sweep.plan.overrides import parse_assignments
from vagram_ray.sweep.run import local_ray, run

SWEEP_FILE = """
from ray import tune
from vagram_ray.rllib import MBPOConfig
from vagram_ray.sweep import Scale, Sweep

SWEEP = Sweep(
    name={name},
    config=MBPOConfig()
    .environment({env}, num_distractors={distractors})
    .training(model_loss={loss}, hidden_size={size}, actor_hidden_sizes={sizes}, utd_ratio={ratio}),
    epochs={epochs},
    seeds={seeds},
    variants={variants},
    scales={scales},
    num_samples={samples},
)
"""
SOUND = {
    "name": "'fuzz'",
    "env": "'Pendulum-v1'",
    "distractors": "tune.grid_search([0, 2])",
    "loss": "tune.grid_search(['vagram', 'none'])",
    "size": "8",
    "sizes": "(16, 16)",
    "ratio": "1",
    "epochs": "3",
    "seeds": "2",
    "variants": "{}",
    "scales": "{'smoke': Scale(epochs=1), 'laptop': Scale()}",
    "samples": "1",
}


outcomes: Counter[str] = Counter()


class ReachedRunError(Exception):
    """The input was taken, and the sweep would run."""


@pytest.fixture(scope="module", autouse=True)
def nothing_runs(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Planning costs no measurements, and running is out of reach; relative paths are harmless."""

    def reached(*args: Any, **kwargs: Any) -> None:
        raise ReachedRunError

    patch = pytest.MonkeyPatch()
    patch.setattr(probe, "measure_costs", lambda machine, extensions, work, on_gpu: ([None] * len(work), ""))
    patch.setattr(run, "run_sweep", reached)
    patch.setattr(local_ray, "connect_to_ray", reached)
    patch.delenv("RAY_ADDRESS", raising=False)
    patch.chdir(tmp_path_factory.mktemp("here"))
    yield
    patch.undo()


def check(arguments: list[str], **file: str) -> None:
    """Run the command line; fail on a traceback, on a message that is no sentence, and on what is left behind."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "sweep.py").write_text(SWEEP_FILE.format(**{**SOUND, **file}))
        command = [str(folder / "sweep.py"), "--storage", str(folder / "results"), "--wandb", "disabled", *arguments]
        result = CliRunner().invoke(commandline.main, command)
        if isinstance(result.exception, ReachedRunError):
            outcomes["taken"] += 1
            return
        outcomes["refused"] += 1
        known = f"{arguments} {file}"
        assert result.exception is None or isinstance(result.exception, SystemExit), (known, result.exception)
        assert result.exit_code == 2, (known, result.output)
        message = result.output.strip()
        assert "Traceback" not in message and message.startswith("Error: "), (known, message)
        assert message.endswith((".", "?", "!")), (known, message)
        assert not list((folder / "results").rglob("*")), known


many = settings(
    max_examples=70,
    deadline=None,
    derandomize=True,
    phases=(Phase.explicit, Phase.generate),
    suppress_health_check=list(HealthCheck),
)

ODD_VALUES = st.sampled_from(
    [
        "",
        " ",
        "nan",
        "inf",
        "-inf",
        "1e400",
        "-1",
        "0",
        "0.5",
        "10**9",
        "9" * 400,
        "None",
        "none",
        "True",
        "[",
        "]",
        "[]",
        "[0]",
        "[-1,2]",
        "[16,[16]]",
        "()",
        "{}",
        "{'a': 1}",
        "grid()",
        "grid(",
        "grid(1,1)",
        "grid(nan)",
        "grid([],[])",
        "grid(grid(1))",
        "'",
        '"',
        "'a",
        "__import__('os').system('false')",
        "lambda: 1",
        "\x00",
        "ä€😀",
        "a=b",
        "=",
        "[" * 500,
        "1 2",
        "1_000",
        "0x10",
        "1j",
        "b'x'",
        "...",
        "2x64",
        "vagram",
        "Pendulum-v1",
        "1e-320",
    ]
)
VALUES = ODD_VALUES | st.text(max_size=12) | st.integers().map(str) | st.floats().map(str)
# Sizes beyond any machine's memory are for the plan's warnings; what is refused is refused at once.
KEYS = (
    st.sampled_from(sorted(MBPOConfig.known_keys()))
    | st.text(max_size=10)
    | st.sampled_from(
        [
            "env_config.g",
            "env_config.",
            ".x",
            "env_config.g.h",
            "model_loss_options.state_weight",
            "seeds",
            "seed",
            "epochs",
        ]
    )
)


@many
@given(KEYS, VALUES)
def test_set(key, value):
    check(["--set", f"{key}={value}"])


@many
@given(st.text(max_size=30) | st.sampled_from(["", "=", "=1", "a", "utd_ratio", "a==", "utd_ratio==1"]))
def test_set_without_form(text):
    check(["--set", text])


ENV_IDS = st.sampled_from(
    [
        "",
        " ",
        "Pendulum",
        "Pendulum-v99",
        "pendulum-v1",
        "CartPole-v1",
        "module:Env-v0",
        "os:Pendulum-v1",
        "../x",
        "a/b-v1",
        "ALE/Pong-v5",
        "Hopper-v1",
        "HalfCheetah-v4",
        "FrozenLake-v1",
        "Blackjack-v1",
        "-v1",
        ":",
        "a:",
        "Env-v",
        "\x00-v1",
    ]
)


@many
@given(ENV_IDS | st.text(max_size=20))
def test_environment_ids(env_id):
    check([], env=repr(env_id))
    check(["--set", f"env={env_id}"])


OPTIONS = st.sampled_from(
    [
        "--seeds",
        "--epochs",
        "--seeds-per-trial",
        "--name",
        "--max-concurrent",
        "--checkpoint-every",
        "--scale",
        "--wandb",
        "--wandb-project",
        "--wandb-artifacts",
        "--address",
    ]
)
OPTION_VALUES = VALUES | st.sampled_from(
    [
        "0-",
        "-3",
        "3-1",
        "0-0",
        "1,1",
        "1,,2",
        "1-99999999999",
        "99999999999",
        ".",
        "..",
        "a/b",
        "x" * 300,
        "con",
        "auto:",
        "::",
    ]
)


@many
@given(OPTIONS, OPTION_VALUES)
def test_options(option, value):
    if option == "--address" and re.search(r"auto|:\d|^local$", value):
        return  # would look for a Ray
    check([option, value])


LITERALS = st.sampled_from(
    [
        "None",
        "0",
        "-1",
        "1.5",
        "float('nan')",
        "'x'",
        "[]",
        "()",
        "{}",
        "{'a': 1}",
        "{'a': {'b': 1}}",
        "{'a': {'b': {'c': 1}}}",
        "{'m': {'s': {'hidden_size': 4}}}",
        "object()",
        "lambda: 1",
        "tune.grid_search([])",
        "tune.grid_search(None)",
        "tune.choice([])",
        "tune.uniform(1, 0)",
        "tune.sample_from(lambda spec: 1 / 0)",
        "10**30",
        "True",
        "b'x'",
        "range(3)",
        "[0, 0]",
        "['a']",
        "undefined",
        "1/0",
        "{1: 2}",
        "{'smoke': 3}",
        "{'smoke': Scale(overrides={'x': 1})}",
        "(",
        "exit()",
        "{'smoke': Scale(epochs=0)}",
        "tune.grid_search(['vagram', 'typo'])",
        "'../up'",
        "'a' * 500",
        "''",
        "type",
        "...",
    ]
)


@many
@given(st.sampled_from(sorted(SOUND)), LITERALS | st.text(max_size=8))
def test_sweep_files(place, literal):
    check([], **{place: literal})


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.binary(max_size=200))
def test_files_that_are_no_sweep_files(content):
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "sweep.py"
        path.write_bytes(b"\xff\xfe # " + content if content[:1] in (b"#", b"") else b"?" + content)
        result = CliRunner().invoke(commandline.main, [str(path), "--storage", f"{name}/results"])
        assert result.exit_code == 2 and result.output.startswith("Error: "), (content, result.output, result.exception)
        assert not os.path.exists(f"{name}/results")


@given(VALUES)
def test_a_value_is_never_executed(value):
    try:
        parse_assignments([f"utd_ratio={value}"])
    except commandline.SweepError as error:
        assert "\n" not in error.message.strip()


def test_values_that_look_like_code_are_texts(tmp_path):
    marker = tmp_path / "executed"
    value = parse_assignments([f"env=__import__('pathlib').Path({str(marker)!r}).touch()"])["env"]
    assert isinstance(value, str) and not marker.exists()


def test_there_were_many_bad_inputs(request):
    if sum(item.fspath == request.node.fspath for item in request.session.items) < 9:
        pytest.skip("a part of this file does not make many")
    # Around 20 are taken: Hypothesis also draws constants of whatever modules the process has loaded.
    assert outcomes["refused"] >= 200 and outcomes["taken"] >= 10, outcomes
