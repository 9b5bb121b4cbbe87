import pickle
import shutil
import sys
from pathlib import Path

import cloudpickle
import pytest

from greenroom.app_loading import (
    find_app,
    forget_app,
    load_app,
    package_name,
    pickle_by_value,
)
from greenroom.errors import AppError

APP = """
from greenroom import App, Gate, Model, classification, Column
from .parts import NAME
app = App(
    name=NAME,
    experiment="e",
    models=[
        Model(
            name="m",
            task=classification,
            columns=[Column("x")],
            dataset="data.csv",
            target="y",
            candidates=lambda seed: {},
            gate=Gate("accuracy", minimum=0.5),
        )
    ],
)
"""


def write_app(folder: Path, source: str = APP, name: str = "tiny") -> Path:
    folder.mkdir(parents=True)
    (folder / "app.py").write_text(source)
    (folder / "parts.py").write_text(f"NAME = {name!r}\n")
    return folder


def test_two_apps_with_parts_of_the_same_name_do_not_collide(tmp_path: Path) -> None:
    before = list(sys.path)
    first = load_app(write_app(tmp_path / "one", name="one"))
    second = load_app(write_app(tmp_path / "two", name="two"))
    assert (first.name, second.name) == ("one", "two")
    assert sys.path == before
    assert load_app(tmp_path / "one") is first


def test_a_package_of_the_users_own_is_imported_as_one(tmp_path: Path) -> None:
    folder = write_app(tmp_path / "one")
    (folder / "__init__.py").write_text("LOADED = True\n")
    load_app(folder)
    assert sys.modules[package_name(folder)].LOADED


def test_a_folder_without_an_app_is_told_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(AppError, match=r"holds no app\.py; `greenroom new NAME`"):
        load_app(tmp_path)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("x = 1\nimport no_such_thing\n", r"app\.py:2: ModuleNotFoundError: .*install no_such_thi"),
        ("x = 1\n\nimport parts\n", r"app\.py:3: ModuleNotFoundError: .*`from \. import parts`"),
        ("def f(:\n", r"app\.py:1: SyntaxError: "),
        ("1 / 0\n", r"app\.py:1: ZeroDivisionError: division by zero"),
        (APP.replace("0.5", "0.5, tolerance=-1"), r"app\.py:\d+: "),
        ("app = 1\n", r"app\.py holds no App; write `app = App"),
        (APP + "import copy\nother = copy.copy(app)\n", "holds several Apps: app, other; keep one"),
    ],
)
def test_a_broken_app_is_one_line_with_the_place(source: str, message: str, tmp_path: Path) -> None:
    folder = write_app(tmp_path / "broken", source)
    with pytest.raises(AppError, match=message) as caught:
        load_app(folder)
    assert "\n" not in str(caught.value)


def test_an_app_that_was_mended_loads(tmp_path: Path) -> None:
    folder = write_app(tmp_path / "app", "import no_such_thing\n")
    with pytest.raises(AppError):
        load_app(folder)
    (folder / "app.py").write_text(APP)
    assert load_app(folder).name == "tiny"


def test_an_app_is_found_by_path_by_name_and_in_the_current_folder(tmp_path: Path) -> None:
    folder = write_app(tmp_path / "apps" / "tiny")
    assert find_app("tiny", tmp_path) == folder
    assert find_app("apps/tiny", tmp_path) == folder
    assert find_app(str(folder), tmp_path) == folder
    assert find_app("", folder) == folder


def test_an_unknown_app_lists_where_it_was_looked_for_and_what_there_is(tmp_path: Path) -> None:
    write_app(tmp_path / "apps" / "tiny")
    with pytest.raises(AppError) as caught:
        find_app("tinny", tmp_path)
    message = "there is no app 'tinny'; looked for tinny/app.py and apps/tinny/app.py"
    assert str(caught.value) == f"{message}; there are: tiny"
    with pytest.raises(AppError, match="there is no app in this folder"):
        find_app("", tmp_path)


def test_the_classes_of_an_app_travel_by_value_to_where_there_is_no_such_app(tmp_path) -> None:
    folder = write_app(tmp_path / "one")
    (folder / "parts.py").write_text(
        "NAME = 'one'\nclass Twice:\n    def predict(self, X):\n        return 2 * X, NAME\n"
    )
    load_app(folder)
    package = package_name(folder)
    pickle_by_value(folder)
    try:
        data = cloudpickle.dumps(sys.modules[f"{package}.parts"].Twice())
    finally:
        cloudpickle.unregister_pickle_by_value(sys.modules[package])
        forget_app(folder)
    shutil.rmtree(folder)

    assert pickle.loads(data).predict(3) == (6, "one")
    assert not any(name.startswith(package) for name in sys.modules)


def test_pickling_an_app_by_value_that_was_never_loaded_does_nothing(tmp_path) -> None:
    before = cloudpickle.list_registry_pickle_by_value()
    pickle_by_value(tmp_path)
    assert cloudpickle.list_registry_pickle_by_value() == before
