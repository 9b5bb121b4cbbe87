from __future__ import annotations

import lightgbm
import numpy as np
import pandas as pd
import pytest
import xgboost

from builders import write_mlmodel
from greenroom.compiler.booster_files import booster_flavor, load_booster, names_features
from greenroom.errors import VersionCorrupt, VersionUnloadable
from greenroom.versions.mlmodel import read_mlmodel

FRAME = pd.DataFrame({"a": np.arange(20.0), "b": np.arange(20.0)[::-1]})
CLASS = "xgboost.sklearn.XGBRegressor"


def written(directory, model=None, *, kind=CLASS, release=xgboost.__version__, loader="xgboost"):
    flavor = {"data": "model.ubj", "model_class": kind, "xgb_version": release, "code": None}
    python = {"loader_module": f"mlflow.{loader}"}
    write_mlmodel(directory, flavors={"xgboost": flavor, "python_function": python})
    if model is not None:
        model.save_model(directory / "model.ubj")
    return read_mlmodel(directory)


def test_an_estimator_answers_as_it_did_before_it_was_saved(tmp_path):
    fitted = xgboost.XGBRegressor(n_estimators=3, n_jobs=1).fit(FRAME, FRAME["a"])
    loaded = load_booster(written(tmp_path, fitted), "xgboost")
    assert names_features(loaded)
    assert np.array_equal(loaded.predict(FRAME), fitted.predict(FRAME))


def test_a_bare_booster_answers_the_number_of_its_objective(tmp_path):
    data = xgboost.DMatrix(FRAME.to_numpy(), FRAME["a"] > 9)
    bare = xgboost.train({"objective": "binary:logistic", "nthread": 1}, data, 3)
    model = written(tmp_path, bare, kind="xgboost.core.Booster")
    loaded = load_booster(model, "xgboost")
    assert not names_features(loaded)
    assert np.array_equal(loaded.predict(FRAME.to_numpy()), bare.predict(data))


def trained(objective, y, **more):
    options = {"objective": objective, "nthread": 1, **more}
    return xgboost.train(options, xgboost.DMatrix(FRAME, y), 3)


def test_a_bare_booster_of_several_classes_answers_their_probabilities(tmp_path):
    bare = trained("multi:softprob", np.arange(20) % 3, num_class=3)
    loaded = load_booster(written(tmp_path, bare, kind="xgboost.core.Booster"), "xgboost")
    expected = bare.predict(xgboost.DMatrix(FRAME))
    assert loaded.classes_.tolist() == [0, 1, 2]
    assert np.array_equal(loaded.predict_proba(FRAME), expected)
    assert np.array_equal(loaded.predict(FRAME), expected.argmax(axis=1))


def test_a_bare_booster_that_answers_classes_answers_them_as_labels(tmp_path):
    bare = trained("multi:softmax", np.arange(20) % 3, num_class=3)
    loaded = load_booster(written(tmp_path, bare, kind="xgboost.core.Booster"), "xgboost")
    assert not hasattr(loaded, "predict_proba")
    assert loaded.classes_.tolist() == [0, 1, 2]
    assert loaded.predict(FRAME).tolist() == bare.predict(xgboost.DMatrix(FRAME)).tolist()
    assert loaded.predict(FRAME).dtype == np.int64


def test_a_bare_lightgbm_booster_of_several_classes_answers_their_probabilities(tmp_path):
    fitted = lightgbm.LGBMClassifier(n_estimators=2, n_jobs=1, verbose=-1, min_child_samples=2)
    bare = fitted.fit(FRAME, np.arange(20) % 3).booster_
    bare.save_model(tmp_path / "model.lgb")
    flavor = {"data": "model.lgb", "lgb_version": lightgbm.__version__}
    write_mlmodel(tmp_path, flavors={"lightgbm": flavor})
    loaded = load_booster(read_mlmodel(tmp_path), "lightgbm")
    assert np.array_equal(loaded.predict_proba(FRAME), fitted.predict_proba(FRAME))
    assert np.array_equal(loaded.predict(FRAME), fitted.predict(FRAME))


def test_a_booster_of_several_targets_is_refused(tmp_path):
    y = np.stack([np.arange(20.0), np.arange(20.0)], axis=1)
    model = written(tmp_path, trained("reg:squarederror", y), kind="xgboost.core.Booster")
    with pytest.raises(VersionUnloadable, match="2 numbers for each row"):
        load_booster(model, "xgboost").predict(FRAME)


def test_another_release_of_the_library_is_refused_by_name(tmp_path):
    with pytest.raises(VersionUnloadable, match=r"made with xgboost 0\.90"):
        load_booster(written(tmp_path, release="0.90"), "xgboost")


def test_a_class_of_another_package_is_not_made(tmp_path):
    fitted = xgboost.XGBRegressor(n_estimators=1, n_jobs=1).fit(FRAME, FRAME["a"])
    with pytest.raises(VersionUnloadable, match="is not one of xgboost's"):
        load_booster(written(tmp_path, fitted, kind="os.system"), "xgboost")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(VersionCorrupt, match=r"model\.ubj is missing"):
        load_booster(written(tmp_path), "xgboost")


def test_a_model_that_something_else_wraps_is_not_its_booster(tmp_path):
    assert booster_flavor(written(tmp_path)) == "xgboost"
    assert booster_flavor(written(tmp_path, loader="pyfunc.model")) == ""
