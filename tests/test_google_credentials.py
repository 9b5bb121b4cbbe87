"""Google's credentials: what is wrong with the file is said before anything needs it."""

import json
import os

import pytest

from greenroom.data.google_credentials import credentials_problem


def problem(path, **more):
    return credentials_problem({"GOOGLE_APPLICATION_CREDENTIALS": str(path), **more})


def test_a_key_file_is_no_problem_and_neither_is_none_at_all(tmp_path):
    key = tmp_path / "gcp.json"
    key.write_text(json.dumps({"type": "service_account"}))

    assert problem(key) is None
    assert credentials_problem({}) is None
    assert credentials_problem({"GOOGLE_APPLICATION_CREDENTIALS": ""}) is None


def test_a_file_that_is_not_there_is_named_with_what_to_put_there(tmp_path):
    message, advice = problem(tmp_path / "gcp.json")

    named = f"GOOGLE_APPLICATION_CREDENTIALS names {tmp_path / 'gcp.json'}"
    assert message == f"{named}, and there is no such file"
    assert "key file (JSON) of a Google service account" in advice


def test_a_folder_that_docker_made_is_said_to_be_one(tmp_path):
    (tmp_path / "gcp.json").mkdir()
    message, advice = problem(tmp_path / "gcp.json")

    assert message.endswith("gcp.json, which is a folder")
    assert "remove the empty folder gcp.json/" in advice


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"s3cret", "which is not JSON"),
        (b"\xff\xfe", "which is not JSON"),
        (b'["s3cret"]', "which holds no credentials: it has no `type`"),
        (b'{"private_key": "s3cret"}', "which holds no credentials: it has no `type`"),
    ],
)
def test_a_file_that_holds_no_credentials_is_refused_without_a_word_of_it(
    content, reason, tmp_path
):
    (tmp_path / "gcp.json").write_bytes(content)
    found = problem(tmp_path / "gcp.json")

    assert found.message.endswith(reason)
    assert "s3cret" not in "".join(found)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every file")
def test_a_file_that_may_not_be_read_is_said_to_be_one(tmp_path):
    (tmp_path / "gcp.json").write_text("{}")
    (tmp_path / "gcp.json").chmod(0)

    assert problem(tmp_path / "gcp.json").message.endswith("cannot be read: Permission denied")


def test_an_emulator_asks_for_no_credentials(tmp_path):
    assert problem(tmp_path / "gcp.json", STORAGE_EMULATOR_HOST="http://127.0.0.1:9023") is None
