"""MLflow's REST interface: one call, its time-outs, its credentials and its errors.

Not the ``mlflow`` package, which takes seconds to import and tries for minutes to connect. A call
here answers within its time-out or raises; nothing is tried twice. What the calls mean is
:mod:`greenroom.registry.registry`'s business, what files are downloaded
:mod:`greenroom.registry.artifacts`'s.
"""

from __future__ import annotations

import json
import logging
import os
import ssl
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from ipaddress import ip_address
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import SplitResult, urlsplit, urlunsplit

import httpx

from greenroom.errors import NotInRegistry, RegistryError, RegistryUnavailable, SettingsError

_LOG: Final = logging.getLogger(__name__)

API: Final = "/api/2.0/mlflow/"
DOWNLOAD_TIMEOUT_S: Final = 60.0
"""How long a download may stand still; an object store may be slow to its first byte."""
UPLOAD_TIMEOUT_S: Final = 60.0
"""How long an upload may stand still, and how long the server may take to store it."""

_NOT_FOUND: Final = frozenset({"RESOURCE_DOES_NOT_EXIST", "ENDPOINT_NOT_FOUND"})
# uvicorn closes an idle connection after 5 s; one that is about to be closed is not used again.
_KEEPALIVE_S: Final = 3.0
_LONGEST_QUOTE: Final = 300
_WHERE: Final = "check that the server runs and that MLFLOW_TRACKING_URI names its address"


class MlflowRest:
    """A connection to an MLflow server; threads may share it.

    Parameters
    ----------
    uri : str
        The server's address, ``http://`` or ``https://``.
    timeout_s : float
        How long connecting, and each wait for an answer, may take.
    environment : mapping of str to str
        Where ``MLFLOW_TRACKING_USERNAME``, ``_PASSWORD``, ``_TOKEN``, ``_INSECURE_TLS``,
        ``_SERVER_CERT_PATH`` and ``_CLIENT_CERT_PATH`` are read from.

    Attributes
    ----------
    uri : str
        The address without credentials, as it may be shown.

    Raises
    ------
    RegistryError
        When ``uri`` is not the address of a server.
    SettingsError
        When the TLS variables contradict each other or name a file that cannot be used.
    """

    def __init__(
        self,
        uri: str,
        *,
        timeout_s: float = 5.0,
        environment: Mapping[str, str] = os.environ,
    ) -> None:
        parts = _split(uri)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise RegistryError(
                f"{_without_credentials(parts)!r} is not the address of an MLflow server",
                advice="start one with `mlflow server` and set MLFLOW_TRACKING_URI to its "
                "http:// address",
            )
        self.uri = _without_credentials(parts)
        try:
            self._client = httpx.Client(
                base_url=uri.rstrip("/"),
                timeout=httpx.Timeout(timeout_s),
                limits=httpx.Limits(keepalive_expiry=_KEEPALIVE_S),
                verify=_verification(parts.scheme, environment),
                auth=_credentials(environment),
                headers=_authorization(environment),
                # A proxy of the environment's never stands between this machine and itself.
                trust_env=not _loopback(parts.hostname),
            )
        except httpx.InvalidURL as error:
            raise RegistryError(f"{self.uri!r} is not an address: {error}") from error

    def get(self, endpoint: str, **params: str | int) -> dict[str, Any]:
        """Call a reading endpoint, such as ``registered-models/get``."""
        return self.call("GET", API + endpoint, params=params)

    def post(
        self, endpoint: str, body: Mapping[str, Any], *, accept: Collection[str] = ()
    ) -> dict[str, Any]:
        """Call a writing endpoint; an ``error_code`` in ``accept`` is an answer, not an error."""
        return self.call("POST", API + endpoint, body=body, accept=accept)

    def delete(self, endpoint: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Call a deleting endpoint."""
        return self.call("DELETE", API + endpoint, body=body)

    def call(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str | int] | None = None,
        body: Mapping[str, Any] | None = None,
        accept: Collection[str] = (),
    ) -> dict[str, Any]:
        """Call the server once and return the JSON object that it answers.

        Raises
        ------
        RegistryUnavailable
            When it cannot be reached in time, or says that it cannot answer now (5xx).
        NotInRegistry
            When MLflow says that there is no such thing.
        RegistryError
            When it refuses, with MLflow's own words, or does not answer like MLflow.
        """
        began_s = time.perf_counter()
        with self._reachable():
            response = self._client.request(method, path, params=params, json=body)
        took_ms = (time.perf_counter() - began_s) * 1_000
        _LOG.debug("%s %s: HTTP %d in %.0f ms", method, path, response.status_code, took_ms)
        answer = _json_object(response)
        if response.is_success and answer is not None:
            return answer
        if answer is not None and answer.get("error_code") in accept:
            return answer
        raise self._error(response, answer)

    @contextmanager
    def download(self, path: str) -> Iterator[Iterator[bytes]]:
        """Open a file of the server's and give its bytes chunk by chunk.

        Raises
        ------
        RegistryUnavailable, NotInRegistry, RegistryError
            As :meth:`call`; also when the connection breaks half-way.
        """
        timeout = httpx.Timeout(self._client.timeout.connect, read=DOWNLOAD_TIMEOUT_S)
        with self._reachable(), self._client.stream("GET", path, timeout=timeout) as response:
            if not response.is_success:
                response.read()
                raise self._error(response, _json_object(response))
            yield response.iter_bytes()

    def upload(self, path: str, content: bytes) -> None:
        """Write a file of the server's, or replace it.

        Raises
        ------
        RegistryUnavailable, RegistryError
            As :meth:`call`.
        """
        with self._reachable():
            response = self._client.put(path, content=content, timeout=UPLOAD_TIMEOUT_S)
        if not response.is_success:
            raise self._error(response, _json_object(response))

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    @contextmanager
    def _reachable(self) -> Iterator[None]:
        try:
            yield
        except httpx.TimeoutException as error:
            raise self._unavailable("it did not answer in time") from error
        except httpx.HTTPError as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            raise self._unavailable(reason) from error

    def _unavailable(self, reason: str, *, mlflow_answers: bool = False) -> RegistryUnavailable:
        return RegistryUnavailable(
            f"Failed to connect to MLflow at {self.uri}: {reason}",
            advice=_WHERE,
            mlflow_answers=mlflow_answers,
        )

    def _error(self, response: httpx.Response, answer: dict[str, Any] | None) -> RegistryError:
        status = response.status_code
        said = str((answer or {}).get("message") or response.text or response.reason_phrase)
        said = " ".join(said.split())[:_LONGEST_QUOTE]
        if status >= 500 or status == 429:
            # A gateway in front of it can say 5xx too, but not in MLflow's words.
            own = answer is not None and "error_code" in answer
            return self._unavailable(f"HTTP {status}, {said}", mlflow_answers=own)
        if status in {401, 403}:
            return self._forbidden(status, said)
        if answer is None or "error_code" not in answer:
            where = response.headers.get("location", "")
            return RegistryError(
                f"{self.uri} does not answer like an MLflow server: HTTP {status}"
                + (f", moved to {where}" if where else ""),
                advice=_WHERE,
            )
        if answer["error_code"] in _NOT_FOUND:
            return NotInRegistry(said, advice=f"it was looked for in MLflow at {self.uri}")
        return RegistryError(f"MLflow at {self.uri} refused: {said}", mlflow_answers=True)

    def _forbidden(self, status: int, said: str) -> RegistryError:
        if "Invalid Host header" in said:
            host = urlsplit(self.uri).netloc
            return RegistryError(
                f"MLflow at {self.uri} does not accept the host name {host!r}: {said}",
                advice=f"start it with --allowed-hosts (or MLFLOW_SERVER_ALLOWED_HOSTS) "
                f"holding {host}",
                mlflow_answers=True,
            )
        return RegistryError(
            f"MLflow at {self.uri} refused access: HTTP {status}, {said}",
            advice="set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, "
            "or MLFLOW_TRACKING_TOKEN",
            mlflow_answers=True,
        )


def _split(uri: str) -> SplitResult:
    try:
        return urlsplit(uri)
    except ValueError as error:
        raise RegistryError(f"the MLflow server's address is none: {error}") from error


def _without_credentials(parts: SplitResult) -> str:
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit((parts.scheme, host, parts.path.rstrip("/"), "", ""))


def _loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _json_object(response: httpx.Response) -> dict[str, Any] | None:
    try:
        answer = json.loads(response.content)
    except ValueError:
        return None
    return answer if isinstance(answer, dict) else None


def _credentials(environment: Mapping[str, str]) -> httpx.BasicAuth | None:
    user = environment.get("MLFLOW_TRACKING_USERNAME", "")
    password = environment.get("MLFLOW_TRACKING_PASSWORD", "")
    return httpx.BasicAuth(user, password) if user and password else None


def _authorization(environment: Mapping[str, str]) -> dict[str, str]:
    """Make the token's header; as in MLflow's client, a user name with password comes first."""
    token = environment.get("MLFLOW_TRACKING_TOKEN", "")
    if not token or _credentials(environment):
        return {}
    return {"Authorization": f"Bearer {token}"}


def _verification(scheme: str, environment: Mapping[str, str]) -> ssl.SSLContext | bool:
    insecure = environment.get("MLFLOW_TRACKING_INSECURE_TLS", "").lower() in {"true", "1"}
    authority = environment.get("MLFLOW_TRACKING_SERVER_CERT_PATH", "")
    own = environment.get("MLFLOW_TRACKING_CLIENT_CERT_PATH", "")
    if insecure and authority:
        raise SettingsError(
            "MLFLOW_TRACKING_INSECURE_TLS and MLFLOW_TRACKING_SERVER_CERT_PATH exclude each other",
            advice="unset one of them",
        )
    if scheme == "http":
        return False  # nothing to verify; reading the certificates would cost 20 ms for nothing
    if not authority and not own:
        return not insecure
    try:
        folder = Path(authority).is_dir() if authority else False
        context = ssl.create_default_context(
            cafile=None if folder else authority or None, capath=authority if folder else None
        )
        if own:
            context.load_cert_chain(own)
    except OSError as error:  # ssl.SSLError is one too
        raise SettingsError(
            f"the certificates of MLFLOW_TRACKING_SERVER_CERT_PATH={authority!r}, "
            f"MLFLOW_TRACKING_CLIENT_CERT_PATH={own!r} cannot be used: {error}"
        ) from error
    if insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
