"""What a classified catalogue is worth: figures by its own classes, and the unknown sources."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from geminga.arrays import Bool, Float64, Int64
from geminga.catalogue.build import probability_column
from geminga.classification.catalogue_file import (
    FILE_CLASSES,
    UNASSOCIATED,
    UNCERTAIN_BLAZAR,
    CatalogueFile,
)
from geminga.classification.catalogue_simulation import SimulatedCatalogue
from geminga.evaluation.catalogue_class_figures import (
    class_sky,
    reliability_figure,
    roc_figure,
    score_histogram,
)
from geminga.evaluation.catalogue_classes import (
    ContrastFigures,
    Reliability,
    confusion,
    contrast,
    contrasts_of,
    group_score,
    reliability,
)

SIMULATED, ASSOCIATED = "simulated", "associated"
BCU, UNKNOWN = "bcu", "unassociated"
UNLIKE_FROM = 0.99
CONFIDENT = 0.9
_NAMES = {
    SIMULATED: "simulated, not trained on",
    ASSOCIATED: "associated sources",
    BCU: "the same, weighted to flux and latitude of BCU",
    UNKNOWN: "the same, weighted to flux and latitude of the unassociated",
}


@dataclass(frozen=True, eq=False)
class Assessment:
    """Figures of a classified catalogue.

    Attributes
    ----------
    classes : tuple of str
    table : DataFrame
        As written.
    flat : Float64 (n, K)
        Probabilities for an equal mix of classes.
    truth : tuple of str
        Class of each row by the file, empty where it has none of ours.
    contrasts : mapping of str to mapping of str to ContrastFigures
        By set of sources, then by title.
    calibration : mapping of str to Reliability
        Of the associated sources.
    confusion : Int64 (K, K)
        Of the associated sources, for an equal mix.
    sets : mapping of str to Bool (n,)
        Rows of the BCU and of the unassociated sources.
    """

    classes: tuple[str, ...]
    table: pd.DataFrame
    flat: Float64
    truth: tuple[str, ...]
    contrasts: Mapping[str, Mapping[str, ContrastFigures]]
    calibration: Mapping[str, Reliability]
    confusion: Int64
    sets: Mapping[str, Bool]

    def to_json(self) -> dict[str, Any]:
        """Return the figures as a JSON-like tree."""
        return {
            "classes": list(self.classes),
            "contrasts": {
                name: {title: c.to_json() for title, c in by_title.items()}
                for name, by_title in self.contrasts.items()
            },
            "calibration": {name: c.to_json() for name, c in self.calibration.items()},
            "confusion": self.confusion.tolist(),
            "predicted": {name: counts(self, rows) for name, rows in self.sets.items()},
        }


def assess(
    catalogue: CatalogueFile,
    table: pd.DataFrame,
    flat: Float64,
    simulated_flat: Float64,
    simulated: SimulatedCatalogue,
    classes: Sequence[str],
    seed: int,
) -> Assessment:
    """Compare probabilities with the classes that the file has.

    Parameters
    ----------
    table : DataFrame
        Of `classify_catalogue.classified`.
    flat, simulated_flat : Float64 (n, K), (m, K)
        Probabilities for an equal mix, of the catalogue's rows and of simulated ones.
    simulated : SimulatedCatalogue
        Not used in training.
    """
    names = tuple(classes)
    usable = catalogue.usable
    designations = np.array(catalogue.designations, dtype=object)
    truth = tuple(
        own if u and (own := FILE_CLASSES.get(d, "")) in names else ""
        for d, u in zip(designations, usable, strict=True)
    )
    has_classes = "CLASS1" in catalogue.texts
    sets = {
        BCU: usable & (designations == UNCERTAIN_BLAZAR),
        UNKNOWN: usable & np.isin(designations, UNASSOCIATED) & has_classes,
    }
    place = np.stack([_log_flux(catalogue), np.abs(catalogue.lat_deg)], axis=1)
    contrasts: dict[str, dict[str, ContrastFigures]] = {}
    shown = np.nan_to_num(flat, nan=0.0)
    for groups in contrasts_of(names):
        known = [names[k] for k in simulated.labels]
        found = {
            SIMULATED: contrast(groups, names, simulated_flat, known, seed),
            ASSOCIATED: contrast(groups, names, shown, truth, seed),
        }
        for key, rows in sets.items():
            if rows.any():
                found[key] = contrast(groups, names, shown, truth, seed, (place, place[rows]))
        for key, figures in found.items():
            if figures is not None:
                contrasts.setdefault(key, {})[groups[0]] = figures
    columns = [probability_column(name) for name in names]
    chosen = np.nan_to_num(table[columns].to_numpy(np.float64), nan=0.0)
    calibration = {
        label: result
        for label, p in (("prior chosen", chosen), ("equal mix", shown))
        if (result := reliability(p, names, truth, seed)) is not None
    }
    return Assessment(
        names, table, flat, truth, contrasts, calibration, confusion(shown, names, truth), sets
    )


def counts(result: Assessment, rows: Bool) -> dict[str, dict[str, int]]:
    """Return how many of the rows are of each predicted class, sure, or of doubtful kind."""
    part = result.table[rows]
    p = part[[probability_column(name) for name in result.classes]].to_numpy(np.float64)
    best = p.max(axis=1, initial=0.0)
    label = part["CLASS"].to_numpy()
    doubtful = part["UNLIKE"].to_numpy(np.float64) >= UNLIKE_FROM
    return {
        name: {
            "predicted": int((label == name).sum()),
            "sure": int(((label == name) & (best >= CONFIDENT) & ~doubtful).sum()),
            "ambiguous": int(part["AMBIGUOUS"].to_numpy()[label == name].sum()),
            "unlike": int((doubtful & (label == name)).sum()),
        }
        for name in result.classes
    }


def figures_of(result: Assessment) -> dict[str, Figure]:
    """Return the pictures by name; those without sources to show are left out."""
    groups = contrasts_of(result.classes)
    out: dict[str, Figure] = {}
    seen = result.contrasts.get(ASSOCIATED, {})
    flat = np.nan_to_num(result.flat, nan=0.0)
    if seen:
        out["roc"] = roc_figure(groups[:2], result.classes, flat, result.truth, seen)
        out["calibration"] = reliability_figure(result.calibration)
    first = groups[0] if groups else None
    if first is not None and result.sets[BCU].any():
        names = np.array(result.truth, dtype=object)
        score = group_score(flat, result.classes, first)
        out["bcu"] = score_histogram(
            {
                "BCU": score[result.sets[BCU]],
                **{name: score[names == name] for name in (*first[1], *first[2])},
            },
            f"probability of {' or '.join(first[1])} against {' or '.join(first[2])}, equal parts",
            "Blazars of uncertain type, and associated sources",
        )
    rows = result.sets[UNKNOWN]
    title = "Predicted classes of the unassociated sources"
    if not rows.any():
        rows, title = result.table["CLASS"].to_numpy() != "", "Predicted classes"
    part = result.table[rows]
    p = part[[probability_column(name) for name in result.classes]].to_numpy(np.float64)
    out["sky"] = class_sky(
        part["GLON"].to_numpy(np.float64),
        part["GLAT"].to_numpy(np.float64),
        list(part["CLASS"]),
        p.max(axis=1),
        result.classes,
        part["UNLIKE"].to_numpy(np.float64) >= UNLIKE_FROM,
        title,
    )
    return out


def report_text(result: Assessment, pictures: Sequence[str]) -> str:
    """Return the report in Markdown."""
    lines = ["# Classes of a catalogue", ""]
    lines += [
        "Trained on simulated sources alone, measured with the catalogue's own errors. The classes "
        "in the file are used below as a test.",
        "",
    ]
    if result.contrasts:
        lines += [
            "| sources | question | numbers | AUC | balanced accuracy | effective number | covered |",
            "|---|---|---|---|---|---|---|",
        ]
        for key, by_title in result.contrasts.items():
            lines += [
                f"| {_NAMES[key]} | {title} | {c.positive} / {c.negative} "
                f"| {c.auc.value:.3f} ± {c.auc.error:.3f} "
                f"| {c.balanced_accuracy.value:.3f} ± {c.balanced_accuracy.error:.3f} "
                f"| {c.effective:.0f} | {c.covered:.2f} |"
                for title, c in by_title.items()
            ]
        lines += [
            "",
            "Groups of classes weigh alike. *Effective number*: (sum w)^2 / sum w^2 of the weights; "
            "*covered*: part of the sources weighted to that lie in bins of flux and latitude with "
            "associated ones.",
            "",
        ]
    for name, c in result.calibration.items():
        brier = ", ".join(f"{k} {v:.3f}" for k, v in c.brier.items())
        lines.append(
            f"Calibration of the associated sources, {name}: expected calibration error "
            f"{c.error.value:.3f} ± {c.error.error:.3f}; Brier scores {brier}."
        )
    if result.confusion.sum():
        lines += [
            "",
            "Associated sources, equal mix: class of the file in rows, predicted in columns.",
        ]
        lines += [
            "",
            "| | " + " | ".join(result.classes) + " |",
            "|---" * (len(result.classes) + 1) + "|",
        ]
        lines += [
            f"| {name} | " + " | ".join(str(v) for v in row) + " |"
            for name, row in zip(result.classes, result.confusion, strict=True)
        ]
    for key, rows in {**result.sets, "all": result.table["CLASS"].to_numpy() != ""}.items():
        if not rows.any():
            continue
        lines += [
            "",
            f"## Predicted: {key} ({int(rows.sum())})",
            "",
            f"| class | predicted | P from {CONFIDENT:g} | ambiguous | unlike every class |",
            "|---|---|---|---|---|",
        ]
        lines += [
            f"| {name} | {n['predicted']} | {n['sure']} | {n['ambiguous']} | {n['unlike']} |"
            for name, n in counts(result, rows).items()
        ]
    lines += ["", *(f"![{name}]({name}.png)" for name in pictures), ""]
    return "\n".join(lines)


def _log_flux(catalogue: CatalogueFile) -> Float64:
    """Return log10 of the photon flux from 1 GeV up, or of all bands where none starts there, (n,)."""
    hard = catalogue.edges_gev[:, 0] >= 0.99
    hard = hard if hard.any() else np.ones(len(hard), np.bool_)
    total = np.nansum(np.maximum(catalogue.bands.value[:, hard], 0.0), axis=1)
    return np.asarray(np.log10(np.where(total > 0, total, np.nan)))
