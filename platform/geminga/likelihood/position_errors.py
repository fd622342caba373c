"""Error ellipses that hold as many true positions as they say.

The covariance of a fit is that of the curvature of lnL at its maximum. For a strong source it is
right; a faint one was found where the noise is high as well, its lnL is no parabola, and
unresolved neighbours pull at it: true positions lie farther out than the curvature says, and with
longer tails than a Gaussian has. Two factors depending on TS, measured on simulated skies, correct
for both: one for the region of 68 %, one for that of 95 %.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from geminga.arrays import Float64

COVARIANCE = ("cov_east_deg2", "cov_cross_deg2", "cov_north_deg2")
TAIL = "position_tail"
"""Column: radius of the 95 % region over that of a Gaussian with the covariance given."""

SCALE_68 = (4.42, 0.62)
SCALE_95 = (20.4, 0.911)
"""TS at which a factor is the root of 2, and how fast it falls: fitted by
``tests/benchmarks/bench_position_errors.py --fit`` to the searches, with estimated background, of
every second patch of validation skies 2, 3 and 4 (1152 patches, 7900 matched sources) of six bands
of P8R2 front photons in ten years. All expected TS are above 15 there: on a sky with fainter
sources more of the faintest detections are of two sources at once."""
LEAST_TS = 5.0
"""The factors are not followed below."""


def position_scale(ts: Float64, scale: tuple[float, float]) -> Float64:
    """Return sqrt(1 + (a / TS)^p) for `scale` (a, p), by which fitted errors are too small."""
    strength, power = scale
    return np.asarray(np.sqrt(1.0 + (strength / np.maximum(ts, LEAST_TS)) ** power))


def calibrated_positions(sources: pd.DataFrame) -> pd.DataFrame:
    """Return sources with covariances that hold 68.27 % of true positions.

    Parameters
    ----------
    sources : DataFrame
        With ``ts`` and COVARIANCE as fitted (PATCH_SOURCES).

    Returns
    -------
    DataFrame
        A copy; COVARIANCE times the square of the factor for 68 %, and TAIL: the region of 95 % is
        wider by it than that of a Gaussian.
    """
    ts = sources["ts"].to_numpy(np.float64)
    core, far = position_scale(ts, SCALE_68), position_scale(ts, SCALE_95)
    scaled = {name: sources[name].to_numpy(np.float64) * core**2 for name in COVARIANCE}
    return sources.assign(**scaled, **{TAIL: far / core})
