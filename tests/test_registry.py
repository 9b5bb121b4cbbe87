"""The registry's client, against a real MLflow server and against servers that misbehave."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import pytest

from greenroom.artifacts import list_files, safe_path
from greenroom.errors import (
    NotInRegistry,
    RegistryError,
    RegistryUnavailable,
    SettingsError,
)
from greenroom.registered import read_model_version, read_registered_model
from greenroom.registry import ModelVersion, RegisteredModel, Registry, RemoteFile, name_filter
from greenroom.selector import Selector
from mlflow_versions import log_files, register_files

NOWHERE = "s3://nowhere/model"


@pytest.fixture
def registry(mlflow_server: str) -> Iterator[Registry]:
    with Registry(mlflow_server, timeout_s=20, environment={}) as opened:
        yield opened


@pytest.fixture
def three(registry: Registry, request) -> str:
    """A registered model with three versions; its name is the test's."""
    name = request.node.name
    registry.create_model(name)
    for _ in range(3):
        registry.create_version(name, NOWHERE)
    return name


def versions(registry: Registry, name: str, selector: str) -> list[str]:
    return [one.version for one in registry.resolve(name, Selector.parse(selector)).versions]


Answer = tuple[int, dict[str, str], bytes]


@contextmanager
def server(answer: Callable[[str, str, dict[str, list[str]]], Answer]) -> Iterator[str]:
    """A server that gives any answer: (method, path, query) in, (status, headers, body) out."""

    class Handler(BaseHTTPRequestHandler):
        def respond(self) -> None:
            parts = urlsplit(self.path)
            self.server.seen.append((self.command, parts.path, dict(self.headers)))
            status, headers, body = answer(self.command, parts.path, parse_qs(parts.query))
            self.send_response(status)
            for name, value in {"Content-Length": str(len(body)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def do_GET(self) -> None:
            self.respond()

        def do_POST(self) -> None:
            self.respond()

        def log_message(self, *args: object) -> None: ...

    listening = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    listening.seen = []
    thread = threading.Thread(target=listening.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        server.seen = listening.seen
        yield f"http://127.0.0.1:{listening.server_port}"
    finally:
        listening.shutdown()
        thread.join()
        listening.server_close()


def says(status: int, body: object, **headers: str) -> Callable[..., Answer]:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return lambda *_: (status, headers, content)


@contextmanager
def against(answer: Callable[..., Answer]) -> Iterator[Registry]:
    with server(answer) as uri, Registry(uri, environment={}) as registry:
        yield registry


# Against a real server


def test_a_model_is_created_once_however_often_it_is_asked_for(registry):
    first = registry.create_model("created-twice")
    assert registry.create_model("created-twice") == first
    assert first.created_at_ms > 0
    assert "created-twice" in [model.name for model in registry.registered_models()]


def test_versions_come_lowest_first_with_their_tags_and_aliases(registry, three):
    registry.set_version_tag(three, "2", "colour", "green")
    registry.set_alias(three, "champion", "3")
    registry.set_alias(three, "another", "3")
    found = registry.versions(three)
    assert [one.version for one in found] == ["1", "2", "3"]
    assert found[1].tags == {"colour": "green"}
    assert found[2].aliases == ("another", "champion")
    assert found[2] == registry.version(three, "3") == registry.by_alias(three, "champion")


def test_a_version_is_registered_together_with_its_tags(registry):
    registry.create_model("tagged at once")
    made = registry.create_version("tagged at once", NOWHERE, tags={"greenroom.digest": "abc"})
    assert made.status == "READY"
    assert registry.version("tagged at once", made.version).tags == {"greenroom.digest": "abc"}


@pytest.mark.parametrize("name", ["it's", 'say "so"', "both ' and \"", "100%_sure", "a\\b", "ünï"])
def test_any_name_that_mlflow_takes_can_be_searched_for(registry, name):
    for one in (name, f"{name}2", name.replace("'", "x")):
        registry.create_model(one)
        registry.create_version(one, NOWHERE)
    assert {(one.name) for one in registry.versions(name)} == {name}


def test_a_stage_is_resolved_through_its_versions(registry, three):
    assert versions(registry, three, "Production") == []
    registry.transition(three, "3", "Production")
    registry.transition(three, "1", "Production")
    assert versions(registry, three, "Production") == ["1", "3"], "the last moved comes first"
    registry.transition(three, "2", "Production", archive_existing=True)
    assert versions(registry, three, "Production") == ["2"]
    assert versions(registry, three, "Archived") == ["3", "1"]


def test_existing_versions_are_left_where_mlflow_cannot_archive_them(registry, three):
    registry.transition(three, "1", "Archived")
    registry.transition(three, "2", "Archived", archive_existing=True)
    assert sorted(versions(registry, three, "Archived")) == ["1", "2"]


def test_an_alias_latest_and_a_number_select_one_version_or_none(registry, three):
    assert versions(registry, three, "@champion") == []
    registry.set_alias(three, "champion", "2")
    assert versions(registry, three, "@champion") == ["2"]
    registry.delete_alias(three, "champion")
    registry.delete_alias(three, "champion")
    assert versions(registry, three, "@champion") == []
    assert versions(registry, three, "latest") == ["3"]
    assert versions(registry, three, "1") == ["1"]
    assert versions(registry, three, "77") == []


def test_a_model_that_is_not_registered_selects_nothing_and_says_so(registry):
    selection = registry.resolve("never-registered", Selector.parse("latest"))
    assert (selection.versions, selection.registered) == ((), False)


def test_tags_of_a_model_are_set_and_deleted_as_often_as_one_likes(registry, three):
    registry.set_model_tag(three, "greenroom.note", "one")
    registry.set_model_tag(three, "greenroom.note", "two")
    assert registry.registered_model(three).tags == {"greenroom.note": "two"}
    registry.delete_model_tag(three, "greenroom.note")
    registry.delete_model_tag(three, "greenroom.note")
    assert registry.registered_model(three).tags == {}


@pytest.mark.parametrize(
    "ask",
    [
        lambda registry, name: registry.registered_model("never-registered"),
        lambda registry, name: registry.versions("never-registered"),
        lambda registry, name: registry.version(name, "99"),
        lambda registry, name: registry.by_alias(name, "nobody"),
        lambda registry, name: registry.transition(name, "99", "Production"),
        lambda registry, name: registry.set_alias(name, "champion", "99"),
        lambda registry, name: registry.create_version("never-registered", NOWHERE),
    ],
)
def test_what_is_not_there_is_not_in_the_registry(registry, ask):
    registry.create_model("here")
    with pytest.raises(NotInRegistry):
        ask(registry, "here")


def test_a_refusal_carries_mlflows_own_words(registry):
    registry.create_model("refused")
    with pytest.raises(RegistryError, match="Invalid model version source: '/etc'") as refusal:
        registry.create_version("refused", "/etc")
    assert not isinstance(refusal.value, NotInRegistry | RegistryUnavailable)


def test_files_of_a_version_are_listed_and_downloaded_whole(registry, tmp_path):
    content = {
        "MLmodel": b"flavors: {}\n",
        "greenroom/version.json": b"{}",
        "data/deep/er/100% b.bin": bytes(range(256)) * 9000,
    }
    made = register_files(registry, "with-files", content)
    assert registry.files(made) == [
        RemoteFile(path, len(content[path])) for path in sorted(content)
    ]
    assert [file.path for file in registry.files(made, "greenroom")] == ["greenroom/version.json"]
    for path, expected in content.items():
        got = registry.download(made, path, tmp_path / "here")
        assert got == tmp_path / "here" / path
        assert got.read_bytes() == expected
    assert sum(one.is_file() for one in tmp_path.rglob("*")) == len(content), "no partial files"


def test_a_file_that_is_not_there_leaves_nothing_behind(registry, tmp_path):
    made = register_files(registry, "without-file", {"MLmodel": b"x"})
    with pytest.raises(NotInRegistry, match=r"nothing\.txt"):
        registry.download(made, "nothing.txt", tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_run_as_source_is_looked_up(registry, tmp_path):
    answer = registry._rest.post("runs/create", {"experiment_id": "0"})
    run_id = answer["run"]["info"]["run_id"]
    registry.create_model("from-run")
    made = registry.create_version("from-run", f"runs:/{run_id}/model", run_id)
    assert made.run_id == run_id
    assert registry.files(made) == []


def test_a_logged_model_as_location_is_looked_up(registry):
    source = log_files(registry.uri, {"MLmodel": b"x"})
    assert registry.create_model("logged") == registry.registered_model("logged")
    made = registry.create_version("logged", source)
    assert made.source == source
    assert [file.path for file in registry.files(made)] == ["MLmodel"]


def test_a_host_name_that_mlflow_does_not_accept_is_named_with_what_to_do(registry, mlflow_server):
    with Registry(mlflow_server, environment={}) as strange:
        strange._rest._client.headers["Host"] = "mlflow:5000"
        with pytest.raises(RegistryError, match="--allowed-hosts") as refused:
            strange.ping()
    assert not isinstance(refused.value, RegistryUnavailable)
    registry.ping()


# Against servers that misbehave


def test_a_server_that_is_not_there_is_unavailable_within_seconds():
    with pytest.raises(RegistryUnavailable) as failed, Registry("http://127.0.0.1:9") as registry:
        registry.ping()
    assert str(failed.value).startswith("Failed to connect to MLflow at http://127.0.0.1:9: ")
    assert "MLFLOW_TRACKING_URI" in failed.value.advice


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


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_a_server_that_cannot_answer_now_is_unavailable(status):
    with (
        against(says(status, b"<html>\nBad gateway")) as registry,
        pytest.raises(RegistryUnavailable, match=f"HTTP {status}, <html> Bad gateway"),
    ):
        registry.ping()


def test_a_connection_that_breaks_half_way_is_unavailable_and_leaves_no_file(tmp_path):
    def cut(method, path, query):
        if path.endswith("get-download-uri"):
            return says(200, {"artifact_uri": "mlflow-artifacts:/1/model"})()
        return 200, {"Content-Length": "1000", "Connection": "close"}, b"short"

    with server(cut) as uri, Registry(uri) as registry, pytest.raises(RegistryUnavailable):
        registry.download(ModelVersion("m", "1"), "MLmodel", tmp_path)
    assert list(tmp_path.iterdir()) == []


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


def test_an_answer_that_makes_no_sense_is_an_error_of_the_registry():
    with against(says(200, {"registered_model": {"aliases": 5}})) as registry:
        with pytest.raises(RegistryError, match="holds no registered model"):
            registry.registered_model("m")
        with pytest.raises(RegistryError, match="holds no model version"):
            registry.version("m", "1")


def test_pages_are_followed_to_the_end():
    def paged(method, path, query):
        number = int(query.get("page_token", ["0"])[0])
        page = {"registered_models": [{"name": f"model-{number}"}]}
        return says(200, {**page, "next_page_token": str(number + 1) if number < 3 else ""})()

    with server(paged) as uri, Registry(uri) as registry:
        names = [model.name for model in registry.registered_models()]
    assert names == ["model-0", "model-1", "model-2", "model-3"]


def test_a_version_that_becomes_ready_later_is_waited_for_and_one_that_fails_is_an_error():
    states = ["PENDING_REGISTRATION", "PENDING_REGISTRATION", "READY"]

    def pending(method, path, query):
        status = states.pop(0) if states else "FAILED_REGISTRATION"
        return says(200, {"model_version": {"name": "m", "version": "1", "status": status}})()

    with server(pending) as uri, Registry(uri) as registry:
        assert registry.create_version("m", NOWHERE).status == "READY"
        with pytest.raises(RegistryError, match="FAILED_REGISTRATION"):
            registry.create_version("m", NOWHERE)


def test_latest_leaves_out_what_is_not_ready():
    entries = [
        {"name": "m", "version": "2", "status": "FAILED_REGISTRATION"},
        {"name": "m", "version": "1", "status": "READY"},
    ]
    answer = {"registered_model": {"name": "m"}, "model_versions": entries}
    with server(says(200, answer)) as uri, Registry(uri) as registry:
        assert versions(registry, "m", "latest") == ["1"]


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


# Files elsewhere


@pytest.mark.parametrize("entry", ["../secret", "/etc/passwd", "..", "a/../../b", "", "a\\..\\b"])
def test_a_listing_that_leads_out_of_the_version_is_refused(entry):
    def listing(method, path, query):
        if path.endswith("get-download-uri"):
            return says(200, {"artifact_uri": "mlflow-artifacts:/1/model"})()
        return says(200, {"files": [{"path": entry, "is_dir": False, "file_size": 1}]})()

    with (
        against(listing) as registry,
        pytest.raises(RegistryError, match="not a path inside a version"),
    ):
        registry.files(ModelVersion("m", "1"))


@pytest.mark.parametrize("path", ["../secret", "/etc/passwd", "a/../../b", "", "a//b", "a\0b"])
def test_a_path_that_leads_out_of_the_destination_is_never_written(path, tmp_path):
    with (
        against(says(200, {"artifact_uri": "mlflow-artifacts:/1"})) as one,
        pytest.raises(RegistryError),
    ):
        one.download(ModelVersion("m", "1"), path, tmp_path / "inner")
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(RegistryError):
        safe_path(path)


def test_folders_without_end_are_given_up():
    def endless(method, path, query):
        if path.endswith("get-download-uri"):
            return says(200, {"artifact_uri": "mlflow-artifacts:/1"})()
        return says(200, {"files": [{"path": "again", "is_dir": True}]})()

    with (
        against(endless) as registry,
        pytest.raises(RegistryError, match="deep"),
    ):
        registry.files(ModelVersion("m", "1"))


@pytest.fixture
def at(tmp_path) -> Iterator[Callable[[str], Registry]]:
    """A registry whose versions are at the given location."""
    opened = []

    def open_at(location: str) -> Registry:
        context = server(says(200, {"artifact_uri": location}))
        registry = Registry(context.__enter__())
        opened.append((registry, context))
        return registry

    yield open_at
    for registry, context in opened:
        registry.close()
        context.__exit__(None, None, None)


@pytest.mark.parametrize("form", ["{}", "file://{}"])
def test_files_in_a_folder_of_this_machine_are_read_there(form, at, tmp_path):
    folder = tmp_path / "art ifacts" / "model"
    (folder / "greenroom").mkdir(parents=True)
    (folder / "MLmodel").write_bytes(b"abc")
    (folder / "greenroom" / "version.json").write_bytes(b"{}")
    where = str(folder) if form == "{}" else folder.as_uri()
    registry = at(where)
    version = ModelVersion("m", "1")
    assert registry.files(version) == [
        RemoteFile("MLmodel", 3),
        RemoteFile("greenroom/version.json", 2),
    ]
    assert registry.download(version, "MLmodel", tmp_path / "to").read_bytes() == b"abc"
    assert [file.path for file in registry.files(version, "greenroom")] == [
        "greenroom/version.json"
    ]
    with pytest.raises(NotInRegistry, match="there is no file missing"):
        registry.download(version, "missing", tmp_path / "to")


def test_a_folder_of_another_machine_is_said_to_be_one(at):
    with pytest.raises(RegistryError, match="not on this machine") as failed:
        at("/mlflow/artifacts/of/another/container").files(ModelVersion("m", "1"))
    assert "--artifacts-destination" in failed.value.advice


def test_files_in_a_store_are_read_through_fsspec(at, tmp_path):
    import fsspec

    store = fsspec.filesystem("memory")
    store.pipe({"/bucket/model/MLmodel": b"abc", "/bucket/model/greenroom/version.json": b"{}"})
    registry = at("memory://bucket/model")
    version = ModelVersion("m", "1")
    assert [file.path for file in registry.files(version)] == ["MLmodel", "greenroom/version.json"]
    assert registry.files(version, "greenroom") == [RemoteFile("greenroom/version.json", 2)]
    assert registry.download(version, "MLmodel", tmp_path).read_bytes() == b"abc"
    with pytest.raises(NotInRegistry):
        registry.download(version, "missing", tmp_path)


@pytest.mark.parametrize(
    ("location", "message"),
    [
        ("s3://bucket/model", r"greenroom\[s3\]"),
        ("nosuch://key:s3cret@bucket/model?signature=s3cret", "nothing here reads nosuch://bucket"),
        ("mlflow-artifacts://another:5000/model", "behind another MLflow server, another:5000"),
    ],
)
def test_a_location_that_cannot_be_read_here_says_what_to_do(location, message, at):
    with pytest.raises(RegistryError, match=message) as failed:
        at(location).files(ModelVersion("m", "1"))
    assert "s3cret" not in str(failed.value)


def test_a_full_disk_is_not_taken_for_a_missing_file(at, tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "MLmodel").write_bytes(b"abc")
    (tmp_path / "taken").write_bytes(b"")
    with pytest.raises(OSError, match="taken"):
        at(str(tmp_path / "model")).download(ModelVersion("m", "1"), "MLmodel", tmp_path / "taken")


def test_files_behind_the_server_by_its_own_address_are_read_there():
    def listing(method, path, query):
        assert query["path"] == ["1/a model"]
        return says(200, {"files": [{"path": "MLmodel", "file_size": 3}]})()

    with server(listing) as uri, Registry(uri) as registry:
        location = f"{uri}/api/2.0/mlflow-artifacts/artifacts/1/a%20model"
        assert list_files(registry._rest, location) == [RemoteFile("MLmodel", 3)]


# Values


def test_what_mlflow_says_is_read_into_plain_values():
    entry = {
        "name": "m",
        "version": 7,
        "current_stage": "Production",
        "tags": [{"key": "a", "value": "b"}, {"key": "empty"}],
        "aliases": ["b", "a"],
        "creation_timestamp": "12",
        "last_updated_timestamp": 13,
    }
    version = read_model_version(entry)
    assert version == ModelVersion(
        "m",
        "7",
        "Production",
        tags={"a": "b", "empty": ""},
        aliases=("a", "b"),
        created_at_ms=12,
        updated_at_ms=13,
    )
    assert version.number == 7
    model = read_registered_model({"name": "m", "latest_versions": [entry]})
    assert model == RegisteredModel("m", latest_versions=(version,))


@pytest.mark.parametrize("entry", [None, {}, {"name": "m", "version": "x"}, 5, {"name": "m"}])
def test_a_version_without_name_or_number_is_refused(entry):
    with pytest.raises(RegistryError, match="holds no model version"):
        read_model_version(entry)


def test_a_name_with_both_quotes_is_searched_for_with_a_wildcard():
    assert name_filter("a'b\"c") == "name LIKE 'a_b\"c'"
