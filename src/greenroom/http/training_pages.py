"""What an app's training route takes and answers: a training begun, one job, the last jobs.

A worker trains nothing: it asks the supervisor to begin a job (:mod:`greenroom.supervision.jobs`),
and reads from the disk how that is (:mod:`greenroom.job_store`). Whoever waits for the end of a
training has no place among the requests that are being answered, and may go away without ending it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeAlias

from greenroom.app import App
from greenroom.errands import AwaitTraining, BeginTraining, Done, Errand, TrainingJob
from greenroom.errors import AppError, FieldProblem, ProcessError, RequestInvalid
from greenroom.http.endpoints import Call, Endpoint
from greenroom.http.error_replies import HttpRefusal
from greenroom.http.pages import Later, Page
from greenroom.job import Job, JobOrder
from greenroom.job_store import JobStore
from greenroom.openapi.openapi import Operation
from greenroom.openapi.page_schemas import page_schema
from greenroom.payloads.fields import read_fields
from greenroom.training_route import WAIT, TrainingPlan, TrainingRoute

__all__ = ["Ask", "job_document", "training_endpoints"]

Ask: TypeAlias = Callable[[Errand], Awaitable[Done]]

_ADVICE: Final = "/docs shows every field, with its type and range"
_UNBEGUN: Final = {
    400: "The body is not one JSON object.",
    409: "Another training runs; the message names it.",
    413: "The body is larger than the server reads.",
    415: "The body is not sent as application/json.",
    422: "Fields are missing, unknown, or wrong: all of them; or they do not go together.",
    500: "The training failed; the message says why.",
}
_WAITED: Final = {202: "It has begun, and the answer does not wait for its end."}
_UNKNOWN: Final = {404: "There is no such training, or it is forgotten."}


def training_endpoints(
    app: App, route: TrainingRoute, store: JobStore, ask: Ask, environment: str
) -> list[Endpoint]:
    """Return what answers at an app's training route.

    Parameters
    ----------
    app : App
        Whose models can be trained.
    route : TrainingRoute
        What may be asked for.
    store : JobStore
        Where jobs are found.
    ask : callable
        Has the supervisor do an errand.
    environment : str
        What the server is for.
    """
    pages = _Pages(app, route, store, ask, environment)
    begin = Operation(
        method="POST",
        path=route.path,
        scope="admin",
        tag="training",
        summary=route.summary,
        page_statuses=_WAITED,
        statuses=_UNBEGUN,
        reply=page_schema("job"),
        body=route.schema,
    )
    listed = Operation(
        method="GET",
        path=route.path,
        scope="read",
        tag="training",
        summary="The last trainings, the newest first.",
        reply=page_schema("jobs"),
    )
    shown = Operation(
        method="GET",
        path=route.job_path,
        scope="read",
        tag="training",
        summary="How a training is, or how it went.",
        statuses=_UNKNOWN,
        reply=page_schema("job"),
    )
    return [
        Endpoint(begin, pages.begun),
        Endpoint(listed, pages.listed),
        Endpoint(shown, pages.shown),
    ]


class _Pages:
    """The answers; see :func:`training_endpoints`."""

    def __init__(
        self, app: App, route: TrainingRoute, store: JobStore, ask: Ask, environment: str
    ) -> None:
        self._app = app
        self._route = route
        self._asked_at = f"POST {route.path}"
        self._store = store
        self._ask = ask
        self._environment = environment

    async def begun(self, call: Call) -> Page | Later:
        """Begin a training; answer at once or when it is over."""
        checks = {self._route.environment: self._other} if self._route.environment else {}
        asked = read_fields(call.body, self._route.schema, checks)
        waits = _waits(asked.pop(WAIT), call.query.get(WAIT))
        order = JobOrder(
            plan=self._plan(asked),
            request={name: value for name, value in asked.items() if value is not None},
            who=f"{call.caller} ({self._asked_at})" if call.caller else self._asked_at,
        )
        job = await self._job(BeginTraining(order))
        if not waits:
            return Page(job_document(job), 202)
        return Later(lambda: self._over(job, call))

    async def listed(self, _: Call) -> Page:
        """List the last trainings."""
        jobs = await asyncio.to_thread(lambda: list(self._store.recent()))
        return Page({"jobs": [job_document(job) for job in jobs]})

    async def shown(self, call: Call) -> Page:
        """Say how one training is."""
        job = await asyncio.to_thread(self._store.read, call.parameters["job_id"])
        if job is None:
            advice = f"GET {self._route.path} lists the last ones"
            raise HttpRefusal(404, "there is no training of that id", advice=advice)
        return Page(job_document(job))

    async def _over(self, job: Job, call: Call) -> Page:
        """Wait until a training is over, or the caller is gone; it goes on either way."""
        end = asyncio.ensure_future(self._job(AwaitTraining(job.id)))
        awaited: set[asyncio.Future[Any]] = {end}
        if call.gone is not None:
            awaited.add(asyncio.ensure_future(call.gone()))
        try:
            await asyncio.wait(awaited, return_when=asyncio.FIRST_COMPLETED)
            job = end.result() if end.done() else job
        finally:
            for one in awaited:
                one.cancel()
        if job.state == "failed":
            unavailable = job.report.error == "RegistryUnavailable"
            raise HttpRefusal(
                503 if unavailable else 500,
                f"training {job.id} failed: {job.problem}",
                advice=f"GET {self._route.path}/{job.id} shows how far it came",
            )
        # Still running where this worker is being replaced: the caller asks again by the id.
        return Page(job_document(job), 202 if job.state == "running" else 200)

    async def _job(self, errand: Errand) -> Job:
        outcome = await self._ask(errand)
        if not isinstance(outcome, TrainingJob):
            raise ProcessError(f"a training was answered with {type(outcome).__name__}")
        return outcome.job

    def _plan(self, asked: dict[str, Any]) -> TrainingPlan:
        """Have the app say what is to be trained."""
        try:
            plan = self._route.plan(self._route.typed(asked))
        except ValueError as error:
            raise RequestInvalid(str(error), (), advice=_ADVICE) from error
        if not isinstance(plan, TrainingPlan):
            raise AppError(f"training.plan: gave {type(plan).__name__}, and not a TrainingPlan")
        self._app.model(plan.model)
        return plan

    def _other(self, environment: Any) -> str:
        if environment in {None, self._environment}:
            return ""
        return f"is not what this server is for, {self._environment}"


def _waits(given: bool | None, query: str | None) -> bool:
    """Whether the answer waits, by the body or by the address."""
    problem = ""
    if query is not None and query.lower() not in {"true", "false", "1", "0"}:
        problem = "must be true or false"
    elif query is not None and given is not None:
        problem = "is given twice: in the body and in the address"
    if problem:
        found = FieldProblem(0, WAIT, problem)
        raise RequestInvalid(f"{WAIT} {problem}", (found,), advice=_ADVICE)
    if query is not None:
        return query.lower() in {"true", "1"}
    return given is not False


def job_document(job: Job) -> dict[str, Any]:
    """Return what is shown of a job; what is not known yet is null, or empty."""
    trained = job.trained
    report = job.report if job.state == "running" else None
    return {
        "job_id": job.id,
        "state": job.state,
        "request": job.order.request,
        "who": job.order.who,
        "began_at": job.began_at,
        "ended_at": job.ended_at,
        "doing": report.doing if report else "",
        "share": report.share if report else None,
        "problem": job.problem,
        "model_name": job.order.plan.model,
        "model_version": trained.version or None if trained else None,
        "outcome": trained.outcome if trained else None,
        "reasons": trained.reasons if trained else (),
        "candidate": trained.candidate if trained else "",
        "metrics": trained.metrics if trained else {},
        "run_id": trained.run_id if trained else "",
        "run_url": trained.run_url if trained else "",
        "dataset": trained.dataset if trained else "",
        "n_rows": trained.n_rows if trained else 0,
        "trial": trained.trial if trained else job.order.plan.is_trial,
    }
