"""The KubeRay manifests against the definitions of KubeRay and Kubernetes: fields, types, and what has to be there."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.cluster_support import read_yaml

pytestmark = pytest.mark.ci

models = pytest.importorskip(
    "kubernetes.client.models",
    reason="the manifests are checked with the models of the kubernetes package: pip install it",
)

TYPES: dict[str, Any] = json.loads(Path(__file__).with_name("kuberay_types.json").read_text())
SCALARS: dict[str, type | tuple[type, ...]] = {
    "str": str, "bool": bool, "int": int, "float": (int, float), "datetime": str, "object": object,
}  # fmt: skip


def problems(value: Any, kind: str | list[str], where: str) -> Iterator[str]:
    """What is wrong with a value of a type: of ``kuberay_types.json``, of Kubernetes, or a scalar."""
    if isinstance(kind, list):
        if value not in kind:
            yield f"{where}: {value!r} is none of {kind}"
    elif kind.endswith("[]") or (inner := re.fullmatch(r"[Ll]ist\[(.*)\]", kind)):
        item = kind[:-2] if kind.endswith("[]") else inner[1]  # type: ignore[index]
        if not isinstance(value, list):
            yield f"{where}: {value!r} is no list"
        else:
            for index, entry in enumerate(value):
                yield from problems(entry, item, f"{where}[{index}]")
    elif kind == "{}" or (inner := re.fullmatch(r"[Dd]ict[\[(]str, (.*)[\])]", kind)):
        for key, entry in value.items():
            yield from problems(entry, "str" if kind == "{}" else inner[1], f"{where}.{key}")  # type: ignore[index]
    elif kind in SCALARS:
        if not isinstance(value, SCALARS[kind]) or (kind != "bool" and value is True):
            yield f"{where}: {value!r} is no {kind}"
    else:
        yield from _problems_of_fields(value, kind, where)


def _problems_of_fields(value: Any, kind: str, where: str) -> Iterator[str]:
    known, required = _fields(kind)
    if not isinstance(value, dict):
        yield f"{where}: {value!r} is no {kind}"
        return
    for missing in required - set(value):
        yield f"{where}: {missing} is missing"
    for key, entry in value.items():
        if key not in known:
            yield f"{where}: {kind} has no field {key}"
        else:
            yield from problems(entry, known[key], f"{where}.{key}")


def _fields(kind: str) -> tuple[dict[str, Any], set[str]]:
    """Types of the fields, and which of them have to be there."""
    if kind in TYPES:
        fields = TYPES[kind]
        required = {key for key, field in fields.items() if isinstance(field, str) and field.endswith("!")}
        return {key: field.rstrip("!") if isinstance(field, str) else field for key, field in fields.items()}, required
    model = getattr(models, kind)
    known = {model.attribute_map[name]: field for name, field in model.openapi_types.items()}
    return known, {model.attribute_map[name] for name in model.openapi_types if model.model_fields[name].is_required()}


MANIFESTS = {"RayCluster": "kuberay/raycluster.yaml", "RayJob": "kuberay/rayjob.yaml"}


@pytest.mark.parametrize("kind", MANIFESTS)
def test_every_field_is_known_and_of_its_type(kind: str) -> None:
    assert list(problems(read_yaml(MANIFESTS[kind]), kind, kind)) == []


def _container(manifest: dict[str, Any]) -> dict[str, Any]:
    container: dict[str, Any] = manifest["spec"]["headGroupSpec"]["template"]["spec"]["containers"][0]
    return container


WRONG = {
    "unknown field of the cluster": lambda m: m["spec"].update(enableAutoscaling=True),
    "unknown field of a container": lambda m: _container(m).update(resource={}),
    "quantity that is a number": lambda m: _container(m)["resources"]["limits"].update(cpu=4),
    "no name of a container": lambda m: _container(m).pop("name"),
    "no head": lambda m: m["spec"].pop("headGroupSpec"),
    "unknown mode": lambda m: m["spec"]["authOptions"].update(mode="tokens"),
    "parameter that is a number": lambda m: m["spec"]["headGroupSpec"]["rayStartParams"].update({"num-cpus": 0}),
    "number that is text": lambda m: m["spec"]["workerGroupSpecs"][0].update(maxReplicas="8"),
    "unknown field of a secret's reference": lambda m: _container(m)["env"][0]["valueFrom"]["secretKeyRef"].update(
        id=1
    ),
}


@pytest.mark.parametrize("change", WRONG)
def test_a_mistake_is_noticed(change: str) -> None:
    manifest = copy.deepcopy(read_yaml(MANIFESTS["RayCluster"]))
    WRONG[change](manifest)
    assert len(list(problems(manifest, "RayCluster", ""))) == 1


def test_job_runs_on_the_cluster_of_the_other_manifest() -> None:
    assert read_yaml(MANIFESTS["RayJob"])["spec"]["rayClusterSpec"] == read_yaml(MANIFESTS["RayCluster"])["spec"]


def test_the_key_comes_from_a_secret_and_goes_to_the_head_alone() -> None:
    spec = read_yaml(MANIFESTS["RayCluster"])["spec"]
    (variable,) = _container(read_yaml(MANIFESTS["RayCluster"]))["env"]
    assert variable["name"] == "WANDB_API_KEY" and "value" not in variable
    assert variable["valueFrom"]["secretKeyRef"]["name"] == "wandb"
    workers = spec["workerGroupSpecs"][0]["template"]["spec"]["containers"]
    assert "env" not in workers[0]
    assert spec["authOptions"] == {"mode": "token"}


def test_job_submits_the_command_of_the_other_clusters() -> None:
    command = read_yaml(MANIFESTS["RayJob"])["spec"]["entrypoint"].split()
    assert command[:4] == ["python", "-m", "vagram_ray.sweep", "tune_configs/distractors.py"]
    assert read_yaml(MANIFESTS["RayJob"])["spec"]["shutdownAfterJobFinishes"] is True
