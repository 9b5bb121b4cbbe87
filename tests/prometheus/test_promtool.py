"""Prometheus' own tool takes the configurations and the rules, and runs the rules' unit tests."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
RULES = sorted((ROOT / "deploy" / "prometheus" / "rules").glob("*.yml"))
CONFIGURATIONS = sorted(
    path
    for folder in ("deploy/prometheus", "apps/*", "apps/*/config")
    for path in ROOT.glob(f"{folder}/prometheus*.yml")
)

pytestmark = pytest.mark.prometheus


def _promtool(*words: str | Path) -> subprocess.CompletedProcess[str]:
    command = ["promtool", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def test_the_rules_are_valid_and_none_stands_there_twice():
    done = _promtool("check", "rules", "--lint-fatal", *RULES)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("path", CONFIGURATIONS, ids=lambda path: str(path.relative_to(ROOT)))
def test_each_stacks_configuration_is_valid_and_finds_the_rules_beside_it(path, tmp_path):
    # As it is mounted: the rules lie beside the file, certificates and tokens somewhere else.
    shutil.copy(path, tmp_path / "prometheus.yml")
    (tmp_path / "rules").symlink_to(ROOT / "deploy" / "prometheus" / "rules")
    done = _promtool("check", "config", "--syntax-only", tmp_path / "prometheus.yml")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("path", sorted(HERE.glob("*.yml")), ids=lambda path: path.stem)
def test_each_rule_fires_when_it_should_and_at_no_other_time(path):
    done = _promtool("test", "rules", path)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_test_of_a_rule_fails_without_the_rule(tmp_path):
    text = (HERE / "registry.yml").read_text(encoding="utf-8")
    (tmp_path / "registry.yml").write_text(text.replace("../../deploy/prometheus/rules/*", "none"))
    done = _promtool("test", "rules", tmp_path / "registry.yml")
    assert done.returncode != 0
    assert "GreenroomRegistryAway" in done.stdout + done.stderr
