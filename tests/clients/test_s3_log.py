"""The prediction log at an ``s3://`` address: moto stands for the store, the server is real."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator

import boto3
import pytest
from moto.server import ThreadedMotoServer

from conftest import HERE, PYTHON

BUCKET = "predictions"


@pytest.fixture
def store() -> Iterator[dict[str, str]]:
    """Run a store with an empty bucket; gives the variables that a client of it is started with."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    try:
        host, port = server.get_host_and_port()
        variables = {
            "AWS_ENDPOINT_URL": f"http://{host}:{port}",
            "AWS_ALLOW_HTTP": "true",
            "AWS_ACCESS_KEY_ID": "of-the-test",
            "AWS_SECRET_ACCESS_KEY": "of-the-test",
            "AWS_REGION": "us-east-1",
        }
        client(variables).create_bucket(Bucket=BUCKET)
        yield variables
    finally:
        server.stop()


def client(variables: dict[str, str]):
    return boto3.client(
        "s3",
        endpoint_url=variables["AWS_ENDPOINT_URL"],
        aws_access_key_id=variables["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=variables["AWS_SECRET_ACCESS_KEY"],
        region_name=variables["AWS_REGION"],
    )


def test_predictions_are_shipped_to_s3_once_although_the_shipper_is_killed(store, tmp_path):
    done = subprocess.run(
        [PYTHON, str(HERE / "log_to_s3.py"), str(tmp_path), f"s3://{BUCKET}/log"],
        env={**os.environ, **store},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2_000:]
    said = json.loads(done.stdout.splitlines()[-1])
    assert said["killed"] == 2
    assert len(said["asked"]) == len(set(said["asked"])) == 60
    assert sorted(said["shipped"]) == sorted(said["asked"])
    assert set(said["meanwhile"]) <= set(said["asked"])
    assert not list((tmp_path / "home").glob("log"))
    keys = [one["Key"] for one in client(store).list_objects_v2(Bucket=BUCKET)["Contents"]]
    assert any(key.startswith("log/m/predictions-0001/_delta_log/") for key in keys)
    assert any(key.startswith("log/m/predictions-0001/day=") for key in keys)
