from __future__ import annotations

import json

import pytest
import yaml

from greenroom.errors import VersionCorrupt, VersionUnloadable
from greenroom.schema import Column
from greenroom.versions.mlmodel import read_mlmodel


def write(directory, **content):
    content.setdefault("flavors", {"sklearn": {"pickled_model": "model.pkl"}})
    (directory / "MLmodel").write_text(yaml.safe_dump(content))
    return directory


def signature(*inputs):
    return {"inputs": json.dumps(inputs), "outputs": None, "params": None}


def test_a_signature_becomes_columns_and_what_may_be_missing_is_nullable(tmp_path):
    inputs = [
        {"type": "double", "name": "a", "required": True},
        {"type": "long", "name": "b", "required": False},
        {"type": "string", "name": "c", "required": True},
        {"type": "datetime", "name": "d"},
        {"type": "boolean", "name": "e"},
    ]
    found = read_mlmodel(write(tmp_path, signature=signature(*inputs)))
    assert tuple(found.schema()) == (
        Column("a", "number"),
        Column("b", "integer", nullable=True),
        Column("c", "string"),
        Column("d", "datetime"),
        Column("e", "boolean"),
    )
    assert found.types["b"] == "long"


@pytest.mark.parametrize("content", [{}, {"signature": None}, {"signature": {"outputs": "[]"}}])
def test_a_model_without_signature_is_refused_pointing_to_how_to_log_one(tmp_path, content):
    with pytest.raises(VersionUnloadable, match=r"no signature.*infer_signature"):
        read_mlmodel(write(tmp_path, **content)).schema()


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ({"type": "binary", "name": "picture"}, "'picture' has type 'binary'"),
        ({"type": "array", "items": {"type": "double"}, "name": "v"}, "'v' has type 'array'"),
        ({"type": "double"}, "without a name"),
        ({"type": "tensor", "tensor-spec": {"dtype": "float64", "shape": [-1, 4]}}, "tensor"),
        ({"type": "double", "name": ""}, "is empty"),
    ],
)
def test_a_signature_that_is_not_made_of_plain_columns_is_refused_by_name(tmp_path, entry, said):
    found = read_mlmodel(write(tmp_path, signature=signature(entry)))
    with pytest.raises(VersionUnloadable, match=said):
        found.schema()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "no MLmodel"),
        ("flavors: [", "cannot be read"),
        ("- a list", "not what MLflow writes"),
        ("flavors: 3", "not what MLflow writes"),
        ("flavors: {}\nsignature: {inputs: '{'}", "cannot be read"),
        ("flavors: {}\nsignature: {inputs: '[1]'}", "cannot be read"),
    ],
)
def test_a_file_that_mlflow_did_not_write_is_corrupt(tmp_path, text, said):
    if text is not None:
        (tmp_path / "MLmodel").write_text(text)
    with pytest.raises(VersionCorrupt, match=said):
        read_mlmodel(tmp_path)


def test_yaml_that_would_make_python_objects_is_refused(tmp_path):
    (tmp_path / "MLmodel").write_text("flavors: !!python/object/apply:os.getcwd []")
    with pytest.raises(VersionCorrupt):
        read_mlmodel(tmp_path)


def test_pinned_requirements_are_read_by_their_normal_names(tmp_path):
    write(tmp_path)
    (tmp_path / "requirements.txt").write_text(
        "mlflow==3.17.2\nscikit_learn==1.9.1 ; python_version > '3'\nuvicorn[standard]==0.3\n"
        "# comment\npandas>=2\n-c constraints.txt\n"
    )
    assert read_mlmodel(tmp_path).requirements == {
        "mlflow": "3.17.2",
        "scikit-learn": "1.9.1",
        "uvicorn": "0.3",
    }


def test_the_rows_of_an_input_example_are_read_and_a_broken_one_is_no_obstacle(tmp_path):
    info = {"artifact_path": "input_example.json", "pandas_orient": "split", "type": "dataframe"}
    write(tmp_path, saved_input_example_info=info)
    example = tmp_path / "input_example.json"
    example.write_text('{"columns": ["a", "b"], "data": [[1, "x"], [2, "y"]]}')
    rows = read_mlmodel(tmp_path).example_rows()
    assert rows == [{"a": 1, "b": "x"}, {"a": 2, "b": "y"}]
    example.write_text('{"columns": ["a", "b"], "data": [[1]]}')
    assert read_mlmodel(tmp_path).example_rows() == []
    write(tmp_path, saved_input_example_info=info | {"type": "ndarray"})
    assert read_mlmodel(tmp_path).example_rows() == []
