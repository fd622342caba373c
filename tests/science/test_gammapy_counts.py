"""Predicted counts of patches against gammapy, with the same exposure, PSF and spectra.

``pytest tests/science/test_gammapy_counts.py -m "slow or not slow" -s`` prints the differences.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import astropy.units as u
import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from astropy.io import fits
from gammapy.datasets.evaluator import MapEvaluator
from gammapy.irf import PSFKernel, PSFMap
from gammapy.maps import Map, MapAxis, RegionGeom, WcsGeom
from gammapy.modeling.models import (
    ConstantSpatialModel,
    LogParabolaSpectralModel,
    PointSpatialModel,
    PowerLawNormSpectralModel,
    SkyModel,
    SpatialModel,
    SpectralModel,
    SuperExpCutoffPowerLaw4FGLSpectralModel,
    TemplateSpatialModel,
    TemplateSpectralModel,
)

from geminga.arrays import Float64
from geminga.bands import Channel
from geminga.config import Config
from geminga.geometry import from_plane, lon_lat, tangent_frames
from geminga.patches.render import render_tangent
from geminga.response import Response, interpolate_energy
from geminga.sky.diffuse import DiffuseCounts, diffuse_counts
from geminga.sky.sky import Sky

MakeSky = Callable[..., Sky]

SIZE_DEG = 10.0
FINE_PIXELS = 384
"""Pixels of gammapy's side: three, six or twelve to a patch pixel."""
DIFFUSE_PIXELS = 64
SOURCE_PIXEL = (17, -11)
"""Fine pixel of the source: columns east and rows north of the patch centre."""
KERNEL_DEG = 7.2
"""Half the width of gammapy's PSF kernels: they reach from the source to every corner."""
BINS_PER_DECADE = 20
PRECISION = 12
"""gammapy's `precision_factor`: points that a kernel has in the PSF's 68 % radius."""
KNEE_GEV = 200.0
CUBE = "diffuse/gll_iem_v07_blockmean_1p5deg.fits"
ISOTROPIC_TABLE = "diffuse/iso_P8R2_ULTRACLEANVETO_V6_FRONT_v06.txt"
PLACES = {"pole": (30.0, 89.8), "lon 0": (0.1, 38.0), "plane": (78.0, 0.3)}
SPECTRA = {
    "log parabola": ("log_parabola", 1e-10, 1200.0, 2.1, 0.12, 0.0),
    # As Geminga's in 4FGL-DR2 and about as soft above 20 GeV as any source that is seen there.
    "plec": ("plec", 1e-9, 1500.0, 1.25, 0.0068, 2.0 / 3.0),
}
NAMES = ("form", "norm", "pivot_mev", "index", "curvature", "exp_index")


def spectral_model(name: str) -> SpectralModel:
    form, norm, pivot, index, curvature, power = SPECTRA[name]
    amplitude = norm * u.Unit("cm-2 s-1 MeV-1")
    if form == "log_parabola":
        return LogParabolaSpectralModel(
            amplitude=amplitude, reference=pivot * u.MeV, alpha=index, beta=curvature
        )
    return SuperExpCutoffPowerLaw4FGLSpectralModel(
        amplitude=amplitude,
        reference=pivot * u.MeV,
        expfactor=curvature,
        index_1=index,
        index_2=power,
    )


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


@dataclass(frozen=True)
class Row:
    """Relative differences of one image."""

    what: str
    place: str
    channel: str
    values: dict[str, float]


@pytest.fixture(scope="module")
def rows() -> Iterator[list[Row]]:
    """Collect the differences, and print them at the end (shown with -s)."""
    collected: list[Row] = []
    yield collected
    for what in dict.fromkeys(row.what for row in collected):
        mine = [row for row in collected if row.what == what]
        print(f"\n{what}: ours over gammapy's, less one, in per cent")
        for row in mine:
            text = "  ".join(f"{key} {100 * v:+.2f}" for key, v in row.values.items())
            print(f"  {row.channel:>12}  {row.place:<8} {text}")
        for key in mine[0].values:
            values = np.array([row.values[key] for row in mine])
            rms, most = np.sqrt(np.mean(values**2)), np.abs(values).max()
            print(f"  {key}: rms {100 * rms:.2f}, at most {100 * most:.2f}")


@pytest.fixture(scope="module")
def kernels(thesis_response: Response) -> Callable[[int], PSFKernel]:
    @cache
    def of_channel(channel: int) -> PSFKernel:
        axis = energy_axis(thesis_response.channels[channel], BINS_PER_DECADE)
        return psf_kernel(psf_map(thesis_response, channel), axis)

    return of_channel


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


def point_source(
    response: Response, channel: int, centre: tuple[float, float], kernel: PSFKernel, name: str
) -> tuple[Float64, tuple[float, float]]:
    """Return gammapy's counts of a point source in its fine pixels, and the source's direction.

    The source lies off the centre of the patch and of the patch's pixels, in the middle of a fine
    pixel: gammapy shares a source between pixels around it, and makes it wider anywhere else.
    The exposure is everywhere that of the source: gammapy takes it where photons are measured.
    """
    axis = kernel.psf_kernel_map.geom.axes["energy_true"]
    geom = image_geom(*centre, FINE_PIXELS, [axis])
    x, y = ((np.array([pixel]) + 0.5) * SIZE_DEG / FINE_PIXELS for pixel in SOURCE_PIXEL)
    frame = tangent_frames(np.array(centre[0]), np.array(centre[1]))[0]
    lon, lat = lon_lat(from_plane(frame, x, y))
    seen = exposure_values(response, channel, lon, lat, axis)[:, :, None]
    exposure = Map.from_geom(geom, data=np.broadcast_to(seen, geom.data_shape), unit="cm2 s")
    spatial = PointSpatialModel(lon_0=lon[0] * u.deg, lat_0=lat[0] * u.deg, frame="galactic")
    model = SkyModel(spectral_model=spectral_model(name), spatial_model=spatial)
    return predicted(model, exposure, kernel), (float(lon[0]), float(lat[0]))


def compare_point_source(
    response: Response,
    make_sky: MakeSky,
    channel: int,
    centre: tuple[float, float],
    spectrum: str,
    kernel: PSFKernel,
) -> dict[str, float]:
    """Return the relative differences of a source's counts.

    In the whole patch, within r68 (fine pixels), and the largest of any 3 x 3 patch pixels and of
    any patch pixel that hold at least 1 % of the counts.
    """
    peer, (lon, lat) = point_source(response, channel, centre, kernel, spectrum)
    columns: dict[str, object] = {
        name: [v] for name, v in zip(NAMES, SPECTRA[spectrum], strict=True)
    }
    sky = make_sky({**columns, "lon_deg": [lon], "lat_deg": [lat]})
    band = sky.channels[channel]
    frame = tangent_frames(np.array(centre[0]), np.array(centre[1]))

    def render(pixels: int) -> Float64:
        (image,) = render_tangent(sky, frame, [SIZE_DEG], [pixels], channels=[channel])
        return np.asarray(image[0], np.float64)

    patch, of_peer = render(band.pixels), downsample(peer, band.pixels)
    # Counts within r68, where the PSF averaged over the band may differ from that by energy.
    fine = render(FINE_PIXELS)
    r68 = sky.psf.radius_of_containment(channel, float(sky.source_psf_index[0, channel]), 0.68)
    axis = np.arange(FINE_PIXELS) - FINE_PIXELS // 2
    x, y = ((axis - pixel) * SIZE_DEG / FINE_PIXELS for pixel in SOURCE_PIXEL)
    core = np.hypot(x[None, :], y[:, None]) < max(r68, 1.5 * SIZE_DEG / FINE_PIXELS)
    # Blocks of 3 x 3 patch pixels, the middle one around the source, that hold 1 % or more.
    row, column = np.unravel_index(of_peer.argmax(), of_peer.shape)
    own_blocks, peer_blocks = (
        downsample(image[row - 10 : row + 11, column - 10 : column + 11], 7)
        for image in (patch, of_peer)
    )
    bright = peer_blocks > 0.01 * of_peer.sum()
    brightest = of_peer > 0.01 * of_peer.sum()
    return {
        "patch": patch.sum() / of_peer.sum() - 1.0,
        "r68": fine[core].sum() / peer[core].sum() - 1.0,
        "3x3": extreme(own_blocks[bright] / peer_blocks[bright] - 1.0),
        "pixel": extreme(patch[brightest] / of_peer[brightest] - 1.0),
    }


def extreme(values: Float64) -> float:
    """Return the value farthest from zero, with its sign."""
    return float(values.flat[np.abs(values).argmax()])


@pytest.mark.parametrize("spectrum", SPECTRA)
@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("channel", range(6))
def test_point_sources(
    channel: int,
    place: str,
    spectrum: str,
    thesis_response: Response,
    make_sky: MakeSky,
    kernels: Callable[[int], PSFKernel],
    rows: list[Row],
) -> None:
    values = compare_point_source(
        thesis_response, make_sky, channel, PLACES[place], spectrum, kernels(channel)
    )
    rows.append(
        Row(f"point source, {spectrum}", place, thesis_response.channels[channel].label, values)
    )
    # Single pixels are held to less here: gammapy's bins, not ours (see the next test).
    assert max(abs(value) for name, value in values.items() if name != "pixel") < 0.01
    assert abs(values["pixel"]) < 0.015


@pytest.mark.slow
@pytest.mark.parametrize("channel", range(6))
def test_finer_bins_of_gammapy_come_closer(
    channel: int, thesis_response: Response, make_sky: MakeSky, rows: list[Row]
) -> None:
    axis = energy_axis(thesis_response.channels[channel], 2 * BINS_PER_DECADE)
    kernel = psf_kernel(psf_map(thesis_response, channel), axis, precision=3 * PRECISION)
    for name in SPECTRA:
        values = compare_point_source(
            thesis_response, make_sky, channel, PLACES["plane"], name, kernel
        )
        rows.append(
            Row(f"finer bins, {name}", "plane", thesis_response.channels[channel].label, values)
        )
        assert max(abs(value) for value in values.values()) < 0.005


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
    rows: list[Row],
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
    rows.append(Row(f"{component} emission", place, band.label, values))
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
