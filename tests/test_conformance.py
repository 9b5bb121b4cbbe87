"""What ``/openapi.json`` promises is what is answered: schemathesis sends whatever it allows.

Three servers with real workers and versions: with the columns and features of the two applications,
and with every kind of column there is. For each operation bodies are made up that the document
allows, and ones that it does not; each answer has to be one that it describes.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import schemathesis
from schemathesis.config import SchemathesisConfig
from schemathesis.engine import events
from sklearn.dummy import DummyClassifier

import builders
from greenroom.app_loading import load_app
from greenroom.compiled import compile_version
from greenroom.examples import typical_values
from greenroom.features import load_features
from greenroom.frames import to_frame
from greenroom.schema import Column, Schema
from greenroom.task import classification
from real_server import deployed, served

APPS = Path(__file__).parents[1] / "apps"
EVERY_KIND = (
    Column("n", minimum=0.5, maximum=2.5, unit="USD"),
    Column("i-n", "integer", request_name="i_n", nullable=True),
    Column("b", "boolean"),
    Column("s", "string", nullable=True),
    Column("c", "category", categories=("low", "high"), nullable=True),
    Column("d", "date"),
    Column("t", "datetime", nullable=True),
)
N_ROWS = 500


def fitted(directory: Path, columns, rows, estimator, y, features="") -> Path:
    """Write a version, compiled where that is possible, as training does."""
    made = to_frame(load_features(features).features(dict(rows)) if features else rows)
    estimator.fit(made, y)
    builders.version(
        directory,
        estimator=estimator,
        columns=columns,
        rows=rows,
        features=features,
        example=typical_values(Schema(columns), rows),
    )
    compile_version(
        directory, estimator, classification, made, classification.predict(estimator, made)
    )
    return directory


def app_version(name: str, directory: Path) -> Path:
    """Write a version with an app's columns, features and first candidate, fitted to few rows."""
    model = load_app(APPS / name).model()
    rows = model.generated(1) if model.generated else model.dataset()
    few = {key: np.asarray(values)[:N_ROWS] for key, values in rows.items()}
    y = few.pop(model.target)
    typed = {column.name: few[column.name].astype(np.float64) for column in model.columns}
    estimator = next(iter(model.candidates(model.seed).values()))
    features = (APPS / name / model.features).read_text() if model.features else ""
    return fitted(directory, model.columns, typed, estimator, y, features)


def version_of_every_kind(directory: Path) -> Path:
    days = np.array(["2024-01-15", "2024-02-29"], dtype="datetime64[us]")
    rows = {
        "n": np.array([1.0, 2.0]),
        "i-n": np.array([1.0, np.nan]),
        "b": np.array([0.0, 1.0]),
        "s": np.array(["001", None], dtype=object),
        "c": np.array(["low", "high"], dtype=object),
        "d": days,
        "t": days,
    }
    return fitted(directory, EVERY_KIND, rows, DummyClassifier(strategy="prior"), [0, 1])


CONFIG = SchemathesisConfig.from_dict(
    {
        # The same cases in each run, and a bound on how many there are.
        "seed": 1,
        "generation": {"max-examples": 10, "deterministic": True, "no-shrink": True},
        "phases": {"stateful": {"enabled": False}},
        # A list with one row too many may be too large a body before anybody counts its rows.
        "checks": {"negative_data_rejection": {"expected-statuses": [400, 404, 413, 415, 422]}},
        "operations": [
            # What MLflow takes besides is wider than a schema can say: rows as long as another
            # list, and columns that nobody knows. No 500 and no other answer holds there too.
            {
                "include-path": "/invocations",
                "checks": {
                    "positive_data_acceptance": {"enabled": False},
                    "negative_data_rejection": {"enabled": False},
                },
            }
        ],
    }
)


def found_by_schemathesis(url: str) -> tuple[set[str], list[str]]:
    """Return which operations were tried, and what was wrong with answers."""
    schema = schemathesis.openapi.from_url(f"{url}/openapi.json", config=CONFIG)
    tried, problems = set(), []
    for event in schemathesis.engine.from_schema(schema).execute():
        if isinstance(event, events.ScenarioFinished):
            recorded = event.recorder
            tried |= {recorded.label} if recorded.cases else set()
            problems += [
                f"{recorded.label}: {check.failure_info.failure}\n{check.failure_info.code_sample}"
                for checks in recorded.checks.values()
                for check in checks
                if check.failure_info
            ]
        elif isinstance(event, events.NonFatalError):
            problems.append(f"{event.label}: {event.value}")
        elif isinstance(event, events.FatalError):
            raise event.exception
    return tried, problems


@pytest.mark.filterwarnings("ignore::hypothesis.errors.HypothesisWarning")
@pytest.mark.parametrize("name", ["breast_cancer", "credit_risk", "every kind"])
def test_every_answer_is_one_that_the_document_describes(name, tmp_path):
    directory = tmp_path / "1"
    if name == "every kind":
        app_folder, model = None, "m"
        version_of_every_kind(directory)
    else:
        app_folder = APPS / name
        model = load_app(app_folder).model().name
        app_version(name, directory)
    with served(deployed(directory, model), app_folder=app_folder) as url:
        tried, problems = found_by_schemathesis(url)
    assert not problems, "\n\n".join(problems)
    assert {"POST /predict", "POST /invocations", f"POST /models/{model}/predict"} <= tried
