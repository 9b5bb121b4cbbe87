"""Datasets: read as declared, refused as a whole, and fingerprinted by bytes and by content."""

import hashlib
import os
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from greenroom import Column, Gate, Model, anomaly, classification, regression
from greenroom.data.fingerprint import row_keys
from greenroom.errors import DataError, DataMissing
from greenroom.training.dataset import load_dataset, require_dataset

SHARED = Path(__file__).parents[2] / "shared" / "data"
COLUMNS = (
    Column("age", "integer", minimum=0),
    Column("income", nullable=True),
    Column("code", "string", nullable=True),
)


def model(**changes):
    values = {
        "name": "m",
        "task": classification,
        "columns": COLUMNS,
        "dataset": "rows.csv",
        "target": "y",
        "candidates": lambda seed: {},
    } | changes
    gates = {"regression": "r2_score", "anomaly": "anomaly_rate", "classification": "accuracy"}
    values["gate"] = Gate(gates[values["task"].name])
    return Model(**values)


def shared(path):
    found = SHARED / path
    if not found.exists():
        pytest.skip(f"{path} is not beside the repository (../shared/data)")
    return str(found)


def write(folder, text, name="rows.csv"):
    (folder / name).write_text(text, encoding="utf-8")


def test_csv_is_read_as_the_columns_declare(tmp_path):
    write(tmp_path, "id,y,code,age,income\n1,0,001,30,NA\n2,1,,41,1e3\n")
    data = load_dataset(model(), tmp_path)
    assert list(data.columns) == ["age", "income", "code"]
    assert data.columns["code"].tolist() == ["001", None]
    assert data.columns["age"].tolist() == [30.0, 41.0]
    assert np.array_equal(data.columns["income"], [np.nan, 1000.0], equal_nan=True)
    assert (data.target.tolist(), data.target.dtype) == ([0, 1], np.int64)
    assert (data.n_rows, data.ignored, data.generated) == (2, ("id",), False)
    assert (data.name, data.source) == ("rows.csv", "rows.csv")
    digest = hashlib.sha256((tmp_path / "rows.csv").read_bytes()).hexdigest()
    assert data.dataset_hash == digest


rows_of_a_file = st.lists(
    st.tuples(
        st.integers(0, 120),
        st.one_of(st.none(), st.floats(allow_nan=False, allow_infinity=False)),
        st.one_of(st.none(), st.text(st.characters(codec="utf-8"))),
        st.integers(0, 1),
    ),
    min_size=2,
    max_size=6,
).filter(lambda rows: len({row[-1] for row in rows}) == 2)


@settings(
    max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(rows_of_a_file)
def test_csv_and_parquet_of_the_same_rows_have_equal_content(tmp_path, rows):
    age, income, code, y = (list(values) for values in zip(*rows, strict=True))
    table = pa.table({"age": age, "income": pa.array(income, pa.float64()), "y": y})
    table = table.append_column("code", pa.array(code, pa.string()))
    pyarrow.parquet.write_table(table, tmp_path / "rows.parquet")
    pyarrow.csv.write_csv(table, tmp_path / "rows.csv")
    csv = load_dataset(model(), tmp_path)
    parquet = load_dataset(model(dataset="rows.parquet"), tmp_path)
    assert csv.content_hash == parquet.content_hash
    assert csv.dataset_hash != parquet.dataset_hash
    assert row_keys(csv.columns, COLUMNS).tolist() == row_keys(parquet.columns, COLUMNS).tolist()


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(rows_of_a_file, st.data())
def test_one_changed_cell_changes_both_hashes(tmp_path, rows, data):
    def lines(table):
        return ["age,income,y", *(f"{a},{'' if i is None else i},{y}" for a, i, _, y in table)]

    write(tmp_path, "\n".join(lines(rows)))
    row = data.draw(st.integers(0, len(rows) - 1))
    changed = list(rows)
    changed[row] = (rows[row][0] + 1, *rows[row][1:])
    write(tmp_path, "\n".join(lines(changed)), "other.csv")
    columns = COLUMNS[:2]
    before = load_dataset(model(columns=columns), tmp_path)
    after = load_dataset(model(columns=columns, dataset="other.csv"), tmp_path)
    assert before.content_hash != after.content_hash
    assert before.dataset_hash != after.dataset_hash


def test_the_target_counts_for_the_content(tmp_path):
    write(tmp_path, "age,y\n1,0\n2,1\n")
    write(tmp_path, "age,y\n1,1\n2,0\n", "other.csv")
    columns = COLUMNS[:1]
    one = load_dataset(model(columns=columns), tmp_path)
    other = load_dataset(model(columns=columns, dataset="other.csv"), tmp_path)
    assert one.content_hash != other.content_hash


def test_a_missing_file_names_the_path_and_where_to_put_it(tmp_path):
    with pytest.raises(DataMissing) as caught:
        load_dataset(model(dataset="data/cs-training.csv"), tmp_path)
    assert "FileNotFoundError: data/cs-training.csv" in caught.value.message
    assert str(tmp_path / "data/cs-training.csv") in caught.value.advice
    assert "--generated" not in caught.value.advice


def stand_in(seed):
    random = np.random.default_rng(seed)
    codes = np.array(["a", "b"] * 5, dtype=object)
    return {
        "age": random.integers(0, 99, 10),
        "income": random.random(10),
        "code": codes,
        "y": np.arange(10) % 2,
    }


def test_nothing_is_generated_unasked_but_the_way_is_named(tmp_path):
    with pytest.raises(DataMissing, match=r"--generated \(GREENROOM_GENERATED=1\)"):
        load_dataset(model(generated=stand_in), tmp_path)


def test_generated_data_say_so_and_are_the_same_for_a_seed(tmp_path):
    first, second = (
        load_dataset(model(generated=stand_in), tmp_path, generated=True) for _ in range(2)
    )
    assert first.generated
    assert first.source == "generated data (seed 42)"
    assert first.dataset_hash == first.content_hash == second.content_hash


def test_the_file_is_used_where_it_is_there_although_generated_data_were_allowed(tmp_path):
    write(tmp_path, "age,income,code,y\n1,1,x,0\n2,1,x,1\n")
    data = load_dataset(model(generated=stand_in), tmp_path, generated=True)
    assert (data.generated, data.n_rows) == (False, 2)


def test_a_function_gives_the_rows(tmp_path):
    def rows():
        return stand_in(0) | {"extra": np.zeros(10)}

    data = load_dataset(model(dataset=rows), tmp_path)
    assert (data.name, data.ignored, data.n_rows) == ("rows", ("extra",), 10)
    assert data.dataset_hash == data.content_hash
    assert load_dataset(model(dataset=rows, dataset_name="own"), tmp_path).name == "own"


def test_everything_that_does_not_fit_is_told_at_once_by_line_and_without_values(tmp_path):
    lines = ["age,income,y", "-5,secret,0", "3,1,1", ",2,0", "x7,3,", "4,4,1"]
    write(tmp_path, "\n".join(lines) + "\n")
    with pytest.raises(DataError) as caught:
        load_dataset(model(), tmp_path)
    text = str(caught.value)
    assert "no column 'code' (there are: age, income, y)" in text
    assert "column 'age': 1 value is below the minimum 0 (line 2)" in text
    assert "column 'age': 1 value is missing (line 4)" in text
    assert "column 'age': 1 value is not a number (line 5)" in text
    assert "column 'income': 1 value is not a number (line 2)" in text
    assert "column 'y': 1 value is missing (line 5)" in text
    assert "secret" not in text
    assert "x7" not in text


def test_only_the_first_lines_of_many_are_named(tmp_path):
    write(tmp_path, "age,y\n" + "x,1\n" * 5)
    with pytest.raises(DataError, match=r"5 values are not a number \(lines 2, 3, 4, \.\.\.\)"):
        load_dataset(model(columns=COLUMNS[:1]), tmp_path)


def test_rows_are_counted_where_values_hold_line_breaks(tmp_path):
    write(tmp_path, 'age,code,y\n1,"a\nb",0\nx,c,1\n')
    columns = (COLUMNS[0], COLUMNS[2])
    with pytest.raises(DataError, match=r"not a number \(row 2\)"):
        load_dataset(model(columns=columns), tmp_path)


def test_lines_with_too_many_or_too_few_fields_are_named(tmp_path):
    write(tmp_path, "age,y\n1,0\n2\n3,1\n4,1,private\n")
    with pytest.raises(DataError) as caught:
        load_dataset(model(columns=COLUMNS[:1]), tmp_path)
    assert "2 lines have another number of fields than the header's 2 (lines 3, 5)" in str(
        caught.value
    )
    assert "private" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"age,y\n", "has no rows"),
        (b"age,y\n" + b"1,0\n" * 9_000 + b"\xff,1\n", "is not in UTF-8"),
        (b"\xff\xfea\x00", "neither Parquet nor CSV in UTF-8"),
        (b"PAR1 and nothing else", "cannot be read as Parquet"),
        (b"age,age,y\n1,2,0\n1,2,1\n", "'age' is there more than once"),
        (b"age,y\n1,1\n2,1\n", "holds one class only"),
    ],
)
def test_a_file_that_cannot_be_used_says_why(tmp_path, content, message):
    (tmp_path / "rows.csv").write_bytes(content)
    with pytest.raises(DataError, match=message):
        load_dataset(model(columns=COLUMNS[:1]), tmp_path)


def test_rows_that_are_only_looked_at_need_no_target_and_no_second_class(tmp_path):
    asked = model(columns=COLUMNS[:1])
    for content, target in (("age\n1\n2\n", None), ("age,y\n1,1\n2,1\n", [1, 1])):
        write(tmp_path, content)
        found = load_dataset(asked, tmp_path, to_train=False)
        assert found.columns["age"].tolist() == [1, 2]
        assert (None if found.target is None else found.target.tolist()) == target
    write(tmp_path, "age\n")
    assert load_dataset(asked, tmp_path, to_train=False).n_rows == 0
    write(tmp_path, "y\n1\n")
    with pytest.raises(DataError, match="no column 'age'"):
        load_dataset(asked, tmp_path, to_train=False)
    with pytest.raises(DataMissing) as caught:
        load_dataset(model(generated=stand_in, dataset="x.csv"), tmp_path, to_train=False)
    assert "--generated" not in str(caught.value)


def test_data_can_be_asked_for_without_being_read(tmp_path):
    with pytest.raises(DataMissing, match=r"FileNotFoundError: rows\.csv"):
        require_dataset(model(), tmp_path)
    with pytest.raises(DataMissing, match="memory://greenroom/none"):
        require_dataset(model(dataset="memory://greenroom/none"), tmp_path)
    with pytest.raises(DataMissing):
        require_dataset(model(generated=stand_in), tmp_path)
    require_dataset(model(generated=stand_in), tmp_path, generated=True)
    require_dataset(model(dataset=lambda: stand_in(0)), tmp_path)
    require_dataset(model(dataset="nowhere://rows"), tmp_path)
    write(tmp_path, "not even CSV")
    require_dataset(model(), tmp_path)


def test_a_folder_is_not_a_dataset(tmp_path):
    (tmp_path / "rows.csv").mkdir()
    with pytest.raises(DataError, match=r"rows\.csv cannot be read: Is a directory"):
        load_dataset(model(), tmp_path)


def pointed_to(folder, content):
    md5 = hashlib.md5(content).hexdigest()
    pointer = f"outs:\n- md5: {md5}\n  hash: md5\n  path: rows.csv\n"
    (folder / "rows.csv.dvc").write_text(pointer)
    return md5


def dvc_is_installed(monkeypatch, *, brings=None):
    """Let DVC be there, or not; where it is, it brings ``brings``."""

    def pull(pointer, on_progress):
        pointer.path.with_suffix("").write_bytes(brings)

    monkeypatch.setattr("greenroom.data.data_pointers.find_spec", lambda name: brings and name)
    monkeypatch.setattr("greenroom.data.data_files.pull", pull)


ROWS = b"age,income,code,y\n1,,,0\n2,,,1\n"


def test_a_file_that_dvc_keeps_is_pulled_and_its_pointer_recorded(tmp_path, monkeypatch):
    md5 = pointed_to(tmp_path, ROWS)
    dvc_is_installed(monkeypatch, brings=ROWS)
    require_dataset(model(), tmp_path)
    data = load_dataset(model(), tmp_path)

    assert (data.n_rows, data.dvc_md5, data.dvc_differs) == (2, md5, False)
    assert data.tags == {"greenroom.dvc_md5": md5}


def test_without_dvc_the_error_names_the_command_and_the_extra(tmp_path, monkeypatch):
    pointed_to(tmp_path, ROWS)
    dvc_is_installed(monkeypatch)
    for attempt in (load_dataset, require_dataset):
        with pytest.raises(DataMissing, match=r"FileNotFoundError: rows\.csv") as failed:
            attempt(model(), tmp_path)
        assert "dvc pull rows.csv.dvc" in failed.value.advice
        assert "pip install 'greenroom[dvc]'" in failed.value.advice


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_where_the_folder_cannot_be_written_the_error_says_so_and_nothing_is_pulled(
    tmp_path, monkeypatch
):
    pointed_to(tmp_path, ROWS)
    dvc_is_installed(monkeypatch, brings=ROWS)
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(DataMissing, match=r"dvc pull rows\.csv\.dvc, or let this user write"):
            load_dataset(model(), tmp_path)
    finally:
        tmp_path.chmod(0o700)


def test_a_file_that_is_not_its_pointers_is_used_and_said(tmp_path, monkeypatch):
    md5 = pointed_to(tmp_path, ROWS)
    dvc_is_installed(monkeypatch, brings=b"not asked for")
    (tmp_path / "rows.csv").write_bytes(ROWS + b"3,,,1\n")
    data = load_dataset(model(), tmp_path)

    assert (data.n_rows, data.dvc_md5, data.dvc_differs) == (3, md5, True)
    assert "not the one" in data.tags["greenroom.dvc"]


def test_data_that_were_asked_to_be_generated_are_not_pulled_and_a_check_pulls_none(
    tmp_path, monkeypatch
):
    pointed_to(tmp_path, ROWS)
    dvc_is_installed(monkeypatch, brings=ROWS)
    assert load_dataset(model(generated=stand_in), tmp_path, generated=True).generated
    with pytest.raises(DataMissing, match="dvc pull"):
        load_dataset(model(), tmp_path, pulls=False)
    assert not (tmp_path / "rows.csv").exists()


def test_any_fsspec_address_is_read(tmp_path):
    import fsspec

    with fsspec.open("memory://greenroom/rows.csv", "wb") as file:
        file.write(b"age,y\n1,0\n2,1\n")
    address = "memory://greenroom/rows.csv"
    data = load_dataset(model(columns=COLUMNS[:1], dataset=address), tmp_path)
    assert (data.name, data.source, data.n_rows) == ("rows.csv", address, 2)
    with pytest.raises(DataMissing, match=r"put the file at memory://greenroom/none\.csv"):
        load_dataset(model(dataset="memory://greenroom/none.csv"), tmp_path)


def test_an_unknown_scheme_is_an_error_about_the_dataset(tmp_path):
    with pytest.raises(DataError, match="nowhere://rows"):
        load_dataset(model(dataset="nowhere://rows"), tmp_path)


def test_a_byte_order_mark_is_no_part_of_the_first_name(tmp_path):
    write(tmp_path, "\ufeffage,y\n1,0\n2,1\n")
    assert load_dataset(model(columns=COLUMNS[:1]), tmp_path).n_rows == 2


def test_a_regression_target_is_a_number_and_text_is_refused(tmp_path):
    write(tmp_path, "age,y\n1,2\n2,3.5\n")
    numbers = load_dataset(model(columns=COLUMNS[:1], task=regression), tmp_path)
    assert (numbers.target.tolist(), numbers.target.dtype) == ([2.0, 3.5], np.float64)
    write(tmp_path, "age,y\n1,a\n2,3.5\n")
    with pytest.raises(DataError, match="column 'y': 1 value is not a number"):
        load_dataset(model(columns=COLUMNS[:1], task=regression), tmp_path)


def test_text_labels_stay_texts(tmp_path):
    write(tmp_path, "age,y\n1,low\n2,high\n")
    data = load_dataset(model(columns=COLUMNS[:1]), tmp_path)
    assert (data.target.tolist(), data.target.dtype) == (["low", "high"], object)


def test_an_anomaly_model_needs_no_target_and_takes_flags(tmp_path):
    write(tmp_path, "age,y\n1,false\n2,true\n")
    assert (
        load_dataset(model(columns=COLUMNS[:1], task=anomaly, target=""), tmp_path).target is None
    )
    flags = load_dataset(model(columns=COLUMNS[:1], task=anomaly), tmp_path)
    assert flags.target.tolist() == [0, 1]
    write(tmp_path, "age,y\n1,-1\n2,1\n")
    with pytest.raises(DataError, match="1 for an anomaly"):
        load_dataset(model(columns=COLUMNS[:1], task=anomaly), tmp_path)


def test_the_kaggle_credit_file_is_read_whole(tmp_path):
    source = shared("credit_risk/cs-training.csv")
    columns = (
        Column("age", "integer"),
        Column("MonthlyIncome", nullable=True),
        Column("NumberOfDependents", "integer", nullable=True),
    )
    data = load_dataset(model(columns=columns, dataset=source, target="SeriousDlqin2yrs"), tmp_path)
    assert data.n_rows == 150_000
    assert data.dataset_hash.startswith("1bd46da486a5708c")
    assert int(np.isnan(data.columns["MonthlyIncome"]).sum()) == 29_731
    assert int(np.isnan(data.columns["NumberOfDependents"]).sum()) == 3_924
    assert data.target.mean() == pytest.approx(0.06684)
    assert data.ignored[0] == "(unnamed)"


def test_the_housing_file_is_read_with_its_missing_bedrooms(tmp_path):
    source = shared("california_housing/housing.csv")
    columns = (Column("total_bedrooms", nullable=True), Column("ocean_proximity", "string"))
    wanted = model(columns=columns, dataset=source, target="median_house_value", task=regression)
    data = load_dataset(wanted, tmp_path)
    assert int(np.isnan(data.columns["total_bedrooms"]).sum()) == 207
    assert len(set(data.columns["ocean_proximity"].tolist())) == 5


def test_half_a_million_rows_of_parquet_are_loaded_and_keyed_in_seconds(tmp_path):
    source = shared("cyclist_traffic/reference_data.parquet")
    columns = (
        Column("counter_id", "string"),
        Column("site_id", "string"),
        Column("date", "datetime"),
        Column("counter_installation_date", "date"),
        Column("latitude"),
    )
    started = time.perf_counter()
    wanted = model(columns=columns, dataset=source, target="bike_count", task=regression)
    data = load_dataset(wanted, tmp_path)
    keys = row_keys(data.columns, columns)
    assert time.perf_counter() - started < 20  # about 2 s alone; the machine may be busy
    assert (data.n_rows, len(np.unique(keys))) == (455_163, 455_163)
    assert data.columns["date"].min() == np.datetime64("2020-09-01T01:00", "us")
