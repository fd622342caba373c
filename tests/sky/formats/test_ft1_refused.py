"""Event lists that are refused, each with one clear line."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from ft1_files import N, event_columns, observed, with_dss, write_events
from sky_configs import typed

from geminga.config import Config
from geminga.errors import InputError
from geminga.sky.formats.ft1 import read_events


def test_disagreeing_positions_are_refused(tmp_path: Path, ft1_config: Config):
    columns = event_columns()
    columns["L"] = ("E", columns["L"][1] + 1.0)
    path = write_events(tmp_path / "a.fits", columns)
    with pytest.raises(InputError, match="L, B and RA, DEC of a photon are"):
        read_events([path], observed(), ft1_config)


def test_impossible_positions_are_refused(tmp_path: Path, ft1_config: Config):
    columns = event_columns()
    columns["B"][1][5] = np.nan
    path = write_events(tmp_path / "a.fits", columns)
    with pytest.raises(InputError, match="1 events have no direction"):
        read_events([path], observed(), ft1_config)


def test_no_time_keywords_and_several_years_is_refused(tmp_path: Path, ft1_config: Config):
    path = write_events(tmp_path / "a.fits", TSTART=None, TSTOP=None)
    with pytest.raises(InputError, match="neither good time intervals nor TSTART"):
        read_events([path], observed(), ft1_config)


@pytest.mark.parametrize("name", ["ENERGY", "TIME", "EVENT_CLASS", "EVENT_TYPE"])
def test_a_missing_column_is_named(tmp_path: Path, ft1_config: Config, name: str):
    columns = event_columns()
    del columns[name]
    path = write_events(tmp_path / "a.fits", columns)
    with pytest.raises(InputError, match=f"table EVENTS has no column {name}"):
        read_events([path], observed(event_class_bits=(7,)), typed(ft1_config, "FRONT"))


def test_no_position_columns_at_all(tmp_path: Path, ft1_config: Config):
    columns = {k: v for k, v in event_columns().items() if k not in ("L", "RA", "DEC")}
    path = write_events(tmp_path / "a.fits", columns)
    with pytest.raises(InputError, match="no column RA, DEC"):
        read_events([path], observed(), ft1_config)


def test_a_file_that_starts_above_the_first_band_is_refused(tmp_path: Path, ft1_config: Config):
    path = write_events(tmp_path / "a.fits", dss=with_dss("ENERGY", "2000:500000"))
    with pytest.raises(InputError, match="DSS energy cut 2000:500000 MeV starts above"):
        read_events([path], observed(), ft1_config)


def test_a_file_that_ends_below_the_last_band_is_refused(tmp_path: Path, ft1_config: Config):
    path = write_events(tmp_path / "a.fits", dss=with_dss("ENERGY", "1000:3000"))
    with pytest.raises(InputError, match="ends below the last band"):
        read_events([path], observed(), ft1_config)


def test_a_cut_that_is_no_range_is_refused(tmp_path: Path, ft1_config: Config):
    path = write_events(tmp_path / "a.fits", dss=with_dss("ENERGY", "many"))
    with pytest.raises(InputError, match="'many' is not a range"):
        read_events([path], observed(), ft1_config)


def test_a_file_without_the_asked_event_type_is_refused(tmp_path: Path, ft1_config: Config):
    path = write_events(tmp_path / "a.fits", dss=with_dss("BIT_MASK(EVENT_TYPE,1,P8R2)", "1:1"))
    with pytest.raises(InputError, match=r"event type bits \[0\] only, without \[1\]"):
        read_events([path], observed(), ft1_config)
    assert len(read_events([path], observed(), typed(ft1_config, "FRONT"))) == N // 2


def test_no_file_named(ft1_config: Config):
    with pytest.raises(InputError, match="names no file"):
        read_events([], observed(), ft1_config)


def test_missing_file(tmp_path: Path, ft1_config: Config):
    with pytest.raises(InputError, match="does not exist"):
        read_events([tmp_path / "none.fits"], observed(), ft1_config)


@pytest.mark.parametrize("content", [b"", b"no FITS at all" * 500])
def test_not_fits(tmp_path: Path, ft1_config: Config, content: bytes):
    path = tmp_path / "a.fits"
    path.write_bytes(content)
    with pytest.raises(InputError, match="not a readable FITS file"):
        read_events([path], observed(), ft1_config)


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize("kept", [0.3, 0.6, 0.95])
def test_truncated(tmp_path: Path, ft1_config: Config, kept: float, zipped: bool):
    path = write_events(tmp_path / "a.fits", event_columns(2000), gti=[(1000.0, 2000.0)])
    content = path.read_bytes()
    content = gzip.compress(content) if zipped else content
    path.write_bytes(content[: int(len(content) * kept)])
    with pytest.raises(InputError, match=r"truncated|not a readable FITS"):
        read_events([path], observed(), ft1_config)


def test_no_events_table(tmp_path: Path, ft1_config: Config):
    path = tmp_path / "a.fits"
    fits.PrimaryHDU().writeto(path)
    with pytest.raises(InputError, match="has no table EVENTS"):
        read_events([path], observed(), ft1_config)
