"""The table of a classified catalogue: flags of its rows, and the FITS file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
from astropy.io import fits

from geminga.arrays import Int64
from geminga.classification.catalogue_file import CatalogueFile
from geminga.files import atomic

NO_BANDS, NO_POSITION, NO_LIGHT_CURVE, FEW_BANDS = 1, 2, 4, 8
FLAG_TEXT: Mapping[int, str] = {
    NO_BANDS: "no flux of a band was measured: not classified",
    NO_POSITION: "no position: not classified",
    NO_LIGHT_CURVE: "fewer than two years were measured: classified by the spectrum",
    FEW_BANDS: "less than half of the bands were measured",
}
UNMEASURED = NO_BANDS | NO_POSITION
_UNITS = {"GLON": "deg", "GLAT": "deg"}
_FORMATS = {"f": "D", "i": "J", "b": "L"}


def row_flags(catalogue: CatalogueFile) -> Int64:
    """Return what is wrong with each row, as the sum of the keys of FLAG_TEXT, (n,)."""
    bands, years = catalogue.bands.measured.sum(axis=1), catalogue.years.measured.sum(axis=1)
    whole = catalogue.bands.measured.shape[1]
    position = np.isfinite(catalogue.lon_deg) & np.isfinite(catalogue.lat_deg)
    return np.asarray(
        NO_BANDS * (bands == 0)
        + NO_POSITION * ~position
        + NO_LIGHT_CURVE * (years < 2)
        + FEW_BANDS * ((bands > 0) & (2 * bands < whole)),
        np.int64,
    )


def write_classes(path: Path, table: pd.DataFrame, header: Mapping[str, str | int]) -> None:
    """Write a table of classes as FITS, atomically; its bytes depend on the arguments alone."""
    columns = []
    for name in table.columns:
        values = table[name].to_numpy()
        kind = values.dtype.kind
        if kind in _FORMATS:
            columns.append(fits.Column(name, _FORMATS[kind], unit=_UNITS.get(name), array=values))
            continue
        text = np.array([str(v).encode("ascii", "replace") for v in values], dtype="S")
        width = max(1, text.dtype.itemsize)
        columns.append(fits.Column(name, f"{width}A", array=text))
    hdu = fits.BinTableHDU.from_columns(columns, name="CLASSES")
    for key, value in header.items():
        hdu.header[key] = value
    for bit, meaning in FLAG_TEXT.items():
        hdu.header[f"FLAG{bit}"] = meaning
    with atomic(path) as temporary:
        fits.HDUList([fits.PrimaryHDU(), hdu]).writeto(temporary, checksum=False)
