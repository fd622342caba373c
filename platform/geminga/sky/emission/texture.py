"""Fine structure of the interstellar emission, drawn anew for every simulated sky.

Gas has structure at every angle, and a model holds one realisation of it, or none below its own
resolution. Here ln of the intensity gets a Gaussian random field t, with the power spectrum and
the amplitude that real gas has and nobody's map. `scripts/measure_interstellar_texture.py` prints
the statistics that the constants come from.

The field is the same at every energy, as the structure of gll_iem_v07 is: from 0.24 to 59 GeV the
C_l of ln I in its cut-out stay within 20 % of each other at every l from 85 to 700. A channel's
counts, which have its PSF folded in, take the factor exp(P * t) with the PSF P: exact to first
order where the intensity varies slowly within the PSF.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache

import healpy
import numpy as np
from numpy.typing import NDArray

from geminga.arrays import Float32, Float64
from geminga.config import Config
from geminga.errors import InputError
from geminga.response import BandPsf
from geminga.seeds import SKIES_PER_SPLIT, Split, Stage, generator
from geminga.sky.emission.diffuse import PSF_INDEX

ELL_LOW, ELL_HIGH = 60, 1200
"""Multipoles of the largest (3 deg) and the finest (0.15 deg) structure, as 180 deg / l."""
SLOPE = 2.8
"""C_l falls as l^-SLOPE: ln I of the cut-out of gll_iem_v07 (0.5 to 50 GeV, l = 60 to 1000) under
a beam of 0.2 deg, chi-square 5.4 for 8 bins; 2.6 to 3.1 fit within 9."""
HIGH_VARIANCE, PLANE_VARIANCE, PLANE_WIDTH_DEG = 0.0100, 0.0092, 3.6
"""Variance of t, HIGH + PLANE exp(-(b / WIDTH)^2): p6v11's over the sky, corrected for the
template's resolution (0.94 deg) by simulated fields. The Galactic centre itself has four times
the plane's mean (standard deviation .287 in the cut-out of gll_iem_v07)."""
_NEGLIGIBLE = 1e-4


@dataclass(frozen=True)
class Texture:
    """What makes a sky's fine structure again.

    Attributes
    ----------
    amplitude : float
        Factor on the measured standard deviation of t; 0 is none.
    seed : int
        Root seed of the run.
    sky_id : int
    """

    amplitude: float = 0.0
    seed: int = 0
    sky_id: int = 0
    _kept: dict[tuple[BandPsf, int, int], Float32] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    def factor(self, psf: BandPsf, channel: int, nside: int) -> Float32:
        """Return the factor on a channel's interstellar counts, RING, Galactic, shape (npix,).

        Its mean over the ensemble of fields is 1 in every pixel. Scales that a map of `nside`
        cannot hold (beyond l = 3 nside - 1) are left out. A sky asks several times: the factors
        are kept.

        Parameters
        ----------
        psf : BandPsf
            The channel's PSF smooths the field.
        channel : int
        nside : int
            Resolution of the counts.

        Raises
        ------
        InputError
            If `nside` is too coarse for any of the structure.
        """
        key = (psf, channel, nside)
        if key not in self._kept:
            self._kept[key] = self._factor(psf, channel, nside)
        return self._kept[key]

    def _factor(self, psf: BandPsf, channel: int, nside: int) -> Float32:
        lmax = min(ELL_HIGH, 3 * nside - 1)
        if lmax < ELL_LOW:
            raise InputError(
                "sky.interstellar_texture",
                f"is finer than diffuse maps of nside {nside}",
                "set sky.diffuse_nside to 32 or more",
            )
        window = psf.harmonic(channel, PSF_INDEX, lmax)
        ell = np.arange(lmax + 1)
        power = (2 * ell + 1) / (4 * np.pi) * unit_spectrum()[: lmax + 1] * window**2
        left = power[::-1].cumsum()[::-1]
        # A wide PSF leaves nothing of the high multipoles: a shorter transform is the same.
        short = max(int(np.searchsorted(-left, -_NEGLIGIBLE * left[0])), ELL_LOW)
        drawn = _coefficients(self.seed, self.sky_id, lmax)
        alm = healpy.almxfl(healpy.resize_alm(drawn, lmax, lmax, short, short), window[: short + 1])
        smooth = healpy.alm2map(alm, nside, lmax=short)
        scatter = self.amplitude * _scatter(nside)
        mean = 0.5 * scatter**2 * power[: short + 1].sum()
        return np.asarray(np.exp(scatter * smooth - mean), dtype=np.float32)


def draw_texture(config: Config, sky_id: int) -> Texture:
    """Return the fine structure of a sky; test skies have none beyond their model's own."""
    if sky_id // SKIES_PER_SPLIT == Split.TEST or config.sky.interstellar_texture == 0:
        return Texture()
    return Texture(config.sky.interstellar_texture, config.seed, sky_id)


def unit_spectrum() -> Float64:
    """Return C_l of a field of variance 1 from `ELL_LOW` to `ELL_HIGH`, shape (ELL_HIGH + 1,)."""
    ell = np.arange(ELL_HIGH + 1)
    c_l = np.where(ell >= ELL_LOW, np.maximum(ell, 1).astype(np.float64) ** -SLOPE, 0.0)
    return np.asarray(c_l / np.sum((2 * ell + 1) / (4 * np.pi) * c_l))


def standard_deviation(lat_deg: Float64) -> Float64:
    """Return the measured standard deviation of t at Galactic latitudes (n,)."""
    plane = PLANE_VARIANCE * np.exp(-((lat_deg / PLANE_WIDTH_DEG) ** 2))
    return np.asarray(np.sqrt(HIGH_VARIANCE + plane))


@lru_cache(maxsize=1)
def _coefficients(seed: int, sky_id: int, lmax: int) -> NDArray[np.complex128]:
    """Draw a_lm of unit variance; a finer map adds multipoles and keeps these."""
    rng = generator(seed, Stage.TEXTURE, sky_id)
    size = healpy.Alm.getsize(ELL_HIGH)
    alm = np.empty(size, dtype=np.complex128)
    alm.real, alm.imag = rng.normal(size=(2, size)) * np.sqrt(0.5)
    # m = 0 comes first: real, with the whole variance.
    alm[: ELL_HIGH + 1] = alm[: ELL_HIGH + 1].real * np.sqrt(2.0)
    healpy.almxfl(alm, np.sqrt(unit_spectrum()), inplace=True)
    return np.asarray(healpy.resize_alm(alm, ELL_HIGH, ELL_HIGH, lmax, lmax))


@lru_cache(maxsize=1)
def _scatter(nside: int) -> Float64:
    lat = healpy.pix2ang(nside, np.arange(healpy.nside2npix(nside)), lonlat=True)[1]
    return standard_deviation(lat)
