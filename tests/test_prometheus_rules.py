"""Prometheus' rules: about series that there are, each tested, each with what to do next.

That they are valid and fire is promtool's business (``make test-prometheus``).
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from metric_names import TARGET, documented, unknown
from promql import asked

ROOT = Path(__file__).parents[1]
DEPLOY = ROOT / "deploy"
PAGE = (ROOT / "docs" / "monitoring.md").read_text(encoding="utf-8")


def _rules():
    for path in sorted((DEPLOY / "prometheus" / "rules").glob("*.yml")):
        for group in yaml.safe_load(path.read_text(encoding="utf-8"))["groups"]:
            yield from group["rules"]


RULES = list(_rules())
ALERTS = {rule["alert"]: rule for rule in RULES if "alert" in rule}
RECORDED = {rule["record"]: rule for rule in RULES if "record" in rule}


def _tests():
    for path in sorted((ROOT / "tests" / "prometheus").glob("*.yml")):
        yield from yaml.safe_load(path.read_text(encoding="utf-8"))["tests"]


TESTS = list(_tests())


def _firing(check) -> set[str]:
    labels = (sample["labels"] for sample in check.get("exp_samples") or ())
    return {name for one in labels for name in re.findall(r'alertname="(\w+)"', one)}


def _known():
    """Return what can be asked for: ``/metrics``, and what is recorded of it."""
    known = documented()
    for name, rule in RECORDED.items():
        labels = re.findall(r"by \(([^)]*)\)", rule["expr"])
        known[name] = TARGET | {label.strip() for text in labels for label in text.split(",")}
        if name.startswith("route_model:"):
            known[name] |= {"route", "model"}
    return known


def test_no_alert_and_no_recorded_series_has_a_name_twice():
    names = [rule.get("alert") or rule["record"] for rule in RULES]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.get("alert") or rule["record"])
def test_a_rule_asks_for_series_that_there_are_with_labels_that_they_have(rule):
    selected = {one for one in asked(rule["expr"]) if one.name not in {"alert"}}
    assert selected
    assert unknown(selected, _known()) == []


@pytest.mark.parametrize("name", ALERTS)
def test_an_alert_says_how_bad_it_is_and_what_to_do_next(name):
    rule = ALERTS[name]
    assert name.startswith("Greenroom")
    if name == "GreenroomAlertFiring":  # has that of the alert that it hands on
        assert "labels" not in rule
    else:
        assert rule["labels"]["severity"] in {"critical", "warning", "info"}
    notes = rule["annotations"]
    assert set(notes) == {"summary", "description", "action", "runbook"}
    assert all(notes[word].endswith(".") for word in ("summary", "description", "action"))


@pytest.mark.parametrize("name", ALERTS)
def test_the_runbook_that_an_alert_names_is_there(name):
    assert ALERTS[name]["annotations"]["runbook"] == f"docs/monitoring.md#{name.lower()}"
    severity = ALERTS[name].get("labels", {}).get("severity", "that of the alert")
    assert re.search(rf"^#### {name}\n\n{severity}\. ", PAGE, re.MULTILINE)


def test_the_runbook_is_about_no_alert_that_there_is_not():
    assert set(re.findall(r"^#### (Greenroom\w+)$", PAGE, re.MULTILINE)) == set(ALERTS)


@pytest.mark.parametrize("name", ALERTS)
def test_each_alert_is_tested_to_fire_and_not_to_fire_on_the_same_series(name):
    def shown(test) -> bool:
        found = [_firing(check) for check in test.get("promql_expr_test", ())]
        return any(name in firing for firing in found) and any(name not in one for one in found)

    assert any(shown(test) for test in TESTS)


@pytest.mark.parametrize("name", RECORDED)
def test_each_recorded_series_is_tested(name):
    checked = "\n".join(
        check["expr"] for test in TESTS for check in test.get("promql_expr_test", ())
    )
    inner = "\n".join(rule["expr"] for rule in RECORDED.values())
    # A series of buckets is tested by the quantiles that are made of it.
    assert name in checked or (name in inner and "_bucket" in name)


def test_a_healthy_server_is_tested_with_every_series_that_an_alert_asks_for():
    (healthy,) = [test for test in TESTS if test["name"].startswith("a healthy server")]
    given = {re.split(r"\{", one["series"])[0] for one in healthy["input_series"]}
    wanted = set()
    for rule in RULES:
        wanted |= {
            one for one in asked(rule["expr"]) if one.name not in {*RECORDED, "ALERTS", "alert"}
        }
    missing = [
        one.name
        for one in wanted
        if not any(
            re.fullmatch(one.name, name) if one.is_pattern else one.name == name for name in given
        )
    ]
    assert missing == []


@pytest.mark.parametrize(
    "path",
    sorted([*ROOT.glob("apps/*/prometheus*.yml"), *ROOT.glob("apps/*/config/prometheus*.yml"),
            *DEPLOY.glob("prometheus/prometheus.yml")]),
    ids=lambda path: str(path.relative_to(ROOT)),
)  # fmt: skip
def test_every_stack_loads_the_rules_and_names_its_target_as_they_do(path):
    config = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert config["rule_files"] == ["rules/*.yml"]
    (job,) = config["scrape_configs"]
    assert f'up{{job="{job["job_name"]}"}}' in ALERTS["GreenroomDown"]["expr"]

    compose = yaml.safe_load((DEPLOY / "compose.yml").read_text(encoding="utf-8"))
    volumes = [one.split(":") for one in compose["services"]["prometheus"]["volumes"]]
    (folder,) = [source for source, target, *_ in volumes if target == "/etc/prometheus/rules"]
    assert sorted((DEPLOY / folder).glob("*.yml"))
