"""What ``cluster/gcp.yaml`` makes Ray ask of Google Cloud, against Google's own description of its interface.

Ray's and Google's code run as they are, down to the HTTP request, which is answered here.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from importlib import resources
from typing import Any

import httplib2
import pytest
import yaml
from ray.autoscaler._private.gcp.config import bootstrap_gcp
from ray.autoscaler._private.gcp.node_provider import GCPNodeProvider
from ray.autoscaler._private.util import prepare_config

from tests.cluster.cluster_support import CLUSTER

pytestmark = pytest.mark.ci

COMPUTE = json.loads(
    resources.files("googleapiclient").joinpath("discovery_cache/documents/compute.v1.json").read_text()
)
DONE = {"name": "operation", "status": "DONE"}
ANSWERS: dict[str, Callable[[], dict[str, Any]]] = {
    r"GET .*cloudresourcemanager.*/projects/some-project$": lambda: {
        "projectId": "some-project", "lifecycleState": "ACTIVE",
    },
    r"POST .*cloudresourcemanager.*:getIamPolicy$": lambda: {"bindings": []},
    r"POST .*cloudresourcemanager.*:setIamPolicy$": dict,
    r"GET .*iam.*/serviceAccounts/": lambda: {"email": "ray@some-project", "projectId": "some-project"},
    r"GET .*compute.*/projects/some-project$": lambda: {"commonInstanceMetadata": {}, "name": "some-project"},
    r"POST .*/setCommonInstanceMetadata$": lambda: DONE,
    r"GET .*/operations/": lambda: DONE,
    r"GET .*/subnetworks$": lambda: {"items": [{"selfLink": "regions/us-central1/subnetworks/s"}]},
    r"POST .*/zones/us-central1-a/instances$": lambda: DONE,
}  # fmt: skip


@pytest.fixture
def requested(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> dict[str, list[Any]]:
    """Bodies of the requests that are made, by what is requested."""
    bodies: dict[str, list[Any]] = {}

    def answer(self: Any, uri: str, method: str = "GET", body: Any = None, **more: Any) -> tuple[Any, bytes]:
        request = f"{method} {uri.partition('?')[0]}"
        (pattern,) = [pattern for pattern in ANSWERS if re.match(pattern, request)] or [None]
        assert pattern is not None, request
        bodies.setdefault(request.rpartition("/")[2], []).append(json.loads(body) if body else None)
        return httplib2.Response({"status": 200}), json.dumps(ANSWERS[pattern]()).encode()

    monkeypatch.setattr(httplib2.Http, "request", answer)
    monkeypatch.setenv("HOME", str(tmp_path))  # Ray keeps its key in ~/.ssh
    return bodies


def problems(value: Any, schema: dict[str, Any], where: str) -> Iterator[str]:
    """Fields that Google does not know, and values that are not of their type."""
    if "$ref" in schema:
        yield from problems(value, COMPUTE["schemas"][schema["$ref"]], where)
    elif schema["type"] == "object" and not isinstance(value, dict):
        yield f"{where}: {value!r} is no object"
    elif schema["type"] == "object":
        for key, entry in value.items():
            field = schema.get("properties", {}).get(key) or schema.get("additionalProperties")
            if field is None:
                yield f"{where} has no field {key}"
            else:
                yield from problems(entry, field, f"{where}.{key}")
    elif schema["type"] == "array":
        for index, entry in enumerate(value):
            yield from problems(entry, schema["items"], f"{where}[{index}]")
    else:
        kinds = {"string": (str, int), "boolean": bool, "integer": int, "number": (int, float), "any": object}
        if not isinstance(value, kinds[schema["type"]]):
            yield f"{where}: {value!r} is no {schema['type']}"
        elif "enum" in schema and value not in schema["enum"]:
            yield f"{where}: {value!r} is none of {schema['enum']}"


def asked_for(requested: dict[str, list[Any]], **changes: Any) -> dict[str, dict[str, Any]]:
    """The body of the request for a machine of each type, after ``bootstrap_config``."""
    text = (CLUSTER / "gcp.yaml").read_text().replace("PROJECT_ID", "some-project")  # as README.md says
    config = prepare_config(yaml.safe_load(text))
    config["provider"]["gcp_credentials"] = {"type": "credentials_token", "credentials": "token"}
    config = bootstrap_gcp(config)
    provider = GCPNodeProvider(config["provider"], config["cluster_name"])
    for name, node_type in config["available_node_types"].items():
        head = config["head_node"] if name == config["head_node_type"] else {}
        labels = {"ray-node-name": f"ray-{name.replace('_', '-')}-node", "ray-user-node-type": name}
        provider.create_node({**node_type["node_config"], **head, **changes}, labels, 1)
    return {body["labels"]["ray-user-node-type"]: body for body in requested["instances"]}


def test_google_knows_every_field(requested: dict[str, list[Any]]) -> None:
    for name, body in asked_for(requested).items():
        assert list(problems(body, {"$ref": "Instance"}, name)) == []


def test_an_unknown_field_would_be_noticed(requested: dict[str, list[Any]]) -> None:
    bodies = asked_for(requested, scheduling=[{"preemptible": True}], disk=1)
    found = list(problems(bodies["gpu_l4"], {"$ref": "Instance"}, "gpu_l4"))
    assert found == ["gpu_l4.scheduling: [{'preemptible': True}] is no object", "gpu_l4 has no field disk"]


def test_head_stays_and_workers_are_spot_machines_with_the_pinned_image(requested: dict[str, list[Any]]) -> None:
    bodies = asked_for(requested)
    head, workers = bodies.pop("head"), bodies
    assert head["machineType"] == "zones/us-central1-a/machineTypes/e2-standard-4" and "scheduling" not in head
    assert head["serviceAccounts"][0]["email"] == "ray@some-project"  # Ray's own, which may start machines
    assert {body["machineType"].rpartition("/")[2] for body in workers.values()} == {
        "g2-standard-8", "a2-highgpu-1g", "n1-standard-8",
    }  # fmt: skip
    for body in workers.values():
        assert body["scheduling"]["provisioningModel"] == "SPOT"
        assert body["scheduling"]["instanceTerminationAction"] == "DELETE"
        (account,) = body["serviceAccounts"]
        assert account["email"] == "vagram-ray-worker@some-project.iam.gserviceaccount.com"
        assert account["scopes"] == ["https://www.googleapis.com/auth/devstorage.read_write"]
    for body in (head, *workers.values()):
        (disk,) = body["disks"]
        assert re.search(
            r"/images/common-cu129-ubuntu-2404-nvidia-580-v\d{8}$", disk["initializeParams"]["sourceImage"]
        )
        assert disk["initializeParams"]["diskSizeGb"] == 150 and disk["autoDelete"] is True
        assert body["labels"]["project"] == "vagram-ray"
    assert workers["gpu_t4"]["guestAccelerators"][0]["acceleratorCount"] == 1


def test_no_placeholder_but_the_project_is_left() -> None:
    assert set(re.findall(r"\b[A-Z]+_[A-Z_]+\b", (CLUSTER / "gcp.yaml").read_text())) == {"PROJECT_ID", "RAY_HEAD_IP"}
