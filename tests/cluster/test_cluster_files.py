"""The cluster files against Ray's own schema, against pyproject.toml, and against each other."""

from __future__ import annotations

import re
import subprocess
import tomllib
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version
from ray.autoscaler._private.util import prepare_config, validate_config

import vagram_ray
from tests.cluster.cluster_support import CLUSTER, ROOT, read_yaml

pytestmark = pytest.mark.ci

FILES = ["aws.yaml", "gcp.yaml", "local.yaml"]
PYPROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())
LOCK = {
    canonicalize_name(name): Version(version)
    for name, version in re.findall(
        r"^([\w.-]+)==(\S+)$", (CLUSTER / "requirements.lock").read_text(), flags=re.MULTILINE
    )
}


def prepared(name: str) -> dict[str, Any]:
    config: dict[str, Any] = prepare_config(read_yaml(name))
    return config


# -- schema ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FILES)
def test_ray_accepts_the_file(name: str) -> None:
    validate_config(prepared(name))


@pytest.mark.parametrize("name", FILES)
def test_ray_would_notice_an_unknown_key(name: str) -> None:
    with pytest.raises(Exception, match="idle_timeout_mintues"):
        validate_config({**prepared(name), "idle_timeout_mintues": 1})


@pytest.mark.parametrize("name", FILES)
def test_nothing_is_left_to_rays_defaults(name: str) -> None:
    """Which install a nightly Ray and open the dashboard to the network."""
    config, final = read_yaml(name), prepared(name)
    for key in ("setup_commands", "head_setup_commands", "worker_setup_commands", "initialization_commands"):
        assert key in config, key
    for key in ("head_start_ray_commands", "worker_start_ray_commands"):
        assert final[key] == config[key]
    commands = [*final["head_setup_commands"], *final["worker_setup_commands"], *final["head_start_ray_commands"]]
    assert not [command for command in commands if re.search(r"nightly|latest|ray-wheels|dev0|0\.0\.0\.0", command)]


@pytest.mark.parametrize("name", ["aws.yaml", "gcp.yaml"])
def test_workers_come_and_go_and_are_spot_machines(name: str) -> None:
    config = read_yaml(name)
    assert config["idle_timeout_minutes"] == 10 and config["max_workers"] == 8
    workers = {key: value for key, value in config["available_node_types"].items() if key != config["head_node_type"]}
    assert len(workers) >= 3
    assert not [key for key, worker in workers.items() if worker["min_workers"]]
    for worker in workers.values():
        node = worker["node_config"]
        market = node.get("InstanceMarketOptions", {}).get("MarketType") or node["scheduling"]["provisioningModel"]
        assert market.lower() == "spot"
    head = config["available_node_types"][config["head_node_type"]]
    assert head["max_workers"] == 0 and head["resources"] == {"CPU": 0}
    assert "spot" not in str(head).lower()


# -- one shape -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FILES[1:])
def test_files_differ_only_in_where_the_machines_are(name: str) -> None:
    own, aws = read_yaml(name), read_yaml("aws.yaml")
    for key in ("file_mounts", "rsync_exclude", "setup_commands", "worker_start_ray_commands"):
        assert own[key] == aws[key], key
    assert own["head_start_ray_commands"][-1].endswith(aws["head_start_ray_commands"][-1])


def test_local_cluster_has_the_autoscaler_that_starts_its_workers() -> None:
    assert read_yaml("local.yaml")["head_start_ray_commands"][-1].startswith("export RAY_enable_autoscaler_v2=0;")
    assert prepared("local.yaml")["available_node_types"]["local.cluster.node"]["min_workers"] == 2


def test_mounted_paths_are_there_and_hold_all_that_the_project_needs() -> None:
    mounts = read_yaml("aws.yaml")["file_mounts"]
    for remote, local in mounts.items():
        if local.startswith("~"):
            assert local == remote == "~/.ray/auth_token"
        else:
            assert remote == f"~/vagram-ray/{local}" and (ROOT / local).exists()
    packages = PYPROJECT["tool"]["setuptools"]["packages"]["find"]["include"]
    assert packages == ["vagram_ray*"] and "vagram_ray" in mounts.values()
    assert PYPROJECT["project"]["readme"] in mounts.values()


def test_image_of_the_manifests_holds_what_the_other_files_copy() -> None:
    mounts = {local for local in read_yaml("aws.yaml")["file_mounts"].values() if not local.startswith("~")}
    copied = re.findall(r"^COPY \S+ (.+) \S+$", (CLUSTER / "Dockerfile").read_text(), flags=re.MULTILINE)
    assert {name for names in copied for name in names.split()} == mounts
    allowed = re.findall(r"^!(\S+)$", (CLUSTER / "Dockerfile.dockerignore").read_text(), flags=re.MULTILINE)
    assert set(allowed) == mounts


@pytest.mark.parametrize("name", ["raycluster.yaml", "rayjob.yaml"])
def test_image_has_the_projects_version(name: str) -> None:
    images = re.findall(r"image: (\S+)", (CLUSTER / "kuberay" / name).read_text())
    assert set(images) == {f"REGISTRY/vagram-ray:{vagram_ray.__version__}"}


# -- versions --------------------------------------------------------------------------------------------------


def requirements() -> list[Requirement]:
    return [Requirement(text) for text in PYPROJECT["project"]["dependencies"]]


@pytest.mark.parametrize("requirement", requirements(), ids=str)
def test_locked_version_is_one_that_pyproject_allows(requirement: Requirement) -> None:
    """Where it fails: run the command at the top of cluster/requirements.lock."""
    locked = LOCK.get(canonicalize_name(requirement.name))
    assert locked is not None, f"{requirement.name} is not in cluster/requirements.lock"
    assert requirement.specifier.contains(locked)


@pytest.mark.parametrize("name", ["ray", "torch", "gymnasium", "mujoco", "wandb", "numpy", "pyarrow"])
def test_locked_version_is_the_one_that_is_tested(name: str) -> None:
    assert LOCK[name].public == Version(metadata.version(name)).public


def test_additions_to_the_lock_are_locked() -> None:
    lines = (CLUSTER / "requirements.in").read_text().splitlines()
    for line in lines:
        if line and not line.startswith("#"):
            assert canonicalize_name(Requirement(line).name) in LOCK, line


def test_python_is_one_that_pyproject_allows_and_the_lock_was_made_for() -> None:
    (version,) = re.findall(r"^PYTHON_VERSION=(.*)$", (CLUSTER / "install.sh").read_text(), flags=re.MULTILINE)
    short = ".".join(version.split(".")[:2])
    assert Requirement(f"python{PYPROJECT['project']['requires-python']}").specifier.contains(version)
    assert short == PYPROJECT["tool"]["mypy"]["python_version"]
    assert f"--python-version {short}" in (CLUSTER / "requirements.lock").read_text()


@pytest.mark.parametrize("name", ["kuberay/raycluster.yaml", "kuberay/rayjob.yaml"])
def test_manifests_name_the_locked_ray(name: str) -> None:
    spec = read_yaml(name)["spec"]
    assert spec.get("rayClusterSpec", spec)["rayVersion"] == str(LOCK["ray"])


def test_no_lock_line_names_a_place() -> None:
    assert not re.findall(r"://|--index|@ ", (CLUSTER / "requirements.lock").read_text())


# -- scripts ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["install.sh", "profile.sh"])
def test_script_is_sound_bash(name: str) -> None:
    assert subprocess.run(["bash", "-n", CLUSTER / name], capture_output=True).returncode == 0


def test_profile_takes_the_key_over_and_leaves_no_other_name_for_it(tmp_path: Path) -> None:
    (tmp_path / "venv" / "bin").mkdir(parents=True)
    (tmp_path / "venv" / "bin" / "activate").write_text("")

    def seen(**environment: str) -> str:
        script = f'. {CLUSTER / "profile.sh"}; echo "${{WANDB_API_KEY:-none}} ${{LC_WANDB_API_KEY:-none}}"'
        return subprocess.run(
            ["bash", "-euc", script], env={"HOME": str(tmp_path), **environment}, text=True, capture_output=True
        ).stdout.strip()

    assert seen() == "none none"
    assert seen(LC_WANDB_API_KEY="new") == "new none"
    assert seen(WANDB_API_KEY="old") == "old none"
    assert seen(WANDB_API_KEY="old", LC_WANDB_API_KEY="new") == "new none"


@pytest.mark.parametrize("path", sorted(CLUSTER.rglob("*.yaml")), ids=lambda path: path.name)
def test_yaml_says_no_key_twice(path: Path) -> None:
    class Strict(yaml.SafeLoader):
        pass

    def mapping(loader: Strict, node: yaml.MappingNode) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value]
        assert len(keys) == len(set(keys)), f"line {node.start_mark.line + 1}: {keys}"
        loader.flatten_mapping(node)
        return yaml.SafeLoader.construct_mapping(loader, node, deep=True)

    Strict.add_constructor("tag:yaml.org,2002:map", mapping)
    yaml.load(path.read_text(), Strict)
