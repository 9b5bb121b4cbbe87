"""The layers of imports are enforced: a module that imports upward fails the check."""

from __future__ import annotations

import shutil
import subprocess
import sys
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
    schema.write_text(schema.read_text() + "\nimport greenroom.serving\n")

    result = _lint(project)

    assert result.returncode != 0
    assert "greenroom.schema is not allowed to import greenroom.serving" in result.stdout


def test_a_module_without_a_place_in_the_layers_fails_the_check(tmp_path):
    project = _copy(tmp_path)
    (project / "src" / "greenroom" / "stray.py").write_text('"""A module nobody placed."""\n')

    result = _lint(project)

    assert result.returncode != 0
    assert "stray" in result.stdout
