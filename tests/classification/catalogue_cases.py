"""Made-up catalogues with the columns of 4FGL."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits

_EDGES = np.array([1e2, 3e2, 1e3, 1e4, 1e5])
_CLASSES = ("bll", "fsrq", "PSR", "snr", "bcu", "", "rdg")


def made_up(
    n: int, bands: int = 4, years: int = 0, seed: int = 4
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return columns of sources with power laws, measured with counts, and the bands' edges.

    Hard sources are bll, soft ones fsrq, and so on: classes that spectra can tell apart.
    """
    rng = np.random.default_rng(seed)
    kind = np.arange(n) % len(_CLASSES)
    index = np.array([1.8, 2.6, 2.0, 2.4, 2.2, 2.2, 2.2])[kind] + 0.1 * rng.standard_normal(n)
    low, high = _EDGES[:bands], _EDGES[1 : bands + 1]
    slope = 1.0 - index[:, None]
    shape = (low**slope - high**slope) / (1e3**slope - 1e5**slope)
    flux = 10.0 ** rng.uniform(-9.6, -8.3, n)[:, None] * shape
    exposure, background = 3e11, 5000.0 / (1.0 + low / 1e2) ** 1.5
    counts = rng.poisson(flux * exposure + background)
    value = np.maximum(counts - background, 0.0) / exposure
    error = np.sqrt(counts + 1.0) / exposure
    galactic = np.isin(kind, [2, 3])
    lat = np.where(galactic, 3.0 * rng.standard_normal(n), rng.uniform(-80, 80, n))
    columns: dict[str, Any] = {
        "Source_Name": np.array([f"4FGL J{k:04d}" for k in range(n)]),
        "GLON": rng.uniform(0, 360, n),
        "GLAT": lat,
        "CLASS1": np.array([_CLASSES[k] for k in kind]),
        "ASSOC1": np.array([f"galaxy {k}" for k in range(n)]),
        "Flux_Band": value,
        "Unc_Flux_Band": np.stack([np.where(value > error, -error, np.nan), error], axis=2),
    }
    if years:
        mean = value.sum(axis=1, keepdims=True)
        ratio = np.exp(np.where(kind == 1, 0.7, 0.05)[:, None] * rng.standard_normal((n, years)))
        spread = 0.2 * mean * np.ones((n, years))
        columns["Flux_History"] = mean * ratio
        columns["Unc_Flux_History"] = np.stack([-spread, spread], axis=2)
    bounds = {"LowerEnergy": low, "UpperEnergy": high, "SysRel": np.full(bands, 0.1)}
    return columns, bounds


def write(path: Path, columns: Mapping[str, Any], bounds: Mapping[str, Any]) -> Path:
    """Write them as FITS."""
    tables = [_table(columns, "LAT_Point_Source_Catalog")]
    tables += [_table(bounds, "EnergyBounds")] if bounds else []
    fits.HDUList([fits.PrimaryHDU(), *tables]).writeto(path)
    return path


def _table(columns: Mapping[str, Any], name: str) -> fits.BinTableHDU:
    made = []
    for key, values in columns.items():
        array = np.asarray(values)
        if array.dtype.kind in "SU":
            made.append(fits.Column(key, f"{max(1, array.dtype.itemsize // 4)}A", array=array))
            continue
        width = int(np.prod(array.shape[1:]))
        dim = f"({array.shape[2]},{array.shape[1]})" if array.ndim == 3 else None
        made.append(fits.Column(key, f"{width}D", dim=dim, array=array))
    return fits.BinTableHDU.from_columns(made, name=name)
