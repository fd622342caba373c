"""The share of the exposure that each time bin has."""

from __future__ import annotations

from dataclasses import dataclass

import healpy
import numpy as np

from geminga.arrays import Float32, Float64


@dataclass(frozen=True)
class YearShare:
    """Share of the whole exposure in each time bin, HEALPix RING in Galactic coordinates.

    Attributes
    ----------
    maps : Float32 (Y, npix)
        Shares; the sum over time bins is 1 in every pixel.
    origin : str
        Where the numbers come from.
    """

    maps: Float32
    origin: str

    def at(self, lon_deg: Float64, lat_deg: Float64) -> Float64:
        """Return the shares of Galactic directions, bilinear, shape (n, Y)."""
        nside = int(healpy.npix2nside(self.maps.shape[1]))
        pixels, weights = healpy.get_interp_weights(
            nside, np.atleast_1d(lon_deg), np.atleast_1d(lat_deg), lonlat=True
        )
        shares = np.einsum("ycn,cn->ny", self.maps[:, pixels].astype(np.float64), weights)
        return np.asarray(shares / shares.sum(axis=1, keepdims=True))


def equal_shares(years: int) -> YearShare:
    """Return shares that are the same for every time bin and direction."""
    return YearShare(np.full((years, 12), 1.0 / years, dtype=np.float32), "equal shares")
