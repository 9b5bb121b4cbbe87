"""The command line: exit statuses, one-line errors, and what the commands print."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

import misbehaving
from greenroom.access.tokens import secret_digest
from greenroom.cli.running import served_state
from greenroom.status import ModelStatus, VersionStatus
from sample_app import write_app


def _lines(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.strip()]


def test_without_an_app_the_message_says_where_it_was_looked_for_and_what_to_do(call):
    status, _, errors = call("train")

    assert status == 1
    assert len(_lines(errors)) == 1
    assert "app.py" in errors
    assert "greenroom new" in errors


def test_an_unknown_app_is_named_with_those_there_are(call, tmp_path):
    write_app(tmp_path / "apps" / "late", "late-model")

    status, _, errors = call("serve", "latte")

    assert status == 1
    assert "latte" in errors
    assert "late" in errors


SECRET = re.compile(r"^gr_[A-Za-z0-9_-]{43}$")


def test_a_new_token_is_printed_by_itself_and_once(call, tmp_path):
    status, output, errors = call("token", "add", "shop", "--scope", "predict", "--scope", "read")

    assert status == 0
    (secret,) = _lines(output)
    assert SECRET.fullmatch(secret)
    assert secret not in errors
    assert f"GREENROOM_TOKENS=shop:predict+read:{secret_digest(secret)}" in errors
    assert "set GREENROOM_AUTH=tokens" in errors
    _, listed, _ = call("token", "list")
    assert "shop" in listed
    assert "predict, read" in listed
    assert secret not in listed
    assert secret not in (tmp_path / ".greenroom" / "tokens.json").read_text()


def test_tokens_are_rotated_and_revoked_by_name(call):
    _, old, _ = call("token", "add", "shop", "--scope", "predict", "--expires", "90d")
    status, new, errors = call("token", "rotate", "shop", "--grace", "2h")
    assert status == 0
    assert SECRET.fullmatch(new.strip())
    assert new != old
    assert "the old token is accepted until" in errors
    assert call("token", "list")[1].count("valid") == 2

    assert "revoked 2 tokens of shop" in call("token", "revoke", "shop")[1]
    assert "there is no token in" in call("token", "list")[1]
    status, _, errors = call("token", "revoke", "shop")
    assert (status, len(_lines(errors))) == (1, 1)


@pytest.mark.parametrize(
    "words",
    [
        ("add", "shop"),
        ("add", "shop", "--scope", "all"),
        ("add", "shop", "--scope", "predict", "--expires", "soon"),
        ("rotate", "shop", "--grace", "-1h"),
    ],
)
def test_a_token_that_cannot_be_made_is_a_usage_error(call, words):
    assert call("token", *words)[0] == 2


def test_tokens_are_kept_where_the_settings_say(call, tmp_path, monkeypatch):
    monkeypatch.setenv("GREENROOM_TOKENS_FILE", str(tmp_path / "elsewhere" / "t.json"))
    call("token", "add", "shop", "--scope", "predict")
    assert (tmp_path / "elsewhere" / "t.json").exists()


def test_tokens_of_an_app_are_kept_in_its_home(call, tmp_path):
    write_app(tmp_path / "apps" / "late", "late-model")
    assert call("token", "add", "shop", "--scope", "predict", "--app", "late")[0] == 0
    assert (tmp_path / "apps" / "late" / ".greenroom" / "tokens.json").exists()


def test_a_certificate_on_the_command_line_is_where_the_command_is_called(call, tmp_path):
    write_app(tmp_path / "app", "model")
    status, _, errors = call("serve", "app", "--ssl-certfile", "a.pem", "--ssl-keyfile", "b.pem")
    assert status == 1
    assert f"{tmp_path / 'a.pem'} cannot be read" in errors


def test_an_unknown_option_is_a_usage_error(call):
    assert call("train", "--fast")[0] == 2


def test_a_setting_that_does_not_exist_is_named_with_where_it_stands(call, tmp_path):
    write_app(tmp_path / "app", "model")
    (tmp_path / "app" / "greenroom.yaml").write_text("prot: 8000\n")

    status, _, errors = call("train", "app")

    assert status == 1
    assert "prot" in errors
    assert "greenroom.yaml" in errors


def test_no_registry_is_one_line_with_the_documented_words(call, tmp_path, monkeypatch):
    write_app(tmp_path / "app", "model")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")

    status, _, errors = call("train", "app")

    assert status == 1
    assert len(_lines(errors)) == 1
    assert "Failed to connect to MLflow" in errors


@pytest.mark.parametrize("command", ["up", "train"])
def test_what_needs_mlflow_says_that_it_is_switched_off(call, tmp_path, monkeypatch, command):
    folder = write_app(tmp_path / "off", "off-sample")
    monkeypatch.setenv("GREENROOM_MLFLOW_ENABLED", "false")

    status, _, errors = call(command, str(folder))

    assert status == 1
    assert len(_lines(errors)) == 1
    assert "mlflow_enabled is false" in errors


def test_credentials_of_no_use_are_said_first_and_stop_nothing(call, tmp_path, monkeypatch):
    write_app(tmp_path / "app", "model")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "gcp.json"))

    status, _, errors = call("train", "app")

    assert status == 1
    first, second = _lines(errors)
    assert f"names {tmp_path / 'gcp.json'}, and there is no such file: nothing at gs://" in first
    assert "Failed to connect to MLflow" in second


def test_several_wrong_fields_of_an_app_are_all_listed(call, tmp_path):
    folder = write_app(tmp_path / "app", "model")
    text = (folder / "app.py").read_text().replace("folds=3", 'folds=1, route="predict"')
    (folder / "app.py").write_text(text)

    status, _, errors = call("train", "app")

    assert status == 1
    assert "folds" in errors
    assert "route" in errors
    assert "Traceback" not in errors


def test_debug_shows_the_traceback(tmp_path):
    result = subprocess.run(
        [sys.executable, "-m", "greenroom", "--debug", "train"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )

    assert result.returncode == 1
    assert "Traceback" in result.stderr
    assert "AppError" in result.stderr


def test_help_needs_none_of_the_heavy_libraries():
    code = (
        "import sys, greenroom.cli\n"
        "print([name for name in ('mlflow', 'pandas', 'sklearn', 'starlette', 'matplotlib')"
        " if name in sys.modules])"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )

    assert result.stdout.strip() == "[]"


@pytest.fixture
def trained(call, mlflow_server, tmp_path, monkeypatch, request) -> tuple[str, Path]:
    """An app whose first version is selected, in the current folder."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow_server)
    monkeypatch.setenv("GREENROOM_WHO", "a tester")
    name = f"cli-{request.node.name[:40].replace('_', '-')}"
    folder = write_app(tmp_path / "app", name)
    monkeypatch.chdir(folder)
    status, output, errors = call("train")
    assert status == 0, errors
    assert "version 1 is selected" in output
    return name, folder


def test_train_shows_candidates_figures_the_run_and_the_gate(call, trained):
    status, output, _ = call("train")

    assert status == 0
    for text in ("tree", "logistic", "best", "roc_auc", "/#/experiments/", "held out by both"):
        assert text in output
    assert "version 2 is selected" in output


def test_the_figures_of_a_part_are_not_written_into_a_readme(call, tmp_path, monkeypatch):
    monkeypatch.chdir(write_app(tmp_path / "app", "figures-of-a-part"))

    status, _, errors = call("train", "--figures", "README.md", "--rows", "100")

    assert status == 1
    assert "--figures is for a training in full" in errors


def test_train_writes_its_figures_beside_the_baselines_into_a_readme(call, trained):
    name, folder = trained
    assert call("train", "--figures", "README.md")[0] == 1
    (folder / "README.md").write_text(
        f"# Sample\n\n<!-- figures of {name} -->\n<!-- end of figures of {name} -->\n"
    )

    status, output, _ = call("train", "--figures", "README.md")

    text = (folder / "README.md").read_text()
    assert status == 0
    assert "baseline" in output
    for line in (
        "| most frequent class (baseline) | 0.5000 ± ",
        "(chosen)",
        "| roc_auc | 0.5000 |",
    ):
        assert line in text


def test_a_refused_promotion_ends_with_status_3_and_the_figures(call, trained):
    name, folder = trained
    assert call("train", "--no-promote")[0] == 0
    text = (folder / "app.py").read_text().replace("minimum=0.6", "minimum=0.999")
    (folder / "strict").mkdir()
    (folder / "strict" / "app.py").write_text(text)

    status, _, errors = call("promote", name, "--version", "2", "--app", "strict")

    assert status == 3
    assert "0.999" in errors
    assert "misses it by" in errors
    status, output, _ = call("history", name)
    assert status == 0
    assert "refusal" in output
    assert "a tester" in output


def test_promote_needs_no_app_because_the_version_carries_its_gate(
    call, trained, tmp_path, monkeypatch
):
    name, _ = trained
    assert call("train", "--no-promote")[0] == 0
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")

    status, output, _ = call("promote", name)

    assert status == 0
    assert "names version 2 now instead of 1" in output
    status, output, _ = call("rollback", name)
    assert status == 0
    assert "names version 1 now instead of 2" in output


def test_reproduce_proves_a_version_and_says_when_data_differ(call, trained):
    name, folder = trained
    status, output, _ = call("reproduce", name)
    assert (status, "reproduced" in output) == (0, True), output

    rows = folder / "data" / "rows.csv"
    rows.write_text(rows.read_text().replace("true", "false", 1))
    status, output, _ = call("reproduce", f"{name}/1")
    assert status == 1
    assert "data differ" in output
    assert "content_hash" in output


def test_promoting_what_is_not_registered_says_so(call, mlflow_server, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow_server)

    status, _, errors = call("promote", "no-such-model")

    assert status == 1
    assert "no-such-model" in errors


@pytest.fixture
def fake_server(tmp_path):
    """Run a server without an app from the test's folder; yields its port and its workers."""
    command = [sys.executable, str(Path(__file__).with_name("fake_server.py")), str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        port, _, *workers = map(int, server.stdout.readline().split())
        yield port, set(workers)
        server.terminate()
        assert server.wait(20) == 0


@pytest.mark.slow
def test_restart_puts_new_workers_in_place_of_all_and_says_so(call, fake_server):
    port, workers = fake_server

    status, output, errors = call("restart", "--port", str(port))

    assert (status, output) == (0, "all workers have been restarted\n"), errors
    pids = {httpx.get(f"http://127.0.0.1:{port}/").json()["pid"] for _ in range(8)}
    assert not pids & workers


def test_restart_ends_with_status_1_where_a_new_worker_does_not_come_up(
    call, fake_server, tmp_path
):
    port, workers = fake_server
    (tmp_path / "version 1" / "behaviour").write_text("fail")

    status, _, errors = call("restart", "--port", str(port))

    assert status == 1
    assert len(_lines(errors)) == 2  # what it does, and what came of it
    assert "did not come up" in errors
    assert httpx.get(f"http://127.0.0.1:{port}/").json()["pid"] in workers


def test_restart_names_the_port_on_which_there_is_a_server(call, fake_server):
    port, _ = fake_server

    status, _, errors = call("restart", "--port", "1")

    assert status == 1
    assert f"one runs on port {port}: give --port" in " ".join(errors.split())


@contextmanager
def _pages(pages):
    def answer(method, path, query):
        return (200, {}, json.dumps(pages[path]).encode()) if path in pages else (404, {}, b"no")

    with misbehaving.server(answer) as url:
        yield url


def _health(**changes):
    model = {"name": "iris", "selector": "@a", "route": "/predict", "version": "7"}
    return {
        "status": "degraded",
        "service": "greenroom",
        "models": [{**model, "runtime": "compiled"}],
        "problems": ["the model registry is unavailable"],
        **changes,
    }


READY = {"ready": True, "serving": ["iris"], "missing": []}


@pytest.mark.parametrize("way", ["port", "variable", "url"])
def test_status_shows_a_server_without_an_app(call, way, monkeypatch):
    with _pages({"/health": _health(), "/ready": READY}) as url:
        port = url.rpartition(":")[2]
        if way == "variable":
            monkeypatch.setenv("GREENROOM_PORT", port)
        words = {"port": ["--port", port], "variable": [], "url": ["--url", url]}[way]
        status, output, errors = call("status", *words)

    assert status == 0, errors
    first, *_, problem = _lines(output)
    assert first == "greenroom: degraded"
    assert problem == "problem: the model registry is unavailable"
    assert ["iris", "7", "@a", "compiled", "/predict"] in [line.split() for line in _lines(output)]


def test_status_shows_what_is_ready_where_an_app_has_a_health_page_of_its_own(call):
    with _pages({"/health": {"mine": True}, "/ready": READY}) as url:
        status, output, _ = call("status", "--url", url)

    assert status == 0
    assert "/health is the app's own page" in output
    assert "serving: iris" in output


def test_status_is_one_line_where_no_server_answers_or_another_one(call):
    with _pages({"/health": "OK"}) as url:
        status, _, errors = call("status", "--url", url)
    assert (status, len(_lines(errors))) == (1, 1)
    assert "is no server of Greenroom's" in errors

    for gone in (url, "http://[half"):
        status, _, errors = call("status", "--url", gone)
        assert (status, len(_lines(errors))) == (1, 1)
        assert "no server answers" in errors


def test_candidates_and_data_belong_to_one_model_that_is_named(call, tmp_path):
    """The report file says what the error line says."""
    write_app(tmp_path / "app", "one")
    file = tmp_path / "app" / "app.py"
    text = file.read_text().replace(
        "app = App(",
        "from dataclasses import replace\n\n\ndef twice(app):\n"
        '    other = replace(app.model(), name="two", route="/two")\n'
        "    return replace(app, models=(*app.models, other))\n\n\napp = twice(App(",
        1,
    )
    file.write_text(text.rstrip() + ")\n")

    for option in ("--candidates=tree", "--dataset=data/rows.csv"):
        status, _, errors = call("train", "app", option, "--progress-file=report.json")
        assert status == 1
        assert "has several models; name one of one, two" in errors
        report = json.loads((tmp_path / "report.json").read_text())
        assert (report["state"], report["error"]) == ("failed", "AppError")
        assert "has several models; name one of one, two" in report["problem"]


@pytest.mark.parametrize(
    ("source", "told"),
    [("registry", "version 3, Production"), ("fallback", "version 3, the fallback file")],
)
def test_the_start_up_table_says_what_a_version_was_selected_by(source, told):
    serving = VersionStatus(version="3", stage="Production", source=source)
    model = ModelStatus(name="m", selector="Production", route="/predict", serving=serving)

    assert served_state(model) == told
