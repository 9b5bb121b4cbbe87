"""The training route over ASGI: what it takes, refuses and answers; its jobs are made up."""

from __future__ import annotations

import asyncio
import datetime as dt

import httpx
import pytest
from sklearn.linear_model import LogisticRegression

import builders
from greenroom import App, Column, Gate, Model, TrainingPlan, TrainingRoute, classification
from greenroom.errands import AwaitTraining, BeginTraining, TrainingJob
from greenroom.errors import TrainingUnderway
from greenroom.job import Job, new_job_id
from greenroom.job_store import JobStore
from greenroom.settings import Settings
from greenroom.training.training_report import TrainedModel, TrainingReport
from servers import FakeServer, served

KINDS = ("rf", "nn")


def plan(asked):
    if asked["kind"] == "nn" and asked["quick"]:
        raise ValueError("nn has no quick training")
    return TrainingPlan(
        model="credit", candidates=(asked["kind"],), rows=1_000 if asked["quick"] else 0
    )


ROUTE = TrainingRoute(
    request=(
        Column("kind", "category", categories=KINDS),
        Column("env", "category", categories=("dev", "prod"), nullable=True),
        Column("until", "date", nullable=True),
        Column("quick", "boolean", nullable=True),
        Column("depth", "integer", nullable=True, minimum=1, maximum=9),
    ),
    plan=plan,
    environment="env",
)


def an_app(training=ROUTE):
    return App(
        name="credit-risk",
        experiment="e",
        models=[
            Model(
                name="credit",
                task=classification,
                dataset="x.csv",
                target="y",
                columns=builders.COLUMNS,
                candidates=lambda seed: {"rf": LogisticRegression()},
                gate=Gate("roc_auc"),
            )
        ],
        training=training,
    )


class Supervisor:
    """Answers errands: begins jobs that end when they are let."""

    def __init__(self, home, training=ROUTE, **settings):
        self.store = JobStore(home)
        self.begun = []
        self.let_end = asyncio.Event()
        self.ended = TrainingReport(state="done")
        self.problem = ""
        self.server = FakeServer(
            [served()], app=an_app(training), settings=Settings(home=str(home), **settings)
        )

    async def ask(self, errand):
        if isinstance(errand, BeginTraining):
            if self.begun:
                raise TrainingUnderway(
                    f"training {self.begun[0].id} is running", advice="ask again"
                )
            job = Job(id=new_job_id(), order=errand.order, began_at="2026-11-21T10:00:00.000Z")
            self.begun.append(job)
            self.store.write(job)
            return TrainingJob(job)
        assert isinstance(errand, AwaitTraining)
        await self.let_end.wait()
        job = self.store.read(errand.job_id)
        state = "failed" if self.problem else self.ended.state
        values = {name: getattr(job, name) for name in ("id", "order", "began_at")}
        return TrainingJob(
            Job(**values, state=state, problem=self.problem, report=self.ended, ended_at="later")
        )

    def client(self):
        transport = httpx.ASGITransport(app=self.server.asgi(ask=self.ask))
        return httpx.AsyncClient(transport=transport, base_url="http://test")

    def send(self, method="POST", path="/train", **more):
        async def send():
            self.let_end.set()
            async with self.client() as client:
                return await client.request(method, path, **more)

        return asyncio.run(send())


@pytest.fixture
def supervisor(tmp_path):
    return Supervisor(tmp_path)


def test_the_app_makes_the_plan_from_the_fields_as_what_they_are(tmp_path):
    seen = []

    def note(asked):
        seen.append(asked)
        return plan(asked)

    route = TrainingRoute(request=ROUTE.request, plan=note)
    supervisor = Supervisor(tmp_path, route)
    asked = {"kind": "rf", "until": "2021-05-31", "depth": 3, "quick": True}
    assert supervisor.send(json=asked).status_code == 200
    assert seen == [
        {"kind": "rf", "env": None, "until": dt.date(2021, 5, 31), "quick": True, "depth": 3}
    ]
    assert isinstance(seen[0]["depth"], int)
    (job,) = supervisor.begun
    assert job.order.plan == TrainingPlan(model="credit", candidates=("rf",), rows=1_000)
    assert job.order.request == asked
    assert job.order.who == "POST /train"


def test_the_answer_waits_and_holds_metrics_version_and_run(supervisor):
    supervisor.ended = TrainingReport(
        state="done",
        models=(
            TrainedModel(
                model="credit",
                outcome="refused",
                version="4",
                run_id="r4",
                metrics={"roc_auc": 0.8},
                reasons=("roc_auc 0.8: worse by 0.06",),
            ),
        ),
    )
    reply = supervisor.send(json={"kind": "rf"})
    assert reply.status_code == 200
    said = reply.json()
    assert said["state"] == "done"
    assert (said["model_version"], said["run_id"]) == ("4", "r4")
    assert said["metrics"] == {"roc_auc": 0.8}
    assert said["outcome"] == "refused"
    assert said["reasons"] == ["roc_auc 0.8: worse by 0.06"]


@pytest.mark.parametrize("where", ["body", "address"])
def test_without_waiting_the_answer_is_a_job_to_ask_for(supervisor, where):
    more = {"json": {"kind": "rf", "wait": False}}
    if where == "address":
        more = {"json": {"kind": "rf"}, "params": {"wait": "false"}}
    reply = supervisor.send(**more)
    assert reply.status_code == 202
    said = reply.json()
    assert (said["state"], said["model_version"]) == ("running", None)
    again = supervisor.send("GET", f"/train/{said['job_id']}")
    assert (again.status_code, again.json()) == (200, said)
    assert supervisor.send("GET").json() == {"jobs": [said]}


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        ({}, 422, ["kind is missing"]),
        (
            {"kind": "svm", "env": "test", "quick": "yes", "depth": 10, "more": 1},
            422,
            [
                "kind must be one of rf, nn",
                "env must be one of dev, prod",
                "quick must be true or false",
                "depth is above the maximum, 9",
                "more is unknown",
            ],
        ),
        ({"kind": "rf", "env": "prod"}, 422, ["env is not what this server is for, dev"]),
        ({"kind": "rf", "wait": "no"}, 422, ["wait must be true or false"]),
        ({"kind": "nn", "quick": True}, 422, []),
        ([{"kind": "rf"}], 400, []),
        ({"instances": [{"kind": "rf"}]}, 422, ["kind is missing", "instances is unknown"]),
    ],
)
def test_every_bad_field_is_named_and_nothing_is_begun(supervisor, body, status, said):
    reply = supervisor.send(json=body)
    assert reply.status_code == status
    problems = reply.json()["error"].get("problems", [])
    assert [f"{one['field']} {one['problem']}" for one in problems] == said
    assert supervisor.begun == []


def test_fields_that_do_not_go_together_are_refused_in_the_apps_words(supervisor):
    reply = supervisor.send(json={"kind": "nn", "quick": True})
    assert reply.json()["error"]["message"] == "nn has no quick training"


@pytest.mark.parametrize(
    ("more", "status"),
    [
        ({"content": b""}, 400),
        ({"content": b"{"}, 400),
        ({"content": b'{"kind": NaN}', "headers": {"content-type": "application/json"}}, 422),
        ({"content": b"kind=rf", "headers": {"content-type": "text/plain"}}, 415),
        ({"content": b"[" * 5_000_000}, 413),
        ({"json": {"kind": "rf"}, "params": {"wait": "maybe"}}, 422),
        ({"json": {"kind": "rf", "wait": True}, "params": {"wait": "true"}}, 422),
    ],
)
def test_a_body_that_cannot_be_read_is_refused(supervisor, more, status):
    assert supervisor.send(**more).status_code == status
    assert supervisor.begun == []


def test_another_training_is_409_and_named(supervisor):
    supervisor.send(json={"kind": "rf", "wait": False})
    reply = supervisor.send(json={"kind": "rf"})
    assert reply.status_code == 409
    assert supervisor.begun[0].id in reply.json()["error"]["message"]


@pytest.mark.parametrize(("error", "status"), [("DataMissing", 500), ("RegistryUnavailable", 503)])
def test_a_training_that_fails_is_an_error_that_names_the_job_and_the_reason(
    supervisor, error, status
):
    supervisor.problem = "x.csv is not there"
    supervisor.ended = TrainingReport(state="failed", error=error, problem=supervisor.problem)
    reply = supervisor.send(json={"kind": "rf"})
    assert reply.status_code == status
    assert reply.json()["error"]["message"].endswith("failed: x.csv is not there")
    assert supervisor.begun[0].id in reply.json()["error"]["advice"]


@pytest.mark.parametrize("job_id", ["20260101T000000Z-abcdef", "%2e%2e%2fsecret", "x"])
def test_a_training_that_is_not_known_is_404(supervisor, job_id):
    assert supervisor.send("GET", f"/train/{job_id}").status_code == 404


def test_whoever_waits_has_no_place_among_the_requests_in_flight(tmp_path):
    supervisor = Supervisor(tmp_path, max_in_flight=1)

    async def main():
        async with supervisor.client() as client:
            waiting = asyncio.create_task(client.post("/train", json={"kind": "rf"}))
            while not supervisor.begun:
                await asyncio.sleep(0.01)
            for _ in range(3):
                reply = await client.post("/predict", json={"age": 40, "Number30_59": 1})
                assert reply.status_code == 200
            assert not waiting.done()
            supervisor.let_end.set()
            assert (await waiting).status_code == 200

    asyncio.run(main())


def test_an_app_whose_plan_is_none_is_the_servers_fault(tmp_path):
    supervisor = Supervisor(tmp_path, TrainingRoute(request=ROUTE.request, plan=lambda asked: None))
    reply = supervisor.send(json={"kind": "rf"})
    assert (reply.status_code, supervisor.begun) == (500, [])


def test_the_document_describes_the_route_and_its_fields(supervisor):
    paths = supervisor.send("GET", "/openapi.json").json()["paths"]
    body = paths["/train"]["post"]["requestBody"]["content"]["application/json"]
    assert list(body["schema"]["properties"]) == ["kind", "env", "until", "quick", "depth", "wait"]
    assert body["schema"]["required"] == ["kind"]
    assert set(paths["/train"]["post"]["responses"]) >= {"200", "202", "409", "422"}
    assert "get" in paths["/train/{job_id}"]
    assert [one["name"] for one in paths["/train"]["post"].get("parameters", [])] == []


def test_a_job_shows_every_field_that_is_documented(supervisor):
    said = supervisor.send(json={"kind": "rf", "wait": False}).json()
    schema = supervisor.send("GET", "/openapi.json").json()["paths"]["/train"]["post"]
    described = schema["responses"]["202"]["content"]["application/json"]["schema"]
    assert list(said) == list(described["properties"])


def test_training_needs_the_scope_admin_and_looking_the_scope_read(tmp_path):
    tokens = ("ci:admin:aaaa", "watch:read:bbbb", "shop:predict:cccc")
    supervisor = Supervisor(tmp_path, auth="tokens", development_tokens=tokens)

    def status(method, token, **more):
        headers = {"authorization": f"Bearer {token}"} if token else {}
        return supervisor.send(method, headers=headers, **more).status_code

    body = {"kind": "rf", "wait": False}
    assert status("POST", "", json=body) == 401
    assert status("POST", "bbbb", json=body) == 403
    assert status("POST", "cccc", json=body) == 403
    assert status("GET", "cccc") == 403
    assert supervisor.begun == []
    assert status("POST", "aaaa", json=body) == 202
    assert status("GET", "bbbb") == 200
    assert supervisor.begun[0].order.who == "ci (POST /train)"
