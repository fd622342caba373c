"""Maps of counts that are refused, each with one clear line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from healpix_maps import KEV, random_counts, write_map
from sky_configs import typed

from geminga.config import Config, ObservedConfig
from geminga.errors import InputError
from geminga.sky.formats.healpix import read_counts


def observed(**settings: Any) -> ObservedConfig:
    return ObservedConfig(counts=("counts.fits",), **settings)


def with_observed(config: Config, **settings: Any) -> Config:
    return config.model_copy(update={"observed": observed(**settings)})


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ({"COORDSYS": "ECL"}, "COORDSYS = 'ECL' is not a known frame"),
        ({"COORDSYS": None}, "COORDSYS = '' is not a known frame"),
        ({"ORDERING": "SPIRAL"}, "ORDERING = 'SPIRAL' is not known"),
        ({"ORDERING": None}, "ORDERING = '' is not known"),
        ({"NSIDE": 32}, "3072 pixels do not fit NSIDE = 32"),
        ({"NSIDE": 12}, "NSIDE = 12 is not a power of two"),
        ({"NSIDE": "many"}, "NSIDE = 'many' is not a power of two"),
        ({"NSIDE": None}, "NSIDE = None is not a power of two"),
        ({"NSIDE": None, "ORDER": -1}, "NSIDE = None is not a power of two"),
        ({"INDXSCHM": "SPARSE"}, "INDXSCHM = 'SPARSE'"),
        ({"INDXSCHM": "EXPLICIT"}, "INDXSCHM = 'EXPLICIT'"),
    ],
)
def test_wrong_keywords(tmp_path: Path, config2: Config, header: dict[str, object], message: str):
    path = write_map(tmp_path / "a.fits", random_counts(), **header)
    with pytest.raises(InputError, match=message):
        read_counts([path], config2)


@pytest.mark.parametrize("value", [-1.0, 0.5, np.nan, np.inf])
def test_values_that_are_no_counts(tmp_path: Path, config2: Config, value: float):
    counts = random_counts().astype(float)
    counts[1, 7] = value
    path = write_map(tmp_path / "a.fits", counts)
    with pytest.raises(InputError, match=f"CHANNEL2: 1 pixels hold no count.*row 7.* {value}"):
        read_counts([path], config2)


@pytest.mark.parametrize("pixels", [[0, 1, 1], [0, 1, 3072], [-1, 0, 1]])
def test_wrong_explicit_pixels(tmp_path: Path, config2: Config, pixels: list[int]):
    path = write_map(tmp_path / "a.fits", np.ones((3, 3)), pixels=pixels, INDXSCHM="EXPLICIT")
    with pytest.raises(InputError, match=r"names pixels twice|do not fit NSIDE = 16"):
        read_counts([path], config2)


def test_a_channel_cut_by_a_band_edge(tmp_path: Path, config2: Config):
    path = write_map(tmp_path / "a.fits", random_counts(), [1e6, 4e6, 10e6, 30e6])
    with pytest.raises(InputError, match="1-4 GeV are cut by an edge of band 1-3 GeV"):
        read_counts([path], config2)


def test_a_band_that_is_not_filled(tmp_path: Path, config2: Config):
    path = write_map(tmp_path / "a.fits", random_counts(2), [1e6, 3e6, 10e6])
    with pytest.raises(InputError, match="no channel holds 10 GeV, inside band 3-30 GeV"):
        read_counts([path], config2)


def test_the_same_map_twice(tmp_path: Path, config2: Config):
    path = write_map(tmp_path / "a.fits", random_counts())
    with pytest.raises(InputError, match="1-3 GeV appear twice"):
        read_counts([path, path], config2)


def test_edges_that_do_not_fit_the_channels(tmp_path: Path, config2: Config):
    short = write_map(tmp_path / "a.fits", random_counts(), KEV[:3])
    with pytest.raises(InputError, match="EBOUNDS has 2 rows for 3 channels"):
        read_counts([short], config2)
    none = write_map(tmp_path / "b.fits", random_counts(), None)
    with pytest.raises(InputError, match="no EBOUNDS table for its 3 channels"):
        read_counts([none], config2)


def test_columns_that_are_no_channels(tmp_path: Path, config2: Config):
    path = write_map(tmp_path / "a.fits", random_counts(2), names=["RED", "BLUE"])
    with pytest.raises(InputError, match="no column CHANNEL1 and 2 other columns"):
        read_counts([path], config2)


def test_files_that_are_no_maps(tmp_path: Path, config2: Config):
    with pytest.raises(InputError, match="names no file"):
        read_counts([], config2)
    with pytest.raises(InputError, match="does not exist"):
        read_counts([tmp_path / "none.fits"], config2)
    path = tmp_path / "a.fits"
    path.write_bytes(b"hello" * 1000)
    with pytest.raises(InputError, match="not a readable FITS file"):
        read_counts([path], config2)
    fits.PrimaryHDU().writeto(tmp_path / "b.fits")
    with pytest.raises(InputError, match="no HEALPix table"):
        read_counts([tmp_path / "b.fits"], config2)
    whole = write_map(tmp_path / "c.fits", random_counts())
    whole.write_bytes(whole.read_bytes()[:40_000])
    with pytest.raises(InputError, match="truncated"):
        read_counts([whole], config2)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"max_zenith_deg": 100.0}, "zenith angles up to 105.0, above max_zenith_deg 100"),
        ({"event_class_bits": (10,)}, r"event class bits \[7\], not event_class_bits \[10\]"),
        ({"time_range_met_s": (0.0, 1.0)}, "cannot be cut to time_range_met_s"),
    ],
)
def test_cuts_that_a_map_cannot_take_any_more(
    tmp_path: Path, config2: Config, settings: dict[str, Any], message: str
):
    dss = {
        "DSTYP1": "BIT_MASK(EVENT_CLASS,128,P8R2)",
        "DSVAL1": "1:1",
        "DSTYP2": "BIT_MASK(EVENT_TYPE,3,P8R2)",
        "DSVAL2": "1:1",
        "DSTYP3": "ZENITH_ANGLE",
        "DSVAL3": "0:105",
    }
    path = write_map(tmp_path / "a.fits", random_counts(), **dss)
    with pytest.raises(InputError, match=message):
        read_counts([path], with_observed(typed(config2, "FRONT+BACK"), **settings))
    made = {"max_zenith_deg": 105.0, "event_class_bits": (7,)}
    both = with_observed(typed(config2, "FRONT+BACK"), **made)
    assert len(read_counts([path], both)) == random_counts().sum()
    with pytest.raises(InputError, match=r"holds event type bits \[0, 1\], not only FRONT"):
        read_counts([path], with_observed(config2, **made))
    with fits.open(path, mode="update") as hdus:
        hdus["SKYMAP"].header["DSTYP2"] = "BIT_MASK(EVENT_TYPE,1,P8R2)"
    assert len(read_counts([path], with_observed(config2, **made))) == random_counts().sum()
    with pytest.raises(InputError, match=r"event type bits \[0\] only, without \[1\]"):
        read_counts([path], both)
    with fits.open(path, mode="update") as hdus:
        for key in ("DSTYP2", "DSVAL2"):
            del hdus["SKYMAP"].header[key]
    with pytest.raises(InputError, match="holds all event types, not only FRONT"):
        read_counts([path], with_observed(config2, **made))
