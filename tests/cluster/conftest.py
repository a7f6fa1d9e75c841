"""One mock of AWS and one launch of ``cluster/aws.yaml`` for all tests that look at them."""

from __future__ import annotations

from collections.abc import Iterator

import boto3
import pytest

from tests.cluster.aws_support import (
    BUCKET,
    KEY,
    RIGHTS,
    Account,
    Launch,
    account_command,
    actions_alone,
    ask_for_rights,
    instances,
)
from tests.cluster.cluster_support import CLUSTER, Machine, aws_server, run_ray


@pytest.fixture(scope="session")
def account(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Account]:
    with aws_server(tmp_path_factory.mktemp("aws") / "server.log") as address:
        made = account_command(address, "create", BUCKET)
        assert made.returncode == 0, made.stderr
        iam = boto3.client(
            "iam", endpoint_url=address, region_name="us-east-1", aws_access_key_id="any", aws_secret_access_key="any"
        )
        keys = {}
        for user, policies in RIGHTS.items():
            iam.create_user(UserName=user)
            iam.put_user_policy(UserName=user, PolicyName="rights", PolicyDocument=actions_alone(policies))
            made_key = iam.create_access_key(UserName=user)["AccessKey"]
            keys[user] = {
                "AWS_ACCESS_KEY_ID": made_key["AccessKeyId"],
                "AWS_SECRET_ACCESS_KEY": made_key["SecretAccessKey"],
            }
        ask_for_rights(address)
        yield Account(address, keys)


@pytest.fixture(scope="session")
def launch(account: Account, tmp_path_factory: pytest.TempPathFactory) -> Launch:
    machine = Machine.make(tmp_path_factory.mktemp("machine") / "m")
    laptop = tmp_path_factory.mktemp("laptop")
    (laptop / ".ray").mkdir()
    (laptop / ".ray" / "auth_token").write_text("t0ken")
    environment = machine.environment(
        laptop, WANDB_API_KEY=KEY, LC_WANDB_API_KEY=KEY, **account.environment("as-person")
    )
    config = str(CLUSTER / "aws.yaml")
    output = {"up": run_ray(["up", "-y", "--no-config-cache", config], environment).stdout}
    ec2 = account.client("ec2")
    assert "Useful commands" in output["up"], output["up"]
    (head,) = instances(ec2, "running")
    volume = ec2.describe_volumes(VolumeIds=[head["BlockDeviceMappings"][0]["Ebs"]["VolumeId"]])["Volumes"][0]
    groups = ec2.describe_security_groups(GroupIds=[group["GroupId"] for group in head["SecurityGroups"]])
    for name, arguments in {
        "ip": ["get-head-ip", config],
        "exec": ["exec", config, "ray status"],
        "down": ["down", "-y", config],
    }.items():
        output[name] = run_ray(arguments, environment).stdout
    states = [instance["State"]["Name"] for instance in instances(ec2)]
    return Launch(machine, laptop, head, volume, groups["SecurityGroups"], output, states)
