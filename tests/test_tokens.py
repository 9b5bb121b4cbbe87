"""Tokens: how they are spelled, made, kept, rotated and revoked."""

from __future__ import annotations

import stat
import threading
from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from greenroom.access.tokens import (
    SCOPES,
    TokensFile,
    new_secret,
    parse_development_token,
    parse_token,
    secret_digest,
)
from greenroom.errors import SettingsError

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)


@pytest.fixture
def file(tmp_path):
    return TokensFile(tmp_path / "home" / "tokens.json", now=lambda: NOW)


def test_a_new_token_is_not_on_disk_only_its_digest(file):
    made = file.add("shop", ["predict"])

    kept = file.path.read_text()
    assert made.secret not in kept
    assert secret_digest(made.secret) in kept
    assert file.read() == (made.token,)


def test_only_the_owner_may_read_the_file(file):
    file.add("shop", ["predict"])
    assert stat.S_IMODE(file.path.stat().st_mode) == 0o600


def test_tokens_are_long_random_and_different():
    made = {new_secret() for _ in range(100)}
    assert len(made) == 100
    assert all(len(secret) >= 43 and secret.startswith("gr_") for secret in made)


def test_scopes_stand_in_their_own_order_each_once(file):
    assert file.add("shop", ["read", "predict", "read"]).token.scopes == ("predict", "read")


def test_a_name_is_given_once_until_its_token_has_expired(file):
    file.add("shop", ["predict"], expires_at=NOW + timedelta(seconds=1))
    with pytest.raises(SettingsError, match="there is a token 'shop' already"):
        file.add("shop", ["predict"])

    later = TokensFile(file.path, now=lambda: NOW + timedelta(seconds=2))
    again = later.add("shop", ["read"])
    assert later.read() == (again.token,)


@pytest.mark.parametrize("name", ["", "a b", "a:b", "-a", "x" * 65, "a\n"])
def test_a_name_that_could_not_be_written_in_settings_is_refused(file, name):
    with pytest.raises(SettingsError, match="cannot be a token's name"):
        file.add(name, ["predict"])


def test_a_scope_that_does_not_exist_is_refused_with_those_that_do(file):
    with pytest.raises(SettingsError, match="no scope 'write'; there are predict, feedback, read"):
        file.add("shop", ["predict", "write"])


def test_a_rotated_token_is_accepted_until_its_grace_is_over_and_the_new_one_has_its_scopes(file):
    old = file.add("shop", ["predict", "feedback"])
    new = file.rotate("shop", grace=timedelta(hours=1))

    first, second = file.read()
    assert (first.sha256, first.expires_at) == (old.token.sha256, NOW + timedelta(hours=1))
    assert second == new.token
    assert (second.scopes, second.expires_at) == (("predict", "feedback"), None)
    assert new.secret != old.secret


def test_without_grace_the_old_token_is_gone_at_once(file):
    file.add("shop", ["predict"])
    new = file.rotate("shop", grace=timedelta(0))
    assert file.read() == (new.token,)


def test_rotation_never_makes_an_old_token_live_longer(file):
    ends_at = NOW + timedelta(minutes=5)
    file.add("shop", ["predict"], expires_at=ends_at)
    file.rotate("shop", grace=timedelta(hours=1))
    assert file.read()[0].expires_at == ends_at


def test_a_token_that_was_made_for_a_time_is_replaced_by_one_for_as_long(file):
    file.add("shop", ["predict"], expires_at=NOW + timedelta(days=90))
    later = NOW + timedelta(days=80)
    new = TokensFile(file.path, now=lambda: later).rotate("shop", grace=timedelta(0))
    assert new.token.expires_at == later + timedelta(days=90)


def test_revoking_drops_the_token_and_the_one_that_it_replaced(file):
    file.add("shop", ["predict"])
    other = file.add("ci", ["read"])
    file.rotate("shop", grace=timedelta(hours=1))
    assert file.revoke("shop") == 2
    assert file.read() == (other.token,)


@pytest.mark.parametrize("change", ["revoke", "rotate"])
def test_a_token_that_is_not_there_is_said_with_those_that_are(file, change):
    file.add("shop", ["predict"])
    with pytest.raises(SettingsError, match=r"no token 'sop' .*there are: shop"):
        file.revoke("sop") if change == "revoke" else file.rotate("sop", grace=timedelta(0))


def test_no_token_is_lost_when_several_are_made_at_a_time(file):
    threads = [
        threading.Thread(target=TokensFile(file.path).add, args=(f"t{n}", ["predict"]))
        for n in range(12)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {token.name for token in file.read()} == {f"t{n}" for n in range(12)}


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b'{"format": 1, "tok',
        b'{"format": 1, "tokens": [{"name": "a", "scopes": ["predict"], "sha256": "zz"}]}',
        b'{"format": 1, "tokens": [{"name": "a", "scopes": ["all"], "sha256": "' + b"0" * 64,
        b"\xff\xfe",
        b'{"format": 2, "tokens": []}',
    ],
)
def test_a_file_that_is_not_one_of_tokens_is_refused_by_its_path(file, content):
    file.path.parent.mkdir()
    file.path.write_bytes(content)
    with pytest.raises(SettingsError, match=r"tokens\.json"):
        file.read()


def test_a_file_is_left_as_it_is_when_a_change_is_refused(file):
    file.add("shop", ["predict"])
    before = file.path.read_bytes()
    with pytest.raises(SettingsError):
        file.add("shop", ["predict"])
    assert file.path.read_bytes() == before


def test_a_folder_that_cannot_be_written_to_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(SettingsError, match="cannot be written"):
        TokensFile(tmp_path / "file" / "tokens.json").add("shop", ["predict"])


def test_settings_spell_a_token_with_its_digest_and_when_it_expires():
    token = parse_token(f"shop:predict+feedback:{'0a' * 32}:2027-01-31")
    assert (token.name, token.scopes) == ("shop", ("predict", "feedback"))
    assert token.expires_at == datetime(2027, 1, 31, tzinfo=UTC)
    at = parse_token(f"shop:predict:{'0a' * 32}:2027-01-31T10:00:00+02:00").expires_at
    assert at == datetime(2027, 1, 31, 8, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("shop", "not spelled as a token"),
        (f"a b:predict:{'0' * 64}", "not spelled as a token"),
        (f"shop::{'0' * 64}", "no scope ''"),
        (f"shop:predict+all:{'0' * 64}", "no scope 'all'"),
        ("shop:predict:my-secret", "is not the SHA-256"),
        (f"shop:predict:{'0' * 64}:soon", "when shop expires is not a date"),
    ],
)
def test_a_token_that_is_spelled_wrong_is_refused(text, problem):
    with pytest.raises(SettingsError, match=problem) as refused:
        parse_token(text)
    assert "my-secret" not in str(refused.value)


@pytest.mark.parametrize("text", ["dev:predict:", "dev:predict:a b", "dev:predict:a:b", "dev"])
def test_a_development_token_that_no_caller_could_send_is_refused(text):
    with pytest.raises(SettingsError, match="development_tokens"):
        parse_development_token(text)


@given(
    name=st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", fullmatch=True),
    scopes=st.sets(st.sampled_from(SCOPES), min_size=1),
)
def test_what_is_printed_for_a_container_is_read_as_the_same_token(name, scopes):
    digest = secret_digest("x")
    token = parse_token(f"{name}:{'+'.join(scopes)}:{digest}")
    assert (token.name, set(token.scopes), token.sha256) == (name, scopes, digest)
    assert msgspec.json.decode(msgspec.json.encode(token), type=type(token)) == token
