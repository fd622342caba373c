from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from geminga.errors import InputError
from geminga.files import write_parquet
from geminga.geometry import unit_vectors
from geminga.sky.photons import Photons, empty_photons
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


def test_file_round_trip_keeps_every_bit(tmp_path: Path) -> None:
    p = photons()
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


def test_shapes_are_checked() -> None:
    with pytest.raises(ValueError, match="do not fit"):
        Photons(np.zeros((2, 3), np.float32), np.zeros(3, np.int8), np.zeros(3, np.int8))
