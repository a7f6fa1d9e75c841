"""A mock AWS account in which everybody has the rights of ``cluster/iam``, and what a launch of a cluster left."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3

from tests.cluster.cluster_support import CLUSTER, ROOT, Machine, read_yaml

BUCKET = "some-results"
KEY = "5ec7e75ec7e75ec7e75ec7e75ec7e75ec7e75ec7"
CONFIG = read_yaml("aws.yaml")
IMAGE = CONFIG["available_node_types"]["head"]["node_config"]["ImageId"]
WORKERS = [name for name in CONFIG["available_node_types"] if name != CONFIG["head_node_type"]]
RIGHTS = {"as-admin": (), "as-person": ("person",), "as-head": ("head", "results"), "as-worker": ("results",)}
"""Users of the mock, and whose rights of ``cluster/iam`` they have; no names: all rights."""


@dataclass(frozen=True)
class Account:
    """An AWS account in which everybody may do what ``cluster/iam`` says and nothing else."""

    address: str
    keys: dict[str, dict[str, str]]

    def client(self, service: str, user: str = "as-admin") -> Any:
        keys = self.keys[user]
        return boto3.client(
            service,
            endpoint_url=self.address,
            region_name=CONFIG["provider"]["region"],
            aws_access_key_id=keys["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=keys["AWS_SECRET_ACCESS_KEY"],
        )

    def environment(self, user: str) -> dict[str, str]:
        return {**self.keys[user], "AWS_ENDPOINT_URL": self.address, "AWS_EC2_METADATA_DISABLED": "true"}


def account_command(address: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """``python cluster/aws_account.py ARGUMENTS...``."""
    own = {"AWS_ACCESS_KEY_ID": "any", "AWS_SECRET_ACCESS_KEY": "any", "AWS_ENDPOINT_URL": address}
    return subprocess.run(
        [sys.executable, CLUSTER / "aws_account.py", *arguments],
        env={"PYTHONPATH": str(ROOT), "AWS_EC2_METADATA_DISABLED": "true"} | own | environment,
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip


def policy(name: str) -> dict[str, Any]:
    policy: dict[str, Any] = json.loads((CLUSTER / "iam" / f"{name}.json").read_text().replace("BUCKET", BUCKET))
    return policy


def actions_alone(policies: tuple[str, ...]) -> str:
    """The actions that the policies allow: the mock knows neither resources nor conditions.

    HeadBucket is an action in the mock alone; AWS asks for ListBucket.
    """
    parts = [part for name in policies for part in policy(name)["Statement"]]
    actions = [action for part in parts for action in as_list(part["Action"])] if policies else ["*"]
    if "s3:ListBucket" in actions:
        actions.append("s3:HeadBucket")
    statement = {"Effect": "Allow", "Action": actions, "Resource": "*"}
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})


def as_list(value: str | list[str]) -> list[str]:
    return [value] if isinstance(value, str) else value


def ask_for_rights(address: str) -> None:
    """From here on the mock refuses what a user may not do."""
    text = {"Content-Type": "text/plain"}
    request = urllib.request.Request(f"{address}/moto-api/reset-auth", data=b"0", headers=text, method="POST")
    urllib.request.urlopen(request, timeout=10).close()


@dataclass(frozen=True)
class Launch:
    """What came of ``ray up``, ``ray get-head-ip``, ``ray exec`` and ``ray down``."""

    machine: Machine
    laptop: Path
    head: dict[str, Any]
    """AWS's description of the machine between up and down."""
    volume: dict[str, Any]
    groups: list[dict[str, Any]]
    output: dict[str, str]
    states_after: list[str]


def instances(ec2: Any, *states: str) -> list[dict[str, Any]]:
    found = [machine for group in ec2.describe_instances()["Reservations"] for machine in group["Instances"]]
    return [machine for machine in found if not states or machine["State"]["Name"] in states]
