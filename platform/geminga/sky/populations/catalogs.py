"""Reading a LAT source catalogue for a population: one frame of columns, whatever the catalogue."""

from __future__ import annotations

import gzip
import warnings
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from astropy.io import fits
from astropy.utils.exceptions import AstropyUserWarning

from geminga.arrays import Float64
from geminga.errors import InputError

UNASSOCIATED_LOW = "unassociated |b|<=10"
UNASSOCIATED_HIGH = "unassociated |b|>10"
"""Designations given to rows whose class is empty or ``unk``, by Galactic latitude in degrees."""


@dataclass(frozen=True)
class FaintRule:
    """How source counts go on below a catalogue.

    Attributes
    ----------
    threshold : float
        Photon flux in the reference range, cm-2 s-1, down to which the catalogue is complete.
    window : float
        The slope is fitted from the threshold to this many times it.
    slopes : tuple of float
        Least and greatest slope; a fit beyond them is cut to them.
    flux_min : float or None
        Flux that the law goes down to without ``sky.depth``; None where that alone brings it in.
    isotropic_only : bool
        Whether classes of the Galaxy have no such law.
    """

    threshold: float
    window: float
    slopes: tuple[float, float]
    flux_min: float | None
    isotropic_only: bool


@dataclass(frozen=True)
class CatalogKind:
    """What a catalogue calls things, and what a population fitted from it needs to know.

    Attributes
    ----------
    name : str
        Name of the catalogue.
    class_column : str
        Column of the source class.
    needs : tuple of str
        Columns that must be there; they also tell the catalogues apart.
    reference_mev : tuple of float
        Range of the amplitude's photon flux.
    classes : mapping of str to tuple of str
        Designations of each class by default.
    faint : FaintRule
        How the counts of its classes go on below the flux it is complete to.
    """

    name: str
    class_column: str
    needs: tuple[str, ...]
    reference_mev: tuple[float, float]
    classes: Mapping[str, tuple[str, ...]]
    faint: FaintRule


_COMMON = ("Source_Name", "GLON", "GLAT")

# DR2's counts of blazars per ln S rise as S^-0.9 down to 5e-10 ph/cm2/s (1-100 GeV) and stop
# rising at 2e-10; at 5e-10 one row in eight outside the plane has no class, at 2e-10 one in four.
# Zechlin et al. 2016 (ApJS 225, 18) measure 1.97 +- 0.03 between 2e-11 and 2.1e-8 ph/cm2/s in the
# photon counts of single pixels (1-10 GeV), and 1.9 to 2.0 where sources are not detected singly.
# A decade of a class' catalogue measures its slope to 0.1 only, so fits are kept in that range.
FGL = CatalogKind(
    name="4FGL",
    class_column="CLASS1",
    needs=(
        *_COMMON,
        *("CLASS1", "Flux1000", "Energy_Flux100", "Pivot_Energy", "SpectrumType", "Signif_Avg"),
        *("PL_Index", "Unc_PL_Index", "LP_Index", "LP_beta", "Unc_LP_beta"),
        *("LP_Flux_Density", "PLEC_Flux_Density"),
        *("PLEC_Index", "Unc_PLEC_Index", "PLEC_Expfactor", "PLEC_Exp_Index"),
        *("Unc_PLEC_Expfactor", "Flux_History", "Unc_Flux_History"),
    ),
    reference_mev=(1e3, 1e6),
    classes={
        "BLL": ("bll",),
        "FSRQ": ("fsrq",),
        "PSR": ("psr", "msp"),
        "PWN+SNR": ("pwn", "snr", "spp"),
    },
    faint=FaintRule(
        threshold=5e-10, window=10.0, slopes=(1.9, 1.97), flux_min=None, isotropic_only=True
    ),
)

# Counts above 50 GeV: Ackermann et al. 2016 (PRL 116, 151105) find slopes 2.49 above and 1.60 to
# 1.75 below a break between 8e-12 and 1.5e-11 ph/cm2/s. From the threshold of 1.5e-11, above which
# 2FHL's own counts keep a constant slope, that makes 750 to 1,200 sources down to 3e-12; one slope
# of 1.9 makes 950.
FHL2 = CatalogKind(
    name="2FHL",
    class_column="CLASS",
    needs=(*_COMMON, "CLASS", "Flux50", "Spectral_Index", "Unc_Spectral_Index"),
    reference_mev=(5e4, 2e6),
    classes={
        "AGN": (
            *("bll", "bll-g", "fsrq", "bcu i", "bcu ii", "bcu iii", "rdg", "rdg/bll", "agn"),
            *("galclu", "gal", "sfr", UNASSOCIATED_HIGH),
        ),
        "GALACTIC": ("psr", "pwn", "snr", "spp", "hmb", "bin", UNASSOCIATED_LOW),
    },
    faint=FaintRule(
        threshold=1.5e-11, window=np.inf, slopes=(1.0, 1.9), flux_min=3e-12, isotropic_only=False
    ),
)

KINDS = (FGL, FHL2)


def read_catalog(path: Path) -> tuple[CatalogKind, pd.DataFrame, dict[str, Float64]]:
    """Read the columns that a population needs from a catalogue.

    Parameters
    ----------
    path : Path
        FITS file, possibly gzipped: 4FGL (any release with DR2's columns) or 2FHL.

    Returns
    -------
    kind : CatalogKind
        Which catalogue it is.
    rows : DataFrame
        One row per source; floats as float64, class lower case in ``designation``.
    histories : dict of str to array
        Columns with several numbers a row, such as Flux_History (n, 10).

    Raises
    ------
    InputError
        If the file is missing, no readable FITS file, or lacks columns.
    """
    table = _first_table(path)
    names = set(table.dtype.names or ())
    missing = {kind.name: [n for n in kind.needs if n not in names] for kind in KINDS}
    for kind in KINDS:
        if not missing[kind.name]:
            return (kind, *_columns(table, kind))
    nearest, lacks = min(missing.items(), key=lambda item: len(item[1]))
    raise InputError(
        str(path),
        f"is neither a 4FGL-DR2 nor a 2FHL catalogue: for {nearest} it lacks {', '.join(lacks)}",
        "name a source catalogue such as gll_psc_v27.fit.gz",
    )


def _first_table(path: Path) -> Any:
    remedy = "name a LAT source catalogue such as gll_psc_v27.fit.gz"
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("error", ".*truncated.*", AstropyUserWarning)
            with fits.open(path, memmap=False) as hdus:
                for hdu in hdus:
                    if isinstance(hdu, fits.BinTableHDU):
                        return np.array(hdu.data, copy=True)
    except FileNotFoundError as error:
        raise InputError(str(path), "is missing", remedy) from error
    except (
        *(OSError, EOFError, zlib.error, gzip.BadGzipFile),
        *(ValueError, TypeError, IndexError, KeyError, AstropyUserWarning),
    ) as error:
        line = str(error).replace("\n", " ")
        raise InputError(str(path), f"is not a readable FITS file ({line})", remedy) from error
    raise InputError(str(path), "holds no table", remedy)


def _columns(table: Any, kind: CatalogKind) -> tuple[pd.DataFrame, dict[str, Float64]]:
    data: dict[str, Any] = {}
    histories: dict[str, Float64] = {}
    for name in kind.needs:
        column = np.asarray(table[name])
        if column.ndim > 1:
            histories[name] = column.astype(np.float64)
        elif column.dtype.kind in "SU":
            data[name] = _text(column)
        else:
            data[name] = column.astype(np.float64)
    rows = pd.DataFrame(data)
    names = rows[kind.class_column].str.lower()
    unknown = names.isin(["", "unk"])
    low = rows["GLAT"].abs() <= 10.0
    names = names.mask(unknown & low, UNASSOCIATED_LOW).mask(unknown & ~low, UNASSOCIATED_HIGH)
    return rows.assign(designation=names), histories


def _text(column: Any) -> list[str]:
    values: Sequence[Any] = column.tolist()
    return [(v.decode("ascii") if isinstance(v, bytes) else v).strip() for v in values]
