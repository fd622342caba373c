from __future__ import annotations

import healpy
import numpy as np
import pytest

from geminga.arrays import Float32
from geminga.bands import Band
from geminga.config import Config, ImageConfig
from geminga.errors import InputError
from geminga.geometry import from_plane, lon_lat, pixel_to_plane, tangent_frames
from geminga.likelihood.kernels import (
    counts_per_flux,
    make_kernels,
    map_phases,
    power_law_share,
)
from geminga.patches.render import expected_images
from geminga.response import Response, build_response, equal_shares
from geminga.sky.emission.diffuse import DiffuseCounts
from geminga.sky.populations.sources import SourceSet
from geminga.sky.sky import Sky, expected_counts
from geminga.sky.spectra import photon_flux
from geminga.tables import TRUTH

SIZE = 10.0
BANDS = (
    Band(emin_gev=0.3, emax_gev=0.5, nside=128, pixels=32),
    Band(emin_gev=2, emax_gev=7, nside=512, pixels=128),
    Band(emin_gev=20, emax_gev=2000, nside=1024, pixels=128),
)


@pytest.fixture(scope="module")
def response() -> Response:
    return build_response(Config(bands=BANDS, images=ImageConfig(box_deg=(1.0,) * len(BANDS))))


def rendered(response: Response, x: float, y: float, index: float) -> list[Float32]:
    """One source of a million photons in each channel at a place of a patch, as it is simulated."""
    frame = tangent_frames(np.array([40.0]), np.array([25.0]))
    lon, lat = lon_lat(from_plane(frame[0], np.array([x]), np.array([y])))
    data = {c.name: np.zeros(1) for c in TRUTH.columns if c.dtype != "str"}
    text = {c.name: ["BLL"] for c in TRUTH.columns if c.dtype == "str"}
    channels = response.channels
    sky = Sky(
        0,
        channels,
        ("BLL",),
        SourceSet(TRUTH.frame({**data, **text, "lon_deg": lon, "lat_deg": lat}), np.ones((1, 1))),
        np.full((1, len(channels)), 1e6),
        np.full((1, len(channels)), index),
        np.ones((1, 1)),
        DiffuseCounts.of_maps(*np.zeros((2, len(channels), healpy.nside2npix(16)), np.float32)),
        0,
        np.ones((3, len(channels))),
        np.empty(0),
        response.psf,
        equal_shares(1),
    )
    return [image[0] / 1e6 for image in expected_images(sky, frame, SIZE)]


@pytest.mark.parametrize("index", [1.7, 2.35])
@pytest.mark.parametrize("phase", [(0, 0), (1, 2)])
def test_kernels_are_what_the_simulation_renders(
    response: Response, index: float, phase: tuple[int, int]
) -> None:
    kernels = make_kernels(response.psf, response.channels, SIZE, index, phases=3)
    assert kernels.phases == (3, 3, 3)
    for c, channel in enumerate(response.channels):
        middle = channel.pixels // 2
        y, x = (
            float(pixel_to_plane(np.array(middle + (p + 0.5) / 3 - 0.5), channel.pixels, SIZE))
            for p in phase
        )
        half = kernels.half_px[c]
        inner = slice(middle - half, middle + half + 1)
        truth = rendered(response, x, y, index)[c][inner, inner]
        kernel = kernels.values[c][phase]
        assert kernel.shape == truth.shape
        assert np.abs(kernel - truth).max() < 0.01 * truth.max()
        assert kernel.sum() == pytest.approx(truth.sum(), rel=0.003)


def test_a_kernel_holds_its_containment_within_the_largest_radius(response: Response) -> None:
    kernels = make_kernels(response.psf, response.channels, SIZE, 2.2, 0.9, max_radius_deg=1.0)
    for c, channel in enumerate(response.channels):
        radius = response.psf.radius_of_containment(c, 2.2, 0.9)
        pixel = SIZE / channel.pixels
        reach = (kernels.half_px[c] + 0.5) * pixel
        assert kernels.pixel_deg[c] == pixel
        if radius < 1.0:
            # A square holds more than the circle in it, and is no more than a pixel larger.
            assert 0.9 < kernels.values[c].sum() < 0.96
            assert radius <= reach + 0.5 * pixel < radius + 1.5 * pixel
        else:
            assert 1.0 - 0.5 * pixel <= reach < 1.0 + pixel


def test_phases_mirror_each_other_and_average_to_a_broader_kernel(response: Response) -> None:
    kernels = make_kernels(response.psf, response.channels, SIZE, 2.2, phases=(2, 1, 4))
    for values, phases in zip(kernels.values, (2, 1, 4), strict=True):
        assert values.shape[:2] == (phases, phases)
        np.testing.assert_allclose(values, values[::-1, ::-1, ::-1, ::-1], rtol=1e-4, atol=1e-8)
        np.testing.assert_allclose(values, values.transpose(1, 0, 3, 2), rtol=1e-4, atol=1e-8)
        assert np.ptp(values.sum(axis=(2, 3))) < 0.01


def test_kernels_for_maps_have_two_places_where_pixels_are_coarse(response: Response) -> None:
    assert map_phases(response.channels) == (2, 1, 1)
    assert map_phases(response.channels[:1]) == (1,)


def test_counts_per_flux_are_those_of_simulated_power_laws(response: Response) -> None:
    lon, lat = np.array([10.0, 200.0]), np.array([-5.0, 70.0])
    indices = (1.7, 2.2, 2.7)
    per_flux = counts_per_flux(response, response.channels, lon, lat, indices)
    assert per_flux.shape == (2, 3, len(BANDS))
    for t, index in enumerate(indices):
        data = {c.name: np.zeros(2) for c in TRUTH.columns if c.dtype != "str"}
        text = {c.name: ["BLL"] * 2 for c in TRUTH.columns if c.dtype == "str"}
        text["form"] = ["log_parabola"] * 2
        spectrum = {"norm": 1e-13, "pivot_mev": 2000.0, "index": index}
        columns = {k: np.full(2, v) for k, v in spectrum.items()}
        table = TRUTH.frame({**data, **text, "lon_deg": lon, "lat_deg": lat, **columns})
        counts, _ = expected_counts(table, response)
        flux = photon_flux(table, 1e3, 1e6)
        np.testing.assert_allclose(per_flux[:, t] * flux[:, None], counts, rtol=1e-4)


def test_power_law_shares() -> None:
    assert power_law_share(2.2, 1.0, 1000.0) == pytest.approx(1.0)
    assert power_law_share(1.0, 10.0, 100.0) == pytest.approx(1 / 3)
    assert power_law_share(1.0 + 1e-9, 10.0, 100.0) == pytest.approx(1 / 3)
    assert power_law_share(2.0, 1.0, 2.0) == pytest.approx(0.5 / 0.999)
    assert power_law_share(2.0, 0.5, 1.0) == pytest.approx(1 / 0.999)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"containment": 1.0}, r"likelihood.containment: 1.0 is not in \(0, 1\)"),
        ({"max_radius_deg": 0.0}, "likelihood.max_radius_deg: 0.0 is not above 0"),
        ({"phases": 0}, "0 for 3 channels"),
        ({"phases": (1, 2)}, r"\(1, 2\) for 3 channels"),
    ],
)
def test_bad_kernels_are_refused(
    response: Response, change: dict[str, float], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        make_kernels(response.psf, response.channels, SIZE, 2.2, **change)  # type: ignore[arg-type]


def test_other_channels_than_the_responses_are_a_fault(response: Response) -> None:
    with pytest.raises(ValueError, match="not those of the response"):
        counts_per_flux(response, response.channels[:1], np.zeros(1), np.zeros(1), [2.0])
