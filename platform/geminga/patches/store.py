"""Patch records in Parquet: one file per sky, in row groups that are read on their own.

Format geminga-patches-2. Numbers are columns of their own type. An array per record is one value
of fixed length: its bytes, least significant first, all first bytes before all second bytes, which
lets zstd see that the upper ones are alike. The field's metadata say (JSON under ``geminga``) which
type and shape the bytes have, and how images were coded:

``expected``
    differences of the 16-bit codes of `geminga.patches.quantise`,
``counts``
    the smallest unsigned integers that hold the photon counts,
``plain``
    the array as it is, as counts of parts of photons are (float32).

All kinds of image are read as float32, and what is read has every bit of what was written. The
bytes depend on the records alone.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from geminga import storage
from geminga.errors import InputError
from geminga.files import REMAKE, atomic
from geminga.patches.quantise import pack, unpack

Records = Mapping[str, NDArray[Any]]

FORMAT = "geminga-patches-2"
IMAGE_PREFIX = "image_"
"""Columns of this name are images, which are coded."""
PATCHES_PER_GROUP = 32
_LEVEL = 3
_KEY = b"geminga"


def write_records(path: Path, groups: Iterable[Records], parts: bool = False) -> int:
    """Write patch records, one row group for each mapping; return the number of records.

    Parameters
    ----------
    path : Path
        Parquet file, written under a temporary name and renamed.
    groups : iterable of mappings
        Column name to array with the record on the first axis. Images are float32 expected
        counts rounded by `geminga.patches.quantise.quantised`, or unsigned integers.
    parts : bool
        Images of float32 are counts of parts of photons, which are not rounded.

    Raises
    ------
    ValueError
        If an image is neither: a fault of the caller.
    """
    count = 0
    with atomic(path) as temporary:
        writer: Any = None
        try:
            for group in groups:
                table = _to_arrow(group, parts)
                if writer is None:
                    writer = pq.ParquetWriter(
                        temporary,
                        table.schema,
                        compression="zstd",
                        compression_level=_LEVEL,
                        use_dictionary=False,
                        write_statistics=False,
                        write_page_checksum=True,
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
        If the file is missing, not Parquet, or no file of patch records of this version.
    """
    try:
        meta = pq.read_metadata(storage.here(path))
    except (OSError, pa.ArrowInvalid) as error:
        raise _unreadable(path, error) from error
    _check_format(path, meta.metadata)
    return [int(meta.row_group(g).num_rows) for g in range(meta.num_row_groups)]


def read_group(path: Path, group: int, columns: Sequence[str] | None = None) -> dict[str, Any]:
    """Read one row group as arrays with the record on the first axis; images are float32.

    Raises
    ------
    InputError
        If the file is missing, not Parquet, of another version, or lacks a column.
    """
    try:
        with pq.ParquetFile(storage.here(path), page_checksum_verification=True) as file:
            _check_format(path, file.schema_arrow.metadata)
            missing = set(columns or ()) - set(file.schema_arrow.names)
            if missing:
                raise InputError(
                    str(path), f"has no column {sorted(missing)}", "cut the patches anew"
                )
            table = file.read_row_group(group, columns=None if columns is None else list(columns))
    except (OSError, pa.ArrowInvalid) as error:
        raise _unreadable(path, error) from error
    return {
        name: _from_arrow(table.column(name), table.schema.field(name))
        for name in table.column_names
    }


def check_records(path: Path) -> None:
    """Read a whole file of patch records and compare its checksums.

    Raises
    ------
    InputError
        If the file is missing, damaged, or no file of patch records of this version.
    """
    for group in range(len(group_sizes(path))):
        read_group(path, group)


def _unreadable(path: Path, error: Exception) -> InputError:
    return InputError(
        str(path), f"is no readable Parquet file ({error})", f"cut the patches anew: {REMAKE}"
    )


def _check_format(path: Path, metadata: Mapping[bytes, bytes] | None) -> None:
    found = (metadata or {}).get(b"format", b"no format").decode()
    if found != FORMAT:
        raise InputError(
            str(path), f"holds no patches of format {FORMAT} ({found})", "cut the patches anew"
        )


def _to_arrow(records: Records, parts: bool) -> Any:
    fields, arrays = [], []
    for name, values in records.items():
        if values.ndim == 1:
            arrays.append(pa.array(values))
            fields.append(pa.field(name, arrays[-1].type))
            continue
        codec = _codec(name, values, parts)
        data = pack(values) if codec == "expected" else _planes(values)
        kind = pa.binary(data.shape[1])
        buffers = [None, pa.py_buffer(data)]
        arrays.append(pa.FixedSizeBinaryArray.from_buffers(kind, len(data), buffers))
        about = {"codec": codec, "dtype": values.dtype.name, "shape": list(values.shape[1:])}
        fields.append(pa.field(name, kind, metadata={_KEY: json.dumps(about).encode()}))
    return pa.Table.from_arrays(arrays, schema=pa.schema(fields, {"format": FORMAT}))


def _codec(name: str, values: NDArray[Any], parts: bool) -> str:
    if not name.startswith(IMAGE_PREFIX):
        return "plain"
    if np.issubdtype(values.dtype, np.unsignedinteger):
        return "counts"
    if values.dtype == np.float32 and values.ndim == 3:
        return "plain" if parts else "expected"
    raise ValueError(f"column {name} has images {values.dtype} {values.shape}")


def _from_arrow(column: Any, field: Any) -> Any:
    array = column.combine_chunks()
    if isinstance(array, pa.ChunkedArray):
        array = array.chunk(0) if array.num_chunks else pa.array([], type=array.type)
    if not field.metadata or _KEY not in field.metadata:
        return array.to_numpy(zero_copy_only=False)
    about = json.loads(field.metadata[_KEY])
    shape, width = tuple(about["shape"]), field.type.byte_width
    data = np.zeros((0, width), dtype=np.uint8)
    if len(array):
        start = array.offset * width
        data = np.frombuffer(array.buffers()[1], np.uint8, len(array) * width, start)
        data = data.reshape(len(array), width)
    if about["codec"] == "expected":
        return unpack(data, *shape)
    values = _from_planes(data, np.dtype(about["dtype"]), shape)
    return values.astype(np.float32) if about["codec"] == "counts" else values


def _planes(values: NDArray[Any]) -> NDArray[np.uint8]:
    """Return the bytes (N, item size times pixels) of arrays, first bytes before second bytes."""
    size, count = values.dtype.itemsize, math.prod(values.shape[1:])
    little = np.ascontiguousarray(values, dtype=values.dtype.newbyteorder("<"))
    split = little.view(np.uint8).reshape(len(values), count, size).transpose(0, 2, 1)
    return np.ascontiguousarray(split).reshape(len(values), count * size)


def _from_planes(
    data: NDArray[np.uint8], dtype: np.dtype[Any], shape: tuple[int, ...]
) -> NDArray[Any]:
    count = math.prod(shape)
    split = data.reshape(len(data), dtype.itemsize, count).transpose(0, 2, 1)
    little = np.ascontiguousarray(split).view(dtype.newbyteorder("<"))
    return little.reshape(len(data), *shape).astype(dtype, copy=False)
