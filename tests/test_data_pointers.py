"""DVC pointers: what they say, whether a file is the one, and DVC's own words where it fails."""

import hashlib
import sys

import pytest

from greenroom.data import data_pointers
from greenroom.data.data_pointers import find_pointer, pull
from greenroom.errors import DataError

ROWS = b"a,y\n1,0\n2,1\n"
MD5 = hashlib.md5(ROWS).hexdigest()


def write(folder, text, name="rows.csv.dvc"):
    (folder / "data").mkdir(exist_ok=True)
    (folder / "data" / name).write_text(text, encoding="utf-8")


def points(md5=MD5, path="rows.csv", more="  hash: md5\n"):
    return f"outs:\n- md5: {md5}\n  size: {len(ROWS)}\n{more}  path: {path}\n"


def test_a_pointer_beside_a_file_says_its_md5_and_how_to_have_it(tmp_path):
    write(tmp_path, points())
    pointer = find_pointer(tmp_path, "data/rows.csv")

    assert pointer.md5 == MD5
    assert pointer.command == "dvc pull data/rows.csv.dvc"
    assert pointer.fits(ROWS)
    assert not pointer.fits(ROWS + b"3,1\n")


def test_without_a_pointer_there_is_none(tmp_path):
    assert find_pointer(tmp_path, "data/rows.csv") is None
    write(tmp_path, points(path="others.csv"), "others.csv.dvc")
    assert find_pointer(tmp_path, "data/rows.csv") is None


def test_a_pointer_may_have_another_name_than_its_file(tmp_path):
    write(tmp_path, points(path="rows.parquet"), "rows.csv.dvc")
    write(tmp_path, "outs: [", "broken.csv.dvc")
    pointer = find_pointer(tmp_path, "data/rows.parquet")

    assert (pointer.source, pointer.md5) == ("data/rows.parquet", MD5)
    assert pointer.command == "dvc pull data/rows.csv.dvc"
    with pytest.raises(DataError, match=r"holds no MD5 of rows\.csv"):
        find_pointer(tmp_path, "data/rows.csv")


def test_a_pointer_of_dvc_2_is_of_unix_line_ends(tmp_path):
    windows = ROWS.replace(b"\n", b"\r\n")
    write(tmp_path, points(more=""))
    assert find_pointer(tmp_path, "data/rows.csv").fits(windows)
    write(tmp_path, points())
    assert not find_pointer(tmp_path, "data/rows.csv").fits(windows)


def test_the_entry_is_found_among_several_and_below_a_working_folder(tmp_path):
    other = f"- md5: {'ab' * 16}\n  hash: md5\n  path: data/other.csv\n"
    write(tmp_path, points(path="data/rows.csv") + other + "wdir: ..\n")
    assert find_pointer(tmp_path, "data/rows.csv").md5 == MD5


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("outs: [", "cannot be read: it is not YAML"),
        ("", "holds no MD5 of rows.csv"),
        ("outs: nothing\n", "holds no MD5 of rows.csv"),
        ("- outs\n", "holds no MD5 of rows.csv"),
        (points(path="other.csv"), "holds no MD5 of rows.csv"),
        (points(md5="12"), "holds no MD5 of rows.csv"),
        ("outs:\n- etag: abc\n  path: rows.csv\n", "holds no MD5 of rows.csv"),
    ],
)
def test_a_pointer_that_says_nothing_is_an_error_that_names_it(text, problem, tmp_path):
    write(tmp_path, text)
    with pytest.raises(DataError, match=problem) as failed:
        find_pointer(tmp_path, "data/rows.csv")
    assert "data/rows.csv.dvc" in failed.value.message


class FakeDvc:
    """Stands in for ``python -m dvc``: a program of a few lines, called the same way."""

    def __init__(self, folder, monkeypatch, body):
        (folder / "fake").mkdir()
        (folder / "fake" / "dvc.py").write_text(body, encoding="utf-8")
        monkeypatch.setenv("PYTHONPATH", str(folder / "fake"))


def test_dvc_is_called_beside_the_pointer_as_anybody_would_call_it(tmp_path, monkeypatch):
    write(tmp_path, points())
    FakeDvc(
        tmp_path,
        monkeypatch,
        "import os, sys, pathlib\n"
        "assert os.environ['DVC_NO_ANALYTICS'] == '1'\n"
        "pathlib.Path('rows.csv').write_text(' '.join(sys.argv[1:]))\n",
    )
    said = []
    pull(find_pointer(tmp_path, "data/rows.csv"), lambda text, share: said.append(text))

    assert (tmp_path / "data" / "rows.csv").read_text() == "pull rows.csv.dvc"
    assert said == ["pulling data/rows.csv with DVC"]


def test_what_dvc_says_becomes_one_line_with_the_command_to_try(tmp_path, monkeypatch):
    write(tmp_path, points())
    FakeDvc(
        tmp_path,
        monkeypatch,
        "import sys\n"
        "sys.exit('WARNING: not this\\nERROR: failed to pull data from the cloud - for:\\n"
        "data/rows.csv\\nIs your cache up to date?\\n<https://error.example/missing-files>\\n')\n",
    )
    with pytest.raises(DataError) as failed:
        pull(find_pointer(tmp_path, "data/rows.csv"))

    assert str(failed.value) == (
        "DVC could not bring data/rows.csv: failed to pull data from the cloud - for: "
        "data/rows.csv Is your cache up to date?; try it by hand: dvc pull data/rows.csv.dvc"
    )


@pytest.mark.parametrize(
    ("written", "said"),
    [
        (
            "ERROR: unexpected error - gs needs 'dvc-gs'\n\nHaving any troubles?",
            "gs needs 'dvc-gs'",
        ),
        ("No module named dvc", "No module named dvc"),
        ("", "it does not say why"),
    ],
)
def test_the_words_are_dvcs_own_without_its_invitations(written, said):
    assert data_pointers._said(written) == said


def test_what_hinders_a_pull_is_said_as_what_to_do(tmp_path, monkeypatch):
    write(tmp_path, points())
    pointer = find_pointer(tmp_path, "data/rows.csv")
    monkeypatch.setattr(data_pointers, "find_spec", lambda name: None)
    assert data_pointers.hindrance(pointer).startswith("pip install 'greenroom[dvc]'")
    monkeypatch.setattr(data_pointers, "find_spec", lambda name: name)
    assert data_pointers.hindrance(pointer) == ""
    monkeypatch.setattr(data_pointers.os, "access", lambda path, mode: False)
    assert f"let this user write to {tmp_path / 'data'}" in data_pointers.hindrance(pointer)
    assert "dvc" not in sys.modules, "DVC is not imported to find that out"
