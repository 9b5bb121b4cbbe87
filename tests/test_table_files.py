"""Table files: columns as they stand, and what is wrong with the file as a table."""

import pyarrow as pa
import pyarrow.parquet
import pytest

from greenroom.data.table_files import Places, read_table
from greenroom.errors import DataError


def csv(text, *wanted):
    return read_table(text.encode(), wanted, "rows.csv")


def test_csv_comes_out_as_texts_in_the_order_asked_for():
    found = csv(",a,b\n1,007,true\n", "b", "a", "c")
    assert {name: values.to_pylist() for name, values in found.columns.items()} == {
        "b": ["true"],
        "a": ["007"],
    }
    assert (found.ignored, found.problems) == (("(unnamed)",), ())


def test_parquet_comes_out_with_its_types():
    sink = pa.BufferOutputStream()
    pyarrow.parquet.write_table(pa.table({"a": [1, 2], "b": ["x", "y"]}), sink)
    found = read_table(sink.getvalue().to_pybytes(), ["a", "c"], "rows")
    assert found.columns["a"].to_pylist() == [1, 2]
    assert (found.ignored, found.places) == (("b",), Places("row", 1))


def test_an_empty_line_is_a_missing_value_only_in_a_file_of_one_column():
    assert csv("a\n1\n\n2\n", "a").columns["a"].to_pylist() == ["1", "", "2"]
    assert csv("a,b\n1,1\n\n2,2\n", "a").columns["a"].to_pylist() == ["1", "2"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a,b\n1,2\n", Places("line", 2)),
        ("a,b\n1,2", Places("line", 2)),
        ('a,b\n"1\n",2\n', Places("row", 1)),
        ("a,b\n\n1,2\n", Places("row", 1)),
    ],
)
def test_rows_are_spoken_of_by_line_where_each_is_one(text, expected):
    assert csv(text, "a").places == expected


def test_lines_of_another_length_and_doubled_columns_are_collected():
    found = csv("a,a,b\n1,2,3\n1\n1,2,3,4\n", "a", "b")
    assert found.problems == (
        "column 'a' is there more than once",
        "2 lines have another number of fields than the header's 3 (lines 3, 4)",
    )


def test_a_file_that_is_no_table_is_an_error_without_its_content():
    with pytest.raises(DataError, match=r"rows\.csv is empty"):
        csv("")
    with pytest.raises(DataError, match="cannot be read as Parquet"):
        read_table(b"PAR1secret", ["a"], "rows")
