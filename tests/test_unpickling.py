from __future__ import annotations

import pickle
import sys
import types

import cloudpickle
import numpy as np
import pytest
import skops.io
from sklearn.linear_model import LogisticRegression

from builders import classifier, foreign, pickled, sklearn_flavors, write_mlmodel
from greenroom.errors import VersionCorrupt, VersionUnloadable
from greenroom.versions.mlmodel import read_mlmodel
from greenroom.versions.unpickling import ALLOW_VARIABLE, check_packages, load_estimator

X = np.array([[0.0, 1.0], [2.0, 3.0]])


def load(directory, **options):
    return load_estimator(read_mlmodel(directory), environment={}, **options)


@pytest.mark.parametrize("form", ["pickle", "cloudpickle", "skops"])
def test_each_of_mlflows_formats_is_read(tmp_path, form):
    estimator = classifier()
    write_mlmodel(tmp_path, flavors=sklearn_flavors(form, "the.model"))
    if form == "skops":
        skops.io.dump(estimator, tmp_path / "the.model")
    else:
        dumps = {"pickle": pickle.dumps, "cloudpickle": cloudpickle.dumps}[form]
        (tmp_path / "the.model").write_bytes(dumps(estimator))
    names = {"a": X[:, 0], "b": X[:, 1]}
    import pandas as pd

    frame = pd.DataFrame(names)
    assert load(tmp_path).predict(frame).tolist() == estimator.predict(frame).tolist()


def test_an_unknown_format_is_refused_by_name(tmp_path):
    write_mlmodel(tmp_path, flavors=sklearn_flavors("joblib"))
    pickled(classifier(), tmp_path)
    with pytest.raises(VersionUnloadable, match="'joblib'"):
        load(tmp_path)


def test_a_missing_or_cut_off_file_is_corrupt_and_named(tmp_path):
    foreign(tmp_path, classifier(), None)
    path = tmp_path / "model.pkl"
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(VersionCorrupt, match=r"model\.pkl is cut off"):
        load(tmp_path)
    path.unlink()
    with pytest.raises(VersionCorrupt, match=r"model\.pkl is missing"):
        load(tmp_path)


def test_a_file_outside_of_the_directory_is_not_read(tmp_path):
    foreign(tmp_path / "version", classifier(), None)
    pickled(classifier(), tmp_path)
    write_mlmodel(tmp_path / "version", flavors=sklearn_flavors(file="../model.pkl"))
    with pytest.raises(VersionCorrupt, match="outside"):
        load(tmp_path / "version")


@pytest.fixture
def from_absent_package(tmp_path, monkeypatch):
    """A version whose pickle needs a package that is not installed any more."""
    package = types.ModuleType("greenroom_absent")
    package.Thing = type("Thing", (), {"__module__": "greenroom_absent"})
    monkeypatch.setitem(sys.modules, "greenroom_absent", package)
    foreign(tmp_path, package.Thing(), None)
    monkeypatch.delitem(sys.modules, "greenroom_absent")
    return tmp_path


def test_a_package_that_is_not_installed_is_named_with_its_recorded_version(from_absent_package):
    requirements = from_absent_package / "requirements.txt"
    requirements.write_text(requirements.read_text() + "greenroom-absent==1.2.3\n")
    with pytest.raises(VersionUnloadable) as raised:
        load(from_absent_package)
    assert raised.value.message == "it needs the package 'greenroom_absent', which is not installed"
    assert raised.value.advice == "pip install greenroom_absent==1.2.3"


def test_a_package_without_the_needed_module_is_named_as_such(tmp_path, monkeypatch):
    module = types.ModuleType("sklearn.absent")
    module.Thing = type("Thing", (), {"__module__": "sklearn.absent"})
    monkeypatch.setitem(sys.modules, "sklearn.absent", module)
    foreign(tmp_path, module.Thing(), None)
    monkeypatch.delitem(sys.modules, "sklearn.absent")
    with pytest.raises(
        VersionUnloadable, match=r"'sklearn\.absent', which the installed 'sklearn'"
    ):
        load(tmp_path)


class Explosive:
    def __reduce__(self):
        return (int, ("not a number",))


def test_whatever_a_pickle_raises_is_named(tmp_path):
    foreign(tmp_path, Explosive(), None)
    with pytest.raises(VersionUnloadable, match=r"model\.pkl does not load: ValueError"):
        load(tmp_path)


def test_another_scikit_learn_is_refused_naming_both_and_a_patch_release_is_not(tmp_path):
    foreign(tmp_path, classifier(), None)
    flavors = sklearn_flavors()
    flavors["sklearn"]["sklearn_version"] = "1.2.3"
    write_mlmodel(tmp_path, flavors=flavors)
    (tmp_path / "requirements.txt").write_text("")
    with pytest.raises(VersionUnloadable, match=r"scikit-learn 1\.2\.3, and 1\.4\.0 is installed"):
        check_packages(read_mlmodel(tmp_path), installed={"scikit-learn": "1.4.0"})
    check_packages(read_mlmodel(tmp_path), installed={"scikit-learn": "1.2.9"})


def test_the_requirements_count_where_the_flavour_says_nothing(tmp_path):
    write_mlmodel(tmp_path, flavors={"sklearn": {}})
    (tmp_path / "requirements.txt").write_text("scikit-learn==0.24.1\n")
    with pytest.raises(VersionUnloadable, match=r"scikit-learn 0\.24\.1"):
        load(tmp_path)


class FromThePast(LogisticRegression):
    """Says of itself what an estimator of an old scikit-learn says."""

    def __getstate__(self):
        return super().__getstate__() | {"_sklearn_version": "1.1.0"}


FromThePast.__module__ = "sklearn.linear_model"


def test_scikit_learns_own_word_counts_although_nothing_is_recorded(tmp_path, monkeypatch):
    monkeypatch.setattr("sklearn.linear_model.FromThePast", FromThePast, raising=False)
    foreign(tmp_path, FromThePast(), None)
    write_mlmodel(tmp_path, flavors={"sklearn": {"pickled_model": "model.pkl"}})
    (tmp_path / "requirements.txt").unlink()
    with pytest.raises(VersionUnloadable, match=r"made with scikit-learn 1\.1\.0"):
        load(tmp_path)


def test_nothing_is_unpickled_where_mlflows_own_switch_forbids_it(tmp_path):
    foreign(tmp_path, Explosive(), None)
    with pytest.raises(VersionUnloadable, match=ALLOW_VARIABLE):
        load_estimator(read_mlmodel(tmp_path), environment={ALLOW_VARIABLE: "False"})
