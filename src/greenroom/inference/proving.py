"""Proving: a version is loaded, and has answered its example, before a request may reach it.

It answers the way a request is answered, so whatever would fail there fails here. What is proved,
and when, is :mod:`greenroom.inference.inference`'s business.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Final, TypeAlias

import msgspec

from greenroom.data.examples import example_request
from greenroom.errors import GreenroomError, RequestError, VersionError, VersionUnloadable
from greenroom.inference.generation import Deployment
from greenroom.inference.runtime import Runtime
from greenroom.inference.served_model import ServedModel
from greenroom.payloads.reply import ReplyType
from greenroom.payloads.request import RequestType, Rows
from greenroom.schema import Schema
from greenroom.status import FALLBACK
from greenroom.task import TASKS

QUICK_S: Final = 0.002
"""How long all other requests may wait for a graph that is called in the event loop; a thread would
take about a tenth of that to wake up."""

MAX_QUICK_ROWS: Final = 256
MEASURED_ROWS: Final = 32

SOURCE_FIELD: Final = "model_source"
"""Where the version is from, in replies; only of a fallback."""

Load: TypeAlias = Callable[[Path, Schema | None, Path | None], Runtime]


def proved(deployment: Deployment, runtime: Runtime | None, load: Load) -> ServedModel:
    """Return what answers a deployment's requests, having answered one."""
    try:
        if runtime is None:
            declared = Schema(deployment.declared) if deployment.declared else None
            compiled = Path(deployment.compiled) if deployment.compiled else None
            runtime = load(Path(deployment.directory), declared, compiled)
            runtime.warm()
        served = _compiled(deployment, runtime)
        example = example_request(runtime.schema, runtime.example_values)
        body = msgspec.json.encode(example)
        served.answer(body)
        served = replace(served, quick_rows=_quick_rows(served, body))
    except VersionError as error:
        raise type(error)(error.message, model=deployment.model, advice=error.advice) from error
    except RequestError as error:
        raise VersionUnloadable(
            f"its example does not fit its columns: {error.message}", model=deployment.model
        ) from error
    except GreenroomError as error:
        raise VersionUnloadable(
            error.message, model=deployment.model, advice=error.advice
        ) from error
    except Exception as error:
        # Loading runs code of any package, which may raise anything.
        raise VersionUnloadable(
            f"it does not load: {type(error).__name__}: {error}", model=deployment.model
        ) from error
    return served


def _quick_rows(served: ServedModel, body: bytes) -> int:
    """Measure how many rows are answered within :data:`QUICK_S`.

    Only of a graph: it answers in the same time always. Not where a request expands: how many rows
    come of it is not known beforehand.
    """
    runtime = served.runtime
    if runtime is None or runtime.kind != "compiled" or runtime.expands:
        return 0
    rows = Rows.joined([served.decode(body)] * MEASURED_ROWS)
    took_s = []
    for _ in range(5):
        began_s = time.perf_counter()
        served.predict(rows)
        took_s.append(time.perf_counter() - began_s)
    # The fastest, because whatever else the machine does can only make it slower.
    return min(MAX_QUICK_ROWS, int(MEASURED_ROWS * QUICK_S / min(took_s)))


def _compiled(deployment: Deployment, runtime: Runtime) -> ServedModel:
    """Compile what reads requests and what writes replies."""
    serving = deployment.serving
    constants = {
        "model_name": deployment.name,
        "model_version": serving.version if serving is not None else "",
        "model_stage": serving.stage if serving is not None else "",
    }
    fields = runtime.manifest.reply if runtime.manifest is not None else {}
    if deployment.from_fallback:
        # Nobody selected it, so each answer says so, whatever fields the app asks for.
        constants[SOURCE_FIELD] = FALLBACK
        fields = fields and {**fields, SOURCE_FIELD: SOURCE_FIELD}
    reply_type = ReplyType.compile(
        # All of the task's outputs: a field that asks for one that is not given is null.
        TASKS[runtime.task.name],
        runtime.classes,
        fields,
        constants,
    )
    return ServedModel(deployment, runtime, RequestType.compile(runtime.schema), reply_type)
