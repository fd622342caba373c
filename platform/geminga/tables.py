"""Every table of the platform, declared once: column, type, unit, meaning."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from geminga.errors import InputError


@dataclass(frozen=True)
class Column:
    """One column of a table.

    Attributes
    ----------
    name : str
        Column name.
    dtype : str
        numpy type, or ``str`` for text.
    unit : str
        Unit in FITS notation, empty for pure numbers.
    description : str
        What it holds.
    """

    name: str
    dtype: str
    unit: str
    description: str


def _check_type(values: pd.Series[Any], column: Column, where: str) -> None:
    """Raise InputError unless `values` fit the column without loss."""
    kind = values.dtype.kind
    if column.dtype == "str":
        fits = not values.isna().any() and all(isinstance(v, str) for v in values)
    elif np.dtype(column.dtype).kind == "f":
        fits = kind in "fiu"
    else:
        wanted = "b" if np.dtype(column.dtype).kind == "b" else "iu"
        fits = kind in wanted or len(values) == 0
    if not fits:
        raise InputError(
            where, f"column {column.name} holds {values.dtype} values", f"needs {column.dtype}"
        )


@dataclass(frozen=True)
class Table:
    """The columns of a table, in order."""

    name: str
    columns: tuple[Column, ...]

    @property
    def names(self) -> list[str]:
        """Column names in order."""
        return [c.name for c in self.columns]

    def frame(self, data: dict[str, Any]) -> pd.DataFrame:
        """Build a data frame with exactly these columns and types.

        Raises
        ------
        ValueError
            If columns are missing, unknown or of different lengths: a fault of the program, not of
            its input.
        """
        if set(data) != set(self.names):
            missing, extra = set(self.names) - set(data), set(data) - set(self.names)
            raise ValueError(
                f"table {self.name}: missing {sorted(missing)}, unknown {sorted(extra)}"
            )
        lengths = {name: len(data[name]) for name in self.names}
        if len(set(lengths.values())) > 1:
            raise ValueError(f"table {self.name}: columns differ in length: {lengths}")
        return pd.DataFrame(
            {
                c.name: pd.Series(
                    np.asarray(data[c.name]).astype(c.dtype)
                    if c.dtype != "str"
                    else np.asarray(data[c.name], dtype=object),
                    dtype=c.dtype,
                )
                for c in self.columns
            }
        )

    def empty(self) -> pd.DataFrame:
        """Return a table without rows: every column, right types."""
        return self.frame({c.name: [] for c in self.columns})

    def check(self, frame: pd.DataFrame, where: str) -> pd.DataFrame:
        """Return the columns of this table from a data frame that was read from `where`.

        Raises
        ------
        InputError
            If a column is missing or holds values of another type.
        """
        missing = [name for name in self.names if name not in frame.columns]
        if missing:
            raise InputError(where, f"has no column {', '.join(missing)}", f"needs {self.names}")
        for column in self.columns:
            _check_type(frame[column.name], column, where)
        return self.frame({name: frame[name].to_numpy() for name in self.names})

    def with_columns(self, extra: Sequence[Column]) -> Table:
        """Return this table with more columns at the end."""
        return Table(self.name, (*self.columns, *extra))


_POSITION = (
    Column("lon_deg", "float64", "deg", "Galactic longitude"),
    Column("lat_deg", "float64", "deg", "Galactic latitude"),
)

TRUTH = Table(
    "truth",
    (
        Column("sky_id", "int64", "", "sky the source belongs to"),
        Column("source_id", "int64", "", "number of the source in its sky"),
        Column("class_name", "str", "", "source class"),
        *_POSITION,
        Column("form", "str", "", "spectral form: log_parabola or plec"),
        Column("norm", "float64", "cm-2 s-1 MeV-1", "differential photon flux F0 at pivot_mev"),
        Column("pivot_mev", "float64", "MeV", "pivot energy E0"),
        Column("index", "float64", "", "alpha (log parabola) or Gamma (PLEC)"),
        Column("curvature", "float64", "", "beta (log parabola) or a in MeV^-b (PLEC)"),
        Column("exp_index", "float64", "", "b (PLEC); 0 for a log parabola"),
        Column("s1", "float64", "cm-2 s-1", "photon flux 1-1000 GeV"),
        Column("s10", "float64", "cm-2 s-1", "photon flux 10-1000 GeV"),
        Column("fe100", "float64", "erg cm-2 s-1", "energy flux 0.1-100 GeV"),
        Column(
            "s_band", "float64", "cm-2 s-1", "photon flux from the first band's start up to 2 TeV"
        ),
    ),
)
"""Simulated sources of one sky; yearly variations are a separate array (sources, years)."""

EXTENDED = Table(
    "extended",
    (
        Column("name", "str", "", "name in the list of extended sources"),
        *_POSITION,
        Column("radius_deg", "float64", "deg", "semi-major axis; 95 % of a Gaussian"),
        Column("s1", "float64", "cm-2 s-1", "photon flux 1-1000 GeV; NaN if not known"),
    ),
)
"""Extended sources of a sky: no points to be found, but not empty sky either."""

CANDIDATES = Table(
    "candidates",
    (
        Column("sky_id", "int64", "", "sky the detection belongs to"),
        *_POSITION,
        Column(
            "position_error_deg", "float64", "deg", "scatter of the patches' positions, one axis"
        ),
        Column("score", "float64", "", "strength of the detection; larger is surer"),
        Column("n_patches", "int64", "", "patches that saw it"),
        Column("n_patches_covering", "int64", "", "patches that could have seen it"),
    ),
)
"""Detections of one search on one sky, after stitching."""

PATCH_DETECTIONS = Table(
    "patch_detections",
    (
        Column("sky_id", "int64", "", "sky of the patch"),
        Column("patch_id", "int64", "", "patch number in the grid"),
        Column("x_deg", "float64", "deg", "tangent-plane coordinate to the east"),
        Column("y_deg", "float64", "deg", "tangent-plane coordinate to the north"),
        *_POSITION,
        Column("score", "float64", "", "strength of the detection; larger is surer"),
        Column("group_pixels", "int64", "", "pixels of the group"),
    ),
)
"""Detections in single patches, before stitching."""

PATCH_SOURCES = Table(
    "patch_sources",
    (
        Column("sky_id", "int64", "", "sky of the patch"),
        Column("patch_id", "int64", "", "patch number in the grid"),
        Column("x_deg", "float64", "deg", "tangent-plane coordinate to the east"),
        Column("y_deg", "float64", "deg", "tangent-plane coordinate to the north"),
        *_POSITION,
        Column("edge_deg", "float64", "deg", "distance to the nearest edge of the patch"),
        Column("ts", "float64", "", "test statistic, neighbours refitted without the source"),
        Column("s1", "float64", "cm-2 s-1", "photon flux 1-1000 GeV"),
        Column("s1_error", "float64", "cm-2 s-1", "its error; that of a limit where s1 is 0"),
        Column("index", "float64", "", "photon index"),
        Column("index_error", "float64", "", "its error, the prior's width included"),
        Column("cov_east_deg2", "float64", "deg2", "variance of the position to Galactic east"),
        Column("cov_cross_deg2", "float64", "deg2", "covariance of the position, east and north"),
        Column("cov_north_deg2", "float64", "deg2", "variance of the position to Galactic north"),
        Column("goodness", "float64", "", "excess scatter of the pixels it shines in, sigma"),
        Column("converged", "bool", "", "the fit came to rest"),
    ),
)
"""Sources of one patch after a likelihood fit of all of them."""


def patch_sources(n_channels: int) -> Table:
    """Return PATCH_SOURCES with what the fit says of each channel.

    Parameters
    ----------
    n_channels : int
    """
    flux = "cm-2 s-1"
    return PATCH_SOURCES.with_columns(
        [
            column
            for c in range(n_channels)
            for column in (
                Column(f"counts_{c}", "float64", "", f"counts fitted to channel {c} by itself"),
                Column(f"counts_error_{c}", "float64", "", "their error; that of a limit at 0"),
                Column(f"flux_{c}", "float64", flux, f"photon flux within channel {c}"),
                Column(f"flux_error_{c}", "float64", flux, "its error; that of a limit at 0"),
                Column(f"background_{c}", "float64", "deg-2", "diffuse counts of its pixel"),
            )
        ]
    )


MATCHES = Table(
    "matches",
    (
        Column("candidate", "int64", "", "row of the candidate; -1 for a missed source"),
        Column("source", "int64", "", "row of the true source; -1 for a false detection"),
        Column("separation_deg", "float64", "deg", "distance; NaN without a partner"),
    ),
)
"""One row per matched pair, missed source and false detection."""

CATALOG = Table(
    "catalog",
    (
        Column("Source_Name", "str", "", "GEM JHHMM.m+DDMM from the position"),
        Column("RAJ2000", "float64", "deg", "right ascension"),
        Column("DEJ2000", "float64", "deg", "declination"),
        Column("GLON", "float64", "deg", "Galactic longitude"),
        Column("GLAT", "float64", "deg", "Galactic latitude"),
        Column("Conf_68_Radius", "float64", "deg", "radius of the 68 % position error circle"),
        Column("SCORE", "float64", "", "strength of the detection; larger is surer"),
        Column("N_Patches", "int64", "", "patches that saw it"),
        Column("CLASS", "str", "", "most probable class"),
    ),
)
"""The product; probability columns P_<class> follow, one per class."""
