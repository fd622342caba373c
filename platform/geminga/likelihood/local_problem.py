"""What the fits in one patch share: the photons, and a model of sources that can be moved."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from geminga.arrays import Bool, Float64, Int64
from geminga.likelihood.limits import LEAST_BACKGROUND
from geminga.likelihood.source_model import SourceModel, Spectra
from geminga.likelihood.stamps import Stamps, add_sources, place


@dataclass(frozen=True, eq=False)
class PatchData:
    """Photons of one patch and what is expected of everything but the sources.

    Attributes
    ----------
    counts, background : Float64 (N,)
        All pixels of all channels in a row.
    model : SourceModel
    spectra : Spectra
    layout : Int64 (2, C)
        Pixels per side of each channel and where it starts.
    """

    counts: Float64
    background: Float64
    model: SourceModel
    spectra: Spectra
    layout: Int64


def patch_data(
    counts: Sequence[ArrayLike],
    background: Sequence[ArrayLike],
    model: SourceModel,
    spectra: Spectra,
) -> PatchData:
    """Join the images (n_c, n_c) of all channels.

    Raises
    ------
    ValueError
        If the images do not fit the model, or counts or background are negative or no numbers:
        faults of the program, whose readers have checked their input.
    """
    joined = []
    for name, images in (("counts", counts), ("background", background)):
        arrays = [np.asarray(image, dtype=np.float64) for image in images]
        shapes = [a.shape for a in arrays]
        if shapes != [(n, n) for n in model.pixels]:
            raise ValueError(f"{name} of shapes {shapes} for pixels {model.pixels.tolist()}")
        flat = np.concatenate([a.ravel() for a in arrays])
        if not np.all(flat >= 0) or not np.isfinite(flat.sum()):
            raise ValueError(f"{name} are negative or not finite")
        joined.append(flat)
    if spectra.coefficients.shape[1] != model.channels:
        raise ValueError(
            f"spectra of {spectra.coefficients.shape[1]} channels, images of {model.channels}"
        )
    layout = np.array([model.pixels, model.start[:-1]])
    return PatchData(joined[0], np.maximum(joined[1], LEAST_BACKGROUND), model, spectra, layout)


@dataclass(eq=False)
class Sources:
    """m sources in a patch, with their images.

    Attributes
    ----------
    x_deg, y_deg, flux, index : Float64 (m,)
        Plane coordinates; ph/cm2/s between 1 and 1000 GeV; photon index.
    per_flux, slope : Float64 (m, C)
        Counts per flux, and the derivative of its logarithm with the index.
    stamps : Stamps
    """

    x_deg: Float64
    y_deg: Float64
    flux: Float64
    index: Float64
    per_flux: Float64
    slope: Float64
    stamps: Stamps

    @property
    def counts(self) -> Float64:
        """Expected counts of each source and channel, (m, C)."""
        return self.flux[:, None] * self.per_flux

    def images(self, layout: Int64, counts: Float64 | None = None) -> Float64:
        """Return the expected counts of all sources in a row of all pixels, (N,)."""
        pixels = int(layout[1, -1] + layout[0, -1] ** 2)
        result = np.zeros(pixels)
        self.add_to(result, layout, self.counts if counts is None else counts)
        return result

    def add_to(self, image: Float64, layout: Int64, counts: Float64) -> None:
        """Add sources with these counts (m, C) to an image (N,)."""
        stamps = self.stamps
        add_sources(image, stamps.values, stamps.box, stamps.begin, counts, layout)

    def moved(
        self, data: PatchData, x: Float64, y: Float64, flux: Float64, index: Float64, which: Bool
    ) -> Sources:
        """Return the sources with other parameters; images of `which` are drawn over the old."""
        per_flux, slope = data.spectra.at(index)
        self.stamps.draw(x, y, index, which)
        return Sources(x, y, flux, index, per_flux, slope, self.stamps)


def place_sources(
    data: PatchData, x_deg: Float64, y_deg: Float64, flux: Float64, index: Float64
) -> Sources:
    """Lay out and draw the images of sources at start."""
    x, y, f, g = (
        np.array(np.broadcast_to(np.asarray(v, np.float64), np.shape(x_deg)))
        for v in (x_deg, y_deg, flux, index)
    )
    if x.ndim != 1 or not all(np.isfinite(v).all() for v in (x, y, f, g)):
        raise ValueError("positions, fluxes and indices are finite arrays of one dimension")
    if len(data.spectra.coefficients) not in (1, len(x)):
        raise ValueError(f"spectra of {len(data.spectra.coefficients)} places, {len(x)} sources")
    per_flux, slope = data.spectra.at(g)
    stamps = place(data.model, x, y, np.maximum(f, 0.0)[:, None] * per_flux)
    stamps.draw(x, y, g, np.ones(len(x), np.bool_))
    return Sources(x, y, np.maximum(f, 0.0), g, per_flux, slope, stamps)
