"""docs/http-api.md: every request and reply in it, sent and compared."""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
import re
import shutil
import tempfile
import weakref
from pathlib import Path

import msgspec
import pytest

from fake_registry import FakeRegistry
from greenroom import Management, TrainingPlan
from greenroom.deployment.deployments import Target
from greenroom.errands import BeginTraining, TrainingJob
from greenroom.http.protocol_endpoints import ENDPOINTS
from greenroom.inference.prediction_log import Asked, Asker, Call
from greenroom.job import Job, JobOrder
from greenroom.job_store import JobStore
from greenroom.log.log_reading import PredictionLogReader
from greenroom.log.log_records import Observation
from greenroom.log.log_tables import LogTables
from greenroom.log.spool import Spool
from greenroom.lookup_process import NotInLog
from greenroom.promotion.history import Record, new_key, write_record
from greenroom.promotion.transitions import transition
from greenroom.registry_errands import RegistryErrands
from greenroom.schema import Schema
from greenroom.selector import Selector
from greenroom.settings import Settings
from greenroom.status import RegistryStatus
from greenroom.supervision.jobs import underway
from greenroom.tracing.lineage import Origin
from greenroom.tracing.tracing import NoSuchPrediction, Tracer
from greenroom.training.training_report import TrainedModel, TrainingReport
from greenroom.vitals import Vitals
from servers import COLUMNS, GOOD, FakeServer, manifest, nothing_served, served, with_status
from test_prediction_log import opened
from test_serving import an_app

PAGE = Path(__file__).parents[1] / "docs" / "http-api.md"
_SECTION = re.compile(r"^### (?P<method>GET|POST) (?P<path>/\S*?)(?P<when>, .*)?$", re.MULTILINE)
_BLOCK = re.compile(r"^```json ?(?P<status>\d*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
_PYTHON = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_MADE_ANEW = {
    "prediction_id",
    "timestamp",
    "processing_time_ms",
    "creation_timestamp",
    "last_updated_timestamp",
    "at",
    "prediction_ids",
    "answered_at",
    "received_at",
    "latency_ms",
    "n_threads",
    "process",
}
LOGGED_ID = "01a1fdaf-3458-7e84-89ac-6f8ee5e36bff"


def sections():
    text = PAGE.read_text(encoding="utf-8")
    headings = list(_SECTION.finditer(text))
    for heading in headings:
        end = re.compile(r"^##", re.MULTILINE).search(text, heading.end())
        blocks = _BLOCK.findall(text[heading.end() : end.start() if end else len(text)])
        yield pytest.param(*heading.groups(), blocks, id=f"{heading[0]} ({heading.start()})")


def managed():
    """Return a server with management routes, over two versions in MLflow."""
    registry = FakeRegistry()
    for number in ("1", "2", "3"):
        registry.add("credit", run_id=f"r{number}", source=f"models:/m-{number}")
    registry.remove("credit", "1")
    transition(registry, "credit", "3", "Production", archive_existing=False, who="ada")
    management = Management(
        reload="/api/model/reload",
        models="/api/mlflow/models",
        model="/api/mlflow/models/{name}",
        transition="/api/mlflow/models/{name}/transition",
    )
    app = dataclasses.replace(an_app(), management=management)
    target = Target("credit", "credit", Selector.parse("Production"), "/predict")
    return FakeServer([served()], app=app, errands=RegistryErrands(registry, (target,)))


def document_route():
    """Return the route that the page declares."""
    text = PAGE.read_text(encoding="utf-8")
    (block,) = [one for one in _PYTHON.findall(text) if "TrainingRoute(" in one]
    made = {}
    exec(block.replace("TrainingRoute(\n", "route = TrainingRoute(\n"), made)
    return made["route"]


class Trainer:
    """Has one training begun that is over at once, or that runs already."""

    def __init__(self, running=False):
        folder = tempfile.mkdtemp(prefix="greenroom-")
        weakref.finalize(self, shutil.rmtree, folder)
        self.store = JobStore(Path(folder))
        self.began = Job(
            id="20261121T100000Z-0a1b2c",
            order=JobOrder(
                plan=TrainingPlan(model="credit"),
                request={"model_type": "forest"},
                who="POST /train",
            ),
            began_at="2026-11-21T10:00:00.000Z",
            report=TrainingReport(doing="cross-validating forest", share=0.4),
        )
        self.running = running
        if running:
            self.store.write(self.began)

    def run(self, errand):
        if isinstance(errand, BeginTraining):
            if self.running:
                raise underway(self.began)
            job = msgspec.structs.replace(self.began, order=errand.order, report=TrainingReport())
            self.store.write(job)
            return TrainingJob(job)
        job = self.store.read(errand.job_id)
        trained = TrainedModel(
            model="credit",
            outcome="refused",
            version="4",
            run_id="r4",
            run_url="http://mlflow:5000/#/experiments/1/runs/r4",
            candidate="boosting",
            metrics={"roc_auc": 0.84},
            reasons=(
                "credit version 4 is not promoted: it was trained as a trial, "
                "and version 3 was trained in full",
            ),
            dataset="loans.csv",
            n_rows=1000,
            trial=True,
        )
        return TrainingJob(
            msgspec.structs.replace(
                job,
                state="done",
                ended_at="2026-11-21T10:00:21.000Z",
                report=TrainingReport(state="done", models=(trained,)),
            )
        )


def trainable(running):
    trainer = Trainer(running)
    app = dataclasses.replace(an_app(), training=document_route())
    home = str(trainer.store.folder("x").parents[1])
    return FakeServer([served()], app=app, errands=trainer, settings=Settings(home=home))


def server(when):
    if when and when.startswith(", where training is declared"):
        return trainable(when.endswith("with another one running"))
    if when == ", with nothing in Production":
        return FakeServer([nothing_served()])
    if when == ", where an app declares it":
        return managed()
    if when and when.startswith(", of the log"):
        return Logged([served()])
    assert when in {"", None, ", with bad values"}
    model = with_status(served(), latest_versions={"Production": "3"})
    registry = RegistryStatus(
        uri="http://mlflow:5000", state="healthy", since="2026-11-21T04:47:55.000Z"
    )
    vitals = Vitals(1250, 0.000_412, 0.000_35, 0.001_9, 412e6, 3.5, 51e9, 80e9)
    return FakeServer([model], registry=registry, vitals=vitals)


class InProcess:
    """Looks up the one prediction that the page shows, without a process of its own."""

    def __init__(self, settings):
        self.folder = tempfile.mkdtemp(prefix="greenroom-")
        weakref.finalize(self, shutil.rmtree, self.folder)
        self.registry = FakeRegistry()

    def origin(self, name, version, digest):
        return Origin(manifest(Schema(COLUMNS)))

    async def look_up(self, prediction_id, models):
        model, log = served(), opened(Path(self.folder) / "spool")
        body = msgspec.json.encode(GOOD)
        rows = model.decode(body)
        asked = [Asked(rows, 0.0, Asker("teller", "/predict", "", body))]
        log.note(model, model.predict(rows), [LOGGED_ID], asked, Call(17, 1))
        log.observe("teller", [Observation(LOGGED_ID, 1, 1_795_257_000_000_000)])
        log.close()
        self.registry.add("credit")
        record = Record(
            action="promotion",
            who="ada",
            at="2026-11-20T09:00:00.000Z",
            from_version="2",
            to_version="3",
            selector="Production",
            passed=True,
            reasons=("roc_auc 0.87 is not below the champion's 0.86",),
            metric="roc_auc",
            challenger=0.87,
            champion=0.86,
            n_rows=20,
            independence="held out from both",
        )
        key = new_key(dt.datetime(2026, 11, 20, 9, tzinfo=dt.UTC))
        self.registry.set_model_tag("credit", key, write_record(record))
        tables = LogTables(f"{self.folder}/log")
        reader = PredictionLogReader(tables, Spool(Path(self.folder) / "spool"))
        tracer = Tracer(reader, self.registry, self)
        try:
            return tracer.trace(tracer.find(prediction_id, models))
        except NoSuchPrediction as error:
            raise NotInLog(error.message, advice=error.advice) from error


class Logged(FakeServer):
    """A server whose worker has a log."""

    def asgi(self, **changes):
        folder = tempfile.mkdtemp(prefix="greenroom-")
        weakref.finalize(self, shutil.rmtree, folder)
        log = opened(Path(folder))
        weakref.finalize(self, log.close)
        return super().asgi(**{"log": log, **changes})


@pytest.fixture(autouse=True)
def looked_up_here(monkeypatch):
    monkeypatch.setattr("greenroom.http.log_pages.LookupProcess", InProcess)


def lasting(node):
    """Take out what is another in every reply."""
    if isinstance(node, dict):
        return {name: lasting(value) for name, value in node.items() if name not in _MADE_ANEW}
    return [lasting(value) for value in node] if isinstance(node, list) else node


@pytest.mark.parametrize(("method", "path", "when", "blocks"), list(sections()))
def test_a_documented_request_gets_the_documented_reply(method, path, when, blocks):
    *sent, documented = blocks if blocks else [None]
    more = {"json": json.loads(sent[0][1])} if sent else {}
    (reply,) = server(when).requests((method, path.format(prediction_id=LOGGED_ID), more))
    if documented is None:
        assert reply.status_code == (503 if when else 200)
        return
    status, text = documented
    expected = json.loads(text)
    assert reply.status_code == int(status or 200)
    assert lasting(reply.json()) == lasting(expected)
    assert list(reply.json()) == list(expected)


def test_every_route_is_documented():
    text = PAGE.read_text(encoding="utf-8")
    documented = {path for _, path, *_ in (section.values for section in sections())}
    for path in server("").get("/openapi.json").json()["paths"]:
        assert f"`{path.replace('/credit/', '/{name}/')}`" in text, path
        assert path.replace("{name}", "credit") in documented, path
    for endpoint in ENDPOINTS:
        assert f"| `{endpoint.path}` | {endpoint.method} |" in text, endpoint
        assert endpoint.path.format(name="credit", version="3") in documented, endpoint


def test_every_status_that_is_answered_is_documented():
    text = PAGE.read_text(encoding="utf-8")
    for methods in server("").get("/openapi.json").json()["paths"].values():
        for operation in methods.values():
            for status in operation["responses"]:
                assert status == "200" or f"| {status} |" in text
