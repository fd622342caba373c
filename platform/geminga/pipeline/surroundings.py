"""What the flags of a catalogue are judged by, of a configuration."""

from __future__ import annotations

from geminga.catalogue import Surroundings
from geminga.config import Config
from geminga.response import Response
from geminga.sky.coverage import Coverage
from geminga.sky.emission.extended import read_extended

PART = 0.68


def surroundings(
    config: Config,
    response: Response,
    coverage: Coverage | None = None,
    extended: str | None = None,
) -> Surroundings:
    """Return PSF radii, extended sources and the width of the prior of photon indices.

    Parameters
    ----------
    config : Config
    response : Response
        For the PSF, taken for photons of the mean index of the prior.
    coverage : Coverage, optional
        The part of the sky there are data of.
    extended : str, optional
        List of extended sources, as ``sky.extended``.
    """
    index, width = config.likelihood.fit_index_prior
    radii = (
        response.psf.radius_of_containment(c, index, PART) for c in range(len(config.channels))
    )
    known = None if extended is None else read_extended(config, extended).table()
    return Surroundings(tuple(radii), known, coverage, width)
