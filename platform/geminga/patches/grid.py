"""The overlapping square patches that cover a sky."""

from __future__ import annotations

from dataclasses import dataclass

import healpy as hp
import numpy as np

from geminga.arrays import Float64, Int64
from geminga.compiled import compiled
from geminga.config import Config
from geminga.errors import InputError
from geminga.geometry import lon_lat, random_rotation, tangent_frames, unit_vectors
from geminga.seeds import SKIES_PER_SPLIT, Split, Stage, generator


@dataclass(frozen=True)
class PatchGrid:
    """The patches of one sky.

    Attributes
    ----------
    frames : Float64 (P, 3, 3)
        Tangent-plane frame of each patch; see `geminga.geometry`.
    size_deg : float
        Width of every patch, degrees.
    rotation : Float64 (3, 3)
        Rotation that took the HEALPix centres to the patch centres; the identity for test skies.
    """

    frames: Float64
    size_deg: float
    rotation: Float64

    def __len__(self) -> int:
        return len(self.frames)

    def centres(self) -> tuple[Float64, Float64]:
        """Return Galactic longitude and latitude of the patch centres in degrees, each (P,)."""
        return lon_lat(self.frames[:, 0])

    def covers(self, lon_deg: Float64, lat_deg: Float64, margin_deg: float = 0.0) -> Int64:
        """Count the patches that hold each direction.

        Parameters
        ----------
        lon_deg, lat_deg : Float64 (n,)
            Galactic directions in degrees.
        margin_deg : float
            How much each side of a patch is moved inwards, degrees.

        Returns
        -------
        Int64 (n,)
            Number of patches whose square, less the margin, holds the direction.
        """
        count, _ = _inside(self.frames, self._half(margin_deg), _vectors(lon_deg, lat_deg), 0)
        return count

    def patches_of(
        self, lon_deg: Float64, lat_deg: Float64, margin_deg: float = 0.0
    ) -> tuple[Int64, Int64]:
        """List the (direction, patch) pairs where the patch holds the direction.

        Returns
        -------
        directions, patches : Int64 (m,), Int64 (m,)
            Row of the direction and number of the patch, in order of direction, then patch.
        """
        vectors = _vectors(lon_deg, lat_deg)
        count, _ = _inside(self.frames, self._half(margin_deg), vectors, 0)
        _, patches = _inside(self.frames, self._half(margin_deg), vectors, int(count.sum()))
        return np.repeat(np.arange(len(count), dtype=np.int64), count), patches

    def _half(self, margin_deg: float) -> float:
        return float(np.radians(self.size_deg / 2 - margin_deg))


def _vectors(lon_deg: Float64, lat_deg: Float64) -> Float64:
    return unit_vectors(
        np.atleast_1d(np.asarray(lon_deg, dtype=np.float64)),
        np.atleast_1d(np.asarray(lat_deg, dtype=np.float64)),
    )


@compiled
def _inside(frames: Float64, half: float, vectors: Float64, room: int) -> tuple[Int64, Int64]:
    """Count, and list as far as there is room, the patches around each direction."""
    count = np.zeros(len(vectors), dtype=np.int64)
    patches = np.empty(room, dtype=np.int64)
    filled = 0
    for i in range(len(vectors)):
        v0, v1, v2 = vectors[i, 0], vectors[i, 1], vectors[i, 2]
        for p in range(len(frames)):
            f = frames[p]
            depth = v0 * f[0, 0] + v1 * f[0, 1] + v2 * f[0, 2]
            if depth <= 0.0:
                continue
            bound = half * depth
            x = v0 * f[1, 0] + v1 * f[1, 1] + v2 * f[1, 2]
            # Half open, as pixels are: the upper edge belongs to nobody.
            if x < -bound or x >= bound:
                continue
            y = v0 * f[2, 0] + v1 * f[2, 1] + v2 * f[2, 2]
            if y < -bound or y >= bound:
                continue
            count[i] += 1
            if filled < room:
                patches[filled] = p
                filled += 1
    return count, patches


def make_grid(grid_nside: int, size_deg: float, rotation: Float64 | None = None) -> PatchGrid:
    """Lay patches on the 12 * nside**2 HEALPix centres, turned by a rotation.

    Parameters
    ----------
    grid_nside : int
        HEALPix resolution of the centres, a power of two; 8 gives 768 patches.
    size_deg : float
        Width of a patch in degrees, above 0 and below 90.
    rotation : Float64 (3, 3), optional
        Applied to every frame; none leaves the HEALPix centres.

    Raises
    ------
    InputError
        If the resolution is not a power of two or the size out of range.
    """
    if grid_nside < 1 or grid_nside & (grid_nside - 1):
        raise InputError("patches.grid_nside", f"{grid_nside} is not a power of two", "use 8")
    if not 0 < size_deg < 90:
        raise InputError("patches.size_deg", f"{size_deg} is not between 0 and 90", "use 10")
    lon, lat = hp.pix2ang(grid_nside, np.arange(hp.nside2npix(grid_nside)), lonlat=True)
    turn = np.eye(3) if rotation is None else np.asarray(rotation, dtype=np.float64)
    frames = np.ascontiguousarray(tangent_frames(lon, lat) @ turn.T)
    return PatchGrid(frames, float(size_deg), turn)


def grid_for_sky(config: Config, sky_id: int) -> PatchGrid:
    """Return the grid of one sky: rotated at random unless it is a test (or real) sky."""
    rotation = None
    if sky_id // SKIES_PER_SPLIT != Split.TEST:
        rotation = random_rotation(generator(config.seed, Stage.GRID, sky_id))
    return make_grid(config.patches.grid_nside, config.patches.size_deg, rotation)
