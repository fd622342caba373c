"""Predicted counts of diffuse emission on patches against gammapy: same exposure and PSF.

``pytest tests/science/test_gammapy_diffuse.py -s`` prints the differences.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import astropy.units as u
import numpy as np
import pytest
from astropy.io import fits
from gammapy.irf import PSFKernel
from gammapy.maps import Map, MapAxis, WcsGeom
from gammapy.modeling.models import (
    ConstantSpatialModel,
    PowerLawNormSpectralModel,
    SkyModel,
    SpatialModel,
    SpectralModel,
    TemplateSpatialModel,
    TemplateSpectralModel,
)
from gammapy_peer import (
    BINS_PER_DECADE,
    KERNEL_DEG,
    PLACES,
    SIZE_DEG,
    downsample,
    energy_axis,
    exposure_values,
    extreme,
    image_geom,
    predicted,
    psf_kernel,
    psf_map,
)

from geminga.arrays import Float64
from geminga.config import Config
from geminga.geometry import tangent_frames
from geminga.patches.render import render_tangent
from geminga.response import Response
from geminga.sky.emission.diffuse import DiffuseCounts, diffuse_counts
from geminga.sky.sky import Sky

MakeSky = Callable[..., Sky]
Rows = list[tuple[str, str, str, dict[str, float]]]

DIFFUSE_PIXELS = 64
CUBE = "diffuse/gll_iem_v07_blockmean_1p5deg.fits"
ISOTROPIC_TABLE = "diffuse/iso_P8R2_ULTRACLEANVETO_V6_FRONT_v06.txt"


def template(path: Path, energy_mev: Float64) -> Map:
    """Return the interstellar cube at the energies wanted, as a gammapy map of the whole sky.

    Read without the header, which is half a pixel off in latitude: rows are 1.375 deg apart and
    the 66th lies on the plane. Log-log between the cube's energies and beyond the last. Two
    columns and one row more on each side let gammapy interpolate over the seam and to the poles.
    """
    with fits.open(path) as hdus:
        cube = np.asarray(hdus[0].data, np.float64)
        nodes = np.asarray(hdus["ENERGIES"].data.field(0), np.float64)
    low = np.clip(np.searchsorted(nodes, energy_mev) - 1, 0, len(nodes) - 2)
    weight = (np.log(energy_mev / nodes[low]) / np.log(nodes[low + 1] / nodes[low]))[:, None, None]
    planes = cube[low] ** (1.0 - weight) * cube[low + 1] ** weight
    planes = np.concatenate([planes[..., -2:], planes, planes[..., :2]], axis=-1)
    planes = np.concatenate([planes[:, :1], planes, planes[:, -1:]], axis=1)
    axis = MapAxis.from_nodes(energy_mev, unit="MeV", name="energy_true", interp="log")
    geom = WcsGeom.create(
        skydir=(0.0, 0.0),
        frame="galactic",
        proj="CAR",
        npix=planes.shape[:0:-1],
        binsz=(1.5, 1.375),
        axes=[axis],
    )
    return Map.from_geom(geom, data=planes, unit="cm-2 s-1 MeV-1 sr-1")


@pytest.fixture(scope="module")
def lat_diffuse(thesis: Config, thesis_response: Response, lat_data: Path) -> DiffuseCounts:
    sky = {"interstellar": (CUBE,), "isotropic": ISOTROPIC_TABLE}
    config = thesis.model_copy(
        update={"data": str(lat_data), "sky": thesis.sky.model_copy(update=sky)}
    )
    return diffuse_counts(config, thesis_response)


def exact_solid_angle(geom: WcsGeom) -> u.Quantity:
    """Return the solid angle of tangent-plane pixels.

    gammapy's own takes one angle of each pixel at a wrong corner: 40 % off at a pole of the frame,
    1.7 % in the square degree around it, 1e-5 elsewhere. The part of the plane between 0 and x,
    0 and y subtends arctan(x y / sqrt(1 + x^2 + y^2)).
    """
    wcs = geom.wcs.wcs
    x, y = (
        np.radians((np.arange(int(n[0]) + 1) + 0.5 - wcs.crpix[i]) * wcs.cdelt[i])
        for i, n in enumerate(geom.npix)
    )
    x, y = x[None, :], y[:, None]
    corner = np.arctan(x * y / np.sqrt(1.0 + x**2 + y**2))
    return u.Quantity(np.abs(np.diff(np.diff(corner, axis=0), axis=1)), "sr")


@pytest.mark.data
@pytest.mark.parametrize("channel", range(6))
@pytest.mark.parametrize("place", [*PLACES, "centre"])
@pytest.mark.parametrize("component", ["interstellar", "isotropic"])
def test_diffuse_emission(
    channel: int,
    place: str,
    component: str,
    thesis_response: Response,
    make_sky: MakeSky,
    lat_diffuse: DiffuseCounts,
    lat_data: Path,
    diffuse_kernels: Callable[[int], PSFKernel],
    rows: Rows,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(WcsGeom, "solid_angle", exact_solid_angle)
    centre = {**PLACES, "centre": (0.0, 0.0)}[place]
    band = thesis_response.channels[channel]
    kernel = diffuse_kernels(channel)
    axis = kernel.psf_kernel_map.geom.axes["energy_true"]
    if component == "interstellar":
        spatial: SpatialModel = TemplateSpatialModel(
            template(lat_data / CUBE, axis.center.to_value("MeV")),
            normalize=False,
            interp_kwargs={"values_scale": "lin", "fill_value": None},
        )
        spectral: SpectralModel = PowerLawNormSpectralModel()
    else:
        energy, intensity, _ = np.loadtxt(lat_data / ISOTROPIC_TABLE, unpack=True)
        spatial = ConstantSpatialModel(value="1 sr-1", frame="galactic")
        spectral = TemplateSpectralModel(energy * u.MeV, intensity * u.Unit("cm-2 s-1 MeV-1"))
    # Wider than the patch by the PSF, so that what shines in from outside is counted.
    wide = 2 * round((SIZE_DEG / 2 + KERNEL_DEG) / SIZE_DEG * DIFFUSE_PIXELS)
    geom = image_geom(*centre, DIFFUSE_PIXELS, [axis], wide)
    where = geom.to_image().get_coord().skycoord.galactic
    seen = exposure_values(thesis_response, channel, where.l.deg.ravel(), where.b.deg.ravel(), axis)
    exposure = Map.from_geom(geom, data=seen.reshape(geom.data_shape), unit="cm2 s")
    model = SkyModel(spectral_model=spectral, spatial_model=spatial)
    edge = (wide - DIFFUSE_PIXELS) // 2
    peer = predicted(model, exposure, kernel)[edge:-edge, edge:-edge]
    zero = np.zeros_like(lat_diffuse.isotropic)
    maps = {"interstellar": lat_diffuse.interstellar[0], "isotropic": lat_diffuse.isotropic}
    only = {name: m if name == component else zero for name, m in maps.items()}
    sky = make_sky(diffuse=DiffuseCounts.of_maps(only["interstellar"], only["isotropic"]))
    frame = tangent_frames(np.array(centre[0]), np.array(centre[1]))
    (image,) = render_tangent(sky, frame, [SIZE_DEG], [DIFFUSE_PIXELS], channels=[channel])
    own = np.asarray(image[0], np.float64)
    blocks = downsample(own, 8) / downsample(peer, 8) - 1.0
    values = {"patch": own.sum() / peer.sum() - 1.0, "1.25 deg": extreme(blocks)}
    rows.append((f"{component} emission", place, band.label, values))
    assert abs(values["patch"]) < 0.01
    # The cube's pixels are 1.5 deg wide: a ridge between them is rounded by our HEALPix maps.
    assert abs(values["1.25 deg"]) < 0.015


@pytest.fixture(scope="module")
def diffuse_kernels(thesis_response: Response) -> Callable[[int], PSFKernel]:
    @cache
    def of_channel(channel: int) -> PSFKernel:
        axis = energy_axis(thesis_response.channels[channel], BINS_PER_DECADE)
        return psf_kernel(psf_map(thesis_response, channel), axis, DIFFUSE_PIXELS, 3, False)

    return of_channel
