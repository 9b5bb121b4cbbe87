"""The layers of imports are enforced: a module that imports upward fails the check."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parent.parent
LINT_IMPORTS = Path(sys.executable).parent / "lint-imports"


def _lint(project: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(LINT_IMPORTS), "--no-cache"],
        cwd=project,
        # The copy's package stands before the installed one.
        env={"PYTHONPATH": str(project / "src"), "PATH": ""},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def _copy(folder: Path) -> Path:
    shutil.copytree(
        ROOT / "src", folder / "src", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info")
    )
    shutil.copy(ROOT / "pyproject.toml", folder)
    return folder


def test_the_layers_hold():
    result = _lint(ROOT)

    assert result.returncode == 0, result.stdout


def test_a_module_that_imports_upward_fails_the_check(tmp_path):
    project = _copy(tmp_path)
    schema = project / "src" / "greenroom" / "schema.py"
    schema.write_text(schema.read_text() + "\nimport greenroom.http.serving\n")

    result = _lint(project)

    assert result.returncode != 0
    assert "greenroom.schema is not allowed to import greenroom.http" in result.stdout


def test_a_module_without_a_place_in_the_layers_fails_the_check(tmp_path):
    project = _copy(tmp_path)
    (project / "src" / "greenroom" / "stray.py").write_text('"""A module nobody placed."""\n')

    result = _lint(project)

    assert result.returncode != 0
    assert "stray" in result.stdout


def test_every_package_has_layers_of_its_own():
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    layered = {name for one in contracts["contracts"] for name in one.get("containers", ())}
    packages = {
        f"greenroom.{folder.parent.name}"
        for folder in (ROOT / "src" / "greenroom").glob("*/__init__.py")
    }

    assert packages - layered <= {"greenroom.cli", "greenroom.monitoring"}


def test_no_two_modules_have_the_same_name():
    names = [
        path.stem
        for path in (ROOT / "src" / "greenroom").rglob("*.py")
        if path.stem != "__init__" and "cli" not in path.parts and "templates" not in path.parts
    ]

    assert len(names) == len(set(names)), sorted(n for n in names if names.count(n) > 1)
