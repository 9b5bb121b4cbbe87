"""What ``/openapi.json`` promises is what is answered: schemathesis sends whatever it allows.

Servers with real workers and versions: with the columns and features of the two applications, with
every kind of column there is, and with management routes. For each operation bodies are made up
that the document allows, and ones that it does not; each answer has to be one that it describes.
"""

from __future__ import annotations

import httpx
import pytest
import schemathesis
from schemathesis.config import SchemathesisConfig
from schemathesis.engine import events

import builders
from app_versions import APPS, app_version, version_of_every_kind
from fake_registry import FakeRegistry
from greenroom import feedback
from greenroom.app_loading import load_app
from greenroom.registry_errands import RegistryErrands
from real_server import deployed, served

pytestmark = pytest.mark.slow

CONFIG = {
    # The same cases in each run, and a bound on how many there are.
    "seed": 1,
    "generation": {"max-examples": 10, "deterministic": True, "no-shrink": True},
    "phases": {"stateful": {"enabled": False}},
    "operations": [
        # The same as /predict, under another name.
        {"include-path-regex": "^/models/.+/predict$", "enabled": False},
        # What MLflow takes besides is wider than a schema can say: rows as long as another list,
        # and columns that nobody knows. No 500 and no other answer holds there too.
        {
            "include-path": "/invocations",
            "checks": {
                "positive_data_acceptance": {"enabled": False},
                "negative_data_rejection": {"enabled": False},
            },
        },
    ],
}

OBSERVED_AT = feedback.FEEDBACK_SCHEMA["oneOf"][0]["properties"]["observed_at"]["pattern"]

MANAGED = """
from greenroom import App, Column, Gate, Management, Model, classification

app = App(
    name="managed",
    experiment="e",
    models=[
        Model(
            name="m",
            task=classification,
            columns=[Column("a", minimum=-10, maximum=10), Column("b", "integer", minimum=0)],
            dataset="data.csv",
            target="y",
            candidates=lambda seed: {},
            gate=Gate("accuracy", minimum=0.5),
        )
    ],
    management=Management(
        reload="/managed/reload",
        models="/managed/models",
        model="/managed/models/{name}",
        transition="/managed/models/{name}/transition",
    ),
)
"""


def within_reason(node):
    """Take out how many rows there may be: 10,000 of them, made up, would take minutes.

    And have instants that something was observed at in the past, which no schema can say.
    """
    if isinstance(node, dict):
        past = {"pattern": "^20[01][0-9]"} if node.get("pattern") == OBSERVED_AT else {}
        kept = {name: within_reason(inner) for name, inner in node.items() if name != "maxItems"}
        return kept | past
    return [within_reason(inner) for inner in node] if isinstance(node, list) else node


def found_by_schemathesis(url: str) -> tuple[set[str], list[str]]:
    """Return which operations were tried, and what was wrong with answers."""
    document = within_reason(httpx.get(f"{url}/openapi.json").json())
    config = SchemathesisConfig.from_dict({**CONFIG, "base-url": url})
    schema = schemathesis.openapi.from_dict(document, config=config)
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
    kept = {"log": True, "home": tmp_path / "home"}
    with served(deployed(directory, model), app_folder=app_folder, **kept) as url:
        tried, problems = found_by_schemathesis(url)
    assert not problems, "\n\n".join(problems)
    assert {"POST /predict", "POST /invocations", "GET /model/info", "POST /model/reload"} <= tried


@pytest.mark.filterwarnings("ignore::hypothesis.errors.HypothesisWarning")
def test_every_answer_of_management_routes_is_one_that_the_document_describes(tmp_path):
    builders.version(tmp_path / "1")
    (tmp_path / "app.py").write_text(MANAGED)
    registry = FakeRegistry()
    registry.add("m")
    with served(
        deployed(tmp_path / "1"),
        app_folder=tmp_path,
        registry_errands=RegistryErrands(registry, ()),
        log=True,
        home=tmp_path / "home",
    ) as url:
        tried, problems = found_by_schemathesis(url)
    assert not problems, "\n\n".join(problems)
    assert {
        "GET /managed/models",
        "GET /managed/models/{name}",
        "POST /managed/models/{name}/transition",
        "POST /managed/reload",
    } <= tried
