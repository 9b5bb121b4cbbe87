"""titans_finance with the profile `secure`: passwords on MLflow, tokens and TLS on the API."""

from __future__ import annotations

import ssl
from collections.abc import Iterator

import httpx
import pytest

from greenroom.access.tokens import secret_digest
from stack import MLFLOW, Stack, stack
from waiting import wait_for

API = "https://localhost:8000"
PASSWORD = "a-password-of-a-test"
TOKEN = "gr_a-token-of-a-test"
BODY = {"amount": 50.00, "description": "Grocery shopping", "date": "2024-01-15"}
MODELS = f"{MLFLOW}/api/2.0/mlflow/registered-models/search?max_results=10"
UP = "docker compose --profile secure up -d"


@pytest.fixture(scope="module")
def secure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    folder = tmp_path_factory.mktemp("secure")
    with stack("titans_finance", folder, GREENROOM_GENERATED="1") as made:
        made.run("docker compose build mlflow")
        yield made


def _fill_in(secure: Stack, **given: str) -> None:
    """Write ``.env`` from its example."""
    lines = (secure.folder / "secure.env.example").read_text().splitlines()
    for name, value in given.items():
        assert any(line.startswith(f"{name}=") for line in lines), name
        lines = [f"{name}={value}" if line.startswith(f"{name}=") else line for line in lines]
    (secure.folder / ".env").write_text("\n".join(lines) + "\n")


def _client(secure: Stack, token: str = TOKEN) -> httpx.Client:
    """Return a client that trusts the stack's own certificate, and nothing else."""
    certificate = secure.run("docker compose exec -T api cat /tls/tls.crt")
    headers = {"Authorization": f"Bearer {token}"}
    trust = ssl.create_default_context(cadata=certificate)
    return httpx.Client(base_url=API, verify=trust, headers=headers, timeout=10.0)


def test_without_a_password_nothing_starts(secure):
    output = secure.run(f"{UP} 2>&1", status=1)

    missing = "MLFLOW_TRACKING_USERNAME MLFLOW_TRACKING_PASSWORD not set"
    assert missing in secure.logs("certificates"), output
    for service in ("postgres", "mlflow", "api"):
        assert not secure.container(service)["State"]["Running"], service
    secure.run("docker compose --profile secure down")


def test_without_a_token_the_api_refuses_to_start(secure):
    _fill_in(secure, MLFLOW_TRACKING_PASSWORD=PASSWORD, POSTGRES_PASSWORD="ofatest")
    secure.run("docker compose run --rm certificates")
    output = secure.run("docker compose run --rm --no-deps api 2>&1", status=1)

    assert "auth is tokens, and neither" in output
    assert "greenroom token add" in output


def test_the_stack_comes_up_with_passwords_tokens_and_tls(secure):
    _fill_in(
        secure,
        MLFLOW_TRACKING_PASSWORD=PASSWORD,
        POSTGRES_PASSWORD="ofatest",
        GREENROOM_TOKENS=f"shop:predict:{secret_digest(TOKEN)}",
    )
    secure.run("docker compose up -d")
    secure.wait_until_healthy("api")

    assert secure.exit_status("mlflow-init") == 0
    with _client(secure) as client:
        assert client.get("/health").json()["status"] == "healthy"
        reply = client.post("/predict/category", json=BODY)
    assert (reply.status_code, reply.json()["model_version"]) == (200, "1")


def test_mlflow_answers_nobody_without_a_password(secure):
    assert httpx.get(MODELS, timeout=30.0).status_code == 401
    assert httpx.get(MLFLOW, timeout=30.0).status_code == 401
    assert httpx.get(MODELS, auth=("titans", "wrong"), timeout=30.0).status_code == 401
    assert httpx.get(f"{MLFLOW}/health", timeout=30.0).status_code == 200
    found = httpx.get(MODELS, auth=("titans", PASSWORD), timeout=30.0).json()
    assert len(found["registered_models"]) == 4


def test_only_the_given_token_is_taken(secure):
    with _client(secure, "test-token") as client:
        assert client.post("/predict/category", json=BODY).status_code == 401
        assert client.get("/metrics").status_code == 401
        assert client.get("/models/status").status_code == 200
    with _client(secure) as client:
        assert client.get("/metrics").status_code == 403


def test_plain_http_is_not_answered(secure):
    with pytest.raises(httpx.HTTPError):
        httpx.get("http://localhost:8000/health", timeout=10.0)


def test_a_client_that_does_not_know_the_certificate_turns_away(secure):
    with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
        httpx.get(f"{API}/health", timeout=10.0)


def test_the_status_is_shown_over_tls(secure):
    output = secure.run("docker exec titans_api greenroom status")

    assert "titans-finance: healthy" in output
    assert output.count("Production") == 4


def test_a_token_that_is_made_in_the_container_is_taken(secure):
    made = secure.run("docker exec titans_api greenroom token add late --scope predict 2>/dev/null")

    def answered() -> bool:
        with _client(secure, made.strip()) as client:
            return client.post("/predict/category", json=BODY).status_code == 200

    wait_for(answered, "the new token is taken", within_s=30)


def test_the_initializer_and_promotions_use_the_password(secure):
    secure.run("docker compose restart mlflow-init")
    wait_for(
        lambda: secure.logs("mlflow-init").count("unchanged: version 1") == 4,
        "all are unchanged",
        within_s=60.0,
    )
    name = "titans-finance-amount-prediction"
    output = secure.run(f"docker compose exec -T api greenroom promote {name} --version 1")
    assert "names version 1 already" in output


def test_mlflow_is_published_on_this_machine_alone(secure):
    assert secure.run("docker compose port mlflow 5000").strip() == "127.0.0.1:5000"


def test_prometheus_scrapes_over_tls_with_a_token_from_a_file(secure):
    made = secure.run(
        "docker exec titans_api greenroom token add prometheus --scope read 2>/dev/null"
    )
    (secure.folder / "prometheus.token").write_text(made.strip())
    (secure.folder / "prometheus.token").chmod(0o644)
    command = "docker compose --profile secure --profile monitoring up -d --no-deps prometheus"
    secure.run(f"PROMETHEUS_TOKEN_FILE=./prometheus.token {command}")

    def scraped() -> bool:
        answer = httpx.get("http://localhost:9090/api/v1/targets?state=active", timeout=10.0)
        targets = answer.json()["data"]["activeTargets"]
        return [(one["scrapeUrl"], one["health"]) for one in targets] == [
            ("https://api:8000/metrics", "up")
        ]

    secure.wait_until_healthy("prometheus")
    wait_for(scraped, "the API is scraped", within_s=60.0)


def test_a_restart_keeps_the_certificate_and_the_tokens(secure):
    before = secure.run("docker compose exec -T api cat /tls/tls.crt")
    secure.run("docker compose down")
    secure.run("docker compose up -d")
    secure.wait_until_healthy("api")

    assert secure.run("docker compose exec -T api cat /tls/tls.crt") == before
    with _client(secure) as client:
        assert client.post("/predict/category", json=BODY).status_code == 200
