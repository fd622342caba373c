"""Detections on the real sky against published catalogues."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass

import numpy as np
import pandas as pd

from geminga.arrays import Bool
from geminga.evaluation.extended import masked
from geminga.evaluation.rates import Rate, rate
from geminga.matching import match

HIGH_LATITUDE_DEG = 10.0
CHANCE_SHIFTS_DEG = (-8.0, -6.0, -4.0, 4.0, 6.0, 8.0)
"""Longitude shifts of the detections that leave the latitude density of sources as it is."""


@dataclass(frozen=True)
class RealSky:
    """Figures of a search on the real sky.

    Attributes
    ----------
    completeness : mapping of str to Rate
        Part of the truth catalogue found: ``all``, ``point``, ``high_latitude`` (point sources
        at \\|b\\| > 10 deg).
    purity : mapping of str to Rate
        Part of the detections that some catalogue confirms: ``all`` and ``high_latitude``.
        Detections that lie on an extended source and match no point source are left out.
    by_catalog : mapping of str to Rate
        Part of the detections that each catalogue confirms.
    chance : mapping of str to Rate
        The same as purity after shifting the detections in longitude: what chance would confirm.
    """

    completeness: Mapping[str, Rate]
    purity: Mapping[str, Rate]
    by_catalog: Mapping[str, Rate]
    chance: Mapping[str, Rate]

    def tree(self) -> dict[str, dict[str, dict[str, float | str]]]:
        """Return the figures as a JSON tree; shares without trials become the text ``nan``."""
        return {
            part: {
                name: {k: v if math.isfinite(v) else str(v) for k, v in figures.items()}
                for name, figures in rates.items()
            }
            for part, rates in asdict(self).items()
        }


def confirmed(
    candidates: pd.DataFrame, catalogs: Mapping[str, pd.DataFrame], radius_deg: float
) -> Bool:
    """Return which detections (n,) have a partner of their own in at least one catalogue."""
    result = np.zeros(len(candidates), dtype=np.bool_)
    for catalog in catalogs.values():
        result |= _matched(candidates, catalog, radius_deg, "candidate", len(candidates))
    return result


def found(candidates: pd.DataFrame, catalog: pd.DataFrame, radius_deg: float) -> Bool:
    """Return which sources of a catalogue (n,) were found, one detection each, brightest first."""
    return _matched(candidates, catalog, radius_deg, "source", len(catalog))


def evaluate_real(
    candidates: pd.DataFrame,
    catalogs: Mapping[str, pd.DataFrame],
    truth_name: str,
    radius_deg: float,
    extended: pd.DataFrame | None = None,
) -> RealSky:
    """Compare detections with catalogues.

    Parameters
    ----------
    candidates : DataFrame
        CANDIDATES table.
    catalogs : mapping
        Reference catalogues by name, see `geminga.evaluation.reference`.
    truth_name : str
        The one completeness is measured against.
    radius_deg : float
        Largest distance of a match.
    extended : DataFrame, optional
        Table EXTENDED: where detections that match no point source are neither true nor false.
    """
    truth = catalogs[truth_name]
    hit = found(candidates, truth, radius_deg)
    point = ~truth["extended"].to_numpy(dtype=np.bool_)
    high = np.abs(truth["lat_deg"].to_numpy()) > HIGH_LATITUDE_DEG
    if extended is not None:
        candidates = off_extended(candidates, catalogs, extended, radius_deg)
    true = confirmed(candidates, catalogs, radius_deg)
    high_candidate = np.abs(candidates["lat_deg"].to_numpy()) > HIGH_LATITUDE_DEG
    return RealSky(
        completeness={
            "all": rate(hit),
            "point": rate(hit[point]),
            "high_latitude": rate(hit[point & high]),
        },
        purity={"all": rate(true), "high_latitude": rate(true[high_candidate])},
        by_catalog={
            name: rate(confirmed(candidates, {name: catalog}, radius_deg))
            for name, catalog in catalogs.items()
        },
        chance=_chance(candidates, catalogs, radius_deg),
    )


def off_extended(
    candidates: pd.DataFrame,
    catalogs: Mapping[str, pd.DataFrame],
    extended: pd.DataFrame,
    radius_deg: float,
) -> pd.DataFrame:
    """Return the detections without those on extended sources that match no point source."""
    sure = confirmed(candidates, point_sources(catalogs), radius_deg)
    keep = ~masked(candidates, sure, extended, radius_deg)
    return candidates[keep].reset_index(drop=True)


def point_sources(catalogs: Mapping[str, pd.DataFrame]) -> dict[str, pd.DataFrame]:
    """Return the catalogues without their extended sources."""
    return {
        name: catalog[~catalog["extended"].to_numpy(dtype=np.bool_)].reset_index(drop=True)
        for name, catalog in catalogs.items()
    }


def _matched(
    candidates: pd.DataFrame, catalog: pd.DataFrame, radius_deg: float, side: str, size: int
) -> Bool:
    """Return which rows of one side of the matching have a partner."""
    matches = match(candidates, catalog, radius_deg, brightness_column="flux")
    pairs = matches[(matches["candidate"] >= 0) & (matches["source"] >= 0)]
    result = np.zeros(size, dtype=np.bool_)
    result[pairs[side].to_numpy()] = True
    return result


def _chance(
    candidates: pd.DataFrame, catalogs: Mapping[str, pd.DataFrame], radius_deg: float
) -> dict[str, Rate]:
    hits, high = [], []
    for shift in CHANCE_SHIFTS_DEG:
        moved = candidates.assign(lon_deg=(candidates["lon_deg"] + shift) % 360.0)
        hits.append(confirmed(moved, catalogs, radius_deg))
        high.append(np.abs(candidates["lat_deg"].to_numpy()) > HIGH_LATITUDE_DEG)
    true, at_high = np.concatenate(hits), np.concatenate(high)
    return {"all": rate(true), "high_latitude": rate(true[at_high])}
