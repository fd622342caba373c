"""Expected diffuse counts of a reference model in patches."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from geminga.arrays import Float32, Float64
from geminga.classes import EXTENDED, INTERSTELLAR, ISOTROPIC
from geminga.errors import InputError
from geminga.patches.render import diffuse_images
from geminga.response import Response
from geminga.sky.emission.diffuse import DiffuseCounts


@dataclass(frozen=True)
class Templates:
    """Expected counts of each diffuse component of a reference model in P patches.

    Attributes
    ----------
    interstellar : tuple of Float32 (P, n_c, n_c), one per channel
        Counts per pixel; the part whose shape is not trusted.
    isotropic : tuple of Float32 (P, n_c, n_c)
        Its shape is that of the exposure; only its norm is free.
    fixed : tuple of Float32 (P, n_c, n_c), or empty
        Counts that are taken as they are: catalogued extended sources.
    """

    interstellar: tuple[Float32, ...]
    isotropic: tuple[Float32, ...]
    fixed: tuple[Float32, ...] = ()

    def __len__(self) -> int:
        return len(self.interstellar[0])

    def part(self, patches: slice) -> Templates:
        """Return the templates of some patches."""
        return Templates(
            tuple(image[patches] for image in self.interstellar),
            tuple(image[patches] for image in self.isotropic),
            tuple(image[patches] for image in self.fixed),
        )

    def total(self) -> tuple[Float32, ...]:
        """Return the sum of the components, (P, n_c, n_c) of each channel."""
        both = tuple(a + b for a, b in zip(self.interstellar, self.isotropic, strict=True))
        if not self.fixed:
            return both
        return tuple(a + b for a, b in zip(both, self.fixed, strict=True))


def diffuse_templates(
    response: Response,
    diffuse: DiffuseCounts,
    frames: Float64,
    size_deg: float,
    model: str | int = 0,
) -> Templates:
    """Render the diffuse emission of a reference model into patches.

    Parameters
    ----------
    response : Response
        For the channels and their pixels.
    diffuse : DiffuseCounts
        Counts per steradian, PSF folded in.
    frames : Float64 (P, 3, 3)
        Rows (centre, east, north).
    size_deg : float
        Width of a patch.
    model : str or int
        Name or number of the interstellar model among ``diffuse.models``.

    Raises
    ------
    InputError
        If there is no such model, or the maps are of another number of channels.
    """
    number = _model_number(diffuse, model)
    count = len(response.channels)
    if len(diffuse.isotropic) != count:
        raise InputError(
            "diffuse counts",
            f"{len(diffuse.isotropic)} channels where the response has {count}",
            "compute them with this configuration",
        )
    with_fixed = diffuse.extended.shape[1] > 0
    interstellar, isotropic, fixed = [], [], []
    for c, channel in enumerate(response.channels):
        shape = (frames, size_deg, channel.pixels)
        interstellar.append(diffuse_images(diffuse.component(INTERSTELLAR, number, c), *shape))
        left = np.float32(diffuse.isotropic_left[c])
        isotropic.append(diffuse_images(diffuse.component(ISOTROPIC, number, c), *shape) * left)
        if with_fixed:
            fixed.append(diffuse_images(diffuse.component(EXTENDED, number, c), *shape))
    return Templates(tuple(interstellar), tuple(isotropic), tuple(fixed))


def _model_number(diffuse: DiffuseCounts, model: str | int) -> int:
    names = diffuse.models
    number = model if isinstance(model, int) else names.index(model) if model in names else -1
    if not 0 <= number < len(names):
        raise InputError(
            "interstellar model", f"{model!r} is not at hand", f"use one of {list(names)}"
        )
    return number
