"""A version's files, wherever they are."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from greenroom.errors import NotInRegistry, RegistryError, RegistryUnavailable
from greenroom.registry.artifacts import list_files, safe_path, upload_file
from greenroom.registry.mlflow_rest import MlflowRest
from greenroom.registry.registry import ModelVersion, Registry, RemoteFile
from misbehaving import against, says, server
from mlflow_versions import log_files, register_files


@pytest.fixture
def registry(mlflow_server: str) -> Iterator[Registry]:
    with Registry(mlflow_server, timeout_s=20, environment={}) as opened:
        yield opened


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


def test_a_connection_that_breaks_half_way_is_unavailable_and_leaves_no_file(tmp_path):
    def cut(method, path, query):
        if path.endswith("get-download-uri"):
            return says(200, {"artifact_uri": "mlflow-artifacts:/1/model"})()
        return 200, {"Content-Length": "1000", "Connection": "close"}, b"short"

    with server(cut) as uri, Registry(uri) as registry, pytest.raises(RegistryUnavailable):
        registry.download(ModelVersion("m", "1"), "MLmodel", tmp_path)
    assert list(tmp_path.iterdir()) == []


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


def test_a_store_that_is_away_is_the_versions_trouble_and_not_the_registrys(at, monkeypatch):
    import fsspec

    def away(*_, **__):
        raise OSError("nothing answers")

    monkeypatch.setattr(fsspec.get_filesystem_class("memory"), "find", away)
    with pytest.raises(RegistryError, match="cannot be reached: nothing answers") as failed:
        at("memory://bucket/model").files(ModelVersion("m", "1"))
    assert not isinstance(failed.value, RegistryUnavailable), "other models are still followed"


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


@pytest.mark.parametrize("form", ["{}", "file://{}"])
def test_a_file_is_written_to_a_folder_of_this_machine_and_replaced(form, tmp_path):
    run = tmp_path / "mlruns" / "1" / "abc" / "artifacts"
    (tmp_path / "mlruns").mkdir()
    with MlflowRest("http://127.0.0.1:9", environment={}) as rest:
        for content in (b"first", b"second"):
            upload_file(rest, form.format(run), "predictions/1.parquet", content)
    assert (run / "predictions" / "1.parquet").read_bytes() == b"second"
    assert [path.name for path in run.rglob("*") if path.is_file()] == ["1.parquet"]


def test_a_file_is_not_written_to_a_folder_of_another_machine(tmp_path):
    run = tmp_path / "elsewhere" / "1" / "abc" / "artifacts"
    with (
        MlflowRest("http://127.0.0.1:9", environment={}) as rest,
        pytest.raises(RegistryError, match="not on this machine") as refused,
    ):
        upload_file(rest, str(run), "1.parquet", b"")
    assert "--artifacts-destination" in refused.value.advice
    assert list(tmp_path.iterdir()) == []


def test_a_file_is_written_to_a_store_through_fsspec():
    with MlflowRest("http://127.0.0.1:9", environment={}) as rest:
        upload_file(rest, "memory://runs/abc/artifacts", "a/1.parquet", b"rows")
        assert [file.path for file in list_files(rest, "memory://runs/abc/artifacts")] == [
            "a/1.parquet"
        ]


def test_a_file_that_leads_out_of_its_run_is_not_written(tmp_path):
    with (
        MlflowRest("http://127.0.0.1:9", environment={}) as rest,
        pytest.raises(RegistryError, match="not a path inside"),
    ):
        upload_file(rest, str(tmp_path / "1" / "2" / "3"), "../1.parquet", b"")


def test_a_server_that_refuses_a_file_is_quoted(tmp_path):
    with (
        server(says(507, b"disk full")) as uri,
        MlflowRest(uri, environment={}) as rest,
        pytest.raises(RegistryUnavailable, match="HTTP 507, disk full"),
    ):
        upload_file(rest, "mlflow-artifacts:/1/abc/artifacts", "1.parquet", b"rows")
