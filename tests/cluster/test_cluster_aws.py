"""What ``ray up cluster/aws.yaml`` asks of AWS: run for real, against a mock of it."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from tests.cluster.aws_support import CONFIG, IMAGE, WORKERS, Account, Launch, instances
from tests.cluster.cluster_support import CLUSTER, run_ray

pytestmark = pytest.mark.ci


def test_head_is_a_small_machine_on_demand_with_the_pinned_image(launch: Launch) -> None:
    assert launch.head["InstanceType"] == "m7i.xlarge"
    assert launch.head["ImageId"] == IMAGE == "ami-028357be7d5b15c53"
    assert "InstanceLifecycle" not in launch.head and "SpotInstanceRequestId" not in launch.head
    assert launch.head["Placement"]["AvailabilityZone"] in CONFIG["provider"]["availability_zone"].split(",")
    assert launch.head["IamInstanceProfile"]["Arn"].endswith("instance-profile/vagram-ray-head")
    assert launch.head["MetadataOptions"]["HttpTokens"] == "required"


def test_disk_and_tags_are_the_files(launch: Launch) -> None:
    assert (launch.volume["Size"], launch.volume["VolumeType"]) == (150, "gp3")
    tags = {tag["Key"]: tag["Value"] for tag in launch.head["Tags"]}
    assert tags["project"] == "vagram-ray" and tags["ray-cluster-name"] == CONFIG["cluster_name"]
    assert {"Key": "project", "Value": "vagram-ray"} in launch.volume["Tags"]


def test_only_ssh_is_open_to_the_outside(launch: Launch) -> None:
    (group,) = launch.groups
    assert group["GroupName"] == "vagram-ray"
    outside = [rule for rule in group["IpPermissions"] if rule["IpRanges"] or rule.get("Ipv6Ranges")]
    assert [(rule["IpProtocol"], rule["FromPort"], rule["ToPort"]) for rule in outside] == [("tcp", 22, 22)]
    inside = [rule for rule in group["IpPermissions"] if rule not in outside]
    assert [pair["GroupId"] for rule in inside for pair in rule["UserIdGroupPairs"]] == [group["GroupId"]]


def test_address_is_found_and_down_ends_the_machine(launch: Launch) -> None:
    assert launch.output["ip"].strip().endswith(launch.head["PublicIpAddress"])
    assert launch.states_after == ["terminated"], launch.output["down"]


WORKER_SCRIPT = """
import copy, json, sys
from ray.autoscaler._private.aws.node_provider import AWSNodeProvider

config = json.load(open(sys.argv[1]))
provider = AWSNodeProvider(config["provider"], config["cluster_name"])
for name, node_type in config["available_node_types"].items():
    if name != config["head_node_type"]:
        tags = {"ray-node-type": "worker", "ray-user-node-type": name, "ray-node-status": "uninitialized"}
        (node,) = provider.create_node(copy.deepcopy(node_type["node_config"]), tags, 1)
        provider.non_terminated_nodes({})
        provider.set_node_tags(node, {"ray-node-status": "up-to-date"})
"""
"""What the autoscaler on the head does with the configuration that ``ray up`` left there."""


@pytest.fixture(scope="module")
def workers(account: Account, launch: Launch) -> dict[str, dict[str, Any]]:
    """AWS's description of one machine of each type, started and ended with the rights of the head."""
    path = launch.machine.home / "ray_bootstrap_config.yaml"
    environment = launch.machine.environment(launch.machine.home, **account.environment("as-head"))
    done = subprocess.run([sys.executable, "-c", WORKER_SCRIPT, path], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    found: dict[str, dict[str, Any]] = {}
    for machine in instances(account.client("ec2"), "running"):
        tags = {tag["Key"]: tag["Value"] for tag in machine["Tags"]}
        assert tags["project"] == "vagram-ray" and tags["ray-node-status"] == "up-to-date"
        found[tags["ray-user-node-type"]] = machine
    ended = run_ray(["down", "-y", "--workers-only", str(path)], environment)  # as a cluster does that ends itself
    assert not instances(account.client("ec2"), "running"), ended.stdout
    return found


def test_workers_are_spot_machines_of_several_types(workers: dict[str, dict[str, Any]]) -> None:
    assert sorted(workers) == sorted(WORKERS)
    types = {machine["InstanceType"] for machine in workers.values()}
    assert types == {"g6.2xlarge", "g5.2xlarge", "g6e.2xlarge", "g6.12xlarge", "p4d.24xlarge"}
    for machine in workers.values():
        assert machine["InstanceLifecycle"] == "spot"
        assert machine["ImageId"] == IMAGE
        assert machine["IamInstanceProfile"]["Arn"].endswith("instance-profile/vagram-ray-worker")


def test_resources_of_workers_are_looked_up(launch: Launch) -> None:
    config = json.loads((launch.machine.home / "ray_bootstrap_config.yaml").read_text())
    gpus = {name: config["available_node_types"][name]["resources"]["GPU"] for name in WORKERS}
    assert gpus == {"gpu_l4": 1, "gpu_a10g": 1, "gpu_l40s": 1, "gpu_4_l4": 4, "gpu_8_a100": 8}
    assert config["available_node_types"]["head"]["resources"]["CPU"] == 0
    assert len(config["available_node_types"]["gpu_l4"]["node_config"]["SubnetIds"]) == 4  # one in each zone


LOOK_UP_SCRIPT = """
import sys, yaml
from ray.autoscaler._private.aws.node_provider import AWSNodeProvider

config = yaml.safe_load(open(sys.argv[1]).read().replace("g6.2xlarge", "g6.3xlarge"))
AWSNodeProvider.fillout_available_node_types_resources(config)
"""
"""``ray up`` goes on with a warning where this fails, and then no worker is ever started."""


def test_wrong_instance_type_would_be_noticed(account: Account, launch: Launch) -> None:
    done = subprocess.run(
        [sys.executable, "-c", LOOK_UP_SCRIPT, CLUSTER / "aws.yaml"], capture_output=True, text=True,
        env=launch.machine.environment(launch.laptop, **account.environment("as-person")),
    )  # fmt: skip
    assert "Instance type g6.3xlarge is not available in AWS region: us-east-1" in done.stderr
    assert "Failed to autodetect node resources" not in launch.output["up"]
