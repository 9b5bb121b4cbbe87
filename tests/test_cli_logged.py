"""``greenroom log`` and ``forget`` on the command line, without a server."""

from __future__ import annotations

import csv
import io
import json

import pyarrow.parquet as pq
import pytest

from fake_mlflow import fake_mlflow
from for_mlflow import sending
from greenroom.cli import main
from greenroom.errors import LogError
from greenroom.log.log_export import instant
from greenroom.log.log_tables import LogTables
from greenroom.log.outbox import Outbox
from greenroom.log.shipping import ship_all
from greenroom.log.spool import Spool
from greenroom.prediction_id import new_prediction_ids
from greenroom.redaction import hashed
from greenroom.schema import Column
from misbehaving import says, server
from test_forgetting import COLUMNS, KEY, row
from test_log_reading import NOON, NOON_US
from test_shipping import answers, request, rows_of, spooled, version


def call(capsysbinary, *words):
    with pytest.raises(SystemExit) as ended:
        main(words)
    out, err = capsysbinary.readouterr()
    return ended.value.code, out.decode(), err.decode()


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A folder without an app, whose log has two shipped predictions and one that waits."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / ".greenroom"
    ids = new_prediction_ids(3)
    of = version(columns=COLUMNS)
    tables = LogTables(str(folder / "log"))
    shipped = [
        (of, answers(request(row("eve"), ids[:1]))),
        (of, answers(request(row("ann"), ids[1:2]), at_us=NOON_US + 3_600_000_000)),
    ]
    ship_all(spooled(folder, *shipped), tables)
    waiting = answers(request(row("bob"), ids[2:]), at_us=NOON_US + 7_200_000_000)
    spooled(folder, (of, waiting))
    return folder, ids, tables


def test_a_table_shows_what_is_shipped_and_what_waits(home, capsysbinary):
    status, out, _ = call(capsysbinary, "log", "m")
    assert status == 0
    assert [out.count(f" {hour}:00:00.000 ") for hour in (12, 13, 14)] == [1, 1, 1]
    assert "0.75" in out
    assert "3 predictions" in out


def test_csv_json_and_parquet_hold_the_same_predictions(home, capsysbinary, tmp_path):
    _, ids, _ = home
    status, out, _ = call(capsysbinary, "log", "m", "--csv")
    assert status == 0
    listed = list(csv.DictReader(io.StringIO(out)))
    assert [one["prediction_id"] for one in listed] == ids
    assert listed[0]["probabilities"] == "[0.25,0.75]"
    _, out, _ = call(capsysbinary, "log", "m", "--json", "--limit", "2")
    assert [json.loads(line)["customer"] for line in out.splitlines()] == ["ann", "bob"]
    status, _, err = call(capsysbinary, "log", "--out", "found.parquet")
    assert (status, "found.parquet has 3 predictions" in err) == (0, True)
    assert pq.read_table(tmp_path / "found.parquet")["prediction_id"].to_pylist() == ids


def test_a_window_and_columns_are_chosen(home, capsysbinary):
    options = ("--since", "2026-11-21T13:00", "--until", "2026-11-21T14:00:00Z")
    _, out, _ = call(capsysbinary, "log", "m", *options, "--columns", "customer,age", "--csv")
    assert out.splitlines() == ['"customer","age"', '"ann",40']
    assert call(capsysbinary, "log", "m", "--columns", "age,customer,age")[1].count("customer") == 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("log", "x"), "has no prediction of 'x'"),
        (("log", "m", "--since", "soon"), "'soon' is no time; write 90s, 30m, 1h"),
        (("log", "m", "--out", "found.txt"), "add --csv, --parquet or --json"),
        (("log", "m", "--columns", "nobody"), "have no column 'nobody'"),
        (("log", "m", "--since", "1h", "--until", "2h"), "--until 2h is not after --since 1h"),
        (("forget", "m"), "give either --subject COLUMN=VALUE or --where"),
        (("forget", "m", "--subject", "eve"), "write --subject customer_id=42"),
    ],
)
def test_what_cannot_be_done_is_said_on_one_line(home, capsysbinary, words, said):
    status, _, err = call(capsysbinary, *words)
    assert status == 1
    assert said in " ".join(err.split())


def test_a_time_is_how_long_ago_or_a_date():
    assert (NOON - instant("90s", NOON)).total_seconds() == 90
    assert (NOON - instant("1.5h", NOON)).total_seconds() == 5_400
    assert instant("2026-11-21T14:00+02:00", NOON) == NOON
    with pytest.raises(LogError):
        instant("99999999999w", NOON)


def test_forgetting_counts_deletes_and_records_without_the_value(home, capsysbinary):
    folder, _, tables = home
    words = ("forget", "m", "--where", "customer = 'bob' AND age > 30")
    status, out, _ = call(capsysbinary, *words, "--dry-run")
    assert (status, out.startswith("m: 1 prediction would be deleted")) == (0, True)
    assert not (folder / "forgotten.jsonl").exists()
    status, out, _ = call(capsysbinary, *words)
    assert (status, out.startswith("m: 1 prediction deleted")) == (0, True)
    assert sorted(one["customer"] for one in rows_of(tables)) == ["ann", "eve"]
    record = json.loads((folder / "forgotten.jsonl").read_text())
    assert (record["model"], record["condition"], record["n_rows"]) == (
        "m",
        "customer = ? AND age > ?",
        1,
    )
    assert record["who"]


def test_of_a_hashed_column_the_person_is_named_as_the_client_did(
    tmp_path, monkeypatch, capsysbinary
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "key").write_bytes(KEY)
    monkeypatch.setenv("GREENROOM_LOG_HASH_KEY_FILE", str(tmp_path / "key"))
    of = version(columns=(Column("customer", "string"),))
    kept = request([{"customer": hashed(KEY, "eve")}], new_prediction_ids(1), form="redacted")
    ship_all(
        spooled(tmp_path, (of, answers(kept))), LogTables(str(tmp_path / ".greenroom" / "log"))
    )
    _, out, _ = call(capsysbinary, "forget", "m", "--subject", "customer=eve")
    assert out.startswith("m: 1 prediction deleted")
    record = (tmp_path / ".greenroom" / "forgotten.jsonl").read_text()
    assert '"customer = ?"' in record
    assert "eve" not in record


def test_forgetting_reaches_what_waits_for_mlflow_and_what_it_has(
    tmp_path, monkeypatch, capsysbinary
):
    monkeypatch.chdir(tmp_path)
    home = tmp_path / ".greenroom"
    of = version(columns=COLUMNS, to_mlflow=True)
    for at_us in (NOON_US, NOON_US + 1):
        noted = [
            (of, answers(request(row(name), new_prediction_ids(1)), at_us=at_us))
            for name in ("eve", "bob")
        ]
        ship_all(spooled(home, *noted), LogTables(str(home / "log")))
    outbox = Outbox(Spool(home / "spool"))
    with fake_mlflow() as mlflow:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow.uri)
        assert sending(outbox, mlflow.uri, "batch", batch_size=2).send(NOON_US)
        words = ("forget", "m", "--subject", "customer=eve")
        mlflow.read_only = True
        status, out, err = call(capsysbinary, *words)
        assert (status, out.startswith("m: 2 predictions deleted")) == (1, True)
        assert "MLflow still holds what may be such rows, in 1 place: predictions v3" in err
        assert b"eve" not in b"".join(item.path.read_bytes() for item in outbox.items())
        mlflow.away = True
        status, _, err = call(capsysbinary, *words)
        assert (status, "Failed to connect to MLflow" in err) == (1, True)
        mlflow.read_only = mlflow.away = False
        status, out, _ = call(capsysbinary, *words)
        assert status == 0
        assert "m in MLflow: 1 prediction in batches deleted" in out
        assert b"eve" not in b"".join(mlflow.files.values())
    records = (home / "forgotten.jsonl").read_text().splitlines()
    counted = [(one["n_rows"], one["n_for_mlflow"]) for one in map(json.loads, records)]
    assert [of for of, _ in counted] == [2, 0, 0]
    assert counted[-1] == (0, 1)


METRICS = b"""# TYPE greenroom_log_unlogged_predictions counter
greenroom_log_unlogged_predictions_total{verdict="served"} 3.0
greenroom_log_unlogged_predictions_total{verdict="refused"} 0.0
"""


@pytest.mark.parametrize(
    ("token", "told"),
    [
        ("right", "2 written, 1 waiting, 3 served unlogged\n"),
        ("", "not noted is not known: /metrics asks for a token with the scope read"),
        ("wrong", "not noted is not known: /metrics asks for a token with the scope read"),
    ],
)
def test_status_shows_a_token_to_learn_what_was_not_logged(
    home, capsysbinary, monkeypatch, token, told
):
    pages = {
        "/health": {"status": "healthy", "service": "a", "models": []},
        "/ready": {"ready": True, "serving": [], "missing": []},
    }

    def answer(method, path, query):
        if path in pages:
            return says(200, pages[path])()
        shown = server.seen[-1][2].get("Authorization", "")
        return says(200, METRICS)() if shown == "Bearer right" else says(401, {})()

    monkeypatch.setenv("GREENROOM_TOKEN", token)
    with server(answer) as uri:
        status, out, _ = call(capsysbinary, "status", "--port", uri.rpartition(":")[2])
    assert status == 0
    assert told in out


TWO_MODELS = """
from greenroom import App, Column, Gate, Model, classification

shared = {
    "task": classification,
    "dataset": "rows.csv",
    "target": "y",
    "columns": [Column("x")],
    "candidates": lambda seed: {},
    "gate": Gate("accuracy", minimum=0.5),
}
app = App(
    name="two",
    experiment="two",
    models=[
        Model(name="asked-never", route="/never", **shared),
        Model(name="m", route="/predict", **shared),
    ],
)
"""


@pytest.fixture
def two_models(home):
    """The log of an app with two models, of which one was asked."""
    folder, ids, tables = home
    (folder.parent / "app.py").write_text(TWO_MODELS)
    return folder, ids, tables


def test_a_model_that_was_never_asked_does_not_hide_the_others(two_models, capsysbinary):
    status, out, err = call(capsysbinary, "log")
    assert (status, "3 predictions" in out) == (0, True)
    assert "no prediction of 'asked-never'" in " ".join(err.split())
    status, _, err = call(capsysbinary, "log", "--csv")
    assert (status, "2 models: asked-never, m; choose one" in " ".join(err.split())) == (1, True)
    assert call(capsysbinary, "log", "--model", "asked-never")[0] == 1


def test_a_persons_rows_of_an_apps_models_go_although_some_never_had_any(
    two_models, capsysbinary, monkeypatch
):
    folder, ids, tables = two_models
    # A store that is no folder cannot list its models: only asking for each finds it.
    monkeypatch.setattr(LogTables, "models", lambda self: [])
    status, _, err = call(capsysbinary, "forget", "--subject", "nobody=eve")
    assert (status, "no column 'nobody'" in " ".join(err.split())) == (1, True)
    status, out, _ = call(capsysbinary, "forget", "--subject", "customer=eve")
    assert (status, "m: 1 prediction deleted" in out) == (0, True)
    assert [row["prediction_id"] for row in rows_of(tables)] == ids[1:]
    # A model without the column does not keep the others from being looked through.
    other = version(name="asked-never", columns=(Column("x"),))
    ship_all(spooled(folder, (other, answers(request({"x": 1.5}, new_prediction_ids(1))))), tables)
    status, out, err = call(capsysbinary, "forget", "--subject", "customer=ann")
    assert (status, "m: 1 prediction deleted" in out) == (0, True)
    assert "asked-never: the log has no column 'customer'" in " ".join(err.split())


def test_nothing_to_forget_in_is_said(tmp_path, monkeypatch, capsysbinary):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "app.py").write_text(TWO_MODELS)
    status, _, err = call(capsysbinary, "forget", "--subject", "customer=eve")
    assert (status, "has no table of asked-never, m" in " ".join(err.split())) == (1, True)


def test_a_prediction_is_traced_without_an_app_and_with_mlflow_away(
    home, capsysbinary, monkeypatch
):
    _, ids, _ = home
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:1")
    status, out, _ = call(capsysbinary, "trace", ids[2], "--json")
    found = json.loads(out)
    assert (status, found["model"]["name"], found["answer"]["probability"]) == (0, "m", 0.75)
    assert any("who selected the version is not known" in note for note in found["notes"])
    monkeypatch.setenv("GREENROOM_HOME", "elsewhere")
    status, _, err = call(capsysbinary, "trace", ids[2])
    assert (status, "Failed to connect to MLflow" in " ".join(err.split())) == (1, True)
