"""Tables of the sources that searches of patches find."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from geminga.arrays import Float32, Float64, Int64
from geminga.geometry import from_plane, lon_lat, tangent_frames
from geminga.likelihood.measure import PatchFit
from geminga.tables import patch_sources


def source_columns(
    fit: PatchFit, diffuse: Sequence[Float32], frame: Float64, size_deg: float
) -> dict[str, np.ndarray]:
    """Return the columns of `patch_sources` for the sources of one patch, but for its numbers.

    Parameters
    ----------
    fit : PatchFit
        m sources, C channels.
    diffuse : sequence of Float32 (n_c, n_c), one per channel
        Background counts of the patch, no source in it.
    frame : Float64 (3, 3)
    size_deg : float
        Width of the patch.
    """
    lon, lat = lon_lat(from_plane(frame, fit.x_deg, fit.y_deg))
    covariance = on_the_sphere(fit.position_covariance, frame, fit.x_deg, fit.y_deg)
    columns: dict[str, np.ndarray] = {
        "x_deg": fit.x_deg,
        "y_deg": fit.y_deg,
        "lon_deg": lon,
        "lat_deg": lat,
        "edge_deg": size_deg / 2.0 - np.maximum(np.abs(fit.x_deg), np.abs(fit.y_deg)),
        "ts": fit.ts,
        "s1": fit.flux,
        "s1_error": fit.flux_error,
        "index": fit.index,
        "index_error": fit.index_error,
        "cov_east_deg2": covariance[:, 0, 0],
        "cov_cross_deg2": covariance[:, 0, 1],
        "cov_north_deg2": covariance[:, 1, 1],
        "goodness": fit.goodness,
        "converged": fit.converged,
    }
    for c, image in enumerate(diffuse):
        n = len(image)
        row, column = (
            np.clip((v / size_deg + 0.5) * n, 0, n - 1).astype(np.int64)
            for v in (fit.y_deg, fit.x_deg)
        )
        columns |= {
            f"counts_{c}": fit.counts[:, c],
            f"counts_error_{c}": fit.counts_error[:, c],
            f"flux_{c}": fit.band_flux[:, c],
            f"flux_error_{c}": fit.band_flux_error[:, c],
            f"background_{c}": image[row, column].astype(np.float64) * (n / size_deg) ** 2,
        }
    return columns


def source_table(
    columns: Sequence[dict[str, np.ndarray]], sky_id: int, patch_ids: Int64, n_channels: int
) -> pd.DataFrame:
    """Return one table (`patch_sources`) of the sources of several patches.

    Parameters
    ----------
    columns : sequence of dict (P,)
        From `source_columns`, one per patch.
    sky_id : int
    patch_ids : Int64 (P,)
    n_channels : int
    """
    table = patch_sources(n_channels)
    if not columns:
        return table.empty()
    numbers = [len(each["ts"]) for each in columns]
    joined = {name: np.concatenate([each[name] for each in columns]) for name in columns[0]}
    return table.frame(
        {
            "sky_id": np.full(sum(numbers), sky_id),
            "patch_id": np.repeat(np.asarray(patch_ids, np.int64), numbers),
            **joined,
        }
    )


def on_the_sphere(covariance: Float64, frame: Float64, x_deg: Float64, y_deg: Float64) -> Float64:
    """Return covariances (m, 2, 2) of plane coordinates as those towards Galactic east and north.

    Parameters
    ----------
    covariance : Float64 (m, 2, 2)
        Of plane coordinates, degrees squared.
    frame : Float64 (3, 3)
    x_deg, y_deg : Float64 (m,)
        Plane coordinates of the sources.
    """
    x, y = np.radians(x_deg), np.radians(y_deg)
    length = np.sqrt(1.0 + x * x + y * y)
    vectors = from_plane(frame, x_deg, y_deg)
    axes = tangent_frames(*lon_lat(vectors))[:, 1:]  # (m, 2, 3): east and north at each source
    jacobian = np.empty((len(x), 2, 2))
    for column, (along, value) in enumerate(((frame[1], x), (frame[2], y))):
        # d(v / |v|) with v = centre + x east + y north.
        slope = along / length[:, None] - vectors * (value / length**2)[:, None]
        jacobian[:, :, column] = np.einsum("mij,mj->mi", axes, slope)
    return np.asarray(jacobian @ covariance @ np.swapaxes(jacobian, 1, 2))
