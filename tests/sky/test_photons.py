from __future__ import annotations

from pathlib import Path

import healpy
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scipy.spatial import cKDTree

from geminga.errors import InputError
from geminga.files import write_parquet
from geminga.geometry import unit_vectors
from geminga.sky.photons import (
    FORMAT,
    NSIDE,
    Photons,
    empty_photons,
    photon_keys,
    photons_from_keys,
    photons_from_vectors,
)
from geminga.tables import CANDIDATES


def photons() -> Photons:
    lon, lat = np.array([0.0, 120.0, 359.0]), np.array([-89.0, 0.0, 45.0])
    return Photons(
        unit_vectors(lon, lat).astype(np.float32),
        np.array([0, 1, 1], np.int8),
        np.array([3, 0, 2], np.int8),
        {"file": "a"},
    )


def test_directions_come_back_to_a_few_arcseconds_hundredths() -> None:
    lon, lat = photons().lon_lat()
    assert lat == pytest.approx([-89.0, 0.0, 45.0], abs=1e-5)
    assert lon[1:] == pytest.approx([120.0, 359.0], abs=1e-5)


def test_select_by_mask_and_by_row() -> None:
    p = photons()
    assert len(p.select(p.channel == 1)) == 2
    assert p.select(np.array([2])).year.tolist() == [2]
    assert p.select(p.channel == 1).origin == p.origin


def random_photons(n: int, seed: int = 0) -> Photons:
    """Directions all over the sky, both poles and the meridian lon = 0 among them."""
    rng = np.random.default_rng(seed)
    xyz = rng.normal(size=(n, 3))
    xyz[:3] = [[0, 0, 1], [0, 0, -1], [1, 0, 0]]
    return photons_from_vectors(
        xyz.astype(np.float32),
        rng.integers(-1, 127, n, dtype=np.int8),
        rng.integers(0, 10, n, dtype=np.int8),
        {"seed": str(seed)},
    )


def assert_same(p: Photons, q: Photons) -> None:
    for name in ("xyz", "channel", "year"):
        a, b = getattr(p, name), getattr(q, name)
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)
    assert p.origin == q.origin


def test_photons_are_at_the_centres_of_their_pixels() -> None:
    p = random_photons(20_000)
    pixel = healpy.vec2pix(NSIDE, *p.xyz.astype(np.float64).T, nest=True)
    centre = np.stack(healpy.pix2vec(NSIDE, pixel, nest=True), axis=-1)
    np.testing.assert_array_equal(p.xyz, centre.astype(np.float32))
    # Sorted by channel, then position, then year.
    rows = np.lexsort((p.year, pixel, p.channel))
    np.testing.assert_array_equal(rows, np.arange(len(p)))


def test_photons_move_less_than_a_hundredth_of_the_narrowest_psf() -> None:
    rng = np.random.default_rng(4)
    xyz = unit_vectors(
        rng.uniform(0, 360, 50_000), np.degrees(np.arcsin(rng.uniform(-1, 1, 50_000)))
    )
    channel = np.arange(50_000) % 100
    p = photons_from_vectors(xyz, channel.astype(np.int8), np.zeros(50_000, np.int8))
    assert p.channel.tolist() == sorted(p.channel)
    for number in (0, 57):
        mine, there = xyz[channel == number], p.xyz[p.channel == number].astype(np.float64)
        moved = cKDTree(there).query(mine)[0]
        assert np.degrees(moved).max() * 3600 < 3.4
    # 68 % of the photons are within 0.067 deg at 30 GeV (P8R2_ULTRACLEANVETO_V6, Front).
    assert 3.4 / 3600 < 0.067 / 50


def test_a_list_does_not_depend_on_the_order_it_came_in() -> None:
    p = random_photons(5000)
    mixed = p.select(np.random.default_rng(1).permutation(len(p)))
    assert_same(mixed.snapped(), p)
    assert_same(p.snapped(), p)


def test_photons_of_drawn_pixels_are_those_of_their_directions() -> None:
    p = random_photons(3000)
    pixel = healpy.vec2pix(NSIDE, *p.xyz.astype(np.float64).T, nest=True)
    keys = photon_keys(pixel, p.channel, p.year)[::-1].copy()
    assert_same(photons_from_keys(keys, p.origin), p)
    one = photon_keys(pixel, 7, p.year)
    assert set(photons_from_keys(one).channel) == {7}


@pytest.mark.parametrize("vector", [[np.nan, 0, 1], [0, 0, 0], [np.inf, 0, 0]])
def test_photons_need_a_direction(vector: list[float]) -> None:
    with pytest.raises(ValueError, match="without a direction"):
        photons_from_vectors(np.array([vector]), np.zeros(1, np.int8), np.zeros(1, np.int8))


def test_a_file_of_snapped_photons_keeps_every_bit(tmp_path: Path) -> None:
    p = random_photons(30_000)
    p.save(tmp_path / "p.parquet")
    assert_same(Photons.load(tmp_path / "p.parquet"), p)
    p.select(np.arange(len(p))[::-1]).save(tmp_path / "q.parquet")
    assert (tmp_path / "p.parquet").read_bytes() == (tmp_path / "q.parquet").read_bytes()


def test_the_bits_of_a_photon_on_disk(tmp_path: Path) -> None:
    """33 million photons of a test sky, six bands and ten years, must fit in 85 MB."""
    n = 200_000
    rng = np.random.default_rng(0)
    # As dense as a whole sky's low bands, 11 million photons each, on a part of the sky.
    pixel = rng.integers(0, 12 * NSIDE**2 * n // 11_000_000, n)
    keys = photon_keys(pixel, 0, rng.integers(0, 10, n, dtype=np.int8))
    photons_from_keys(keys).save(tmp_path / "p.parquet")
    bits = 8 * (tmp_path / "p.parquet").stat().st_size / n
    assert bits * 33e6 / 8 < 85e6


def test_file_round_trip_keeps_every_bit(tmp_path: Path) -> None:
    p = photons().snapped()
    p.save(tmp_path / "p.parquet")
    q = Photons.load(tmp_path / "p.parquet")
    assert q.xyz.dtype == np.float32
    assert q.channel.dtype == np.int8
    np.testing.assert_array_equal(p.xyz, q.xyz)
    np.testing.assert_array_equal(p.channel, q.channel)
    np.testing.assert_array_equal(p.year, q.year)
    assert q.origin == p.origin


def test_no_photons_is_an_empty_list_that_can_be_saved(tmp_path: Path) -> None:
    empty_photons().save(tmp_path / "none.parquet")
    q = Photons.load(tmp_path / "none.parquet")
    assert len(q) == 0
    assert q.xyz.shape == (0, 3)


def test_bad_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"absent\.parquet: is not a readable"):
        Photons.load(tmp_path / "absent.parquet")
    (tmp_path / "text.parquet").write_text("no photons")
    with pytest.raises(InputError, match="is not a readable Parquet"):
        Photons.load(tmp_path / "text.parquet")
    write_parquet(tmp_path / "table.parquet", CANDIDATES.empty())
    with pytest.raises(InputError, match="is not a photon list"):
        Photons.load(tmp_path / "table.parquet")


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        (
            {"format": "geminga-photons-1"},
            r"photon list \(geminga-photons-1\); name a file written",
        ),
        ({"format": FORMAT, "nside": "1024"}, "has pixels of nside 1024; name a file with"),
        ({"format": FORMAT}, "has pixels of nside none"),
    ],
)
def test_other_versions_are_refused_in_one_line(
    metadata: dict[str, str], message: str, tmp_path: Path
) -> None:
    columns = {name: np.zeros(1, np.int64) for name in ("channel", "pixel", "year")}
    pq.write_table(pa.table(columns, metadata=metadata), tmp_path / "p.parquet")
    with pytest.raises(InputError, match=message) as error:
        Photons.load(tmp_path / "p.parquet")
    assert "\n" not in str(error.value)


def test_shapes_are_checked() -> None:
    with pytest.raises(ValueError, match="do not fit"):
        Photons(np.zeros((2, 3), np.float32), np.zeros(3, np.int8), np.zeros(3, np.int8))
