"""How many true positions the error ellipses of the likelihood search hold, by TS.

Run ``python tests/benchmarks/bench_position_errors.py LIST TRUTH [LIST TRUTH ...] [--fit]``.
LIST: sources as fitted (table PATCH_SOURCES, errors not calibrated), for example the lists of the
last round of a search; TRUTH: the sky's true sources. ``--fit`` fits the two factors of
`geminga.likelihood.position_errors` to them.

Chance pairs are as many per area inside an ellipse as between 0.3 and 0.5 deg from the detection.
"""

from __future__ import annotations

import argparse
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.optimize import minimize

from geminga.arrays import Float64
from geminga.evaluation.metrics import position_offsets
from geminga.evaluation.positions import INSIDE
from geminga.likelihood.position_errors import COVARIANCE, SCALE_68, SCALE_95, position_scale
from geminga.matching import match

SHOWN = (6, 9, 12, 16, 20, 25, 30, 40, 60, 100, 200, 400, 1e3, 3e3, 1e4, np.inf)
FITTED = (6, 8, 10, 12, 14, 16, 18, 20, 22.5, 25, 30, 35, 40, 50, 60, 80, 100, 150, 200, 300, 400,
          700, 1e3, 2e3, 5e3, 1e4, np.inf)  # fmt: skip
SIDE_DEG = (0.3, 0.5)
LEAST = 20
"""Ranges of TS with fewer pairs are left out."""


def pairs_of(found: Path, truth: Path) -> pd.DataFrame:
    """Match a list with the truth within 0.5 deg; return TS, distance, chi2 and ellipse."""
    seen, true = pd.read_parquet(found), pd.read_parquet(truth)
    rows = match(seen.assign(score=seen["ts"]), true, SIDE_DEG[1])
    rows = rows[(rows["candidate"] >= 0) & (rows["source"] >= 0)]
    # In the plane of the detection, where its ellipse is given.
    turned = pd.DataFrame({"candidate": rows["source"], "source": rows["candidate"]})
    offset = position_offsets(true, seen, turned)
    part = seen.iloc[rows["candidate"].to_numpy()]
    xx, xy, yy = (part[name].to_numpy(np.float64) for name in COVARIANCE)
    determinant = xx * yy - xy * xy
    e, n = offset.east_deg, offset.north_deg
    return pd.DataFrame(
        {
            "ts": part["ts"].to_numpy(np.float64),
            "separation_deg": rows["separation_deg"].to_numpy(np.float64),
            "chi2": (yy * e * e - 2.0 * xy * e * n + xx * n * n) / determinant,
            "area": np.pi * np.sqrt(determinant),
        }
    )


def coverage(pairs: pd.DataFrame, scale: Float64, part: float, edges: tuple[float, ...]) -> Float64:
    """Return rows of (least TS, pairs less chance, share inside, its error) by TS."""
    limit = -2.0 * np.log1p(-part)
    low, high = SIDE_DEG
    ts, apart = pairs["ts"].to_numpy(), pairs["separation_deg"].to_numpy()
    inside = pairs["chi2"].to_numpy() < limit * scale**2
    area = np.minimum(pairs["area"].to_numpy() * limit * scale**2, np.pi * high**2)
    rows = []
    for least, most in pairwise(edges):
        here = (ts >= least) & (ts < most)
        if here.sum() < LEAST:
            continue
        density = np.sum(here & (apart > low)) / (np.pi * (high**2 - low**2))
        real = here.sum() - density * np.pi * high**2
        share = (np.sum(inside & here) - density * area[here].mean()) / real
        error = np.sqrt(part * (1.0 - part) * here.sum()) / real
        rows.append((least, real, share, error))
    return np.array(rows)


def fit(pairs: pd.DataFrame, part: float) -> tuple[tuple[float, float], float, int]:
    """Return the factor that puts `part` inside, chi2 over the ranges, and their number."""
    ts = pairs["ts"].to_numpy()

    def cost(values: Float64) -> float:
        scale = position_scale(ts, (float(np.exp(values[0])), float(values[1])))
        _, _, share, error = coverage(pairs, scale, part, FITTED).T
        return float(np.sum(((share - part) / error) ** 2))

    best = min(
        (minimize(cost, [np.log(a), 0.9], method="Nelder-Mead") for a in (5.0, 12.0, 30.0)),
        key=lambda result: float(result.fun),
    )
    ranges = len(coverage(pairs, np.ones(len(ts)), part, FITTED))
    return (float(np.exp(best.x[0])), float(best.x[1])), float(best.fun), ranges


def main() -> None:
    """Print the coverage before and after calibration."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--fit", action="store_true")
    options = parser.parse_args()
    lists = zip(options.files[::2], options.files[1::2], strict=True)
    pairs = pd.concat([pairs_of(*item) for item in lists], ignore_index=True)
    print(f"{len(pairs)} matched pairs")
    one = np.ones(len(pairs))
    scales = [position_scale(pairs["ts"].to_numpy(), s) for s in (SCALE_68, SCALE_95)]
    columns = [coverage(pairs, one, part, SHOWN) for part in INSIDE]
    columns += [coverage(pairs, s, part, SHOWN) for s, part in zip(scales, INSIDE, strict=True)]
    print("TS from   pairs   fitted: 68 %   95 %   calibrated: 68 %   95 %   (errors)")
    for rows in zip(*columns, strict=True):
        a, b, c, d = (row[2] for row in rows)
        errors = f"{rows[0][3]:.3f} {rows[1][3]:.3f}"
        print(f"{rows[0][0]:7g} {rows[0][1]:7.0f} {a:14.3f} {b:6.3f} {c:18.3f} {d:6.3f}   {errors}")
    everything = [coverage(pairs, s, p, (20.0, np.inf))[0] for s, p in
                  zip((one, one, *scales), (*INSIDE, *INSIDE), strict=True)]  # fmt: skip
    print("TS above 20: " + " ".join(f"{row[2]:.3f}" for row in everything))
    if options.fit:
        for part in INSIDE:
            values, chi2, ranges = fit(pairs, part)
            print(f"{part:.4f}: a {values[0]:.2f} p {values[1]:.3f}, chi2 {chi2:.1f} of {ranges}")


if __name__ == "__main__":
    main()
