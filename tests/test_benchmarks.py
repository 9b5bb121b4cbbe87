"""The benchmarks' pure parts, and, with ``pytest -m bench``, one server under load."""

import json
import shutil
import time

import pytest
from benchmarks.serving import load, wire
from benchmarks.serving.answers import Question, answers, difference
from benchmarks.serving.processes import free_port, memory, running, wait_for
from benchmarks.serving.report import markdown, number, table, targets_table
from benchmarks.serving.rounds import rotated
from benchmarks.serving.servers import ALTERNATIVES, SERVERS, empty, parsed
from benchmarks.serving.statistics import by_round, median_of, ratios
from benchmarks.serving.targets import TARGETS, Target, judge
from benchmarks.swaps.__main__ import passed

NAMES = [("mean_radius", "mean radius"), ("age", "age")]
ROWS = [[1.5, 40.0], [2.5, 50.0]]


def sample(number: int, server: str, **measures: float) -> dict:
    return {"round": number, "server": server, "model": "m", "measures": measures}


def test_greenroom_is_sent_request_names_and_a_bare_object_for_one_row():
    one = json.loads(wire.GREENROOM.body(ROWS[:1], NAMES, True))
    many = json.loads(wire.GREENROOM.body(ROWS, NAMES, False))

    assert one == {"mean_radius": 1.5, "age": 40.0}
    assert many == [one, {"mean_radius": 2.5, "age": 50.0}]


def test_mlflow_is_sent_the_models_own_names():
    body = json.loads(wire.MLFLOW.body(ROWS, NAMES, False))

    assert body == {"dataframe_split": {"columns": ["mean radius", "age"], "data": ROWS}}


def test_mlserver_is_sent_one_tensor_row_by_row():
    (tensor,) = json.loads(wire.MLSERVER.body(ROWS, NAMES, False))["inputs"]

    assert tensor["shape"] == [2, 2]
    assert tensor["data"] == [1.5, 40.0, 2.5, 50.0]


@pytest.mark.parametrize("protocol", wire.PROTOCOLS.values(), ids=wire.PROTOCOLS)
def test_a_body_is_one_line_because_the_load_generator_reads_lines(protocol):
    assert b"\n" not in protocol.body(ROWS, NAMES, False)


def test_probabilities_are_read_from_a_single_reply_and_from_many():
    assert wire.object_values(b'{"prediction": 1, "probability": 0.75}') == [0.75]
    assert wire.object_values(b'[{"probability": 0.25}, {"probability": 0.5}]') == [0.25, 0.5]
    assert wire.tensor_values(
        b'{"outputs": [{"shape": [2, 2], "data": [0.75, 0.25, 0.5, 0.5]}]}'
    ) == [0.25, 0.5]
    with pytest.raises(ValueError, match="3 classes"):
        wire.tensor_values(b'{"outputs": [{"shape": [1, 3], "data": [0.2, 0.3, 0.5]}]}')


@pytest.mark.parametrize(
    ("values", "problem"),
    [
        ([0.5, 0.750001], ""),
        ([0.5, 0.7501], "row 1: 0.7501 where scikit-learn says 0.75"),
        ([0.5, float("nan")], "row 1: nan where scikit-learn says 0.75"),
        ([0.5], "1 answers to 2 rows"),
    ],
)
def test_an_answer_that_is_not_scikit_learns_is_said_in_words(values, problem):
    assert difference(values, Question("/", b"", (0.5, 0.75), 1e-5)) == problem


def test_a_ratio_is_taken_within_a_round_so_that_drift_does_not_matter():
    drifting = [sample(1, "a", rps=100.0), sample(1, "b", rps=10.0)]
    drifting += [sample(2, "a", rps=40.0), sample(2, "b", rps=5.0), sample(3, "a", rps=70.0)]

    assert ratios(drifting, "m", "rps", "a", "b") == [10.0, 8.0]
    assert median_of(drifting, "a", "m", "rps") == 70.0
    assert median_of(drifting, "c", "m", "rps") is None
    assert by_round(drifting, "b", "m", "rps") == {1: 10.0, 2: 5.0}


def test_more_is_better_in_a_ratio_and_less_is_better_in_a_figure_alone():
    times = Target("faster", "m", "rps", "peer", 2, 4)
    latency = Target("latency", "m", "p99_ms", "", 1.5, 1, "ms")

    def words(rps: float, p99_ms: float) -> list[str]:
        samples = [sample(1, "greenroom", rps=rps, p99_ms=p99_ms), sample(1, "peer", rps=10.0)]
        return [verdict.word for verdict in judge(samples, [times, latency])]

    assert words(40.0, 1.0) == ["aim", "aim"]
    assert words(20.0, 1.5) == ["met", "met"]
    assert words(19.0, 1.6) == ["MISSED", "MISSED"]
    assert [verdict.word for verdict in judge([], [times, latency])] == ["not run", "not run"]


def test_every_target_names_a_server_and_a_figure_that_is_measured():
    by_name = {server.name: server for server in [*SERVERS, *ALTERNATIVES]}
    for target in TARGETS:
        for name in filter(None, [target.server, target.peer]):
            assert target.model in by_name[name].models
            if "@" in target.measure:
                kinds = {kind.name for kind in by_name[name].loads}
                assert target.measure.partition("@")[2] in kinds


def test_the_tables_show_targets_with_their_range_and_a_dash_for_what_was_not_run():
    samples = [sample(1, "greenroom", **{"rps@16": 5061.7}), sample(1, "peer", **{"rps@16": 10.0})]
    samples += [sample(2, "greenroom", **{"rps@16": 30.0}), sample(2, "peer", **{"rps@16": 15.0})]
    verdicts = judge(samples, [Target("faster", "m", "rps@16", "peer", 2, 4)])
    result = {
        "about": {"rounds": 2, "seconds": 1, "versions": {"numpy": "2.0"}},
        "notes": ["a note"],
        "samples": samples,
    }

    assert "| faster | 254 times | 2 to 506 | 2 times | 4 times | aim |" in targets_table(verdicts)
    text = markdown(result)
    assert "| greenroom |     2,546 |" in text
    assert "not run" in text
    assert "- versions: numpy 2.0" in text
    assert [number(value) for value in (None, 0.0, 99.96)] == ["-", "0", "100"]
    assert {len(line) for line in table(["a", "b"], [["long name", "1"]]).splitlines()} == {17}


def test_every_round_begins_with_another_server():
    first = [rotated(SERVERS, n)[0].name for n in range(1, len(SERVERS) + 1)]

    assert sorted(first) == sorted(server.name for server in SERVERS)


def test_a_server_given_on_the_command_line_needs_a_protocol_that_is_known():
    assert parsed("b:mlflow:forest=run --port {port}").protocol is wire.MLFLOW
    for text in ("b:http:forest=run", "b:mlflow=run", "b:mlflow:forest"):
        with pytest.raises(ValueError, match="is not NAME:PROTOCOL:MODEL=COMMAND"):
            parsed(text)


def test_the_line_of_the_load_generator_is_found_among_others():
    line = 'BENCH {"requests": 500, "seconds": 2.5, "p50_ms": 1, "p99_ms": 3.25, "errors": 2}'

    assert load.parse(["Running", "", line]) == load.Loaded(200.0, 1.0, 3.25, 2)
    with pytest.raises(RuntimeError, match="unable to connect"):
        load.parse([], "unable to connect")


def test_swaps_pass_only_when_nothing_failed_and_memory_stayed():
    good = {"failed requests": 0, "wrong answers": 0, "stale reloads": 0, "memory growth": 0.04}

    assert passed(good)
    assert not passed(good | {"memory growth": 0.05})
    for name in ("failed requests", "wrong answers", "stale reloads"):
        assert not passed(good | {name: 1})


@pytest.mark.bench
@pytest.mark.skipif(shutil.which("wrk") is None, reason="wrk is not installed")
def test_an_empty_app_is_started_loaded_and_weighed(tmp_path):
    port, log, bodies = free_port(), tmp_path / "log", tmp_path / "bodies"
    question = Question("/", b'{"a":1}', (), 0.0)
    bodies.write_bytes(question.body + b"\n")
    start = empty(None, port, {len(question.body): 200})

    with running(start.command, start.environment, None, log) as process:
        took_s = wait_for(lambda: answers(port, question), process, time.monotonic(), log)
        found = load.run(f"http://127.0.0.1:{port}/", bodies, load.USUAL, seconds=1, core=0)
        assert memory(process.pid).worker_mb > 5

    assert 0 < took_s < 30
    assert found.errors == 0
    assert found.rps > 10
