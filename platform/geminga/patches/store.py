"""Patch records in Parquet: one file per sky, in row groups that are read on their own.

Images are stored as Arrow fixed-shape tensors (Arrow canonical extension type), so that any Arrow
reader sees their shape. The bytes depend on the records alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from geminga.errors import InputError
from geminga.files import atomic

Records = Mapping[str, np.ndarray[Any, np.dtype[Any]]]

PATCHES_PER_GROUP = 32


def write_records(path: Path, groups: Iterable[Records]) -> int:
    """Write patch records, one row group for each mapping; return the number of records.

    Parameters
    ----------
    path : Path
        Parquet file, written under a temporary name and renamed.
    groups : iterable of mappings
        Column name to array with the record on the first axis.
    """
    count = 0
    with atomic(path) as temporary:
        writer: Any = None
        try:
            for group in groups:
                table = _to_arrow(group)
                if writer is None:
                    writer = pq.ParquetWriter(
                        temporary,
                        table.schema,
                        compression="zstd",
                        compression_level=1,
                        use_dictionary=False,
                        write_statistics=False,
                    )
                writer.write_table(table)
                count += table.num_rows
        finally:
            if writer is not None:
                writer.close()
    return count


def group_sizes(path: Path) -> list[int]:
    """Return the number of records in each row group of a file of patch records.

    Raises
    ------
    InputError
        If the file is missing or not Parquet.
    """
    try:
        meta = pq.read_metadata(path)
    except (OSError, pa.ArrowInvalid) as error:
        raise InputError(
            str(path), f"is no readable Parquet file ({error})", "cut the patches anew"
        ) from error
    return [int(meta.row_group(g).num_rows) for g in range(meta.num_row_groups)]


def read_group(path: Path, group: int, columns: Sequence[str] | None = None) -> dict[str, Any]:
    """Read one row group as arrays with the record on the first axis.

    Raises
    ------
    InputError
        If the file is missing, not Parquet, or lacks a column.
    """
    try:
        with pq.ParquetFile(path) as file:
            missing = set(columns or ()) - set(file.schema_arrow.names)
            if missing:
                raise InputError(
                    str(path), f"has no column {sorted(missing)}", "cut the patches anew"
                )
            table = file.read_row_group(group, columns=None if columns is None else list(columns))
    except (OSError, pa.ArrowInvalid) as error:
        raise InputError(
            str(path), f"is no readable Parquet file ({error})", "cut the patches anew"
        ) from error
    return {name: _to_numpy(table.column(name)) for name in table.column_names}


def _to_arrow(records: Records) -> Any:
    columns: dict[str, Any] = {}
    for name, values in records.items():
        if values.ndim == 1:
            columns[name] = pa.array(values)
        else:
            columns[name] = pa.FixedShapeTensorArray.from_numpy_ndarray(
                np.ascontiguousarray(values)
            )
    return pa.table(columns)


def _to_numpy(column: Any) -> Any:
    array = column.combine_chunks()
    if isinstance(array, pa.ChunkedArray):
        array = array.chunk(0) if array.num_chunks else pa.array([], type=array.type)
    if isinstance(array, pa.FixedShapeTensorArray):
        return array.to_numpy_ndarray()
    return array.to_numpy(zero_copy_only=False)
