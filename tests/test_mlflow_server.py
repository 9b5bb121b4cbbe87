"""A real server logs its predictions to MLflow too, while MLflow and the shipper come and go."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import httpx
import pytest

from app_versions import APPS, app_version
from fake_mlflow import fake_mlflow
from greenroom.app_loading import load_app
from greenroom.data.examples import example_request
from real_server import deployed, served
from scraped import single
from waiting import wait_for

pytestmark = pytest.mark.slow


def shipper_of(home: Path) -> int:
    """The id of the process that ships the log of a server."""
    for process in Path("/proc").iterdir():
        if not process.name.isdigit():
            continue
        try:
            said = (process / "cmdline").read_bytes()
            mine = str(home).encode() in (process / "environ").read_bytes()
        except OSError:
            continue
        if mine and b"greenroom.log.shipper" in said:
            return int(process.name)
    return 0


def test_the_probability_of_every_answer_of_credit_risk_is_logged_once(tmp_path):
    directory = app_version("credit_risk", tmp_path / "1")
    model = load_app(APPS / "credit_risk").model()
    row = example_request(model.request_schema)
    home = tmp_path / "home"
    probabilities: list[float] = []
    with (
        fake_mlflow() as mlflow,
        served(
            deployed(directory, model.name, number="3"),
            app_folder=APPS / "credit_risk",
            log=True,
            home=home,
            log_ship_interval_s=0.1,
            tracking_uri=mlflow.uri,
        ) as url,
    ):

        def ask(n: int) -> None:
            for _ in range(n):
                reply = httpx.post(f"{url}/predict", json=row | {"age": 30 + len(probabilities)})
                probabilities.append(reply.json()["probability"])

        def logged() -> list[float]:
            points = [point for points in mlflow.metrics.values() for point in points]
            return [value for name, _, _, value in sorted(points, key=lambda one: one[1])]

        mlflow.away = True
        ask(5)
        outbox = home / "spool" / "outbox"
        wait_for(lambda: any(outbox.glob("*.sealed")), "some wait", within_s=20)
        os.kill(shipper_of(home), signal.SIGKILL)
        ask(5)
        mlflow.away = False
        wait_for(lambda: len(logged()) == 10, "MLflow has what waited", within_s=30)
        ask(2)
        wait_for(lambda: len(logged()) == 12, "MLflow has the latest", within_s=20)
        assert sorted(logged()) == sorted(probabilities)
        (run,) = mlflow.runs.values()
        assert run["info"]["run_name"].startswith("predictions v3 2")
        assert mlflow.experiments.keys() == {"credit-risk-prediction"}

        def sent() -> float:
            return single(
                httpx.get(f"{url}/metrics").text, "greenroom_mlflow_sent_predictions_total"
            )

        wait_for(lambda: sent() == 12.0, "the metrics say so", within_s=20)
