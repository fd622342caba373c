"""From the candidates of one sky to its catalogue."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd

from geminga.arrays import Float64
from geminga.catalogue.classified import classified_columns
from geminga.catalogue.ellipses import CONF_68
from geminga.catalogue.fitted import fitted_columns, fitted_values, is_fitted
from geminga.catalogue.flags import Surroundings
from geminga.catalogue.names import galactic_to_icrs, source_names
from geminga.classes import with_fake
from geminga.errors import InputError
from geminga.tables import CATALOG, Column, Table


def probability_column(class_name: str) -> str:
    """Return the column that holds a class's probability, safe in FITS and SQL.

    Every run of characters other than letters and digits becomes one underscore: the class
    ``PWN+SNR`` has the column ``P_PWN_SNR``.
    """
    return "P_" + re.sub(r"[^A-Za-z0-9]+", "_", class_name)


def catalog_table(classes: Sequence[str], names: Iterable[str] = ()) -> Table:
    """Return CATALOG with one probability column per class, FAKE last.

    Parameters
    ----------
    classes : sequence of str
        The astrophysical classes.
    names : iterable of str
        Columns of a catalogue: what a likelihood fit and the classifier's evidence told is in the
        table if it is among them.

    Raises
    ------
    InputError
        If two classes would share a column (FITS column names ignore case).
    """
    labels = with_fake(classes)
    columns = [
        Column(probability_column(name), "float64", "", f"probability of class {name}")
        for name in labels
    ]
    seen: dict[str, str] = {}
    for name, column in zip(labels, columns, strict=True):
        other = seen.setdefault(column.name.upper(), name)
        if other != name:
            raise InputError(
                "classes",
                f"{other} and {name} share the catalogue column {column.name}",
                "rename one of them",
            )
    given = set(names)
    return CATALOG.with_columns([*fitted_columns(given), *classified_columns(given), *columns])


def build_catalogue(
    candidates: pd.DataFrame,
    probabilities: Float64 | None,
    classes: Sequence[str],
    prefix: str = "GEM",
    around: Surroundings | None = None,
) -> pd.DataFrame:
    """Turn the candidates of one sky into a catalogue, surest source first.

    Parameters
    ----------
    candidates : DataFrame
        Table CANDIDATES, n rows of one sky. With the columns of a likelihood fit
        (`geminga.pipeline.likelihood.candidates_of`) the catalogue has what they say, and so it is
        with the columns of `geminga.catalogue.classified`.
    probabilities : Float64 (n, C + 1) or None
        Class probabilities in the order ``with_fake(classes)``, each row summing to 1; None
        without a classifier, which leaves CLASS empty and the probabilities NaN.
    classes : sequence of str
        The C astrophysical classes.
    prefix : str
        Acronym in front of the source names.
    around : Surroundings, optional
        What the flags of fitted sources are judged by.

    Returns
    -------
    DataFrame
        Table ``catalog_table(classes, its columns)``. The order does not depend on that of the
        candidates.

    Raises
    ------
    ValueError
        If the probabilities have another shape or do not sum to 1.
    """
    names = with_fake(classes)
    n = len(candidates)
    lon, lat = (candidates[c].to_numpy(dtype=np.float64) for c in ("lon_deg", "lat_deg"))
    score = candidates["score"].to_numpy(dtype=np.float64)
    order = np.lexsort((lat, lon, -score))
    lon, lat, score = lon[order], lat[order], score[order]

    if probabilities is None:
        p = np.full((n, len(names)), np.nan)
        label = np.full(n, "", dtype=object)
    else:
        p = np.asarray(probabilities, dtype=np.float64)
        if p.shape != (n, len(names)):
            raise ValueError(f"probabilities have shape {p.shape}, not {(n, len(names))}")
        if not np.allclose(p.sum(axis=1), 1.0, atol=1e-5) or (p < 0).any():
            raise ValueError("class probabilities are negative or do not sum to 1")
        p = p[order] / p[order].sum(axis=1, keepdims=True)
        label = np.array(names, dtype=object)[p.argmax(axis=1)] if n else np.array([], object)

    ra, dec = galactic_to_icrs(lon, lat)
    data: dict[str, object] = {
        "Source_Name": source_names(ra, dec, prefix),
        "RAJ2000": ra,
        "DEJ2000": dec,
        "GLON": lon,
        "GLAT": lat,
        "Conf_68_Radius": CONF_68 * candidates["position_error_deg"].to_numpy(np.float64)[order],
        "SCORE": score,
        "N_Patches": candidates["n_patches"].to_numpy(dtype=np.int64)[order],
        "CLASS": label,
    }
    data.update({probability_column(name): p[:, k] for k, name in enumerate(names)})
    if is_fitted(candidates.columns):
        data.update(fitted_values(candidates.iloc[order], around or Surroundings()))
    for column in classified_columns(candidates.columns):
        data[column.name] = candidates[column.name].to_numpy()[order]
    return catalog_table(classes, data).frame(data)


def probabilities_of(frame: pd.DataFrame, classes: Sequence[str]) -> Float64 | None:
    """Return the class probabilities (n, C + 1) among a frame's columns; None if it has none."""
    names = [probability_column(name) for name in with_fake(classes)]
    if not set(names) <= set(frame.columns):
        return None
    return frame[names].to_numpy(np.float64)
