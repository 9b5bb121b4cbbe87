"""A server without processes or a registry: what serving needs of an engine, as small fakes."""

from __future__ import annotations

import asyncio
import datetime as dt
from dataclasses import dataclass, field, replace
from typing import Any

import httpx
import msgspec
import numpy as np

from greenroom import __version__
from greenroom.errors import NotServing
from greenroom.evaluation.predictions import Predictions
from greenroom.gate import Gate
from greenroom.http.serving import build_asgi
from greenroom.inference.generation import Deployment
from greenroom.inference.inference import LoadedGeneration
from greenroom.inference.served_model import ServedModel
from greenroom.instruments import SupervisorInstruments, WorkerInstruments
from greenroom.payloads.reply import ReplyType
from greenroom.payloads.request import RequestType
from greenroom.schema import Column, Schema
from greenroom.settings import Settings
from greenroom.split import Split
from greenroom.status import RegistryStatus, Status, VersionStatus
from greenroom.task import Task, classification, classification_outputs
from greenroom.versions.manifest import Code, Data, Environment, Manifest
from greenroom.vitals import Vitals

COLUMNS = (
    Column("age", "integer", minimum=0, maximum=120, unit="years", description="The age."),
    Column("Number30-59", request_name="Number30_59", minimum=0, example=2),
    Column("income", nullable=True, unit="USD"),
)
GOOD = {"age": 40, "Number30_59": 1}


def manifest(schema: Schema, **changes: Any) -> Manifest:
    data = Data(
        name="loans",
        source="data/loans.csv",
        dataset_hash="d" * 64,
        content_hash="c" * 64,
        n_rows=100,
    )
    filled = {
        "app": "credit",
        "model": "credit",
        "task": "classification",
        "candidate": "boosting",
        "columns": schema.columns,
        "inputs": schema.names,
        "gate": Gate("roc_auc"),
        "split": Split(),
        "folds": 5,
        "seed": 42,
        "data": data,
        "code": Code(code_hash="e" * 64, files={}),
        "environment": Environment(python="3.11.7", packages={"scikit-learn": "1.9.1"}),
        "n_train": 80,
        "n_holdout": 20,
    }
    return Manifest(**{**filled, **changes})


class FakeRuntime:
    """Answers a probability that tells rows apart: the first column's value divided by 200."""

    kind = "native"

    def __init__(self, schema: Schema, *, task: Task = classification, **changes: Any) -> None:
        self.schema = schema
        self.task = task
        self.classes = (0, 1)
        self.manifest = manifest(schema)
        self.example_values = {}
        self.accepts_matrix = schema.numeric
        self.expands = False
        self.called: list[str] = []
        vars(self).update(changes)

    def predict(self, columns: Any) -> Predictions:
        self.called.append("columns")
        return self._answer(next(iter(columns.values())))

    def predict_matrix(self, X: Any) -> Predictions:
        self.called.append("matrix")
        return self._answer(X[:, 0])

    def _answer(self, first: Any) -> Predictions:
        share = np.array([len(v) if isinstance(v, str) else v for v in first], dtype=float) / 200
        return classification_outputs(np.stack([1 - share, share], axis=1), np.array([0, 1]))


def deployment(name: str = "credit", version: str = "3", **changes: Any) -> Deployment:
    serving = VersionStatus(
        version=version,
        stage="Production",
        run_id="r1",
        model_uri=f"models:/{name}/{version}",
        digest=f"digest-{version}",
        metrics={"roc_auc": 0.87},
        params={"depth": 3},
    )
    filled = {
        "model": name,
        "name": name,
        "selector": "Production",
        "route": "/predict",
        "serving": serving,
        "directory": "/store",
    }
    return Deployment(**{**filled, **changes})


def served(name: str = "credit", version: str = "3", runtime: Any = None, **changes: Any):
    of = deployment(name, version, **changes)
    if of.serving is None:
        return ServedModel(of)
    runtime = runtime or FakeRuntime(Schema(COLUMNS))
    constants = {
        "model_name": of.name,
        "model_version": of.serving.version,
        "model_stage": of.serving.stage,
    }
    reply = ReplyType.compile(runtime.task, runtime.classes, {}, constants)
    return ServedModel(of, runtime, RequestType.compile(runtime.schema), reply)


def with_status(model: ServedModel, **changes: Any) -> ServedModel:
    """Return a model with something else said about it or about its version."""
    of = model.deployment
    about = {name for name in changes if name in VersionStatus.__struct_fields__}
    version = {name: changes.pop(name) for name in about}
    if of.serving is not None:
        changes["serving"] = msgspec.structs.replace(of.serving, **version)
    return replace(model, deployment=msgspec.structs.replace(of, **changes))


def nothing_served(name: str = "credit", **changes: Any) -> ServedModel:
    return served(
        name,
        serving=None,
        reason=f"No model in Production stage: {name} has no version there",
        advice=f"promote one: greenroom promote {name} --version N",
        **changes,
    )


@dataclass
class FakeServer:
    """Engine, status and reload of a server in one, to be driven over ASGI."""

    models: list[ServedModel]
    app: Any = None
    settings: Settings = field(default_factory=Settings)
    number: int = 1
    registry: RegistryStatus = field(
        default_factory=lambda: RegistryStatus(uri="http://mlflow:5000", state="healthy")
    )
    problems: tuple[str, ...] = ()
    after_reload: Any = None
    errands: Any = None
    n_reads: int = 0
    generation: Any = None
    vitals: Vitals | None = None

    def current(self) -> LoadedGeneration:
        self.n_reads += 1
        if self.number == 0:
            raise NotServing("the server is starting", advice="/ready says when it answers")
        if self.generation is None or self.generation.number != self.number:
            routes = {one.deployment.route: one for one in self.models}
            self.generation = LoadedGeneration(self.number, routes)
        return self.generation

    def status(self) -> Status:
        shown = [one.deployment.status for one in self.models]
        return Status(
            app="credit-risk",
            greenroom_version=__version__,
            started_at=(dt.datetime.now(dt.UTC) - dt.timedelta(seconds=90)).isoformat(),
            generation=self.number,
            registry=self.registry,
            models=tuple(
                msgspec.structs.replace(one, problems=one.problems + self.problems) for one in shown
            ),
        )

    async def reload(self) -> Status:
        if isinstance(self.after_reload, Exception):
            raise self.after_reload
        if self.after_reload is not None:
            self.swap(self.after_reload)
        return self.status()

    async def ask(self, errand: Any) -> Any:
        return self.errands.run(errand)

    def swap(self, models: list[ServedModel]) -> None:
        self.models, self.number = models, self.number + 1

    def asgi(self, **changes: Any) -> Any:
        supervisor = SupervisorInstruments(1)
        if self.vitals is not None:
            supervisor.sampled(self.vitals)
        instruments = WorkerInstruments(supervisor.memory, seat=1)
        given = {"app": self.app, "settings": self.settings, "reload": self.reload}
        given |= {"instruments": instruments, **changes}
        given.setdefault("ask", self.ask if self.errands is not None else None)
        return build_asgi(self, self.status, **given)

    def requests(self, *requests: tuple[str, str, dict[str, Any]]) -> list[httpx.Response]:
        """Send requests one after the other: method, path, and what httpx takes beside them."""

        async def send() -> list[httpx.Response]:
            transport = httpx.ASGITransport(app=self.asgi())
            async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
                return [
                    await client.request(method, path, **more) for method, path, more in requests
                ]

        return asyncio.run(send())

    def get(self, path: str, **more: Any) -> httpx.Response:
        return self.requests(("GET", path, more))[0]

    def post(self, path: str, **more: Any) -> httpx.Response:
        return self.requests(("POST", path, more))[0]

    def predict(self, body: Any = GOOD, path: str = "/predict", **more: Any) -> httpx.Response:
        return self.post(path, json=body, **more)
