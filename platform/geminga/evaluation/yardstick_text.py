"""The yardstick as plain text: tables for a terminal."""

from __future__ import annotations

import math
from collections.abc import Mapping

from geminga.evaluation.bootstrap import Estimate
from geminga.evaluation.summary import aligned
from geminga.evaluation.yardstick_results import Compared, PartFigures, SearchFigures, Yardstick


def text_table(
    result: Yardstick, purity: str = "0.9", crossing_purity: str = "0.95", full: bool = True
) -> str:
    """Return the figures of all searches as text.

    Parameters
    ----------
    result : Yardstick
        What was measured.
    purity : str
        Key of the purity at which completeness is listed by flux and TS; the tightest at hand if
        it was not measured.
    crossing_purity : str
        The same for the flux at which completeness crosses a level.
    full : bool
        Whether to list completeness by flux and TS, which takes most of the lines.
    """
    blocks = [
        [
            result.title or "detections against the truth",
            f"matching: {result.matching} within {result.match_radius_deg:g} deg, brightest source "
            "first, anew at every score cut; each part of the sky has its own cut",
            f"errors: {result.errors}",
        ],
        _headline(result),
        _crossings(result, crossing_purity),
        _duplicates(result),
        _positions(result),
        _calibration(result),
    ]
    for column, name in (("s1", "S1"), ("s10", "S10"), ("ts", "expected TS")) if full else ():
        blocks += _by(result, column, name, purity)
    return "\n\n".join("\n".join(block) for block in blocks if block) + "\n"


MODEL_PARTS = ("|b| > 20", "|b| < 20")
LEADING_PARTS = ("all", "|b| > 20", "|b| 10-20", "|b| < 10")


def leading_rows(
    result: Yardstick, purities: tuple[str, str] = ("0.9", "0.95"), level: str = "0.9"
) -> list[list[str]]:
    """Return the leading figures as cells: a header, then a row per search and part of the sky.

    Parameters
    ----------
    result : Yardstick
        What was measured.
    purities : (str, str)
        Keys of the purities of completeness; the tightest at hand for one not measured. The
        oracle is compared at the first, the flux is that of the second.
    level : str
        Key of the completeness whose flux is given.
    """
    first, second = (_known(result, key) for key in purities)
    rows = [
        ["search", "part", "sources", f"compl. at purity {first}", "of the oracle's",
         f"at purity {second}", f"S1 at compl. {level}"]
    ]  # fmt: skip
    for name, search in result.searches.items():
        for part in LEADING_PARTS:
            if part not in search.parts:
                continue
            figures = search.parts[part]
            at, tight = figures.at_purity[first].completeness, figures.at_purity[second]
            flux = tight.crossings.get(level)
            rows.append(
                [
                    name,
                    part,
                    str(figures.sources),
                    with_error(Estimate(at.value, at.error)),
                    compared(at)[-1],
                    with_error(Estimate(tight.completeness.value, tight.completeness.error)),
                    "-" if flux is None else with_error(Estimate(flux.value, math.nan), "{:.2e}"),
                ]
            )
    return rows if result.oracle is not None else [[*row[:4], *row[5:]] for row in rows]


def rows_by_model(
    results: Mapping[str, Yardstick],
    purities: tuple[str, str] = ("0.9", "0.95"),
    level: str = "0.9",
) -> list[list[str]]:
    """Return the leading figures of skies with different interstellar models as cells.

    Parameters
    ----------
    results : mapping
        Words for the model to what was measured on its skies.
    purities, level
        As for `leading_rows`; the fluxes at the completeness are those of the second purity.
    """
    rows: list[list[str]] = []
    for words, result in results.items():
        first, second = (_known(result, key) for key in purities)
        if not rows:
            rows.append(
                ["interstellar model", "search", "skies", f"compl. at purity {first}",
                 "of the oracle's", *(f"S1 at compl. {level}, {part}" for part in MODEL_PARTS)]
            )  # fmt: skip
        for name, search in result.searches.items():
            at = _whole(search).at_purity[first].completeness
            # A part that was not measured keeps its column: rows of any mix of results align.
            fluxes = [
                search.parts[part].at_purity[second].crossings.get(level)
                if part in search.parts
                else None
                for part in MODEL_PARTS
            ]
            rows.append(
                [
                    words,
                    name,
                    str(result.skies),
                    with_error(Estimate(at.value, at.error)),
                    compared(at)[-1],
                    *("-" if f is None else with_error(Estimate(f.value, f.error), "{:.2e}")
                      for f in fluxes),
                ]
            )  # fmt: skip
    return rows


def leading_table(result: Yardstick) -> str:
    """Return `leading_rows` as text."""
    head = f"{result.title}; each part of the sky at its own cut; {result.errors}"
    return "\n".join([head, *aligned(leading_rows(result))])


def _headline(result: Yardstick) -> list[str]:
    lines = []
    for key in _purities(result):
        rows = [["", "sources", "score cut", "completeness", "of the oracle", "ratio"]]
        for name, search in result.searches.items():
            for part, figures in search.parts.items():
                point = figures.at_purity[key]
                rows.append(
                    [
                        f"{name}, {part}",
                        str(figures.sources),
                        f"{point.cut:.4g}" if math.isfinite(point.cut) else "-",
                        *compared(point.completeness),
                    ]
                )
        lines += [f"completeness at purity {key}", *aligned(_without_oracle(rows, result))]
    return lines


def _crossings(result: Yardstick, wanted: str) -> list[str]:
    key = _known(result, wanted)
    rows = [["", "completeness", "S1 (cm-2 s-1)", "of the oracle", "ratio"]]
    for name, search in result.searches.items():
        for part, figures in search.parts.items():
            for level, flux in figures.at_purity[key].crossings.items():
                rows.append([f"{name}, {part}", level, *compared(flux, "{:.3g}")])
    head = f"S1 at which completeness crosses a level (monotone fit), at purity {key}"
    return [head, *aligned(_without_oracle(rows, result))]


def _duplicates(result: Yardstick) -> list[str]:
    rows = [["", *(f"purity {key}" for key in _purities(result))]]
    for name, search in result.searches.items():
        whole = _whole(search)
        cells = [
            f"{p.duplicates} of {p.detections} ({with_error(p.duplicate_share)})"
            for p in whole.at_purity.values()
        ]
        rows.append([name, *cells])
    return ["second detections of found sources, whole sky", *aligned(rows)]


def _positions(result: Yardstick) -> list[str]:
    rows = [["", "S1 (cm-2 s-1)", "n", "median", "68 %", "95 %", "bias east", "bias north"]]
    for name, search in result.searches.items():
        for one in search.positions:
            estimates = (
                one.median_deg, one.radius68_deg, one.radius95_deg,
                one.bias_east_deg, one.bias_north_deg,
            )  # fmt: skip
            rows.append(
                [
                    name,
                    f"{one.low:.3g} to {one.high:.3g}",
                    str(one.n),
                    *(with_error(value, "{:.4f}") for value in estimates),
                ]
            )
    return ["position error (deg) of the sources found, whole sky", *aligned(rows)]


def _calibration(result: Yardstick) -> list[str]:
    rows = [
        ["", "with an error", "inside 68 %", "inside 95 %", "pull rms", "pull width",
         "calibration error of the score"]
    ]  # fmt: skip
    for name, search in result.searches.items():
        claim, score = search.position_calibration, search.score_calibration
        estimates = (claim.inside_68, claim.inside_95, claim.pull_rms, claim.pull_width)
        rows.append(
            [
                name,
                f"{claim.n} of {claim.n + claim.without_error}",
                *(with_error(value) for value in estimates),
                "no probability" if score is None else with_error(score.expected_error),
            ]
        )
    return ["claims against the truth, whole sky", *aligned(rows)]


def _by(result: Yardstick, column: str, name: str, wanted: str) -> list[list[str]]:
    key = _known(result, wanted)
    blocks = []
    for part in next(iter(result.searches.values())).parts if result.searches else ():
        rows = [["", name, "sources", "completeness", "of the oracle", "ratio"]]
        for search in result.searches.values():
            bins = search.parts[part].at_purity[key].by[column]
            for low, high, n, figure in zip(bins.low, bins.high, bins.n, bins.figures, strict=True):
                rows.append([search.name, f"{low:.3g} to {high:.3g}", str(n), *compared(figure)])
        if len(rows) > 1:
            head = f"completeness against {name} at purity {key}, {part}"
            blocks.append([head, *aligned(_without_oracle(rows, result))])
    return blocks


def _purities(result: Yardstick) -> list[str]:
    return [key for s in list(result.searches.values())[:1] for key in _whole(s).at_purity]


def _whole(search: SearchFigures) -> PartFigures:
    return next(iter(search.parts.values()))


def _known(result: Yardstick, key: str) -> str:
    keys = _purities(result)
    return key if key in keys or not keys else keys[-1]


def _without_oracle(rows: list[list[str]], result: Yardstick) -> list[list[str]]:
    """Drop the last two columns when there is no oracle."""
    return rows if result.oracle is not None else [row[:-2] for row in rows]


def compared(figure: Compared, form: str = "{:.3f}") -> list[str]:
    """Return a figure, the oracle's and their ratio as three cells."""
    own = with_error(Estimate(figure.value, figure.error), form)
    if figure.oracle is None or figure.ratio is None:
        return [own, "-", "-"]
    return [own, with_error(figure.oracle, form), with_error(figure.ratio)]


def with_error(figure: Estimate, form: str = "{:.3f}") -> str:
    """Return a figure and its error as text; a dash for one that is not known."""
    if not math.isfinite(figure.value):
        return "-"
    text = form.format(figure.value)
    return f"{text} ± {form.format(figure.error)}" if math.isfinite(figure.error) else text
