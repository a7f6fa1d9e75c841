"""What an AWS account needs once before ``ray up cluster/aws.yaml``: roles for the machines and a bucket for results.

``create`` makes them, ``delete`` removes the roles again, ``image`` says what the machine image of ``aws.yaml`` is. All
of it can be repeated. Credentials come from where the AWS tools take them (environment variables or ``~/.aws``).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import datetime
from functools import wraps
from pathlib import Path
from typing import Any

import boto3
import click
import yaml
from botocore.exceptions import BotoCoreError, ClientError

from vagram_ray.commands import SETTINGS, Command, InputError

HERE = Path(__file__).resolve().parent
HEAD, WORKER = "vagram-ray-head", "vagram-ray-worker"
POLICIES = {HEAD: ("head", "results"), WORKER: ("results",)}
"""Files in ``iam/`` that say what each role may do."""
NEWEST_IMAGE = "/aws/service/deeplearning/ami/x86_64/base-oss-nvidia-driver-gpu-ubuntu-24.04/latest/ami-id"


def cluster_config() -> dict[str, Any]:
    """The content of ``aws.yaml``."""
    config: dict[str, Any] = yaml.safe_load((HERE / "aws.yaml").read_text())
    return config


def region() -> str:
    """The region of ``aws.yaml``."""
    return str(cluster_config()["provider"]["region"])


def policy(name: str, bucket: str) -> str:
    """A policy of ``iam/`` for results in this bucket."""
    return (HERE / "iam" / f"{name}.json").read_text().replace("BUCKET", bucket)


def _one_sentence(command: Callable[..., None]) -> Callable[..., None]:
    """What AWS refuses ends the command with a sentence."""

    @wraps(command)
    def wrapped(*args: Any, **kwargs: Any) -> None:
        try:
            command(*args, **kwargs)
        except ClientError as error:
            message = " ".join(error.response["Error"]["Message"].split())
            raise InputError(f"AWS refuses {error.operation_name}: {message}") from error
        except BotoCoreError as error:
            raise InputError(f"AWS cannot be reached: {' '.join(str(error).split())}") from error

    return wrapped


@click.group(context_settings=SETTINGS, help=(__doc__ or "").replace("``", "`"))
def main() -> None:
    """Entry point of the command line."""


@main.command(cls=Command)
@click.argument("bucket")
@_one_sentence
def create(bucket: str) -> None:
    """Make the roles of head and workers, and BUCKET for the results where it does not exist."""
    if not re.fullmatch(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]", bucket):
        raise InputError(f"{bucket!r} is no name for a bucket: give 3 to 63 of a-z, 0-9, dots and hyphens.")
    _create_bucket(bucket)
    for role, policies in POLICIES.items():
        _create_role(role)
        _set_policies(role, {name: policy(name, bucket) for name in policies})
        click.echo(f"role {role}: may do what cluster/iam/{' and '.join(f'{name}.json' for name in policies)} list")
    _allow_spot()
    click.echo(f"Give sweeps --storage s3://{bucket}.")


@main.command(cls=Command)
@_one_sentence
def delete() -> None:
    """Remove the roles; the bucket and its results stay."""
    iam = boto3.client("iam", region())
    for role in POLICIES:
        _ignore("NoSuchEntity", iam.remove_role_from_instance_profile, InstanceProfileName=role, RoleName=role)
        _ignore("NoSuchEntity", iam.delete_instance_profile, InstanceProfileName=role)
        if _ignore("NoSuchEntity", iam.get_role, RoleName=role):
            _set_policies(role, {})
            iam.delete_role(RoleName=role)
        click.echo(f"role {role} is gone")


@main.command(cls=Command)
@_one_sentence
def image() -> None:
    """Say what the machine image of aws.yaml is, and which one AWS has as the newest of its kind."""
    config = cluster_config()
    pinned = {node_type["node_config"]["ImageId"] for node_type in config["available_node_types"].values()}
    newest = boto3.client("ssm", region()).get_parameter(Name=NEWEST_IMAGE)["Parameter"]["Value"]
    for title, identifier in [*(("pinned", image_id) for image_id in sorted(pinned)), ("newest", newest)]:
        click.echo(f"{title}  {identifier}  {_describe_image(identifier)}")


def _create_bucket(bucket: str) -> None:
    s3 = boto3.client("s3", region())
    if _ignore("404", s3.head_bucket, Bucket=bucket):
        click.echo(f"bucket {bucket}: is there")
        return
    where = {} if region() == "us-east-1" else {"CreateBucketConfiguration": {"LocationConstraint": region()}}
    s3.create_bucket(Bucket=bucket, **where)
    closed = ("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets")
    s3.put_public_access_block(Bucket=bucket, PublicAccessBlockConfiguration=dict.fromkeys(closed, True))
    click.echo(f"bucket {bucket}: made in {region()}, closed to the public")


def _create_role(role: str) -> None:
    """A role and an instance profile of the same name, through which a machine takes it."""
    iam = boto3.client("iam", region())
    taken = "EntityAlreadyExists"
    _ignore(taken, iam.create_role, RoleName=role, AssumeRolePolicyDocument=policy("trust", ""))
    _ignore(taken, iam.create_instance_profile, InstanceProfileName=role)
    _ignore("LimitExceeded", iam.add_role_to_instance_profile, InstanceProfileName=role, RoleName=role)


def _set_policies(role: str, policies: dict[str, str]) -> None:
    """Give a role these inline policies and no others."""
    iam = boto3.client("iam", region())
    for name in set(iam.list_role_policies(RoleName=role)["PolicyNames"]) - set(policies):
        iam.delete_role_policy(RoleName=role, PolicyName=name)
    for name, document in policies.items():
        iam.put_role_policy(RoleName=role, PolicyName=name, PolicyDocument=json.dumps(json.loads(document)))


def _allow_spot() -> None:
    """The account's first spot machine needs this role of AWS's own, which a cluster's head may not make."""
    create = boto3.client("iam", region()).create_service_linked_role
    _ignore(("InvalidInput", "EntityAlreadyExists"), create, AWSServiceName="spot.amazonaws.com")


def _describe_image(identifier: str) -> str:
    try:
        images = boto3.client("ec2", region()).describe_images(ImageIds=[identifier])["Images"]
    except ClientError as error:
        if "InvalidAMIID" not in error.response["Error"]["Code"]:
            raise
        images = []
    if not images:
        return f"is not there (any more) in {region()}: put another ImageId into cluster/aws.yaml"
    retired = images[0].get("DeprecationTime")
    until = f", deprecated from {datetime.fromisoformat(retired):%Y-%m-%d}" if retired else ""
    return f"{images[0]['Name']}{until}"


def _ignore(codes: str | tuple[str, ...], call: Callable[..., Any], **arguments: Any) -> Any:
    """The answer, or None where AWS answers with one of these error codes."""
    try:
        return call(**arguments)
    except ClientError as error:
        if error.response["Error"]["Code"] not in ((codes,) if isinstance(codes, str) else codes):
            raise
        return None


if __name__ == "__main__":
    main()
