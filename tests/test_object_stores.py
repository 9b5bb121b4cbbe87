"""Object stores: one kind of error whatever a store's library raises, and credentials first."""

import fsspec
import pytest

from greenroom.data.object_stores import opened_store, require_upload, shown
from greenroom.errors import DataError, RegistryError


class Refusal(Exception):
    """What a store's library raises; not an OSError, as gcsfs' own is not."""


@pytest.mark.parametrize("kind", [DataError, RegistryError])
def test_whatever_a_library_raises_is_the_error_that_was_asked_for(kind):
    with (
        pytest.raises(kind, match=r"the files at memory://bucket/model .* Forbidden: nobody") as e,
        opened_store("memory://bucket/model", kind),
    ):
        raise Refusal("Forbidden:\n  nobody")
    assert "credentials" in e.value.advice


def test_a_missing_file_and_an_error_of_ours_pass_as_they_are():
    with pytest.raises(FileNotFoundError), opened_store("memory://b", DataError) as (store, _):
        store.open("/none/such")
    with pytest.raises(RegistryError, match="of ours"), opened_store("memory://b", DataError):
        raise RegistryError("of ours")


def test_after_a_failure_a_store_is_made_anew_with_the_credentials_of_then():
    with opened_store("memory://b", DataError) as (first, _):
        pass
    with opened_store("memory://b", DataError) as (again, _):
        assert again is first
    with pytest.raises(DataError), opened_store("memory://b", DataError):
        raise Refusal("token expired")
    with opened_store("memory://b", DataError) as (renewed, _):
        assert renewed is not first


def test_what_a_library_says_at_length_is_cut():
    with pytest.raises(DataError) as failed, opened_store("memory://b", DataError):
        raise Refusal("x" * 5_000)
    assert len(str(failed.value)) < 500


@pytest.mark.parametrize("address", ["gs://bucket/model", "gcs://bucket/model"])
def test_bad_credentials_are_said_before_a_library_is_asked_for(address, monkeypatch, tmp_path):
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "gcp.json"))
    monkeypatch.delenv("STORAGE_EMULATOR_HOST", raising=False)

    def asked(*_):
        raise AssertionError("a library was asked for")

    monkeypatch.setattr(fsspec.core, "url_to_fs", asked)
    with (
        pytest.raises(RegistryError, match=r"gcp\.json, and there is no such file"),
        opened_store(address, RegistryError),
    ):
        pass


def test_an_address_without_its_extra_names_it(monkeypatch):
    monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS", raising=False)

    def without(address):
        raise ImportError("Please install gcsfs to access Google Storage")

    monkeypatch.setattr(fsspec.core, "url_to_fs", without)
    with (
        pytest.raises(DataError, match=r"pip install 'greenroom\[gcs\]'"),
        opened_store("gs://bucket/rows.csv", DataError),
    ):
        pass


def test_uploads_to_google_need_its_library_and_others_are_let_pass(monkeypatch):
    monkeypatch.setattr("greenroom.data.object_stores._installed", lambda module: False)
    require_upload("mlflow-artifacts:/1", RegistryError)
    require_upload("/mlflow/artifacts/1", RegistryError)
    with pytest.raises(RegistryError, match=r"nothing here writes to gs://bucket/1.*\[gcs\]"):
        require_upload("gs://bucket/1", RegistryError)


def test_uploads_to_google_need_credentials_that_are_there(monkeypatch, tmp_path):
    monkeypatch.setattr("greenroom.data.object_stores._installed", lambda module: True)
    monkeypatch.delenv("STORAGE_EMULATOR_HOST", raising=False)
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path))
    with pytest.raises(RegistryError, match="which is a folder"):
        require_upload("gs://bucket/1", RegistryError)
    monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS")
    require_upload("gs://bucket/1", RegistryError)


def test_an_address_is_shown_without_what_it_holds_of_secrets():
    assert shown("gs://key:secret@bucket/a b?token=secret#x") == "gs://bucket/a b"
    assert shown("data/rows.csv") == "data/rows.csv"
    assert shown("mlflow-artifacts:/1/models") == "mlflow-artifacts:/1/models"
    assert shown("file:///tmp/rows.csv") == "file:///tmp/rows.csv"
