"""The paths of the Open Inference Protocol, and which of them a request asks for.

What each answers is :mod:`greenroom.http.open_inference`'s business.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from greenroom.access.callers import Access
from greenroom.http.error_replies import HttpRefusal

__all__ = ["ENDPOINTS", "ROOT", "Endpoint", "endpoint_of"]

ROOT: Final = "/v2"
"""Where the protocol begins."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One of the protocol's paths.

    Parameters
    ----------
    action : str
        What it does; two paths may do the same.
    method : str
    scope : Access
        What a caller's token has to allow.
    path : str
        With the parameters ``{name}``, a model, and ``{version}``.
    summary : str
        One sentence for the documentation.
    """

    action: str
    method: str
    scope: Access
    path: str
    summary: str


_VERSION: Final = "/v2/models/{name}/versions/{version}"

ENDPOINTS: Final = (
    Endpoint("infer", "POST", "predict", "/v2/models/{name}/infer", "Predict."),
    Endpoint(
        "infer",
        "POST",
        "predict",
        "/v2/models/{name}/versions/{version}/infer",
        "Predict with a version.",
    ),
    Endpoint("server", "GET", "open", "/v2", "What this server is."),
    Endpoint("live", "GET", "open", "/v2/health/live", "Whether the process runs."),
    Endpoint(
        "server_ready", "GET", "open", "/v2/health/ready", "Whether predictions are answered."
    ),
    Endpoint("metadata", "GET", "read", "/v2/models/{name}", "The tensors of a model."),
    Endpoint("model_ready", "GET", "open", "/v2/models/{name}/ready", "Whether a model is served."),
    Endpoint(
        "metadata",
        "GET",
        "read",
        "/v2/models/{name}/versions/{version}",
        "The tensors of a version.",
    ),
    Endpoint(
        "model_ready",
        "GET",
        "open",
        "/v2/models/{name}/versions/{version}/ready",
        "Whether a version is served.",
    ),
    Endpoint("index", "POST", "read", "/v2/repository/index", "The models and their states."),
    Endpoint("load", "POST", "admin", "/v2/repository/models/{name}/load", "Ask the registry now."),
    Endpoint(
        "unload", "POST", "admin", "/v2/repository/models/{name}/unload", "Refused, and says why."
    ),
)
"""All paths of the protocol that are answered."""


def _pattern(path: str) -> re.Pattern[str]:
    return re.compile(re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", path))


_PATTERNS: Final = tuple((_pattern(endpoint.path), endpoint) for endpoint in ENDPOINTS)


def endpoint_of(method: str, path: str) -> tuple[Endpoint, Mapping[str, str]]:
    """Return the endpoint that a request asks for, and the parameters in its path.

    Raises
    ------
    HttpRefusal
        404 or 405, with what there is instead.

    Examples
    --------
    >>> endpoint, parameters = endpoint_of("POST", "/v2/models/credit/infer")
    >>> endpoint.action, parameters
    ('infer', {'name': 'credit'})
    """
    for pattern, endpoint in _PATTERNS:
        found = pattern.fullmatch(path)
        if found is None:
            continue
        allowed = endpoint.method
        if method == allowed or (method == "HEAD" and allowed == "GET"):
            return endpoint, found.groupdict()
        raise HttpRefusal(
            405,
            "the method is not allowed here",
            advice=f"use {allowed}",
            headers={"allow": allowed},
        )
    paths = ", ".join(f"{endpoint.method} {endpoint.path}" for endpoint in ENDPOINTS)
    raise HttpRefusal(404, "nothing answers at this path", advice=f"there are {paths}")
