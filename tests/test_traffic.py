"""Every answer is counted once, under what it was asked for, whichever way it took."""

import asyncio
import os
import signal
from collections import Counter
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

import builders
from fake_server import FakeFollower, serving
from greenroom.app import App, Route
from greenroom.errors import RegistryUnavailable
from greenroom.gate import Gate
from greenroom.model import Model
from greenroom.supervision.worker_process import COMMAND
from greenroom.task import classification
from scraped import counted, single
from servers import COLUMNS, GOOD, FakeRuntime, FakeServer, served
from test_connection import running

BAD = {**GOOD, "age": 200}


def metrics_after(server: FakeServer, *requests) -> str:
    reply = server.requests(*requests, ("GET", "/metrics", {}))[-1]
    assert reply.status_code == 200
    return reply.text


def post(body, path="/predict", **more):
    return ("POST", path, {"json": body, **more})


@pytest.mark.parametrize("way", ["thread", "loop"])
def test_predictions_are_counted_by_path_version_and_status(way):
    model = replace(served(), quick_rows=32 if way == "loop" else 0)
    text = metrics_after(
        FakeServer([model]),
        post(GOOD),
        post([GOOD, GOOD]),
        post(GOOD, "/models/credit/predict"),
        post(BAD),
        post({"dataframe_records": [{"age": 1, "Number30-59": 2}]}, "/invocations"),
        post({}, "/invocations"),
    )
    assert counted(text) == {
        ("/predict", "credit", "3", "200"): 2,
        ("/predict", "credit", "3", "422"): 1,
        ("/models/{name}/predict", "credit", "3", "200"): 1,
        ("/invocations", "credit", "3", "200"): 1,
        ("/invocations", "credit", "3", "400"): 1,
    }
    of = {"route": "/predict", "model": "credit", "version": "3"}
    assert single(text, "greenroom_request_duration_seconds_count", **of) == 3
    assert 0 < single(text, "greenroom_request_duration_seconds_sum", **of) < 5


def test_the_short_way_counts_what_it_answers_before_it_is_read():
    with running() as (port, watched, _):
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client:
            for body in (GOOD, BAD, [GOOD] * 3):
                client.post("/predict", json=body)
            text = client.get("/metrics").text
        assert len(watched.short_way) == 3
    assert counted(text) == {
        ("/predict", "credit", "3", "200"): 2,
        ("/predict", "credit", "3", "422"): 1,
    }
    error = {"route": "/predict", "status": "422", "error": "RequestInvalid"}
    assert single(text, "greenroom_request_errors_total", **error) == 1
    assert single(text, "greenroom_batch_rows_sum", model="credit") == 4
    assert single(text, "greenroom_batch_rows_count", model="credit") == 2


def test_a_refusal_before_the_body_is_read_is_counted_with_its_model():
    text = metrics_after(
        FakeServer([served()]),
        ("GET", "/predict", {}),
        ("POST", "/predict", {"content": b"x", "headers": {"content-length": "99999999"}}),
        ("POST", "/predict", {"content": b"x", "headers": {"content-type": "text/plain"}}),
    )
    of = ("/predict", "credit", "3")
    assert counted(text) == {(*of, "405"): 1, (*of, "413"): 1, (*of, "415"): 1}
    for status in ("405", "413", "415"):
        error = {"route": "/predict", "status": status, "error": "HttpRefusal"}
        assert single(text, "greenroom_request_errors_total", **error) == 1


def test_pages_are_counted_by_their_route_and_never_by_a_path_that_a_caller_made_up():
    text = metrics_after(
        FakeServer([served()]),
        ("GET", "/health", {}),
        ("GET", "/models/credit/info", {}),
        ("GET", "/models/nobody/info", {}),
        ("GET", "/wp-admin", {}),
        ("GET", "/.env", {}),
        ("DELETE", "/health", {}),
        ("GET", "/docs", {}),
        ("GET", "/metrics", {}),
    )
    assert counted(text) == {
        ("/health", "", "", "200"): 1,
        ("/health", "", "", "405"): 1,
        ("/models/{name}/info", "", "", "200"): 1,
        ("/models/{name}/info", "", "", "404"): 1,
        ("unmatched", "", "", "404"): 2,
        ("/docs", "", "", "200"): 1,
        ("/metrics", "", "", "200"): 1,
    }


def test_what_fails_is_counted_by_kind_and_a_foreign_exception_as_internal():
    def broken(*_):
        raise ZeroDivisionError

    model = served(runtime=FakeRuntime(served().request_type.schema, predict_matrix=broken))
    server = FakeServer([model], after_reload=RegistryUnavailable("it is away"))
    text = metrics_after(server, post(GOOD), ("POST", "/model/reload", {}))
    error = {"route": "/predict", "status": "500", "error": "internal"}
    assert single(text, "greenroom_request_errors_total", **error) == 1
    error = {"route": "/model/reload", "status": "503", "error": "RegistryUnavailable"}
    assert single(text, "greenroom_request_errors_total", **error) == 1


def an_app(**changes) -> App:
    model = Model(
        name="credit",
        task=classification,
        columns=COLUMNS,
        dataset="d.csv",
        target="y",
        candidates=lambda seed: {},
        gate=Gate("accuracy", minimum=0.5),
    )
    return App(name="credit-risk", experiment="e", models=(model,), **changes)


def test_a_prediction_that_comes_before_anything_is_served_is_counted():
    server = FakeServer([], app=an_app(), number=0)
    text = metrics_after(server, post(GOOD), post(GOOD, "/models/credit/predict"))
    assert counted(text) == {
        ("/predict", "", "", "503"): 1,
        ("/models/{name}/predict", "", "", "503"): 1,
    }


def test_an_apps_own_page_and_prefix_are_its_own():
    app = an_app(
        routes=(Route("GET", "/api/own", lambda status: {"a": 1}),), metrics_prefix="housing_api"
    )
    text = metrics_after(FakeServer([served()], app=app), ("GET", "/api/own", {}))
    assert counted(text) == {("/api/own", "", "", "200"): 1}
    assert single(text, "housing_api_model_version", name="credit", stage="Production") == 3


def test_a_version_that_was_swapped_out_keeps_its_counts_beside_the_new_one():
    server = FakeServer([served()], after_reload=[served(version="4")])
    text = metrics_after(server, post(GOOD), ("POST", "/model/reload", {}), post(GOOD), post(GOOD))
    found = counted(text)
    assert found["/predict", "credit", "3", "200"] == 1
    assert found["/predict", "credit", "4", "200"] == 2


def test_a_large_body_is_one_call_of_all_its_rows():
    text = metrics_after(FakeServer([served()]), post([GOOD] * 3_000))
    assert counted(text) == {("/predict", "credit", "3", "200"): 1}
    assert single(text, "greenroom_batch_rows_sum", model="credit") == 3_000


def test_requests_in_flight_are_counted_while_they_are_answered():
    model = served()
    seen = []

    async def reload():
        reply = await client.get("/metrics")
        seen.append(single(reply.text, "greenroom_requests_in_flight"))
        return server.status()

    server = FakeServer([model])
    transport = httpx.ASGITransport(app=server.asgi(reload=reload))
    client = httpx.AsyncClient(transport=transport, base_url="http://test")

    async def scenario():
        await client.post("/predict", json=GOOD)
        await client.post("/predict", json=BAD)
        await client.post("/model/reload")
        reply = await client.get("/metrics")
        seen.append(single(reply.text, "greenroom_requests_in_flight"))
        await client.aclose()

    asyncio.run(scenario())
    # The reload and the page that is being written; then that page alone.
    assert seen == [2, 1]


def test_openmetrics_is_given_to_who_asks_for_it():
    reply = FakeServer([served()]).get(
        "/metrics", headers={"accept": "application/openmetrics-text; version=1.0.0"}
    )
    assert reply.headers["content-type"].startswith("application/openmetrics-text; version=1.0.0")
    plain = FakeServer([served()]).get("/metrics")
    assert plain.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"


ROW = {"a": 1.5, "b": 3}
N_CALLERS = 16
N_TURNS = 40


async def load(url: str) -> Counter:
    """Send predictions, bad ones and pages from many connections; return what was answered."""
    answered: Counter = Counter()

    async def caller(number: int) -> None:
        async with httpx.AsyncClient(base_url=url, timeout=60, trust_env=False) as client:
            for turn in range(N_TURNS):
                # A new connection now and then, so that every worker gets some.
                headers = {"connection": "close"} if turn % 8 == number % 8 else {}
                row = {**ROW, "b": -1} if turn % 5 == 0 else ROW
                reply = await client.post("/", json=row, headers=headers)
                version = reply.json()["model_version"] if reply.status_code == 200 else "?"
                answered["/", version, str(reply.status_code)] += 1
            reply = await client.get("/live")
            answered["/live", "", str(reply.status_code)] += 1

    await asyncio.gather(*(caller(number) for number in range(N_CALLERS)))
    return answered


@pytest.mark.slow
def test_four_workers_under_load_count_exactly_what_was_answered(tmp_path: Path):
    """Also over a swap in the middle, and over the death of a worker."""
    follower = FakeFollower(tmp_path)
    for number in ("1", "2"):
        builders.version(tmp_path / f"version {number}")

    async def scenario() -> None:
        follower.select("1")
        async with serving(follower, command=COMMAND, workers=4) as server:
            await server.joined(4)
            loading = asyncio.create_task(load(server.url))
            await asyncio.sleep(0.3)
            follower.select("2")
            await server.supervisor.reload()
            answered = await loading
            await read(server, answered)

            os.kill(min(server.pids), signal.SIGKILL)
            await server.until(lambda: len(server.supervisor._rollout.crew.joined) == 3)
            await server.joined(4)
            answered += await load(server.url)
            text = await read(server, answered)
            assert single(text, "greenroom_workers") == 4
            assert single(text, "greenroom_worker_restarts_total") == 1
            assert single(text, "greenroom_swap_seconds_count", verdict="commit") == 2
            # Four workers loaded two versions, and the one that came later the second.
            assert single(text, "greenroom_model_load_seconds_count", model="M") == 9
            assert single(text, "greenroom_registry_last_success_timestamp_seconds") > 1e9
            assert single(text, "greenroom_lost_series") == 0
            shown = {
                sample.labels["process"]
                for family in text_string_to_metric_families(text)
                for sample in family.samples
                if sample.name == "greenroom_process_resident_memory_bytes"
            }
            assert shown == {"supervisor", *(f"worker-{slot}" for slot in range(1, 5))}

    async def read(server, answered: Counter) -> str:
        """Compare what every worker says with what was answered; return one of the texts."""
        for _ in range(8):
            reply = await server.client.get(
                server.url + "/metrics", headers={"connection": "close"}
            )
            found = counted(reply.text)
            for version in ("1", "2"):
                assert found.get(("/", "M", version, "200"), 0) == answered["/", version, "200"]
            refused = sum(n for (route, _, _, status), n in found.items() if status == "422")
            assert refused == answered["/", "?", "422"]
            assert found["/live", "", "", "200"] == answered["/live", "", "200"]
            sent = sum(n for (route, *_), n in found.items() if route != "/metrics")
            assert sent == answered.total()
        return reply.text

    asyncio.run(asyncio.wait_for(scenario(), 200))
