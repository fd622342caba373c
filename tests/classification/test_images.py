from __future__ import annotations

import numpy as np
import pytest

from geminga.arrays import Float64
from geminga.classification import counted_source_images, expected_source_images
from geminga.classification.images import yearly_channels
from geminga.config import Config
from geminga.errors import InputError
from geminga.geometry import from_plane, pixel_solid_angle_sr, tangent_frames, unit_vectors
from geminga.response import BandPsf, equal_shares
from geminga.sky.emission.diffuse import DiffuseCounts
from geminga.sky.photons import Photons
from geminga.sky.populations.sources import SourceSet
from geminga.sky.sky import Sky
from geminga.tables import TRUTH

FLAT = (3000.0, 500.0)
"""Diffuse counts per steradian of the two bands."""
COUNTS = (400.0, 100.0)
YEARLY = (0.4, 0.8, 1.2, 1.6)
LON, LAT = 40.0, 55.0


def gaussian(sigma_deg: float) -> BandPsf:
    radius = np.concatenate([np.linspace(0, 3, 600), np.linspace(3.1, 30, 100)])
    density = np.exp(-0.5 * (radius / sigma_deg) ** 2)
    sine = np.sin(np.radians(radius))
    integral = np.concatenate(
        [[0], np.cumsum(np.diff(np.radians(radius)) * (density * sine)[1:])]
    ) * (2 * np.pi)
    one = np.broadcast_to(density / integral[-1], (2, 2, len(radius))).copy()
    part = np.broadcast_to(integral / integral[-1], one.shape).copy()
    return BandPsf(radius, np.array([1.0, 4.0]), one, part)


def sky_of(config: Config) -> Sky:
    source = {name: [0.0] for name in TRUTH.names} | {
        "class_name": ["PSR"], "form": ["plec"], "lon_deg": [LON], "lat_deg": [LAT]
    }  # fmt: skip
    diffuse = np.zeros((2, 2, 12 * 64**2), dtype=np.float32)
    diffuse[1] = np.array(FLAT)[:, None]
    return Sky(
        2_000_000,
        config.channels,
        config.classes,
        SourceSet(TRUTH.frame(source), np.array([YEARLY])),
        np.array([COUNTS]),
        np.full((1, 2), 2.0),
        np.array([YEARLY]) / config.sky.years,
        DiffuseCounts.of_maps(*diffuse),
        0,
        np.ones((3, 2)),
        np.empty(0),
        gaussian(0.05),
        equal_shares(config.sky.years),
    )


def direction(config: Config) -> tuple[Float64, Float64]:
    return np.array([LON, 200.0]), np.array([LAT, -30.0])


def test_expected_images_hold_source_and_background(config2: Config) -> None:
    images = expected_source_images(sky_of(config2), *direction(config2), config2)
    assert images.channels.shape == (2, 2, 7, 7)
    assert images.yearly.shape == (2, 4, 7, 7)
    assert images.stack().shape == (2, 6, 7, 7)
    assert images.stack().dtype == np.float32
    assert images.lat_deg.tolist() == [LAT, -30.0]
    for band, (box, flat, counts) in enumerate(
        zip(config2.images.box_deg, FLAT, COUNTS, strict=True)
    ):
        background = flat * pixel_solid_angle_sr(7, box).sum()
        total = images.channels[:, band].sum(axis=(1, 2))
        assert total == pytest.approx([background + counts, background], rel=0.02)
        assert np.unravel_index(images.channels[0, band].argmax(), (7, 7)) == (3, 3)
    background = sum(FLAT) * pixel_solid_angle_sr(7, 1.0).sum() / 4
    expected = background + np.array(YEARLY) / 4 * sum(COUNTS)
    assert images.yearly[0].sum(axis=(1, 2)) == pytest.approx(expected, rel=0.02)
    assert images.yearly[1].sum(axis=(1, 2)) == pytest.approx([background] * 4, rel=1e-3)


def test_yearly_images_can_leave_soft_bands_out(config2: Config) -> None:
    hard = config2.model_copy(
        update={"images": config2.images.model_copy(update={"yearly_min_gev": 3.0})}
    )
    assert yearly_channels(config2) == [0, 1]
    assert yearly_channels(hard) == [1]
    images = expected_source_images(sky_of(hard), *direction(hard), hard)
    background = FLAT[1] * pixel_solid_angle_sr(7, 1.0).sum() / 4
    assert images.yearly[1].sum(axis=(1, 2)) == pytest.approx([background] * 4, rel=1e-3)
    photons = photons_at([(0.0, 0.0, 0, 1), (0.0, 0.0, 1, 1)])
    counted = counted_source_images(photons, np.array([LON]), np.array([LAT]), hard)
    assert counted.channels[0].sum(axis=(1, 2)).tolist() == [1, 1]
    assert counted.yearly[0].sum(axis=(1, 2)).tolist() == [0, 1, 0, 0]


def photons_at(rows: list[tuple[float, float, int, int]]) -> Photons:
    """Photons at plane coordinates around (LON, LAT) with their band and year."""
    x, y, band, year = np.array(rows, dtype=np.float64).reshape(-1, 4).T
    frame = tangent_frames(np.array([LON]), np.array([LAT]))[0]
    xyz = from_plane(frame, x, y).astype(np.float32)
    return Photons(xyz, band.astype(np.int8), year.astype(np.int8))


def test_photons_fall_in_their_band_year_and_pixel(config2: Config) -> None:
    # Boxes are 2 and 1 deg wide: a photon 0.9 deg off is in the first band's image alone.
    rows = [(0.0, 0.0, 0, 0), (0.3, 0.0, 1, 2), (0.9, -0.9, 0, 3), (0.9, 0.0, 1, 3)]
    images = counted_source_images(photons_at(rows), np.array([LON]), np.array([LAT]), config2)
    soft, hard = images.channels[0]
    assert soft.sum() == 2
    assert (soft[3, 3], soft[0, 6]) == (1, 1)
    assert hard.sum() == 1
    assert hard[3, 5] == 1
    assert images.yearly[0].sum(axis=(1, 2)).tolist() == [1, 0, 1, 0]
    assert images.stack().dtype == np.float32


def test_counted_images_agree_with_expected_ones(config2: Config) -> None:
    """Photons drawn by hand from the same sky: totals within five standard deviations."""
    rng = np.random.default_rng(1)
    rows = []
    for band, counts in enumerate(COUNTS):
        for year, factor in enumerate(YEARLY):
            n = rng.poisson(counts * factor / 4)
            rows += [(*rng.normal(0, 0.05, 2), band, year) for _ in range(n)]
            area = rng.uniform(-1.5, 1.5, (rng.poisson(FLAT[band] * np.radians(3) ** 2 / 4), 2))
            rows += [(x, y, band, year) for x, y in area]
    lon, lat = np.array([LON]), np.array([LAT])
    counted = counted_source_images(photons_at(rows), lon, lat, config2).stack()
    expected = expected_source_images(sky_of(config2), lon, lat, config2).stack()
    assert np.all(np.abs(counted - expected) < 5 * np.sqrt(expected) + 3)
    total, mean = counted.sum(axis=(2, 3)), expected.sum(axis=(2, 3))
    assert np.all(np.abs(total - mean) < 5 * np.sqrt(mean))


def test_no_detections_and_no_photons(config2: Config) -> None:
    none = np.empty(0)
    empty = Photons(np.empty((0, 3), np.float32), np.empty(0, np.int8), np.empty(0, np.int8))
    assert expected_source_images(sky_of(config2), none, none, config2).stack().shape == (
        0, 6, 7, 7
    )  # fmt: skip
    assert counted_source_images(empty, none, none, config2).stack().shape == (0, 6, 7, 7)
    images = counted_source_images(empty, np.array([LON]), np.array([LAT]), config2)
    assert images.stack().shape == (1, 6, 7, 7)
    assert not images.stack().any()


def test_an_image_points_north(config2: Config) -> None:
    north = unit_vectors(np.array([LON]), np.array([LAT + 0.3])).astype(np.float32)
    photon = Photons(north, np.array([1], np.int8), np.array([0], np.int8))
    images = counted_source_images(photon, np.array([LON]), np.array([LAT]), config2)
    assert images.channels[0, 1, 5, 3] == 1


@pytest.mark.parametrize(("band", "year", "problem"), [(2, 0, "channel 2"), (0, 4, "year 4")])
def test_photons_of_another_configuration(
    band: int, year: int, problem: str, config2: Config
) -> None:
    with pytest.raises(InputError, match=f"have {problem}, the configuration has"):
        counted_source_images(
            photons_at([(0, 0, band, year)]), np.array([LON]), np.array([LAT]), config2
        )
