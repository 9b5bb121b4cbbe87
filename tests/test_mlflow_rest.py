"""Calls to an MLflow server, and to servers that are none or misbehave."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from greenroom.errors import NotInRegistry, RegistryError, RegistryUnavailable, SettingsError
from greenroom.registry.registry import Registry
from misbehaving import against, says, server


@pytest.fixture
def registry(mlflow_server: str) -> Iterator[Registry]:
    with Registry(mlflow_server, timeout_s=20, environment={}) as opened:
        yield opened


def test_a_host_name_that_mlflow_does_not_accept_is_named_with_what_to_do(registry, mlflow_server):
    with Registry(mlflow_server, environment={}) as strange:
        strange._rest._client.headers["Host"] = "mlflow:5000"
        with pytest.raises(RegistryError, match="--allowed-hosts") as refused:
            strange.ping()
    assert not isinstance(refused.value, RegistryUnavailable)
    registry.ping()


def test_a_server_that_is_not_there_is_unavailable_within_seconds():
    with pytest.raises(RegistryUnavailable) as failed, Registry("http://127.0.0.1:9") as registry:
        registry.ping()
    assert str(failed.value).startswith("Failed to connect to MLflow at http://127.0.0.1:9: ")
    assert "MLFLOW_TRACKING_URI" in failed.value.advice
    assert not failed.value.mlflow_answers


def test_a_server_that_does_not_answer_is_given_up_after_the_time_out():
    released = threading.Event()

    def hang(*_):
        released.wait(20)
        return says(200, {})()

    with server(hang) as uri, Registry(uri, timeout_s=0.2) as registry:
        began = time.monotonic()
        with pytest.raises(RegistryUnavailable, match="did not answer in time"):
            registry.ping()
        assert time.monotonic() - began < 5
        released.set()


@pytest.mark.parametrize(
    ("status", "content", "answers"),
    [
        (500, {"error_code": "INTERNAL_ERROR", "message": "database is locked"}, True),
        (503, {"error_code": "TEMPORARILY_UNAVAILABLE", "message": ""}, True),
        (403, b"Permission denied", True),
        (400, {"error_code": "BAD_REQUEST", "message": "no"}, True),
        (502, b"<html>Bad gateway", False),
        (200, b"<html>Something else", False),
    ],
)
def test_it_is_told_whether_mlflow_itself_has_answered(status, content, answers):
    with against(says(status, content)) as registry, pytest.raises(RegistryError) as failed:
        registry.ping()
    assert failed.value.mlflow_answers is answers


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_a_server_that_cannot_answer_now_is_unavailable(status):
    with (
        against(says(status, b"<html>\nBad gateway")) as registry,
        pytest.raises(RegistryUnavailable, match=f"HTTP {status}, <html> Bad gateway"),
    ):
        registry.ping()


@pytest.mark.parametrize(
    "answer",
    [
        says(200, b"<html>Welcome</html>"),
        says(200, b"[1, 2]"),
        says(404, b"<h1>Not Found</h1>"),
        says(404, {"detail": "Not Found"}),
        says(301, b"", Location="https://elsewhere.example/"),
    ],
)
def test_a_server_that_is_not_mlflow_is_recognised(answer):
    with (
        against(answer) as registry,
        pytest.raises(RegistryError, match="does not answer like an MLflow server") as failed,
    ):
        registry.registered_model("m")
    assert not isinstance(failed.value, RegistryUnavailable | NotInRegistry)


@pytest.mark.parametrize(
    ("environment", "sent"),
    [
        ({}, None),
        ({"MLFLOW_TRACKING_TOKEN": "t0ken"}, "Bearer t0ken"),
        (
            {"MLFLOW_TRACKING_USERNAME": "ada", "MLFLOW_TRACKING_PASSWORD": "x"},
            "Basic YWRhOng=",
        ),
        (
            {
                "MLFLOW_TRACKING_USERNAME": "ada",
                "MLFLOW_TRACKING_PASSWORD": "x",
                "MLFLOW_TRACKING_TOKEN": "t0ken",
            },
            "Basic YWRhOng=",
        ),
    ],
)
def test_credentials_come_from_mlflows_own_variables(environment, sent):
    with server(says(200, {})) as uri, Registry(uri, environment=environment) as registry:
        registry.ping()
    assert server.seen[-1][2].get("Authorization") == sent


def test_credentials_in_the_address_are_used_and_never_shown():
    with server(says(401, b"You are not authenticated.")) as uri:
        address = uri.replace("http://", "http://ada:s3cret@")
        with Registry(address, environment={}) as registry:
            assert registry.uri == uri
            with pytest.raises(RegistryError, match="MLFLOW_TRACKING_USERNAME") as failed:
                registry.ping()
        assert server.seen[-1][2]["Authorization"].startswith("Basic ")
    assert "s3cret" not in str(failed.value)


@pytest.mark.parametrize(
    "uri",
    ["sqlite:///mlflow.db", "./mlruns", "", "http://", "databricks", "postgresql://u:s3cret@h"],
)
def test_an_address_that_is_not_a_servers_is_refused_with_advice(uri):
    with pytest.raises(RegistryError, match="is not the address of an MLflow server") as failed:
        Registry(uri)
    assert "mlflow server" in failed.value.advice
    assert "s3cret" not in str(failed.value)


@pytest.mark.parametrize("uri", ["http://[::1", "http://127.0.0.1:port"])
def test_an_address_that_cannot_be_read_is_refused(uri):
    with pytest.raises(RegistryError):
        Registry(uri)


@pytest.mark.parametrize(
    "environment",
    [
        {"MLFLOW_TRACKING_INSECURE_TLS": "true", "MLFLOW_TRACKING_SERVER_CERT_PATH": "/ca.pem"},
        {"MLFLOW_TRACKING_SERVER_CERT_PATH": "/there/is/no/ca.pem"},
        {"MLFLOW_TRACKING_CLIENT_CERT_PATH": "/there/is/no/client.pem"},
    ],
)
def test_certificates_that_cannot_be_used_are_named(environment):
    with pytest.raises(SettingsError, match="MLFLOW_TRACKING_"):
        Registry("https://127.0.0.1:1", environment=environment)


def test_tls_is_verified_unless_it_is_switched_off():
    for insecure in ("false", "true"):
        environment = {"MLFLOW_TRACKING_INSECURE_TLS": insecure}
        with Registry("https://127.0.0.1:1", environment=environment) as registry:
            context = registry._rest._client._transport._pool._ssl_context
            assert bool(context.verify_mode) == (insecure == "false")
