"""The documentation pages, ``/docs`` and ``/redoc``, and ``/openapi.json`` that they show.

Both pages work without the internet: their scripts come from an installed package, and a content
security policy has the browser refuse anything from elsewhere. What ``/openapi.json`` says is put
together here, from the loaded versions and the server's routes; how it is written is
:mod:`greenroom.openapi.openapi`'s business.
"""

from __future__ import annotations

import base64
import hashlib
import html
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

from openapi_ui_bundles import redoc, swagger_ui
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles

from greenroom import __version__
from greenroom.data.examples import example_request
from greenroom.http.pages import GENERATED_DATA, predict_path
from greenroom.inference.served_model import ServedModel
from greenroom.openapi.openapi import Operation, PredictOperation, build_openapi

__all__ = ["describe", "docs_routes"]

PREDICT_STATUSES: Final[Mapping[int, str]] = {
    400: "The body is not JSON, or neither a row nor a list of rows.",
    413: "The body is larger than the server reads.",
    415: "The body is not sent as application/json.",
    422: "Fields are missing, unknown, of the wrong type, out of range or not finite: all of them.",
    500: "The server failed; its log says more.",
    503: "No version is served at the moment, or the server has too much to do; the reply says "
    "which, and what to do.",
    504: "There was no answer in time.",
}
"""What a prediction answers with instead of one, and why."""


def describe(
    title: str,
    models: Mapping[str, ServedModel],
    operations: Sequence[Operation],
    *,
    secured: bool = False,
) -> dict[str, Any]:
    """Return the OpenAPI document of what is served now.

    Parameters
    ----------
    title : str
        The server's name.
    models : mapping
        By name, the models of one generation.
    operations : sequence of Operation
        The other routes.
    secured : bool
        Whether callers have to send a token.
    """
    alone = len(models) == 1
    predictions = [
        _predict_operation(name, served, scoring=alone) for name, served in models.items()
    ]
    return build_openapi(
        title=title,
        version=__version__,
        description="Predictions of the versions that the model registry selects.",
        models=predictions,
        operations=operations,
        predict_statuses=PREDICT_STATUSES,
        secured=secured,
    )


def _predict_operation(name: str, served: ServedModel, *, scoring: bool) -> PredictOperation:
    deployment = served.deployment
    serving, runtime = deployment.serving, served.runtime
    paths = tuple(dict.fromkeys((deployment.route, predict_path(name))))
    summary = f"Predict with {name}"
    if serving is None or runtime is None or served.reply_type is None:
        reason = deployment.reason or "No version is served at the moment."
        if serving is not None:
            # Its fields are known to whoever loads it.
            reason = (
                f"{deployment.name} version {serving.version} ({serving.stage}) is not in memory:"
                " it is loaded on its first use, and its fields are described here from then on."
            )
        return PredictOperation(
            model=name, paths=paths, summary=summary, description=reason, scoring=scoring
        )
    description = f"Answered by {deployment.name} version {serving.version} ({serving.stage})."
    if serving.generated_data:
        description += f" Trained on {GENERATED_DATA}."
    return PredictOperation(
        model=name,
        paths=paths,
        summary=summary,
        description=description,
        schema=runtime.schema,
        task=served.reply_type.task,
        fields=served.reply_type.fields_for([output.name for output in runtime.task.outputs]),
        classes=dict(zip(runtime.classes, served.reply_type.class_names, strict=True)),
        expands=runtime.expands,
        example=example_request(runtime.schema, runtime.example_values),
        constants={
            "model_name": deployment.name,
            "model_version": serving.version,
            "model_stage": serving.stage,
            "model_source": serving.source,
        },
        scoring=scoring,
    )


def docs_routes(title: str) -> list[BaseRoute]:
    """Return the routes of both pages and of what they load."""
    script = _SWAGGER_START
    swagger = _page(
        title, "docs", _SWAGGER_STYLE, _SWAGGER_BODY.format(script=script), scripts=(script,)
    )
    redoc_page = _page(title, "redoc", _REDOC_STYLE, _REDOC_BODY, scripts=())
    return [
        Route("/docs", _shown(swagger)),
        Route("/redoc", _shown(redoc_page)),
        Route("/redoc/static/redoc.standalone.js", _redoc_script),
        Mount("/docs/static", StaticFiles(directory=swagger_ui.static_path)),
        Mount("/redoc/static", StaticFiles(directory=redoc.static_path)),
    ]


def _shown(page: HTMLResponse) -> Any:
    async def show(_: Request) -> Response:
        return page

    return show


_SWAGGER_START: Final = """
window.ui = SwaggerUIBundle({
  url: "openapi.json", dom_id: "#swagger-ui", deepLinking: true, validatorUrl: null,
  tryItOutEnabled: true, displayRequestDuration: true, defaultModelsExpandDepth: 0
});
"""

_SWAGGER_STYLE: Final = """\
<link rel="stylesheet" href="docs/static/swagger-ui.css">
<style>.operation-servers {display: none}</style>"""
"""Without the choice of a server at each operation: there is this one."""

_SWAGGER_BODY: Final = """\
<div id="swagger-ui"></div>
<script src="docs/static/swagger-ui-bundle.js"></script>
<script>{script}</script>
"""

_REDOC_STYLE: Final = "<style>body {margin: 0}</style>"

_REDOC_BODY: Final = """\
<redoc spec-url="openapi.json"></redoc>
<script src="redoc/static/redoc.standalone.js"></script>
"""


_ICON: Final = '<link rel="icon" type="image/png" href="docs/static/favicon-32x32.png">'
"""Named in the page's head: a browser that finds none there asks for ``/favicon.ico``."""


def _page(title: str, kind: str, style: str, body: str, *, scripts: Sequence[str]) -> HTMLResponse:
    """Make a page that loads from this server alone; ``scripts`` are those inside of it."""
    digests = (base64.b64encode(hashlib.sha256(text.encode()).digest()) for text in scripts)
    allowed = " ".join(["'self'", *(f"'sha256-{digest.decode()}'" for digest in digests)])
    policy = (
        f"default-src 'self'; script-src {allowed}; style-src 'self' 'unsafe-inline'; "
        "img-src 'self' data:; worker-src 'self' blob:; base-uri 'none'; frame-ancestors 'none'"
    )
    text = (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{html.escape(title)} - {kind}</title>\n{_ICON}\n{style}\n"
        f"</head>\n<body>\n{body}</body>\n</html>\n"
    )
    return HTMLResponse(text, headers={"content-security-policy": policy})


_REDOC_LOGO: Final = b"https://cdn.redoc.ly/redoc/logo-mini.svg"


async def _redoc_script(_: Request) -> Response:
    return Response(_local_redoc(), media_type="text/javascript")


@lru_cache(maxsize=1)
def _local_redoc() -> bytes:
    """Return Redoc with its one picture from the internet replaced by the copy beside it."""
    script = (Path(redoc.static_path) / "redoc.standalone.js").read_bytes()
    return script.replace(_REDOC_LOGO, b"redoc/static/logo-mini.svg")
