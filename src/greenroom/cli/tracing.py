"""``greenroom trace`` and ``score-log``: looking back at what was predicted."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click
import msgspec

from greenroom.app_loading import find_app
from greenroom.cli.context import Project, config_option, open_here, open_project, open_settings
from greenroom.cli.durations import read_duration
from greenroom.cli.terminal import note, say, table
from greenroom.errors import AppError, RegistryError, SettingsError
from greenroom.wording import counted

if TYPE_CHECKING:
    from greenroom.registry.registry import Registry
    from greenroom.task import Task
    from greenroom.tracing.live_scores import LiveScores, ModelScores
    from greenroom.tracing.replaying import Replay

STATUSES: Final[Mapping[str, int]] = {
    "same_bits": 0,
    "beyond_bound": 3,
    "within_bound": 4,
    "not_replayed": 5,
}
"""With which exit status ``greenroom trace --replay`` ends, by its verdict."""

_VERDICTS: Final[Mapping[str, str]] = {
    "same_bits": "the same answer, to the last bit",
    "within_bound": "another answer, within the parity bound",
    "beyond_bound": "another answer, beyond the parity bound",
    "not_replayed": "not predicted again",
}

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.command(short_help="Show where a prediction came from, or make it again.")
@click.argument("prediction_id", metavar="ID")
@click.option("--replay", "replays", is_flag=True, help="Predict again, and compare every bit.")
@click.option("--model", "models", multiple=True, help="Look among this registered model's alone.")
@click.option("--app", default="", help="The app; default: this folder's, where it has one.")
@json_option
@config_option
@click.pass_context
def trace(
    context: click.Context,
    prediction_id: str,
    replays: bool,
    models: tuple[str, ...],
    app: str,
    as_json: bool,
    config: Path | None,
) -> None:
    """Show what was asked and answered under a prediction's ID, by which version, and why by that.

    With --replay it is predicted again: by that version, with its engine, threads and the rows of
    the same call. The exit status is 0 for the same bits, 4 for a difference within the parity
    bound, 3 for one beyond it, and 5 where the request is not there as it was sent.
    """
    from greenroom.log_wiring import build_tracer
    from greenroom.tracing.replaying import load_answering, replay
    from greenroom.wiring import build_registry, build_store

    project = open_project(app, config=config) if app else open_here(config=config)
    result: Replay | None = None
    with build_registry(project.settings) as registry:
        tracer = build_tracer(project.settings, registry)
        found = tracer.find(prediction_id, models or _registered_names(project, registry))
        document = tracer.trace(found)
        if replays:
            store = build_store(project.settings)
            runtime = load_answering(registry, store, found.model, found.row)
            result = replay(found.row, tracer.reader.call(found.model, found.row), runtime)
            document["replay"] = msgspec.to_builtins(result)
    if as_json:
        say(msgspec.json.format(msgspec.json.encode(document), indent=2).decode())
    else:
        _show(document, result)
    if result is not None:
        context.exit(STATUSES[result.verdict])


@click.command("score-log", short_help="Show how good predictions turned out to be.")
@click.argument("name", metavar="[APP | NAME]", default="")
@click.option("--since", default="7d", help="How far to look back: 7d, 12h; default: 7d.")
@click.option("--model", "only", default="", help="This model of the app alone.")
@json_option
@config_option
def score_log(name: str, since: str, only: str, as_json: bool, config: Path | None) -> None:
    """Join predictions with their feedback, and show the metrics by version and day.

    APP is an app's folder, or its name under apps/; default: the current folder. Where there is no
    such app, NAME is a registered model.
    """
    from greenroom.log_wiring import build_lineage, build_log_reader
    from greenroom.tracing.live_scores import score_log as score
    from greenroom.wiring import build_registry

    project, tasks = _models(name, config)
    unknown = only and only not in tasks
    if unknown:
        raise SettingsError(f"there is no model {only!r}", advice=f"there are {', '.join(tasks)}")
    with build_registry(project.settings) as registry:
        scores = score(
            build_log_reader(project.settings),
            build_lineage(project.settings, registry),
            [only] if only else list(tasks),
            among=list(tasks),
            since=dt.datetime.now(dt.UTC) - read_duration(since, "--since"),
            tasks={name: task for name, task in tasks.items() if task is not None},
        )
    if as_json:
        say(msgspec.json.format(msgspec.json.encode(scores), indent=2).decode())
    else:
        _show_scores(scores)


def _registered_names(project: Project, registry: Registry) -> list[str]:
    """Return the registered models of an app; without one, all that the log or MLflow has."""
    from greenroom.log_opening import build_log_tables
    from greenroom.training.release import deployed

    if project.app is None:
        logged = build_log_tables(project.settings).models()
        try:
            registered = [model.name for model in registry.registered_models()]
        except RegistryError:
            if not logged:
                raise
            registered = []  # the trace itself says that the registry is away
        return list(dict.fromkeys([*logged, *registered]))
    return [deployed(model, project.settings).name for model in project.app.models]


def _models(name: str, config: Path | None) -> tuple[Project, dict[str, Task | None]]:
    """Return the registered models that an argument names, with their tasks where an app has them.

    Raises
    ------
    AppError
        When there is neither an argument nor an app here.
    """
    from greenroom.training.release import deployed

    try:
        find_app(name)
    except AppError:
        if not name:
            raise
        return open_settings(config=config), {name: None}
    project = open_project(name, config=config)
    models = project.the_app.models
    return project, {deployed(model, project.settings).name: model.task for model in models}


def _show(document: Mapping[str, Any], result: Replay | None) -> None:
    """Print what is known of a prediction, and what came of predicting again."""
    request = document["request"]
    rows = [
        ("prediction", document["prediction_id"]),
        ("answered at", document["answered_at"]),
        *((name, _text(value)) for name, value in document["answer"].items()),
        ("asked at", f"{request['route']} by {request['caller'] or 'anyone'}"),
        *((name, _text(value)) for name, value in request["columns"].items()),
        *_origin_rows(document),
        *(
            ("observed", f"{_text(one['actual'])}, received {one['received_at']}")
            for one in document["feedback"]
        ),
    ]
    table("", ["what", "value"], rows)
    for text in document["notes"]:
        note(text)
    if result is not None:
        _show_replay(result)


def _origin_rows(document: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Give what is known of the version that answered."""
    model, call, selection = document["model"], document["call"], document["selection"]
    yield "model", f"{model['name']}, version {model['version']} ({model['stage']})"
    yield "run", model["run_id"] or "-"
    threads = f"{call['n_threads']} thread{'s' if call['n_threads'] != 1 else ''}"
    # One row may stand for several answers: then it is the one that there is.
    place = min(call["call_row"] + document["request"]["row"], call["call_rows"] - 1)
    beside = f"row {place + 1} of a call of {call['call_rows']}"
    yield "engine", f"{call['engine']}, {threads}, {beside}"
    if model["data"] is not None:
        code = model["code"]
        yield "data", f"{model['data']['name']}, content {model['data']['content_hash']}"
        dirty = " with changes" if code["git_dirty"] else ""
        yield "code", f"{code['git_commit'] or 'no commit'}{dirty}, hash {code['code_hash']}"
    if selection is not None:
        evidence = "; ".join(selection.get("reasons", ())) or "no evidence"
        who, at = selection.get("who", "-"), selection.get("at", "-")
        yield "selected by", f"{who}, {selection['action']} at {at}: {evidence}"


def _show_replay(result: Replay) -> None:
    if result.outputs:
        rows = [
            [name, _text(one.recorded), _text(one.replayed), _difference(one.difference)]
            for name, one in result.outputs.items()
        ]
        table("replay", ["output", "recorded", "replayed", "difference"], rows)
    how = ""
    if result.n_rows:
        reproduced = ", as recorded" if result.reproduced else ""
        rows_text = f"{counted(result.n_rows, 'row')} by {result.engine}{reproduced}"
        how = f" ({rows_text}; bound {result.bound:g})"
    say(f"replay: {_VERDICTS[result.verdict]}{how}")
    for reason in result.reasons:
        say(f"replay: {reason}")


def _show_scores(scores: LiveScores) -> None:
    for model in scores.models:
        rows = list(_score_rows(model))
        columns = ["version", "day", "predictions", "scored", "metric", "live", "95 %", "training"]
        table(f"{model.model}: live scores ({model.task})", columns, rows)
        for text in model.notes:
            note(f"{model.model}: {text}")
    say(
        f"feedback: {scores.n_feedback} received, {scores.n_duplicates} of it twice, "
        f"{counted(scores.n_contradictions, 'prediction')} with contradicting feedback, "
        f"{scores.n_unknown} of unknown ids, {scores.n_earlier} of earlier predictions"
    )


def _score_rows(model: ModelScores) -> list[list[str]]:
    """Return a row for each metric of each day; where there is none, one that says so."""
    rows = []
    for score in model.scores:
        head = [
            score.version,
            score.day or "all",
            f"{score.n_predictions:,}",
            f"{score.n_scored:,}",
        ]
        training = model.training.get(score.version, {})
        names = [name for name in score.metrics if not name.endswith(("_low", "_high"))]
        if not names:
            rows.append([*head, "-", "-", "-", "-"])
        for place, name in enumerate(names):
            trained = f"{training[name]:.4g}" if name in training else "-"
            if name in training and f"{name}_low" in training:
                trained = f"{trained} ({_between(training, name)})"
            first: Sequence[str] = head if not place else [""] * 4
            live = f"{score.metrics[name]:.4g}"
            rows.append([*first, name, live, _between(score.metrics, name), trained])
    return rows


def _between(metrics: Mapping[str, float], name: str) -> str:
    low, high = metrics.get(f"{name}_low"), metrics.get(f"{name}_high")
    return "-" if low is None or high is None else f"{low:.4g} to {high:.4g}"


def _text(value: Any) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def _difference(value: float | None) -> str:
    return "not the same" if value is None else f"{value:g}"
