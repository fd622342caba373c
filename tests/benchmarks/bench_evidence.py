"""Cost of the evidence on a sky's candidates on one core, and how good its light curves are.

Run ``OMP_NUM_THREADS=1 python tests/benchmarks/bench_evidence.py --config jobs/configs/front.yaml
--set run.output=FOLDER [--sky 2000000] [--least 0.1] [--weights summed]``. The run must have made its
skies, observed its test skies and searched them; candidates are measured from ``--least`` times the
score cut up. Seconds are processor time, since others may use the machine. The unit beside them is a
counting pass: every photon once into its HEALPix pixel of 0.9 deg.

Pulls are (measured - true) / error of each year of the candidates that lie within four position
errors (at most 0.1 deg) of a true source of about as many counts (a factor of two); constant sources
are those whose true factors are all 1. `VI` is the variability index over its expectation.
"""

from __future__ import annotations

import argparse
import resource
import time
from itertools import pairwise
from pathlib import Path

import healpy
import numpy as np
import pandas as pd
from scipy.spatial import cKDTree

from geminga.arrays import Bool, Float64, Int64
from geminga.classification.evidence import DETECTION_NAMES, Evidence
from geminga.classification.light_curves import variability_index
from geminga.classification.measure_evidence import measure_evidence
from geminga.config import load_config
from geminga.geometry import unit_vectors
from geminga.response import Response, build_response
from geminga.sky.photons import Photons

TS_EDGES = (0.0, 25.0, 50.0, 100.0, 300.0, 1e3, 1e4, 1e9)


def counting_pass(photons: Photons) -> float:
    """Return the seconds of putting every photon into a pixel of 0.9 deg."""
    start = time.process_time()
    counts = np.zeros(12 * 64**2, np.int64)
    for first in range(0, len(photons), 1 << 20):
        xyz = photons.xyz[first : first + (1 << 20)].astype(np.float64)
        counts += np.bincount(healpy.vec2pix(64, *xyz.T, nest=True), minlength=len(counts))
    return time.process_time() - start


def truth(
    folder: Path, evidence: Evidence, candidates: pd.DataFrame, response: Response
) -> tuple[Bool, Float64, Int64]:
    """Return which candidates have a clear counterpart, its yearly factors, and its row."""
    sources = pd.read_parquet(folder / "sources.parquet")
    stored = np.load(folder / "counts.npz")
    lon, lat = sources["lon_deg"].to_numpy(), sources["lat_deg"].to_numpy()
    chord, row = cKDTree(unit_vectors(lon, lat)).query(
        unit_vectors(evidence.lon_deg, evidence.lat_deg)
    )
    limit = np.minimum(4.0 * candidates["position_error_deg"].to_numpy(), 0.1)
    names = [f"counts_{c}" for c in range(evidence.band_flux.shape[1])]
    fitted = np.maximum(candidates[names].sum(axis=1).to_numpy(), 1.0)
    ratio = fitted / np.maximum(stored["source_counts"].sum(axis=1)[row], 1e-3)
    clear = (np.degrees(chord) < limit) & (np.abs(np.log(ratio)) < np.log(2.0))
    share = response.year_share.at(lon[row], lat[row])
    return clear, stored["shares"][row] / share, row


def spread(pull: Float64) -> str:
    """Return mean, rms and half the central 68 % of pulls."""
    if not pull.size:
        return "     -      -      -"
    low, high = np.percentile(pull, [16, 84])
    return f"{pull.mean():6.2f} {np.sqrt((pull**2).mean()):6.2f} {(high - low) / 2:6.2f}"


def main() -> None:
    """Measure one sky and print seconds and pulls."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", required=True)
    parser.add_argument("--set", action="append", default=[])
    parser.add_argument("--sky", type=int, default=2_000_000)
    parser.add_argument("--least", type=float, default=0.1)
    parser.add_argument("--cut", type=float, default=0.288)
    parser.add_argument("--weights", choices=("likelihood", "summed"), default="likelihood")
    arguments = parser.parse_args()
    changes = [*arguments.set, f"evidence.year_weights={arguments.weights}"]
    config = load_config(arguments.config, changes)
    run = Path(config.run.output) / config.name
    response = build_response(config)
    photons = Photons.load(run / "observe" / f"photons_{arguments.sky}.parquet")
    listed = pd.read_parquet(run / "search" / f"candidates_ranked_{arguments.sky}.parquet")
    rows = np.flatnonzero(listed["probability"] >= arguments.least * arguments.cut)
    warm = photons.select(np.arange(min(len(photons), 1000)))
    measure_evidence(warm, listed, response, config, rows[:1])
    unit = counting_pass(photons)
    start = time.process_time()
    evidence = measure_evidence(photons, listed, response, config, rows)
    seconds = time.process_time() - start
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(f"{len(photons):,} photons, {len(listed)} sources, {len(rows)} measured")
    print(
        f"{seconds:.1f} s, {seconds * 1e3 / len(rows):.2f} s per 1,000 candidates, "
        f"{seconds / unit:.1f} counting passes of {unit:.1f} s; {memory:.1f} GB at most"
    )
    table = listed.iloc[rows]
    clear, factors, _ = truth(run / "skies" / f"sky_{arguments.sky}", evidence, table, response)
    pull = (evidence.year_ratio - factors) / evidence.year_ratio_error
    index = variability_index(evidence.year_ratio, evidence.year_ratio_error)
    expected = max(evidence.year_ratio.shape[1] - 1, 1)
    constant = np.all(np.abs(factors - 1.0) < 1e-3, axis=1)
    extension = evidence.detection[:, DETECTION_NAMES.index("extension")]
    ts = table["ts"].to_numpy()
    print(
        "TS from    n   pulls: mean rms 68 %  | constant: n, mean rms 68 %, VI | error | extension"
    )
    for low, high in pairwise(TS_EDGES):
        here = clear & (ts >= low) & (ts < high)
        still = here & constant
        ratio = np.median(index[still]) / expected if still.any() else np.nan
        error = np.median(evidence.year_ratio_error[here]) if here.any() else np.nan
        print(
            f"{low:7.0f} {here.sum():4d}  {spread(pull[here])} | {still.sum():4d} "
            f"{spread(pull[still])} {ratio:5.2f} | {error:.3f} | {spread(extension[here])}"
        )


if __name__ == "__main__":
    main()
