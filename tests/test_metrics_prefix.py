"""What is asked of ``/metrics`` is there, whatever an app's own metrics begin with."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from exposed import exposed_series
from greenroom.app_loading import load_app
from metric_names import OF_PROMETHEUS, TARGET, unknown
from promql import asked
from test_dashboard import EXPRESSIONS
from test_prometheus_rules import RECORDED, RULES

ROOT = Path(__file__).parents[1]
APPS = sorted(path.parent for path in ROOT.glob("apps/*/app.py"))
HOUSING = ROOT.parent / "shared" / "systems" / "california_housing.md"


@pytest.fixture(scope="module", params=APPS, ids=lambda path: path.name)
def series(request):
    """Return the series of an app's server, with all labels that series of the name have."""
    found = exposed_series(load_app(request.param).metrics_prefix)
    return {name: frozenset().union(*labels) | TARGET for name, labels in found.items()}


def test_the_dashboard_asks_every_apps_server_for_series_that_it_has(series):
    missing = {
        name: unknown(asked(expression), series | OF_PROMETHEUS)
        for name, expression in EXPRESSIONS.items()
    }
    assert not any(missing.values()), {name: of for name, of in missing.items() if of}


def test_the_rules_ask_every_apps_server_for_series_that_it_has(series):
    known = series | OF_PROMETHEUS | dict.fromkeys(RECORDED, TARGET | {"route", "model", "le"})
    missing = {
        rule.get("alert") or rule["record"]: unknown(asked(rule["expr"]), known) for rule in RULES
    }
    assert not any(missing.values()), {name: of for name, of in missing.items() if of}


def test_each_metric_of_the_housing_document_is_there_with_the_documented_labels():
    if not HOUSING.exists():
        pytest.skip(f"{HOUSING} is not on this machine")
    text = HOUSING.read_text(encoding="utf-8")
    found = re.findall(r"^(housing_api_\w+)(?:\{(.*)\})? \d+$", text, re.MULTILINE)
    documented = {name: frozenset(re.findall(r"(\w+)=", labels)) for name, labels in found}
    prefix = load_app(ROOT / "apps" / "california_housing").metrics_prefix
    shown = exposed_series(prefix)

    assert len(documented) == 4
    for name, labels in documented.items():
        assert labels in shown[name], name
