"""A training job: what was asked for, the process that does it, and how that is or went.

A value, kept on disk by :mod:`greenroom.job_store`; who starts and ends jobs is
:mod:`greenroom.supervision.jobs`.
"""

from __future__ import annotations

import re
import secrets
from datetime import UTC, datetime
from typing import Any, Final, Literal, TypeAlias

import msgspec

from greenroom.training.training_report import TrainedModel, TrainingReport
from greenroom.training_route import TrainingPlan

__all__ = ["Job", "JobOrder", "JobState", "ProcessIdentity", "is_job_id", "new_job_id"]

JobState: TypeAlias = Literal["running", "done", "failed"]

_ID: Final = re.compile(r"\d{8}T\d{6}Z-[0-9a-f]{6}")


def new_job_id() -> str:
    """Return an id that no other job has; ids sort by time (UTC).

    Examples
    --------
    >>> is_job_id(new_job_id()), is_job_id("../../etc")
    (True, False)
    """
    return f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{secrets.token_hex(3)}"


def is_job_id(text: str) -> bool:
    """Whether a text is written like the id of a job."""
    return _ID.fullmatch(text) is not None


class JobOrder(msgspec.Struct, frozen=True, kw_only=True):
    """What a caller asks for: the plan, the request that it was made from, and who asks."""

    plan: TrainingPlan
    request: dict[str, Any] = {}
    who: str = ""


class ProcessIdentity(msgspec.Struct, frozen=True):
    """A process; ``identity`` tells it from a later one with the same id."""

    pid: int
    identity: str


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """A job as it is known.

    ``process`` is the training's, ``server`` that of the supervisor which started it. ``problem``
    says in one line why the job failed.
    """

    id: str
    order: JobOrder
    began_at: str
    state: JobState = "running"
    ended_at: str = ""
    problem: str = ""
    process: ProcessIdentity | None = None
    server: ProcessIdentity | None = None
    report: TrainingReport = TrainingReport()

    @property
    def trained(self) -> TrainedModel | None:
        """What the training came to; None before it has, and where it failed before."""
        return self.report.models[-1] if self.report.models else None
