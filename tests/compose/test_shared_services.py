"""The services that no app of its own uses yet: MLflow on PostgreSQL, Prometheus; and the image."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from stack import API, MLFLOW, ROOT, Stack, get, stack
from waiting import wait_for

READ_ONLY = ("--read-only", "--tmpfs", "/tmp", "-v", "/state")
PROMETHEUS = "http://localhost:9090/api/v1"
OVERLAY = """
services:
  postgres:
    extends: {file: ../../deploy/compose.yml, service: postgres}
  mlflow_server:
    environment:
      MLFLOW_BACKEND_STORE_URI: postgresql://mlflow:mlflow@postgres/mlflow
    depends_on:
      postgres: {condition: service_healthy}
volumes:
  postgres:
"""


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    files = "docker-compose.yml:postgres.yml"
    folder = tmp_path_factory.mktemp("shared")
    overlay = folder / "apps" / "breast_cancer" / "postgres.yml"
    with stack("breast_cancer", folder, GREENROOM_UID="4711", GREENROOM_GID="4711") as made:
        overlay.write_text(OVERLAY)
        made.environment["COMPOSE_FILE"] = files
        made.run("docker compose up -d --build mlflow_server")
        made.wait_until_healthy("mlflow_server")
        yield made


def _create(name: str) -> None:
    url = f"{MLFLOW}/api/2.0/mlflow/registered-models/create"
    httpx.post(url, json={"name": name}, timeout=30.0).raise_for_status()


def _names() -> list[str]:
    answer = get(f"{MLFLOW}/api/2.0/mlflow/registered-models/search?max_results=100")
    return [model["name"] for model in answer.get("registered_models", [])]


def test_mlflow_keeps_its_registry_in_postgresql_over_a_restart_of_the_database(shared):
    _create("first")
    shared.run("docker compose restart postgres")
    shared.run("docker compose up -d --wait postgres")
    wait_for(lambda: "first" in _names(), "the registry answers again", within_s=60.0)
    _create("second")

    query = "select count(*) from registered_models"
    answer = shared.run(f"docker compose exec -T postgres psql -U mlflow -d mlflow -Atc '{query}'")
    assert answer.strip() == "2"


def test_containers_run_as_whom_the_environment_names(shared):
    assert shared.container("mlflow_server")["Config"]["User"] == "4711:4711"


def test_a_killed_database_comes_back_with_what_it_held(shared):
    shared.kill("postgres")
    shared.wait_until_healthy("postgres")
    wait_for(lambda: {"first", "second"} <= set(_names()), "the registry", within_s=60.0)


def test_prometheus_scrapes_the_api_with_the_monitoring_profile_alone(shared):
    assert "prometheus" not in shared.run("docker compose ps -a --services").split()
    shared.run("docker compose --profile monitoring up -d --no-deps prometheus model_api")
    shared.wait_until_healthy("prometheus")

    def scraped() -> bool:
        (target,) = get(f"{PROMETHEUS}/targets?state=active")["data"]["activeTargets"]
        return bool((target["scrapeUrl"], target["health"]) == ("http://api:8000/metrics", "up"))

    wait_for(scraped, "the API is scraped", within_s=60.0)


def _asked(path: str, **parameters: str) -> Any:
    return httpx.get(f"{PROMETHEUS}/{path}", params=parameters, timeout=10.0).json()["data"]


def test_the_rules_are_loaded_and_evaluated_by_prometheus(shared):
    folder = ROOT / "deploy" / "prometheus" / "rules"
    groups = [
        group
        for path in folder.glob("*.yml")
        for group in yaml.safe_load(path.read_text(encoding="utf-8"))["groups"]
    ]

    def evaluated() -> bool:
        found = _asked("rules")["groups"]
        names = {group["name"]: len(group["rules"]) for group in found}
        assert names == {group["name"]: len(group["rules"]) for group in groups}
        health = {rule["name"]: rule["health"] for group in found for rule in group["rules"]}
        assert "err" not in health.values(), health
        return set(health.values()) == {"ok"}

    wait_for(evaluated, "every rule is evaluated", within_s=60.0)


def test_what_the_server_lacks_becomes_an_alert_that_says_what_to_do(shared):
    # Nothing is trained in this stack, so that no version is served.
    def alerts() -> dict[str, Any]:
        return {one["labels"]["alertname"]: one for one in _asked("alerts")["alerts"]}

    wait_for(lambda: "GreenroomModelNotServed" in alerts(), "the alert", within_s=60.0)
    alert = alerts()["GreenroomModelNotServed"]
    assert alert["labels"]["severity"] == "critical"
    assert alert["labels"]["route"] == "/predict"
    assert alert["annotations"]["summary"] == (
        "Nothing answers /predict: no version of ClassificationModel is served."
    )
    assert not {"GreenroomDown", "GreenroomErrorRate"} & set(alerts())


def test_the_dashboards_questions_are_valid_to_prometheus_and_those_of_the_server_are_answered(
    shared,
):
    path = ROOT / "deploy" / "grafana" / "provisioning" / "dashboards" / "greenroom.json"
    panels = json.loads(path.read_text(encoding="utf-8"))["panels"]
    served = {"Servers that answer", "Problems", "Requests by route", "In flight", "Memory"}

    def unanswered() -> set[str]:
        return served - {panel["title"] for panel in panels if _is_answered(panel)}

    # A rate needs a second scrape.
    wait_for(lambda: not unanswered(), "the server's panels have answers", within_s=60.0)


def _is_answered(panel: dict[str, Any]) -> bool:
    """Ask all of a panel's questions; say whether the last one has an answer."""
    found = False
    for target in panel.get("targets", ()):
        query = target["expr"].replace("$__rate_interval", "1m")
        query = re.sub(r"\$(instance|model|statistic|metric)\b", ".*", query)
        answer = httpx.get(f"{PROMETHEUS}/query", params={"query": query}, timeout=10.0)
        assert answer.status_code == 200, f"{panel['title']}: {answer.text}"
        found = bool(answer.json()["data"]["result"])
    return found


def test_the_scrape_configuration_is_valid_to_prometheus_itself(shared):
    shared.run(
        "docker compose exec -T prometheus promtool check config /etc/prometheus/prometheus.yml"
    )


def _in_image(*words: str, options: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    command = ["docker", "run", "--rm", *options, "greenroom-breast-cancer", *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def test_the_image_runs_as_nobody_in_particular_and_holds_no_compiler_curl_or_pip(shared):
    assert _in_image("id", "-u").stdout.strip() == "1000"
    found = _in_image("sh", "-c", "command -v gcc cc curl; ls /opt/venv/bin | grep '^pip'; true")
    assert found.stdout.strip() == ""


def test_any_user_may_run_the_image(shared):
    done = _in_image("greenroom", "check", options=("--user", "4711:4711", *READ_ONLY))
    assert done.returncode == 0, done.stderr


def test_everything_that_the_package_imports_is_in_the_image(shared):
    names = sorted(
        path.stem for path in (Path(__file__).parents[2] / "src" / "greenroom").glob("*.py")
    )
    modules = [f"greenroom.{name}" for name in names if name not in {"__init__", "__main__"}]
    libraries = [
        "mlflow.server",
        "mlflow.sklearn",
        "mlflow.pyfunc",
        "pyarrow.parquet",
        "psycopg2",
        "matplotlib.pyplot",
        "scipy.stats",
        "sklearn.ensemble",
        "onnxruntime",
        "skops.io",
    ]
    done = _in_image(
        "python",
        "-c",
        f"import importlib; [importlib.import_module(m) for m in {modules + libraries}]",
        options=READ_ONLY,
    )
    assert done.returncode == 0, done.stderr


def test_the_port_that_a_platform_gives_is_the_one_that_is_listened_on(shared):
    options = "-d --read-only --tmpfs /tmp -p 127.0.0.1:18080:8080 -e PORT=8080"
    settings = "-e GREENROOM_ALLOW_OPEN=1 -e GREENROOM_HOME=/tmp/greenroom"
    name = _in_image(options=(*options.split(), *settings.split())).stdout.strip()
    try:
        wait_for(
            lambda: httpx.get("http://127.0.0.1:18080/live", timeout=5.0).status_code == 200,
            "it answers on 8080",
            within_s=60.0,
        )
    finally:
        subprocess.run(["docker", "rm", "-f", name], check=True, capture_output=True)


def test_an_open_server_has_to_be_asked_for(shared):
    done = _in_image()
    assert done.returncode == 1
    assert "GREENROOM_ALLOW_OPEN" in done.stderr


def test_the_api_can_be_asked_where_the_health_check_asks(shared):
    state = json.loads(
        subprocess.run(
            ["docker", "image", "inspect", "greenroom-breast-cancer"],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
    )[0]["Config"]
    assert state["Healthcheck"]["Test"][0] == "CMD"
    assert "curl" not in " ".join(state["Healthcheck"]["Test"])
    assert API.endswith(":8000")
