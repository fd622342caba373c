from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from geminga import tables
from geminga.errors import InputError
from geminga.files import read_parquet, write_parquet
from geminga.tables import CANDIDATES, CATALOG, MATCHES, TRUTH, Column, Table

ALL = [t for t in vars(tables).values() if isinstance(t, Table)]


def rows(table: Table, n: int) -> dict[str, Any]:
    return {c.name: ["x"] * n if c.dtype == "str" else list(range(n)) for c in table.columns}


@pytest.mark.parametrize("table", ALL, ids=lambda t: t.name)
def test_declaration_is_complete(table: Table) -> None:
    assert len(set(table.names)) == len(table.names)
    for column in table.columns:
        assert column.description, column.name
        if column.dtype != "str":
            np.dtype(column.dtype)
        if column.name.endswith("_deg"):
            assert column.unit == "deg"


@pytest.mark.parametrize("table", ALL, ids=lambda t: t.name)
def test_empty_table_has_every_column_and_type(table: Table) -> None:
    empty = table.empty()
    assert len(empty) == 0
    assert list(empty.columns) == table.names
    filled = table.frame(rows(table, 3))
    pd.testing.assert_series_equal(empty.dtypes, filled.dtypes)
    joined = pd.concat([empty, filled], ignore_index=True)
    pd.testing.assert_series_equal(joined.dtypes, filled.dtypes)


@pytest.mark.parametrize("table", ALL, ids=lambda t: t.name)
@pytest.mark.parametrize("n", [0, 2])
def test_table_survives_a_file(table: Table, n: int, tmp_path: Path) -> None:
    frame = table.frame(rows(table, n))
    write_parquet(tmp_path / "t.parquet", frame)
    back = table.check(read_parquet(tmp_path / "t.parquet"), "t.parquet")
    pd.testing.assert_frame_equal(back, frame)


def test_frame_orders_columns_and_converts_types() -> None:
    data = dict(reversed(rows(MATCHES, 2).items()))
    frame = MATCHES.frame(data)
    assert list(frame.columns) == MATCHES.names
    assert frame["separation_deg"].dtype == np.float64


def test_frame_refuses_missing_and_unknown_columns() -> None:
    data = rows(MATCHES, 1)
    del data["source"]
    with pytest.raises(ValueError, match=r"missing \['source'\], unknown \[\]"):
        MATCHES.frame(data)
    with pytest.raises(ValueError, match=r"missing \[\], unknown \['extra'\]"):
        MATCHES.frame({**rows(MATCHES, 1), "extra": [1]})


def test_frame_refuses_columns_of_different_lengths() -> None:
    with pytest.raises(ValueError, match="columns differ in length"):
        MATCHES.frame({**rows(MATCHES, 2), "source": [1]})


def test_check_names_file_and_missing_column() -> None:
    frame = CANDIDATES.empty().drop(columns=["score", "lon_deg"])
    with pytest.raises(InputError, match=r"c\.parquet: has no column lon_deg, score"):
        CANDIDATES.check(frame, "c.parquet")


def test_check_drops_unknown_columns() -> None:
    frame = CANDIDATES.frame(rows(CANDIDATES, 2)).assign(note="hello")
    assert list(CANDIDATES.check(frame, "c.parquet").columns) == CANDIDATES.names


@pytest.mark.parametrize(
    ("column", "values", "message"),
    [
        ("sky_id", [0.5, 1.0], "column sky_id holds float64 values; needs int64"),
        ("sky_id", [np.nan, 1.0], "column sky_id holds float64"),
        ("lon_deg", ["a", "b"], "column lon_deg holds str values; needs float64"),
        ("class_name", [1, 2], "column class_name holds int64 values; needs str"),
        ("class_name", ["PSR", None], "column class_name holds"),
    ],
)
def test_check_refuses_other_types(column: str, values: list[Any], message: str) -> None:
    frame = TRUTH.frame(rows(TRUTH, 2)).assign(**{column: values})
    with pytest.raises(InputError, match=message):
        TRUTH.check(frame, "truth.parquet")


def test_check_widens_whole_numbers_to_floats() -> None:
    frame = TRUTH.frame(rows(TRUTH, 2)).assign(lon_deg=np.array([1, 2], dtype=np.int32))
    assert TRUTH.check(frame, "truth.parquet")["lon_deg"].dtype == np.float64


def test_more_columns_at_the_end() -> None:
    longer = CATALOG.with_columns([Column("P_PSR", "float64", "", "probability of PSR")])
    assert longer.names == [*CATALOG.names, "P_PSR"]
    assert "P_PSR" not in CATALOG.names
    assert longer.empty()["P_PSR"].dtype == np.float64
