"""``greenroom compile``: versions of a registry, compiled on this machine beside their files."""

from __future__ import annotations

import lightgbm
import numpy as np
import pytest
import xgboost
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import GradientBoostingRegressor, RandomForestClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, PolynomialFeatures, StandardScaler
from sklearn.svm import SVC

from builders import foreign, labels, numbers, version
from greenroom.compilation import compile_registered
from greenroom.data.frames import to_frame
from greenroom.errors import NotConvertible, VersionUnloadable
from greenroom.inference.runtime import load_native, load_runtime
from greenroom.schema import Column, Schema, matrix
from greenroom.versions.manifest import REFERENCE_FILE
from greenroom.versions.model_store import ModelStore
from test_compiled import compiled_version
from test_following import FakeRegistry

INPUTS = [{"type": "double", "name": "a"}, {"type": "long", "name": "b"}]
ROWS = numbers(200)
FRAME = to_frame(ROWS)
NAMES = np.array(["no", "yes"])


@pytest.fixture
def registry(tmp_path):
    return FakeRegistry(tmp_path / "registry")


@pytest.fixture
def store(tmp_path):
    return ModelStore(tmp_path / "store")


def registered(registry, write, *args, **fields):
    """Register what ``write`` leaves in a directory as version 1."""
    write(registry.add(1, files={}, tagged=False), *args, **fields)
    return registry.held["model", "1"]


ESTIMATORS = {
    "logistic": make_pipeline(StandardScaler(), LogisticRegression()).fit(
        FRAME, NAMES[labels(ROWS)]
    ),
    "forest": RandomForestClassifier(5, max_depth=5, random_state=0).fit(
        FRAME, NAMES[labels(ROWS)]
    ),
    "boosting": make_pipeline(SimpleImputer(), GradientBoostingRegressor(n_estimators=5)).fit(
        FRAME, ROWS["a"] * 1_000
    ),
    "categories": make_pipeline(
        ColumnTransformer(
            [("c", OneHotEncoder(handle_unknown="ignore"), ["b"]), ("s", StandardScaler(), ["a"])]
        ),
        LogisticRegression(),
    ).fit(FRAME, NAMES[labels(ROWS)]),
    "xgboost": xgboost.XGBClassifier(n_estimators=5, n_jobs=1).fit(FRAME, labels(ROWS)),
    "lightgbm": lightgbm.LGBMClassifier(n_estimators=5, n_jobs=1, verbose=-1).fit(
        FRAME, NAMES[labels(ROWS)]
    ),
}


@pytest.mark.parametrize("name", ESTIMATORS)
def test_a_version_that_was_trained_elsewhere_is_compiled_and_answers_the_same(
    registry, store, name
):
    found = registered(registry, foreign, ESTIMATORS[name], INPUTS)
    compilation = compile_registered(registry, store, found)
    assert compilation.report.passed
    assert compilation.report.thresholds_proved == compilation.report.thresholds
    digest = compilation.directory.parent.name
    assert store.compiled.verify(digest) == compilation.directory
    native = load_native(store.verify(digest))
    for trust in ("any", "onnx"):
        runtime = load_runtime(store.path(digest), None, compilation.directory, trust=trust)
        runtime.warm()
        assert (runtime.kind, runtime.accepts_matrix) == ("compiled", True)
        assert (runtime.classes, runtime.schema) == (native.classes, native.schema)
        assert runtime.task.outputs == native.task.outputs
        answered = runtime.predict_matrix(matrix(ROWS)).outputs
        expected = native.predict(ROWS).outputs
        assert list(answered) == list(expected)
        if native.classes:
            assert answered["prediction"].tolist() == expected["prediction"].tolist()
            np.testing.assert_allclose(
                answered["probabilities"], expected["probabilities"], atol=1e-6
            )
        else:
            np.testing.assert_allclose(answered["prediction"], expected["prediction"], 1e-6)


def test_where_the_signature_holds_float32_so_does_the_graph(registry, store):
    inputs = [{"type": "float", "name": "a"}, {"type": "double", "name": "b"}]
    found = registered(registry, foreign, ESTIMATORS["lightgbm"], inputs)
    compilation = compile_registered(registry, store, found)
    directory = store.path(compilation.directory.parent.name)
    runtime = load_runtime(directory, None, compilation.directory)
    tenth, rounded = np.array([[0.1, 3.0]]), np.array([[float(np.float32(0.1)), 3.0]])
    assert runtime.kind == "compiled"
    one, other = (runtime.predict_matrix(X).outputs["probability"] for X in (tenth, rounded))
    assert one.tolist() == other.tolist()


@pytest.mark.parametrize(
    ("estimator", "inputs", "said"),
    [
        (SVC().fit(FRAME, labels(ROWS)), INPUTS, "SVC gives no probabilities"),
        (
            make_pipeline(PolynomialFeatures(), LogisticRegression()).fit(FRAME, labels(ROWS)),
            INPUTS,
            "PolynomialFeatures is not compiled; its own estimator serves it",
        ),
        (
            ESTIMATORS["logistic"],
            [*INPUTS, {"type": "string", "name": "t"}],
            "'t' holds no numbers",
        ),
    ],
    ids=["no graph", "unknown step", "text"],
)
def test_what_does_not_compile_says_why_and_nothing_is_kept(
    registry, store, estimator, inputs, said
):
    found = registered(registry, foreign, estimator, inputs)
    with pytest.raises(NotConvertible, match=said):
        compile_registered(registry, store, found)
    assert list((store.root / "compiled").iterdir()) == []
    assert list((store.root / "staging").iterdir()) == []


def test_a_graph_that_is_not_proved_takes_what_was_kept_before_along(registry, store, monkeypatch):
    found = registered(registry, foreign, ESTIMATORS["logistic"], INPUTS)
    kept = compile_registered(registry, store, found).directory
    monkeypatch.setattr("greenroom.compiler.parity.BOUND", -1.0)
    with pytest.raises(NotConvertible, match=r"model version 1 is not compiled: answers differ"):
        compile_registered(registry, store, found)
    assert not kept.exists()
    assert store.verify(kept.parent.name).is_dir()


def test_compiling_twice_keeps_the_same_files(registry, store):
    found = registered(registry, foreign, ESTIMATORS["forest"], INPUTS)
    once = compile_registered(registry, store, found).directory
    assert compile_registered(registry, store, found).directory == once


def test_a_version_of_greenrooms_own_is_compiled_on_its_reference_sample(registry, store):
    source = "def features(columns):\n    return {'sum': columns['a'] + columns['b']}\n"
    found = registered(registry, version, features=source)
    compilation = compile_registered(registry, store, found)
    assert compilation.report.rows["reference"] == 40
    directory = store.path(compilation.directory.parent.name)
    runtime, native = load_runtime(directory, None, compilation.directory), load_native(directory)
    assert (runtime.kind, runtime.manifest) == ("compiled", native.manifest)
    np.testing.assert_allclose(
        runtime.predict(ROWS).outputs["probability"], native.predict(ROWS).outputs["probability"]
    )


def test_without_a_reference_sample_a_version_of_greenrooms_own_is_not_proved(registry, store):
    found = registered(registry, version, reference=False)
    with pytest.raises(NotConvertible, match="no reference sample"):
        compile_registered(registry, store, found)


def test_a_version_that_was_compiled_when_it_was_trained_is_left_as_it_is(registry, store):
    found = registered(registry, compiled_version)
    compilation = compile_registered(registry, store, found)
    assert compilation.by_training
    assert (compilation.directory / REFERENCE_FILE).exists()
    assert list((store.root / "compiled").iterdir()) == []


def test_a_model_without_named_columns_is_compiled_for_those_that_are_declared(registry, store):
    estimator = xgboost.XGBRegressor(n_estimators=3, n_jobs=1).fit(matrix(ROWS), ROWS["a"])
    found = registered(registry, foreign, estimator, None)
    with pytest.raises(VersionUnloadable, match="no signature"):
        compile_registered(registry, store, found)
    declared = Schema((Column("a", minimum=-3, maximum=3), Column("b", "integer")))
    compilation = compile_registered(registry, store, found, declared=declared)
    directory = store.path(compilation.directory.parent.name)
    assert load_runtime(directory, declared, compilation.directory).kind == "compiled"
    other = Schema((Column("b"), Column("a")))
    assert load_runtime(directory, other, compilation.directory).kind == "native"
    with pytest.raises(VersionUnloadable, match="other columns"):
        load_runtime(directory, other, compilation.directory, trust="onnx")


@pytest.mark.parametrize("file", ["model.onnx", "parity.json", "check.npz"])
def test_harmed_files_beside_a_version_give_way_to_its_estimator(registry, store, file, caplog):
    found = registered(registry, foreign, ESTIMATORS["logistic"], INPUTS)
    compiled = compile_registered(registry, store, found).directory
    (compiled / "greenroom" / file).write_bytes(b"{}")
    directory = store.path(compiled.parent.name)
    assert load_runtime(directory, None, compiled).kind == "native"
    assert "its estimator serves" in caplog.text
    with pytest.raises(VersionUnloadable):
        load_runtime(directory, None, compiled, trust="onnx")


def test_with_trust_onnx_a_version_that_was_not_compiled_says_what_to_do(registry, store):
    directory = foreign(registry.folder, ESTIMATORS["logistic"], INPUTS)
    with pytest.raises(VersionUnloadable, match="greenroom compile"):
        load_runtime(directory, trust="onnx")


def test_progress_is_told_with_the_share_that_is_done(registry, store):
    found = registered(registry, foreign, ESTIMATORS["forest"], INPUTS)
    told = []
    compile_registered(registry, store, found, on_progress=lambda *one: told.append(one))
    texts = [text for text, _ in told]
    assert texts[0] == "downloading the version"
    assert told[-1] == ("comparing answers beside thresholds", 1.0)
