"""What differs between the interstellar emission of one simulated sky and the next."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import healpy
import numpy as np

from geminga.arrays import Float64
from geminga.classes import DIFFUSE_COMPONENTS, EXTENDED
from geminga.config import Config
from geminga.errors import InputError
from geminga.seeds import SKIES_PER_SPLIT, Split, Stage, generator

DISTORTION_NSIDE = 16
"""Resolution of distortions: 3.7 deg, for changes over 5 deg and more."""


def draw_interstellar(
    config: Config, models: Sequence[str], sky_id: int
) -> tuple[int, Float64, Float64]:
    """Return model number, norms of the diffuse components (3,) and ln of the distortion (npix,).

    Parameters
    ----------
    config : Config
        Its section ``sky``, and the seed.
    models : sequence of str
        Names of the interstellar models at hand.
    sky_id : int
        Test skies take the models of ``sky.test_interstellar`` in turn (the first model by
        default), norms of 1 and no distortion (an empty array).

    Raises
    ------
    InputError
        If the test skies' model is not at hand.
    """
    settings = config.sky
    norm = np.ones(len(DIFFUSE_COMPONENTS))
    if sky_id // SKIES_PER_SPLIT == Split.TEST:
        wanted = interstellar_of_test_sky(config, sky_id)
        if wanted not in models:
            raise InputError(
                "sky.test_interstellar",
                f"{wanted!r} is not among the models {list(models)}",
                "compute the diffuse counts anew",
            )
        return list(models).index(wanted), norm, np.empty(0)
    rng = generator(config.seed, Stage.DIFFUSE, sky_id)
    norm = np.exp(settings.interstellar_norm_scatter * rng.normal(size=len(norm)))
    # Extended sources are catalogued: they have the flux they have.
    norm[DIFFUSE_COMPONENTS.index(EXTENDED)] = 1.0
    own = generator(config.seed, Stage.INTERSTELLAR, sky_id)
    model = int(own.integers(len(settings.interstellar)))
    if settings.interstellar_distortion == 0:
        return model, norm, np.empty(0)
    return (
        model,
        norm,
        smooth_field(own, settings.interstellar_distortion, settings.distortion_scale_deg),
    )


def interstellar_of_test_sky(config: Config, sky_id: int) -> str:
    """Return the name of the interstellar model of a test sky."""
    named = config.sky.test_interstellar or config.sky.interstellar[:1]
    return named[sky_id % SKIES_PER_SPLIT % len(named)]


def model_words(name: str) -> str:
    """Return a model's name for tables: its files without their folders and exposures."""
    return "+".join(Path(part.split("@")[0]).name for part in name.split("+"))


def smooth_field(rng: np.random.Generator, scatter: float, scale_deg: float) -> Float64:
    """Draw a Gaussian random field on the sphere, RING at `DISTORTION_NSIDE`, shape (npix,).

    White noise smoothed with a Gaussian beam; its standard deviation over the ensemble is
    `scatter`.

    Parameters
    ----------
    rng : numpy.random.Generator
    scatter : float
        Standard deviation.
    scale_deg : float
        Full width of the beam at half maximum.
    """
    npix = healpy.nside2npix(DISTORTION_NSIDE)
    lmax = 2 * DISTORTION_NSIDE
    window = healpy.gauss_beam(np.radians(scale_deg), lmax=lmax)
    alm = healpy.map2alm(rng.normal(size=npix), lmax=lmax, iter=1)
    field = healpy.alm2map(healpy.almxfl(alm, window), DISTORTION_NSIDE, lmax=lmax)
    # White noise of variance 1 a pixel has C_l = 4 pi / npix.
    variance = np.sum((2.0 * np.arange(lmax + 1) + 1.0) * window**2) / npix
    return np.asarray(field * (scatter / np.sqrt(variance)))
