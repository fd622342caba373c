"""gammapy's side of the comparisons: our PSF table and exposure in gammapy's own classes."""

from __future__ import annotations

import astropy.units as u
import numpy as np
from astropy.coordinates import SkyCoord
from gammapy.datasets.evaluator import MapEvaluator
from gammapy.irf import PSFKernel, PSFMap
from gammapy.maps import Map, MapAxis, RegionGeom, WcsGeom
from gammapy.modeling.models import SkyModel

from geminga.arrays import Float64
from geminga.bands import Channel
from geminga.response import Response, interpolate_energy

SIZE_DEG = 10.0
FINE_PIXELS = 384
"""Pixels of gammapy's side: three, six or twelve to a patch pixel."""
KERNEL_DEG = 7.2
"""Half the width of gammapy's PSF kernels: they reach from the source to every corner."""
BINS_PER_DECADE = 20
PRECISION = 12
"""gammapy's `precision_factor`: points that a kernel has in the PSF's 68 % radius."""
KNEE_GEV = 200.0
PLACES = {"pole": (30.0, 89.8), "lon 0": (0.1, 38.0), "plane": (78.0, 0.3)}


def energy_axis(channel: Channel, per_decade: int) -> MapAxis:
    """Return gammapy's energy bins: it takes PSF and exposure in their middle.

    Above 200 GeV a quarter as many will do: the PSF hardly changes there.
    """
    low, high = channel.emin_gev, channel.emax_gev
    knee = float(np.clip(KNEE_GEV, low, high))
    edges = [np.array([low])]
    for start, end, density in ((low, knee, per_decade), (knee, high, per_decade / 4)):
        if end > start:
            bins = max(4, int(np.ceil(density * np.log10(end / start))))
            edges.append(np.geomspace(start, end, bins + 1)[1:])
    return MapAxis.from_energy_edges(np.concatenate(edges), unit="GeV", name="energy_true")


def image_geom(
    lon: float, lat: float, pixels: int, axes: list[MapAxis], side: int | None = None
) -> WcsGeom:
    """Return a tangent-plane image with `pixels` to a patch's side; `side` pixels wide."""
    centre = SkyCoord(lon, lat, unit="deg", frame="galactic")
    return WcsGeom.create(
        skydir=centre,
        binsz=SIZE_DEG / pixels,
        npix=side or pixels,
        proj="TAN",
        frame="galactic",
        axes=axes,
    )


def psf_map(response: Response, channel: int) -> PSFMap:
    """Give gammapy our table of the PSF by energy; it interpolates by itself."""
    table = response.psf_tables[channel]
    rad = MapAxis.from_nodes(table.radius_deg, unit="deg", name="rad", interp="lin")
    energy = MapAxis.from_nodes(table.energy_mev, unit="MeV", name="energy_true", interp="log")
    geom = RegionGeom.create("galactic;circle(0, 0, 1)", axes=[rad, energy])
    return PSFMap(Map.from_geom(geom, data=table.density_per_sr[:, :, None, None], unit="sr-1"))


def psf_kernel(
    psf: PSFMap,
    axis: MapAxis,
    pixels: int = FINE_PIXELS,
    precision: int = PRECISION,
    lose_the_rest: bool = True,
) -> PSFKernel:
    """Return gammapy's kernel, with `lose_the_rest` without the photons that fall beyond it.

    gammapy makes the sum of a kernel one; a part of the photons below 1 GeV falls outside (and
    makes up, in diffuse emission, for what would come from there). The part inside comes from gammapy's containment within a circle and its PSF in the corners.
    """
    geom = image_geom(0.0, 0.0, pixels, [axis])
    at_centres = PSFMap(
        Map.from_geom(
            psf.psf_map.geom.to_image().to_cube([psf.psf_map.geom.axes["rad"], axis]),
            data=psf.psf_map.interp_by_coord(
                {
                    "skycoord": psf.psf_map.geom.center_skydir,
                    "rad": psf.psf_map.geom.axes["rad"].center[None, :],
                    "energy_true": axis.center[:, None],
                }
            )[:, :, None, None],
            unit="sr-1",
        )
    )
    kernel = at_centres.get_psf_kernel(
        geom, max_radius=KERNEL_DEG * u.deg, containment=1 - 1e-9, precision_factor=precision
    )
    if not lose_the_rest:
        return kernel
    frame = kernel.psf_kernel_map.geom.to_image()
    half = 0.5 * frame.width.max()
    coordinates = frame.get_coord().skycoord
    radius = coordinates.separation(frame.center_skydir)
    corner = (radius > half) * frame.solid_angle()
    for number, energy in enumerate(axis.center):
        inside = at_centres.containment(rad=half, energy_true=energy).squeeze()
        density = at_centres.psf_map.interp_by_coord(
            {
                "skycoord": psf.psf_map.geom.center_skydir,
                "rad": radius,
                "energy_true": np.broadcast_to(energy, radius.shape),
            }
        )
        inside = inside + (density / u.sr * corner).sum()
        kernel.psf_kernel_map.data[number] *= inside.to_value("")
    return kernel


def downsample(image: Float64, pixels: int) -> Float64:
    """Sum an image (m, m) into (pixels, pixels)."""
    factor = len(image) // pixels
    return np.asarray(image.reshape(pixels, factor, pixels, factor).sum(axis=(1, 3)))


def exposure_values(
    response: Response, channel: int, lon: Float64, lat: Float64, axis: MapAxis
) -> Float64:
    """Return our exposure in cm2 s at the middles of energy bins, shape (bins, n)."""
    exposure = response.exposures[channel]
    energy = axis.center.to_value("MeV")
    return interpolate_energy(exposure.at(lon, lat), exposure.energy_mev, energy)


def predicted(model: SkyModel, exposure: Map, kernel: PSFKernel) -> Float64:
    """Return gammapy's counts of all energies, columns to the east, shape (m, m)."""
    evaluator = MapEvaluator(model, exposure, kernel, evaluation_mode="global")
    return np.asarray(evaluator.compute_npred().data.sum(axis=0)[:, ::-1], np.float64)


def extreme(values: Float64) -> float:
    """Return the value farthest from zero, with its sign."""
    return float(values.flat[np.abs(values).argmax()])
