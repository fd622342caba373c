"""Test statistics against gammapy's TSMapEstimator: the same counts, background, PSF, exposure.

``pytest tests/science/test_gammapy_ts.py -m "slow or not slow" -s`` prints all values. All bands
have the pixels of the finest one, as gammapy fits them together on one grid.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import astropy.units as u
import numpy as np
import pytest
from gammapy.datasets import MapDataset
from gammapy.estimators import TSMapEstimator
from gammapy.irf import EDispKernelMap, PSFMap
from gammapy.maps import Map, MapAxis, RegionGeom
from gammapy.modeling.models import PointSpatialModel, PowerLawSpectralModel, SkyModel
from gammapy_peer import SIZE_DEG, energy_axis, exposure_values, image_geom
from scipy.optimize import brentq

from geminga.arrays import Float64
from geminga.config import Config, LikelihoodConfig
from geminga.geometry import from_plane, lon_lat, pixel_to_plane, tangent_frames
from geminga.likelihood.kernels import counts_per_flux, make_kernels
from geminga.likelihood.profile import ts_of
from geminga.likelihood.source_model import make_source_model, make_spectra
from geminga.likelihood.ts_map import ts_maps
from geminga.patches.render import render_tangent
from geminga.response import Response, build_response
from geminga.sky.emission.diffuse import DiffuseCounts, diffuse_counts
from geminga.sky.sky import Sky

MakeSky = Callable[..., Sky]

PIXELS = 128
SOURCE_INDEX = 2.2
"""Photon index of the power law that is fitted."""
KERNEL_DEG = 9.9
"""Width of gammapy's kernels."""
BINS_PER_DECADE = 10
PLACES = np.array([[-2, -2], [0, 0], [1, 0], [0, 3]])
"""Pixels (row, column) beside the source's at which the TS are compared."""


class AtPlaces(TSMapEstimator):
    """gammapy's estimator at a few pixels of a patch."""

    def __init__(self, pixels: Float64, **options: object) -> None:
        super().__init__(**options)
        self.pixels = pixels

    def _estimate_mask_2d(self, map_dict: dict[str, Map]) -> np.ndarray:
        # The maps have been padded alike on all sides.
        pad = (map_dict["counts"].data.shape[-1] - PIXELS) // 2
        mask = np.zeros_like(map_dict["mask"].data.any(axis=0)[None])
        mask[0, self.pixels[:, 0] + pad, self.pixels[:, 1] + pad] = True
        return mask


@dataclass(frozen=True)
class Patch:
    """Counts of one patch with an isolated source in the middle of a pixel."""

    centre: tuple[float, float]
    row: int
    column: int
    counts: list[Float64]
    background: list[Float64]
    lon: float
    lat: float


@pytest.fixture(scope="module")
def config(thesis: Config) -> Config:
    bands = tuple(b.model_copy(update={"pixels": PIXELS}) for b in thesis.bands)
    sky = thesis.sky.model_copy(update={"diffuse_nside": 64})
    return thesis.model_copy(update={"bands": bands, "sky": sky})


@pytest.fixture(scope="module")
def response(config: Config) -> Response:
    return build_response(config)


@pytest.fixture(scope="module")
def diffuse(config: Config, response: Response) -> DiffuseCounts:
    return diffuse_counts(config, response)


@pytest.fixture(scope="module")
def psf(response: Response) -> PSFMap:
    """Our PSF at the middles of gammapy's bins, each from the table of its channel."""
    axis, channel = true_axis(response)
    centres = axis.center.to_value("MeV")
    tables = response.psf_tables
    density = np.array([tables[c].at(e) for c, e in zip(channel, centres, strict=True)])
    rad = MapAxis.from_nodes(tables[0].radius_deg, unit="deg", name="rad", interp="lin")
    geom = RegionGeom.create("galactic;circle(0, 0, 1)", axes=[rad, axis])
    return PSFMap(Map.from_geom(geom, data=density[:, :, None, None], unit="sr-1"))


def true_axis(response: Response) -> tuple[MapAxis, list[int]]:
    """Return gammapy's bins of true energy, and the channel that each belongs to."""
    axes = [energy_axis(channel, BINS_PER_DECADE) for channel in response.channels]
    edges = [axes[0].edges[:1], *(axis.edges[1:] for axis in axes)]
    number = [c for c, axis in enumerate(axes) for _ in range(axis.nbin)]
    return MapAxis.from_energy_edges(np.concatenate(edges), name="energy_true"), number


def power_law(index: float, lon: float, lat: float, flux: float) -> dict[str, object]:
    """Return TRUTH columns of a power law with a photon flux from 1 to 1000 GeV."""
    norm = flux * (index - 1.0) / 1e3 / (1.0 - 1e3 ** (1.0 - index))
    return {
        "form": ["log_parabola"],
        "norm": [norm],
        "pivot_mev": [1e3],
        "index": [index],
        "lon_deg": [lon],
        "lat_deg": [lat],
    }


def images(sky: Sky, frame: Float64) -> list[Float64]:
    count = len(sky.channels)
    rendered = render_tangent(sky, frame, [SIZE_DEG] * count, [PIXELS] * count)
    return [image[0].astype(np.float64) for image in rendered]


def observe(
    make_sky: MakeSky, diffuse: DiffuseCounts, centre: tuple[float, float], number: int
) -> Patch:
    """Draw the photons of a patch; sources differ in place, flux and spectrum."""
    rng = np.random.default_rng(number)
    row, column = (int(v) for v in rng.integers(40, 88, size=2))
    frame = tangent_frames(np.array(centre[0]), np.array(centre[1]))
    x, y = (pixel_to_plane(np.array([float(v)]), PIXELS, SIZE_DEG) for v in (column, row))
    (lon,), (lat,) = lon_lat(from_plane(frame[0], x, y))
    columns = power_law(rng.uniform(1.9, 2.5), lon, lat, 10 ** rng.uniform(-9.4, -8.2))
    background = images(make_sky(None, diffuse), frame)
    expected = images(make_sky(columns, diffuse), frame)
    counts = [rng.poisson(image).astype(np.float64) for image in expected]
    return Patch(centre, row, column, counts, background, float(lon), float(lat))


def gammapy_ts(patch: Patch, response: Response, psf: PSFMap) -> tuple[Float64, Float64]:
    """Return gammapy's TS and photon fluxes (1 to 1000 GeV) at `PLACES` around the source."""
    axis, channel = true_axis(response)
    edges = [c.emin_gev for c in response.channels] + [response.channels[-1].emax_gev]
    reco = MapAxis.from_energy_edges(edges, unit="GeV", name="energy")
    geom = image_geom(*patch.centre, PIXELS, [reco])
    # The exposure is everywhere that of the source: gammapy takes it where photons are measured.
    place = np.array([patch.lon]), np.array([patch.lat])
    seen = [exposure_values(response, c, *place, axis)[i, 0] for i, c in enumerate(channel)]
    true_geom = image_geom(*patch.centre, PIXELS, [axis])
    exposure = np.broadcast_to(np.array(seen)[:, None, None], true_geom.data_shape)

    def as_map(stack: list[Float64]) -> Map:
        # gammapy's columns run to the west.
        return Map.from_geom(geom, data=np.array(stack)[:, :, ::-1].copy())

    dataset = MapDataset(
        counts=as_map(patch.counts),
        background=as_map(patch.background),
        exposure=Map.from_geom(true_geom, data=exposure.copy(), unit="cm2 s"),
        psf=psf,
        edisp=EDispKernelMap.from_diagonal_response(reco, axis),
        mask_safe=Map.from_geom(geom, data=np.ones(geom.data_shape, dtype=bool)),
    )
    model = SkyModel(
        spectral_model=PowerLawSpectralModel(
            index=SOURCE_INDEX, amplitude="1e-12 cm-2 s-1 MeV-1", reference="1 GeV"
        ),
        spatial_model=PointSpatialModel(frame="galactic"),
    )
    own = PLACES + np.array([patch.row, patch.column])
    pixels = np.stack([own[:, 0], PIXELS - 1 - own[:, 1]], axis=1)
    estimator = AtPlaces(
        pixels,
        kernel_model=model,
        kernel_width=KERNEL_DEG * u.deg,
        sum_over_energy_groups=False,
        energy_edges=[edges[0], edges[-1]] * u.GeV,
        rtol=1e-4,
    )
    maps = estimator.run(dataset)
    ts, norm = (getattr(maps, k).data[0, pixels[:, 0], pixels[:, 1]] for k in ("ts", "norm"))
    unit = model.spectral_model.integral(1 * u.GeV, 1000 * u.GeV).to_value("cm-2 s-1")
    return np.asarray(ts), np.asarray(norm) * unit


def exact_ts(counts: Float64, background: Float64, model: Float64) -> tuple[float, float]:
    """Return TS and factor of a source model, maximised over factors above 0."""

    def slope(factor: float) -> float:
        return float(np.sum(model * (counts / (background + factor * model) - 1.0)))

    if slope(0.0) <= 0.0:
        return 0.0, 0.0
    top = 1.0
    while slope(top) > 0.0:
        top *= 2.0
    factor = brentq(slope, 0.0, top, xtol=1e-9)
    gain = counts * np.log1p(factor * model / background) - factor * model
    return float(2.0 * gain.sum()), factor


def our_ts(patch: Patch, make_sky: MakeSky, response: Response) -> dict[str, Float64]:
    """Return our TS at `PLACES`: by rendered images, by the fit's profile and by the map."""
    frame = tangent_frames(np.array(patch.centre[0]), np.array(patch.centre[1]))
    n = np.array(patch.counts)
    b = np.array(patch.background)
    source = make_source_model(response.psf, response.channels, SIZE_DEG)
    place = np.array([patch.lon]), np.array([patch.lat])
    spectra = make_spectra(response, *place)
    kernels = make_kernels(response.psf, response.channels, SIZE_DEG, SOURCE_INDEX)
    per_flux = counts_per_flux(response, response.channels, *place, [SOURCE_INDEX])
    parts = [[image[None].astype(np.float32) for image in v] for v in (n, b)]
    whole = ts_maps(*parts, [kernels], per_flux, LikelihoodConfig(map_top_ts=1e4)).ts[0]
    result: dict[str, list[float]] = {"rendered": [], "flux": [], "profile": [], "map": []}
    for row, column in PLACES + np.array([patch.row, patch.column]):
        x, y = (pixel_to_plane(np.array([float(v)]), PIXELS, SIZE_DEG) for v in (column, row))
        (lon,), (lat,) = lon_lat(from_plane(frame[0], x, y))
        flux = 1e-9
        model = np.array(images(make_sky(power_law(SOURCE_INDEX, lon, lat, flux)), frame))
        ts, factor = exact_ts(n, b, model)
        result["rendered"].append(ts)
        result["flux"].append(factor * flux)
        fitted = ts_of(n, b, float(x[0]), float(y[0]), source, spectra, index=SOURCE_INDEX)
        result["profile"].append(fitted.ts)
        result["map"].append(float(whole[row, column]))
    return {name: np.array(values) for name, values in result.items()}


def compare(patches: list[Patch], make_sky: MakeSky, response: Response, psf: PSFMap) -> None:
    """Assert that every TS above 9 agrees to 5 %."""
    worst: dict[str, list[float]] = {}
    for patch in patches:
        peer, peer_flux = gammapy_ts(patch, response, psf)
        own = our_ts(patch, make_sky, response)
        seen = peer > 9
        ratios = {
            **{name: own[name] / np.maximum(peer, 1e-9) - 1.0 for name in own if name != "flux"},
            "flux": own["flux"] / np.maximum(peer_flux, 1e-30) - 1.0,
        }
        lon, lat = patch.centre
        text = "  ".join(f"{k} {100 * v[1]:+.2f}" for k, v in ratios.items())
        print(
            f"\n{lon:6.1f} {lat:+5.1f}  gammapy TS {peer[1]:8.1f}  ours, per cent: {text}", end=""
        )
        for name, values in ratios.items():
            worst.setdefault(name, []).extend(values[seen])
    for name, values in worst.items():
        rms = np.sqrt(np.mean(np.square(values)))
        print(f"\n{name}: {len(values)} values, rms {100 * rms:.2f} %, ", end="")
        print(f"mean {100 * np.mean(values):+.2f} %, at most {100 * np.abs(values).max():.2f} %")
        assert len(values) >= len(patches)
        assert np.abs(values).max() < 0.05
        assert abs(np.mean(values)) < 0.02


def test_two_places(
    make_sky: MakeSky, response: Response, diffuse: DiffuseCounts, psf: PSFMap
) -> None:
    centres = [(30.0, 65.0), (78.0, 0.3)]
    patches = [observe(make_sky, diffuse, centre, n) for n, centre in enumerate(centres)]
    compare(patches, make_sky, response, psf)


@pytest.mark.slow
def test_the_whole_sky(
    make_sky: MakeSky, response: Response, diffuse: DiffuseCounts, psf: PSFMap
) -> None:
    """Twenty-four patches from pole to pole."""
    numbers = np.arange(24)
    lat = np.degrees(np.arcsin((numbers + 0.5) / 12.0 - 1.0))
    lon = (137.5 * numbers) % 360.0
    patches = [observe(make_sky, diffuse, (float(lon[i]), float(lat[i])), 100 + i) for i in numbers]
    compare(patches, make_sky, response, psf)
