"""Who may do what: ``cluster/aws_account.py`` and ``cluster/iam``."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.exceptions import ClientError
from click.testing import CliRunner, Result
from moto import mock_aws

from tests.cluster.aws_support import BUCKET, CONFIG, IMAGE, Account, account_command, as_list, policy
from tests.cluster.cluster_support import load_script

pytestmark = pytest.mark.ci


def test_account_has_a_closed_bucket_and_the_roles_of_the_file(account: Account) -> None:
    closed = account.client("s3").get_public_access_block(Bucket=BUCKET)["PublicAccessBlockConfiguration"]
    assert closed and all(closed.values())
    iam = account.client("iam")
    for node_type in CONFIG["available_node_types"].values():
        profile = iam.get_instance_profile(InstanceProfileName=node_type["node_config"]["IamInstanceProfile"]["Name"])[
            "InstanceProfile"
        ]
        (role,) = profile["Roles"]
        assert role["AssumeRolePolicyDocument"]["Statement"][0]["Principal"] == {"Service": "ec2.amazonaws.com"}
    assert sorted(iam.list_role_policies(RoleName="vagram-ray-head")["PolicyNames"]) == ["head", "results"]
    assert iam.list_role_policies(RoleName="vagram-ray-worker")["PolicyNames"] == ["results"]
    for name in ("vagram-ray-head", "vagram-ray-worker"):
        document = iam.get_role_policy(RoleName=name, PolicyName="results")["PolicyDocument"]
        assert {resource for part in document["Statement"] for resource in [part["Resource"]]} == {
            f"arn:aws:s3:::{BUCKET}", f"arn:aws:s3:::{BUCKET}/*",
        }  # fmt: skip


def test_policies_speak_of_this_cluster_and_its_roles() -> None:
    names = {
        node_type["node_config"]["IamInstanceProfile"]["Name"] for node_type in CONFIG["available_node_types"].values()
    }
    for name, passed in {"head": "vagram-ray-worker", "person": "vagram-ray-head"}.items():
        statements = {statement["Sid"]: statement for statement in policy(name)["Statement"]}
        ends = statements["TagAndEndThisClustersMachines"]["Condition"]["StringEquals"]
        assert ends == {"aws:ResourceTag/ray-cluster-name": CONFIG["cluster_name"]}
        (passes,) = [statement for statement in statements.values() if statement["Action"] == "iam:PassRole"]
        assert passes["Resource"] == f"arn:aws:iam::*:role/{passed}" and passed in names
        assert not [
            statement for statement in statements.values()
            if any(action.endswith("*") for action in as_list(statement["Action"]))
        ]  # fmt: skip


RESULTS_SCRIPT = """
import sys
from pathlib import Path
from pyarrow import fs

filesystem, path = fs.FileSystem.from_uri(f"{sys.argv[1]}/sweep")
assert filesystem.get_file_info(path).type == fs.FileType.NotFound
Path("sweep").mkdir()
Path("sweep/results.csv").write_text("seed,return")
fs.copy_files("sweep", path, destination_filesystem=filesystem)
filesystem.create_dir(f"{path}/trial/checkpoint_000000")
with filesystem.open_output_stream(f"{path}/trial/checkpoint_000000/state") as stream:
    stream.write(b"0" * 20_000_000)  # several parts
fs.copy_files(f"{path}/trial", "back", source_filesystem=filesystem)
filesystem.delete_dir(f"{path}/trial/checkpoint_000000")
print(sorted(entry.path for entry in filesystem.get_file_info(fs.FileSelector(path, recursive=True)) if entry.is_file))
"""
"""What the sweep and Tune do with files at a URI."""


@pytest.mark.parametrize("user", ["as-head", "as-worker"])
def test_machines_may_keep_results_and_checkpoints_in_the_bucket(account: Account, tmp_path: Path, user: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", RESULTS_SCRIPT, f"s3://{BUCKET}/{user}"], cwd=tmp_path, capture_output=True, text=True,
        env={"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "AWS_REGION": "us-east-1"} | account.environment(user),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == f"['{BUCKET}/{user}/sweep/results.csv']"
    assert (tmp_path / "back" / "checkpoint_000000" / "state").stat().st_size == 20_000_000


def test_a_worker_may_not_start_machines(account: Account) -> None:
    with pytest.raises(Exception, match="not authorized to perform: ec2:RunInstances"):
        account.client("ec2", "as-worker").run_instances(ImageId=IMAGE, MinCount=1, MaxCount=1)


@pytest.fixture
def empty_account(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Result]]:
    """``aws_account.py ARGUMENTS...`` in this process, with an account in which there is nothing."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "any")
    with mock_aws():
        yield lambda *arguments: CliRunner().invoke(load_script("aws_account").main, arguments)


def test_account_can_be_made_again_and_deleted(empty_account: Callable[..., Result]) -> None:
    for _ in range(2):
        done = empty_account("create", BUCKET)
        assert done.exit_code == 0 and f"--storage s3://{BUCKET}" in done.output, done.output
    iam = boto3.client("iam")
    assert len([role for role in iam.list_roles()["Roles"] if role["RoleName"].startswith("vagram-ray")]) == 2
    for _ in range(2):
        assert empty_account("delete").exit_code == 0
    assert not [role for role in iam.list_roles()["Roles"] if role["RoleName"].startswith("vagram-ray")]
    boto3.client("s3", region_name="us-east-1").head_bucket(Bucket=BUCKET)  # the results are still there


def test_bucket_that_cannot_be_is_one_sentence(empty_account: Callable[..., Result]) -> None:
    done = empty_account("create", "My Results")
    assert (done.exit_code, done.output.count("\n")) == (2, 1)
    assert done.output.startswith("Error: 'My Results' is no name for a bucket")


@pytest.mark.parametrize("arguments", [["create", BUCKET], ["delete"], ["image"]], ids=" ".join)
def test_ctrl_c_ends_every_command_as_elsewhere(monkeypatch: pytest.MonkeyPatch, arguments: list[str]) -> None:
    def interrupted(*args: Any, **kwargs: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(boto3, "client", interrupted)
    monkeypatch.setattr(boto3, "resource", interrupted)
    done = CliRunner().invoke(load_script("aws_account").main, arguments)
    assert done.exit_code == 130 and "Interrupted: the command did not come to its end." in done.output


class Images:
    """An AWS that has the pinned image and speaks of a newer one."""

    def __init__(self, service: str, region: str) -> None:
        assert region == "us-east-1"

    def get_parameter(self, Name: str) -> dict[str, Any]:  # noqa: N803
        assert Name.endswith("base-oss-nvidia-driver-gpu-ubuntu-24.04/latest/ami-id")
        return {"Parameter": {"Value": "ami-new"}}

    def describe_images(self, ImageIds: list[str]) -> dict[str, Any]:  # noqa: N803
        if ImageIds != [IMAGE]:
            raise ClientError({"Error": {"Code": "InvalidAMIID.NotFound", "Message": "no"}}, "DescribeImages")
        return {"Images": [{"Name": "An image", "DeprecationTime": "2028-10-06T00:00:00.000Z"}]}


def test_image_is_told_with_its_name_and_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(boto3, "client", Images)
    lines = CliRunner().invoke(load_script("aws_account").main, ["image"]).output.splitlines()
    assert lines[0] == f"pinned  {IMAGE}  An image, deprecated from 2028-10-06"
    assert (
        lines[1] == "newest  ami-new  is not there (any more) in us-east-1: put another ImageId into cluster/aws.yaml"
    )


def test_nobody_logged_in_is_one_sentence(tmp_path: Path) -> None:
    done = account_command(
        "http://127.0.0.1:1", "create", BUCKET, AWS_ACCESS_KEY_ID="", AWS_SECRET_ACCESS_KEY="", HOME=str(tmp_path)
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("Error: AWS cannot be reached: ") and done.stderr.count("\n") == 1
