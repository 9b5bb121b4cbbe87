"""Grafana's dashboard: made by its script, taken by Grafana's schema, asking for what there is."""

from __future__ import annotations

import copy
import json
import re
import runpy
import sys
from functools import cache
from pathlib import Path

import jsonschema_rs
import pytest
import yaml

from metric_names import documented, unknown
from promql import asked

ROOT = Path(__file__).parents[1]
GRAFANA = ROOT / "deploy" / "grafana"
PROVISIONING = GRAFANA / "provisioning"
SCHEMA = Path(__file__).parent / "grafana_schema"
TEXT = (PROVISIONING / "dashboards" / "greenroom.json").read_text(encoding="utf-8")
DASHBOARD = json.loads(TEXT)
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
ROWS = ["Overview", "Traffic", "Models", "Registry and tracking", "Prediction log", "Drift",
        "Performance", "Alerts", "Processes"]  # fmt: skip


@cache
def _schema(name: str, definition: str = "") -> jsonschema_rs.Validator:
    schema = json.loads((SCHEMA / f"{name}.json").read_text(encoding="utf-8"))
    if name == "dashboard":
        # As in Grafana's own kind (`value: number | null`): the first step begins at no number.
        schema["definitions"]["Threshold"]["properties"]["value"]["type"] = ["number", "null"]
    if definition:
        schema["$ref"] = f"#/definitions/{definition}"
    return jsonschema_rs.validator_for(schema)


def _errors(validator: jsonschema_rs.Validator, value) -> list[str]:
    return [f"{error.instance_path}: {error.message}" for error in validator.iter_errors(value)]


def _expressions():
    for panel in PANELS:
        for target in panel["targets"]:
            yield f"{panel['title']} {target['refId']}", target["expr"]
    for annotation in DASHBOARD["annotations"]["list"]:
        yield annotation["name"], annotation["expr"]
    for variable in DASHBOARD["templating"]["list"]:
        if variable["type"] == "query":
            (expression,) = re.findall(r"^label_values\((.*), \w+\)$", variable["query"])
            yield variable["name"], expression


EXPRESSIONS = dict(_expressions())


def test_the_dashboard_is_what_its_script_makes(monkeypatch):
    monkeypatch.setattr(sys, "path", [str(GRAFANA), *sys.path])
    made = runpy.run_path(str(GRAFANA / "dashboard.py"))["text"]()
    assert made == TEXT, "make dashboard"


def test_grafanas_schema_takes_the_dashboard():
    assert _errors(_schema("dashboard"), DASHBOARD) == []


def test_grafanas_schema_is_strict_enough_to_mean_something():
    for change in (
        lambda d: d.update(panelz=[]),
        lambda d: d["panels"][1].update(gridPos={"x": "left"}),
        lambda d: d["templating"]["list"][0].update(type="guess"),
    ):
        broken = copy.deepcopy(DASHBOARD)
        change(broken)
        assert _errors(_schema("dashboard"), broken)


@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: panel["title"])
def test_grafanas_schema_of_its_kind_takes_a_panels_options_fields_and_queries(panel):
    kind = panel["type"]
    assert _errors(_schema(kind, "Options"), panel["options"]) == []
    custom = panel["fieldConfig"]["defaults"].get("custom")
    if custom is not None:
        assert _errors(_schema(kind, "FieldConfig"), custom) == []
    for target in panel["targets"]:
        assert _errors(_schema("prometheus"), target) == []


@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: panel["title"])
def test_a_panel_says_what_it_shows_and_in_which_unit_of_grafanas(panel):
    assert panel["title"]
    assert panel["description"].endswith(".")
    units = json.loads((SCHEMA / "units.json").read_text(encoding="utf-8"))["definitions"]
    known = {unit.get("const") for unit in units.values()}
    assert panel["fieldConfig"]["defaults"]["unit"] in known
    assert panel["datasource"]["uid"] == "${datasource}"


def test_the_rows_are_those_that_the_page_names_and_no_panel_lies_over_another():
    page = (ROOT / "docs" / "monitoring.md").read_text(encoding="utf-8")
    assert [panel["title"] for panel in DASHBOARD["panels"] if panel["type"] == "row"] == ROWS
    assert all(f"**{row}**" in page for row in ROWS)

    taken = set()
    for panel in DASHBOARD["panels"]:
        at = panel["gridPos"]
        cells = {(at["x"] + x, at["y"] + y) for x in range(at["w"]) for y in range(at["h"])}
        assert not cells & taken, panel["title"]
        assert at["x"] + at["w"] <= 24, panel["title"]
        taken |= cells


@pytest.mark.parametrize("name", EXPRESSIONS)
def test_what_the_dashboard_asks_for_is_on_metrics_with_these_labels(name):
    assert unknown(asked(EXPRESSIONS[name]), documented()) == []


def test_a_table_shows_labels_that_its_series_have():
    for panel in PANELS:
        if panel["type"] == "table":
            (keep, _) = panel["transformations"]
            (one,) = asked(panel["targets"][0]["expr"])
            assert set(keep["options"]["include"]["names"]) <= documented()[one.name]


def test_every_metric_is_on_the_dashboard():
    shown = {one.name for expression in EXPRESSIONS.values() for one in asked(expression)}
    left_out = {
        name
        for name in documented()
        if not any(re.fullmatch(pattern, name) for pattern in shown)
        and not name.endswith(("_count", "_sum"))
    }
    assert left_out == set()


def test_grafana_finds_the_dashboard_where_the_stack_mounts_it():
    (path,) = (PROVISIONING / "dashboards").glob("*.yml")
    (provider,) = yaml.safe_load(path.read_text(encoding="utf-8"))["providers"]
    compose = yaml.safe_load((ROOT / "deploy" / "compose.yml").read_text(encoding="utf-8"))
    service = compose["services"]["grafana"]
    mounts = {
        target: GRAFANA.parent / source
        for source, target, *_ in (volume.split(":") for volume in service["volumes"])
    }
    home = service["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    for place in (f"{provider['options']['path']}/greenroom.json", home):
        (inside,) = (target for target in mounts if place.startswith(f"{target}/"))
        assert (mounts[inside] / Path(place).relative_to(inside)).read_text() == TEXT


def test_the_dashboard_begins_with_the_data_source_of_the_stack_and_all_of_its_models():
    (path,) = (PROVISIONING / "datasources").glob("*.yml")
    (source,) = yaml.safe_load(path.read_text(encoding="utf-8"))["datasources"]
    variables = {one["name"]: one for one in DASHBOARD["templating"]["list"]}
    assert variables["datasource"]["current"]["value"] == source["uid"]
    assert variables["datasource"]["query"] == source["type"]
    assert variables["instance"]["current"]["value"] == "$__all"
    assert variables["model"]["current"]["value"] == "$__all"


def test_the_library_is_of_the_version_of_grafana_that_the_stack_runs():
    compose = yaml.safe_load((ROOT / "deploy" / "compose.yml").read_text(encoding="utf-8"))
    version = compose["services"]["grafana"]["image"].partition(":")[2]
    lock = (ROOT / "requirements.lock").read_text(encoding="utf-8")
    (pinned,) = re.findall(r"^grafana-foundation-sdk==\d+!([\d.]+)", lock, re.MULTILINE)
    assert pinned.rpartition(".")[0] == version.rpartition(".")[0]
