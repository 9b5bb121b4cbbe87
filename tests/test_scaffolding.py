"""The app that ``greenroom new`` makes: whole, checked, tested, trained, promoted, answering."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import greenroom
from greenroom.app_loading import load_app
from greenroom.checking import check
from greenroom.errors import AppError, ProcessError
from greenroom.inference.runtime import load_runtime
from greenroom.payloads.request import RequestType
from greenroom.registry.registry import Registry
from greenroom.scaffolding import new_app
from greenroom.selector import Selector
from greenroom.settings_sources import load_settings
from greenroom.training.release import train_and_release

TEMPLATE = Path(greenroom.__file__).parent / "templates" / "app"


@pytest.fixture(scope="session")
def made(tmp_path_factory) -> Path:
    """One app as the command makes it, which nobody changes."""
    return new_app("scaffolded", tmp_path_factory.mktemp("made"))


def test_a_new_app_has_every_file_of_the_template_and_its_own_name_in_each_place(made):
    files = {str(path.relative_to(made)) for path in made.rglob("*") if path.is_file()}
    expected = {
        ".gitignore",
        "README.md",
        "app.py",
        "data/deliveries.csv",
        "features.py",
        "greenroom.yaml",
        "tests/test_app.py",
    }
    assert expected <= files
    assert not [path for path in made.rglob("*.txt") if path.is_file()]
    for path in expected:
        assert "__NAME__" not in (made / path).read_text(encoding="utf-8"), path
    app = load_app(made)
    assert (app.name, app.experiment, app.model().name) == (
        "scaffolded",
        "scaffolded",
        "scaffolded-model",
    )


def test_nothing_is_wrong_with_a_new_app(made):
    assert check(made) == []


def test_a_new_app_can_be_made_beside_others_and_read_by_others(tmp_path):
    first = new_app("one", tmp_path / "apps")
    second = new_app("two", tmp_path / "apps")

    assert sorted(path.name for path in (tmp_path / "apps").iterdir()) == ["one", "two"]
    assert load_app(first).name != load_app(second).name
    (tmp_path / "plain").mkdir()
    assert first.stat().st_mode == (tmp_path / "plain").stat().st_mode


@pytest.mark.slow
def test_the_tests_of_a_new_app_pass_and_warn_of_nothing(made):
    result = subprocess.run(
        [sys.executable, "-m", "pytest", "-W", "error", "-p", "no:cacheprovider"],
        cwd=made,
        env={name: text for name, text in os.environ.items() if "PYTEST" not in name},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr


def test_a_new_app_is_as_well_kept_as_greenroom_itself(made):
    ruff = Path(sys.executable).parent / "ruff"
    config = ["--config", str(Path(__file__).parent.parent / "pyproject.toml"), "--no-cache"]
    # What apps and their tests are exempt from in this repository goes by their path there.
    rules = ["--ignore", "ANN,ARG,D103,INP,S101"]
    for command in (["check", *rules], ["format", "--check"]):
        result = subprocess.run(
            [str(ruff), *command, *config, str(made)], capture_output=True, text=True, check=False
        )
        assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.slow
def test_a_new_app_trains_passes_its_gate_and_answers_what_its_readme_sends(
    made, mlflow_server, tmp_path
):
    app = load_app(made)
    settings = load_settings(made, environment={"MLFLOW_TRACKING_URI": mlflow_server})
    with Registry(mlflow_server) as registry:
        release = train_and_release(
            app,
            app.model(),
            made,
            settings=settings,
            registry=registry,
            who="a test",
            promotes=True,
        )
        assert (release.outcome, release.version) == ("promoted", "1")
        name = app.model().name
        (selected,) = registry.resolve(name, Selector.parse("Production")).versions
        for file in registry.files(selected):
            registry.download(selected, file.path, tmp_path)

    runtime = load_runtime(tmp_path)
    readme = (made / "README.md").read_text(encoding="utf-8")
    (body,) = re.findall(r"-d '(\{.*\})'", readme)
    rows = RequestType.compile(runtime.schema).decode(body.encode())
    (minutes,) = runtime.predict(rows.columns()).outputs["prediction"]
    assert 15 < minutes < 60


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "../up", "-x", "1st", "two words", "ä"])
def test_a_name_that_cannot_be_a_folder_and_a_model_is_refused_with_what_it_may_be(name, tmp_path):
    with pytest.raises(AppError, match="cannot be an app's name; take a letter"):
        new_app(name, tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", ["folder", "file", "broken link"])
def test_what_is_there_already_is_never_written_over(kind, tmp_path):
    taken = tmp_path / "taken"
    match kind:
        case "folder":
            taken.mkdir()
        case "file":
            taken.write_text("mine")
        case _:
            taken.symlink_to(tmp_path / "nowhere")

    with pytest.raises(AppError, match="is there already; take another name"):
        new_app("taken", tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]


def test_a_place_that_cannot_be_written_is_named_and_nothing_is_left(tmp_path):
    (tmp_path / "file").write_text("not a folder")

    with pytest.raises(ProcessError, match=r"cannot be made at .*/file/late: .*; choose a folder"):
        new_app("late", tmp_path / "file")


def test_a_disk_that_fills_up_half_way_leaves_nothing_behind(tmp_path, monkeypatch):
    write = Path.write_text

    def full(path, text, **options):
        if path.name == "features.py":
            raise OSError(28, "No space left on device")
        return write(path, text, **options)

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(ProcessError, match="No space left on device"):
        new_app("late", tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_no_tool_takes_the_template_for_a_part_of_greenroom():
    files = [path for path in TEMPLATE.rglob("*") if path.is_file()]

    assert files
    assert {path.suffix for path in files} == {".txt"}
