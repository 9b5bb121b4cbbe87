"""Callers: whose tokens are accepted, for what, and how soon a change of the file counts."""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta

import pytest

from greenroom.access.callers import Callers, require_tokens
from greenroom.access.tokens import TokensFile, parse_development_token, secret_digest
from greenroom.errors import NotAllowed, NotAuthenticated, SettingsError
from greenroom.settings import Settings


class Clock:
    """A clock that is put forward by hand."""

    def __init__(self, at_s: float = 1_000.0) -> None:
        self.at_s = at_s

    def __call__(self) -> float:
        return self.at_s


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def file(tmp_path):
    return TokensFile(tmp_path / "tokens.json")


@pytest.fixture
def callers(file, clock):
    return Callers(file, monotonic_s=clock)


def header(secret: str) -> bytes:
    return b"Bearer " + secret.encode()


def settings(tmp_path, **changes) -> Settings:
    return Settings(auth="tokens", tokens_file=str(tmp_path / "tokens.json"), **changes)


def test_a_known_token_says_who_calls(file):
    secret = file.add("shop", ["predict", "read"]).secret
    caller = Callers(file).authorise(header(secret), "predict")
    assert (caller.name, caller.scopes) == ("shop", {"predict", "read"})


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
def test_the_scheme_has_no_case(file, scheme):
    secret = file.add("shop", ["predict"]).secret
    assert Callers(file).authorise(f"{scheme} {secret}".encode(), "predict").name == "shop"


@pytest.mark.parametrize(
    ("given", "challenge"),
    [
        (None, 'Bearer realm="greenroom"'),
        (b"", 'Bearer realm="greenroom"'),
        (b"Basic dTpw", 'Bearer realm="greenroom"'),
        (b"Bearer", 'Bearer realm="greenroom", error="invalid_token"'),
        (b"Bearer ", 'Bearer realm="greenroom", error="invalid_token"'),
        (b"Bearer \xff\x00", 'Bearer realm="greenroom", error="invalid_token"'),
        (b"Bearer test-token", 'Bearer realm="greenroom", error="invalid_token"'),
        (b"Bearer " + b"x" * 60_000, 'Bearer realm="greenroom", error="invalid_token"'),
    ],
)
def test_without_a_known_token_a_caller_is_not_authenticated(file, given, challenge):
    file.add("shop", ["predict"])
    with pytest.raises(NotAuthenticated) as refused:
        Callers(file).authorise(given, "predict")
    assert refused.value.challenge == challenge


def test_the_digest_of_a_token_is_no_token(file):
    secret = file.add("shop", ["predict"]).secret
    with pytest.raises(NotAuthenticated):
        Callers(file).authorise(header(secret_digest(secret)), "predict")


@pytest.mark.parametrize("scope", ["feedback", "read", "admin"])
def test_a_token_allows_its_own_scopes_and_no_other(file, scope):
    secret = file.add("shop", ["predict"]).secret
    with pytest.raises(NotAllowed, match=f"token shop .*scope {scope}") as refused:
        Callers(file).authorise(header(secret), scope)
    assert refused.value.challenge.endswith(f'error="insufficient_scope", scope="{scope}"')


def test_admin_alone_does_not_predict(file):
    secret = file.add("ops", ["admin"]).secret
    with pytest.raises(NotAllowed):
        Callers(file).authorise(header(secret), "predict")


def test_a_refusal_never_repeats_the_token(file):
    with pytest.raises(NotAuthenticated) as refused:
        Callers(file).authorise(b"Bearer very-secret", "predict")
    assert "very-secret" not in f"{refused.value}{refused.value.challenge}"


def test_a_token_is_not_accepted_from_when_it_expires(file):
    ends_at = datetime.now(UTC) + timedelta(hours=1)
    secret = file.add("shop", ["predict"], expires_at=ends_at).secret
    now = Clock(ends_at.timestamp() - 2)
    callers = Callers(file, now_s=now)
    assert callers.authorise(header(secret), "predict").name == "shop"
    now.at_s += 2
    with pytest.raises(NotAuthenticated):
        callers.authorise(header(secret), "predict")
    assert len(callers) == 0


def test_a_token_that_is_made_later_is_accepted_within_a_second(file, clock, callers):
    secret = file.add("shop", ["predict"]).secret
    with pytest.raises(NotAuthenticated):
        callers.authorise(header(secret), "predict")
    clock.at_s += 1.0
    assert callers.authorise(header(secret), "predict").name == "shop"


@pytest.mark.parametrize("how", ["revoke", "delete"])
def test_a_revoked_token_is_refused_within_a_second(file, clock, callers, how):
    secret = file.add("shop", ["predict"]).secret
    clock.at_s += 1.0
    callers.authorise(header(secret), "predict")
    if how == "revoke":
        file.revoke("shop")
    else:
        file.path.unlink()
    clock.at_s += 1.0
    with pytest.raises(NotAuthenticated):
        callers.authorise(header(secret), "predict")


def test_both_tokens_are_accepted_while_one_is_being_rotated(file, clock, callers):
    old = file.add("shop", ["predict"]).secret
    new = file.rotate("shop", grace=timedelta(hours=1)).secret
    clock.at_s += 1.0
    for secret in (old, new):
        assert callers.authorise(header(secret), "predict").name == "shop"


def test_the_file_is_looked_at_once_a_second_at_most(file, clock, callers, monkeypatch):
    secret = file.add("shop", ["predict"]).secret
    clock.at_s += 1.0
    callers.authorise(header(secret), "predict")
    monkeypatch.setattr(TokensFile, "read", None)
    looks = []
    monkeypatch.setattr("greenroom.access.callers._state", lambda path: looks.append(path) or ())
    for _ in range(10):
        clock.at_s += 0.09
        callers.authorise(header(secret), "predict")
    assert looks == []


def test_half_a_file_leaves_what_was_read_before_and_is_said_once(file, clock, callers, caplog):
    secret = file.add("shop", ["predict"]).secret
    clock.at_s += 1.0
    callers.authorise(header(secret), "predict")
    whole = file.path.read_bytes()
    file.path.write_bytes(whole[: len(whole) // 2])
    with caplog.at_level(logging.ERROR):
        for _ in range(3):
            clock.at_s += 1.0
            assert callers.authorise(header(secret), "predict").name == "shop"
    assert len(caplog.records) == 1
    assert "the tokens that were read last go on" in caplog.text

    other = TokensFile(file.path.with_name("other.json"))
    other.add("ci", ["read"])
    file.path.write_bytes(other.path.read_bytes())
    clock.at_s += 1.0
    with pytest.raises(NotAuthenticated):
        callers.authorise(header(secret), "predict")


def test_tokens_of_the_settings_are_accepted_beside_those_of_the_file(tmp_path, file):
    secret = file.add("shop", ["predict"]).secret
    callers = Callers.of(
        settings(
            tmp_path,
            tokens=(f"ci:read:{secret_digest('ci-token')}",),
            development_tokens=("dev:predict+read:test-token",),
        )
    )
    assert callers.authorise(header(secret), "predict").name == "shop"
    assert callers.authorise(header("ci-token"), "read").name == "ci"
    assert callers.authorise(header("test-token"), "predict").name == "dev"


def test_a_server_that_would_answer_nobody_is_refused(tmp_path, file):
    with pytest.raises(SettingsError, match="greenroom token add NAME --scope predict"):
        require_tokens(settings(tmp_path))
    file.add("old", ["predict"], expires_at=datetime.now(UTC) - timedelta(hours=1))
    with pytest.raises(SettingsError, match="hold a valid one"):
        require_tokens(settings(tmp_path))
    file.add("shop", ["predict"])
    require_tokens(settings(tmp_path))


def test_a_server_that_asks_nobody_needs_no_token(tmp_path):
    require_tokens(Settings(tokens_file=str(tmp_path / "tokens.json")))


def test_no_token_is_accepted_that_nobody_made(tmp_path):
    callers = Callers.of(settings(tmp_path))
    for text in ("test-token", "token", "admin", "greenroom", ""):
        with pytest.raises(NotAuthenticated):
            callers.authorise(header(text), "predict")


def test_a_token_that_is_known_twice_keeps_the_scopes_that_were_set_last(file):
    secret = file.add("shop", ["predict"]).secret
    fixed = parse_development_token(f"dev:read:{secret}")
    assert Callers(file, [fixed]).authorise(header(secret), "read").name == "dev"
