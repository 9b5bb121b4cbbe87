"""Errands: what a worker asks of the supervisor on behalf of a caller, and what comes of it.

Plain values that go over the control channel (:mod:`greenroom.control`). Reloading is
:mod:`greenroom.supervision.pursuit`'s business, what concerns the registry
:mod:`greenroom.registry_errands`'s, and training :mod:`greenroom.supervision.jobs`'s.
"""

from __future__ import annotations

from typing import TypeAlias

import msgspec

from greenroom.job import Job, JobOrder
from greenroom.promotion.history import Record
from greenroom.registry.registered import ModelVersion, RegisteredModel
from greenroom.status import Status


class Reload(msgspec.Struct, frozen=True, tag=True):
    """Ask the registry now, and answer when all workers serve what it selects."""


class Reloaded(msgspec.Struct, frozen=True, tag=True):
    """The server's status after a reload."""

    status: Status


class ListModels(msgspec.Struct, frozen=True, tag=True):
    """Which registered models there are."""


class ModelsListed(msgspec.Struct, frozen=True, tag=True):
    """All registered models."""

    models: tuple[RegisteredModel, ...]


class DescribeModel(msgspec.Struct, frozen=True, tag=True):
    """What there is of one registered model."""

    name: str


class ModelDescribed(msgspec.Struct, frozen=True, tag=True):
    """A registered model, its versions from the lowest number, and its history, oldest first."""

    model: RegisteredModel
    versions: tuple[ModelVersion, ...]
    history: tuple[Record, ...]


class MoveVersion(msgspec.Struct, frozen=True, tag=True, kw_only=True):
    """Move a version to another stage; ``archive_existing`` moves out what else is there."""

    name: str
    version: str
    stage: str
    archive_existing: bool
    who: str


class VersionMoved(msgspec.Struct, frozen=True, tag=True, kw_only=True):
    """What a move came to.

    ``archived`` are the versions that were moved out of the stage; ``changed`` is false where the
    version was there already; ``latest_versions`` has for each stage the highest version in it.
    """

    name: str
    version: str
    stage: str
    from_stage: str
    archived: tuple[str, ...]
    changed: bool
    latest_versions: dict[str, str]


class BeginTraining(msgspec.Struct, frozen=True, tag=True):
    """Begin a training, and answer when its process runs."""

    order: JobOrder


class AwaitTraining(msgspec.Struct, frozen=True, tag=True):
    """Answer when a training is over, or when the worker that asks is to leave."""

    job_id: str


class TrainingJob(msgspec.Struct, frozen=True, tag=True):
    """A training as it is now."""

    job: Job


Errand: TypeAlias = (
    Reload | ListModels | DescribeModel | MoveVersion | BeginTraining | AwaitTraining
)
Done: TypeAlias = Reloaded | ModelsListed | ModelDescribed | VersionMoved | TrainingJob
