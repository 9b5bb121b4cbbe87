"""Versions with a graph: written by training, opened without unpickling, refused when wrong."""

from __future__ import annotations

import subprocess
import sys

import msgspec
import numpy as np
import pandas as pd
import pytest
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.linear_model import LinearRegression
from sklearn.svm import SVC

from builders import COLUMNS, classifier, foreign, labels, numbers, version
from greenroom.compiler.compiled import (
    CHECK_FILE,
    GRAPH_FILE,
    PARITY_FILE,
    compile_version,
    read_parity,
)
from greenroom.data.features import features_digest
from greenroom.data.frames import to_frame
from greenroom.errors import VersionCorrupt, VersionUnloadable
from greenroom.inference.generation import Deployment, Generation
from greenroom.inference.inference import Engine
from greenroom.inference.runtime import load_native, load_runtime
from greenroom.schema import matrix
from greenroom.status import VersionStatus
from greenroom.task import TASKS, classification

FEATURES = """
def features(columns):
    return {"sum": columns["a"] + columns["b"], "a": columns["a"]}
"""


class Trap:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


def compiled_version(directory, *, estimator=None, task="classification", features="", rows=None):
    """Write a version as training does, with what compiling leaves in it."""
    from greenroom.data.features import load_features

    rows = numbers() if rows is None else rows
    made = load_features(features).features(dict(rows)) if features else rows
    estimator = classifier(made) if estimator is None else estimator
    inputs = to_frame(made)
    version(directory, estimator=estimator, rows=rows, features=features, task=task)
    report = compile_version(
        directory, estimator, TASKS[task], inputs, TASKS[task].predict(estimator, inputs)
    )
    return directory, estimator, report


def test_a_compiled_version_answers_as_its_estimator_does(tmp_path):
    directory, _, report = compiled_version(tmp_path)
    runtime, native = load_runtime(directory), load_native(directory)
    runtime.warm()
    rows = numbers(500, seed=7)
    found, expected = runtime.predict_matrix(matrix(rows)), native.predict_matrix(matrix(rows))
    assert report.passed
    assert (runtime.kind, native.kind) == ("compiled", "native")
    assert runtime.accepts_matrix
    assert runtime.classes == native.classes
    assert found.outputs["prediction"].dtype == expected.outputs["prediction"].dtype
    np.testing.assert_array_equal(found.outputs["prediction"], expected.outputs["prediction"])
    for name in ("probability", "probabilities"):
        np.testing.assert_allclose(found.outputs[name], expected.outputs[name], rtol=0, atol=1e-12)


def test_what_is_missing_where_the_estimator_takes_none_is_refused_by_both(tmp_path):
    directory, _, _ = compiled_version(tmp_path)
    for runtime in (load_runtime(directory), load_native(directory)):
        with pytest.raises(ValueError, match="NaN"):
            runtime.predict_matrix(np.array([[np.nan, 1.0]]))


def test_features_run_before_the_graph(tmp_path):
    directory, _, _ = compiled_version(tmp_path, features=FEATURES)
    runtime, native = load_runtime(directory), load_native(directory)
    assert runtime.kind == "compiled"
    assert not runtime.accepts_matrix
    np.testing.assert_allclose(
        runtime.predict(numbers()).outputs["probability"],
        native.predict(numbers()).outputs["probability"],
        rtol=0,
        atol=1e-12,
    )


def test_a_regression_is_compiled(tmp_path):
    rows = numbers(100)
    estimator = LinearRegression().fit(to_frame(rows), rows["a"] * 2 - rows["b"])
    directory, _, _ = compiled_version(tmp_path, estimator=estimator, task="regression", rows=rows)
    runtime = load_runtime(directory)
    assert runtime.kind == "compiled"
    found = runtime.predict_matrix(np.array([[3.0, 1.0]])).outputs["prediction"]
    np.testing.assert_allclose(found, [5.0])


def test_what_does_not_compile_says_why_and_its_estimator_serves(tmp_path):
    rows = numbers(100)
    estimator = SVC().fit(to_frame(rows), labels(rows))
    directory, _, report = compiled_version(tmp_path, estimator=estimator, rows=rows)
    assert not report.passed
    assert report.reason == "SVC gives no probabilities"
    assert read_parity(directory) == report
    assert not (directory / GRAPH_FILE).exists()
    assert load_runtime(directory).kind == "native"
    with pytest.raises(VersionUnloadable, match="trust is onnx: SVC gives no probabilities"):
        load_runtime(directory, trust="onnx")


def test_a_column_of_text_does_not_compile(tmp_path):
    inputs = pd.DataFrame({"a": [1.0, 2.0], "t": pd.Series(["x", "y"], dtype=object)})
    report = compile_version(tmp_path, None, classification, inputs, None)
    assert report.reason == "the column 't' holds no numbers"


@pytest.mark.parametrize("file", [GRAPH_FILE, CHECK_FILE])
def test_a_file_that_is_not_the_proved_one_is_corrupt(tmp_path, file):
    directory, _, _ = compiled_version(tmp_path)
    (directory / file).write_bytes((directory / file).read_bytes() + b" ")
    with pytest.raises(VersionCorrupt, match=file):
        load_runtime(directory)
    (directory / file).unlink()
    with pytest.raises(VersionCorrupt, match=file):
        load_runtime(directory)


def test_a_report_that_cannot_be_read_is_corrupt(tmp_path):
    directory, _, _ = compiled_version(tmp_path)
    (directory / PARITY_FILE).write_text("{}")
    with pytest.raises(VersionCorrupt, match="parity"):
        load_runtime(directory)


def test_a_graph_that_answers_otherwise_here_leaves_it_to_the_estimator_and_says_so(
    tmp_path, caplog
):
    directory, _, _ = compiled_version(tmp_path / "one")
    rows = numbers()
    other = HistGradientBoostingClassifier(max_iter=3).fit(to_frame(rows), labels(rows))
    another, _, _ = compiled_version(tmp_path / "two", estimator=other, rows=rows)
    (directory / GRAPH_FILE).write_bytes((another / GRAPH_FILE).read_bytes())
    digest = read_parity(another).graph_digest
    report = msgspec.structs.replace(read_parity(directory), graph_digest=digest)
    (directory / PARITY_FILE).write_bytes(msgspec.json.encode(report))

    assert load_runtime(directory).kind == "native"
    assert "answers otherwise" in caplog.text
    with pytest.raises(VersionUnloadable, match="answers otherwise"):
        load_runtime(directory, trust="onnx")


def test_with_trust_onnx_nothing_is_unpickled(tmp_path):
    import cloudpickle

    directory, _, _ = compiled_version(tmp_path / "version")
    trap = tmp_path / "sprung"
    (directory / "model.pkl").write_bytes(cloudpickle.dumps(Trap(trap)))

    runtime = load_runtime(directory, trust="onnx")
    runtime.warm()
    assert runtime.kind == "compiled"
    assert not trap.exists()
    (directory / PARITY_FILE).unlink()
    with pytest.raises(VersionUnloadable, match="nothing was compiled"):
        load_runtime(directory, trust="onnx")
    assert not trap.exists()


def test_with_trust_onnx_a_foreign_version_is_refused_unread(tmp_path):
    inputs = [{"type": "double", "name": column.name} for column in COLUMNS]
    trap = tmp_path / "sprung"
    directory = foreign(tmp_path / "m", Trap(trap), inputs)
    with pytest.raises(VersionUnloadable, match="no compiled runtime"):
        load_runtime(directory, trust="onnx")
    assert not trap.exists()


def test_with_trust_onnx_only_the_installed_apps_features_run(tmp_path):
    directory, _, _ = compiled_version(tmp_path, features=FEATURES)
    with pytest.raises(VersionUnloadable, match="features are not those of the installed app"):
        load_runtime(directory, trust="onnx")
    allowed = {features_digest(FEATURES)}
    assert load_runtime(directory, trust="onnx", features_digests=allowed).kind == "compiled"


def test_an_engine_answers_from_a_compiled_version(tmp_path):
    directory, estimator, _ = compiled_version(tmp_path)
    deployment = Deployment(
        model="m",
        name="m",
        selector="Production",
        route="/predict",
        serving=VersionStatus(version="1", stage="Production", runtime="compiled"),
        directory=str(directory),
    )
    engine = Engine(lambda: 1)
    engine.prepare(Generation(number=1, deployments=(deployment,)))
    rows = numbers(1, seed=5)
    body = msgspec.json.encode({name: float(values[0]) for name, values in rows.items()})
    reply = msgspec.json.decode(engine.current().models["/predict"].answer(body))
    expected = estimator.predict_proba(to_frame(rows))[0, 1]
    assert reply["probability"] == pytest.approx(expected, abs=1e-12)


def test_a_worker_with_a_compiled_version_needs_neither_pandas_nor_scikit_learn(tmp_path):
    directory, _, _ = compiled_version(tmp_path)
    code = (
        "import sys; from pathlib import Path\n"
        "from greenroom.inference.runtime import load_runtime\n"
        f"runtime = load_runtime(Path({str(directory)!r})); runtime.warm()\n"
        "assert runtime.kind == 'compiled'\n"
        "heavy = {'pandas', 'sklearn', 'mlflow', 'onnx', 'pyarrow', 'scipy'} & sys.modules.keys()\n"
        "assert not heavy, heavy\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
