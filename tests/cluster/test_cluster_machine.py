"""What ``ray up cluster/aws.yaml`` brings to a machine and runs there, and where the W&B key is."""

from __future__ import annotations

import hashlib
import re
import subprocess

import pytest

from tests.cluster.aws_support import KEY, Launch
from tests.cluster.cluster_support import CLUSTER, ROOT

pytestmark = pytest.mark.ci


def test_the_project_and_nothing_else_is_copied(launch: Launch) -> None:
    project = launch.machine.home / "vagram-ray"
    assert {path.name for path in project.iterdir()} == {
        "README.md", "cluster", "pyproject.toml", "tune_configs", "vagram_ray",
    }  # fmt: skip
    assert (project / "vagram_ray" / "sweep" / "__main__.py").is_file()
    assert (launch.machine.home / ".ray" / "auth_token").read_text() == "t0ken"
    assert not list(project.rglob("__pycache__"))


def test_pinned_versions_and_the_project_are_installed(launch: Launch) -> None:
    script = (CLUSTER / "install.sh").read_text()
    (uv_version,) = re.findall(r"^UV_VERSION=(.*)$", script, flags=re.MULTILINE)
    (python_version,) = re.findall(r"^PYTHON_VERSION=(.*)$", script, flags=re.MULTILINE)
    home = launch.machine.home
    (curl,) = launch.machine.calls("curl")
    assert curl["arguments"][-1] == f"https://astral.sh/uv/{uv_version}/install.sh"
    make, install = [call["arguments"] for call in launch.machine.calls("uv") if call["arguments"] != ["--version"]]
    assert make == ["venv", "--clear", "--python", python_version, f"{home}/venv"]
    assert install[:2] == ["pip", "install"]
    assert install[install.index("--requirements") + 1] == f"{home}/vagram-ray/cluster/requirements.lock"
    assert install[install.index("--editable") + 1] == f"{home}/vagram-ray"


def test_no_command_on_the_machine_is_of_rays_defaults(launch: Launch) -> None:
    commands = "\n".join(" ".join(call["arguments"]) for call in launch.machine.calls("ssh"))
    assert "bash ~/vagram-ray/cluster/install.sh" in commands
    for sign in ("nightly", "ray-wheels", "dev0", "anaconda", "pip install", "0.0.0.0"):
        assert sign not in commands, sign


def test_ray_starts_in_the_project_with_the_autoscaler_and_the_key_in_memory(launch: Launch) -> None:
    calls = launch.machine.calls("ray")
    (start,) = [call for call in calls if call["arguments"][:1] == ["start"]]
    assert start["folder"] == str(launch.machine.home / "vagram-ray")
    assert {"--head", "--dashboard-host=127.0.0.1"} < set(start["arguments"])
    assert any(argument.startswith("--autoscaling-config=") for argument in start["arguments"])
    assert start["environment"]["RAY_AUTH_MODE"] == "token"
    assert start["environment"]["RAY_JOB_STOP_SIGNAL"] == "SIGINT"
    assert start["key_sha256"] == hashlib.sha256(KEY.encode()).hexdigest()
    assert not [call for call in calls if "LC_WANDB_API_KEY" in call["environment"]]


def test_exec_finds_ray_and_has_the_key(launch: Launch) -> None:
    (status,) = [call for call in launch.machine.calls("ray") if call["arguments"] == ["status"]]
    assert status["key_sha256"] == hashlib.sha256(KEY.encode()).hexdigest()


def test_the_key_is_in_no_file_and_in_no_command(launch: Launch) -> None:
    for place in (launch.machine.root, launch.laptop):
        for path in place.rglob("*"):
            if path.is_file():
                assert KEY.encode() not in path.read_bytes(), path
    assert not [name for name, output in launch.output.items() if KEY in output]
    tracked = subprocess.run(["git", "ls-files", "cluster"], cwd=ROOT, capture_output=True, text=True).stdout.split()
    assert not [
        name for name in tracked if re.search(r"WANDB_API_KEY\s*[=:]\s*['\"]?\w{20}", (ROOT / name).read_text())
    ]


def test_setting_up_again_changes_nothing(launch: Launch) -> None:
    """``ray up`` runs the set-up again after a change of the project."""
    home = launch.machine.home
    files = [home / ".bashrc", home / ".profile", home / ".tmux.conf"]
    before = [path.read_text() for path in files]
    done = subprocess.run(
        ["bash", "--login", "-c", "bash ~/vagram-ray/cluster/install.sh"],
        env={"HOME": str(home), "PATH": "/usr/bin:/bin"}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert [path.read_text() for path in files] == before
    assert len(launch.machine.calls("curl")) == 1
    assert len([call for call in launch.machine.calls("uv") if call["arguments"][0] == "venv"]) == 1
