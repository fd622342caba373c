from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from astropy.io import fits

from geminga.catalogue import Flag, Surroundings, build_catalogue, write_fits
from geminga.catalogue.flags import EDGE_DEG, FLAG_TEXT, flags_of
from geminga.config import Config
from geminga.geometry import lon_lat, unit_vectors
from geminga.pipeline.surroundings import surroundings
from geminga.response import build_response
from geminga.sky.coverage import circles_covered
from geminga.sky.formats.fits_input import equatorial_from_galactic
from geminga.tables import CANDIDATES, EXTENDED, patch_sources

R68 = (2.0, 0.2)


def source(n: int = 1, **values: object) -> pd.DataFrame:
    """Sources in one place with nothing to beware of: seen in the second of two channels."""
    table = CANDIDATES.with_columns(
        [c for c in patch_sources(2).columns if c.name not in CANDIDATES.names]
    )
    clean: dict[str, object] = {name: np.zeros(n) for name in table.names}
    clean |= {
        "lon_deg": np.full(n, 100.0), "lat_deg": np.full(n, 40.0), "edge_deg": np.full(n, 3.0),
        "converged": np.ones(n, np.bool_), "index_error": np.full(n, 0.1), "ts": np.full(n, 50.0),
        "counts_error_0": np.full(n, 5.0), "counts_1": np.full(n, 20.0),
        "counts_error_1": np.full(n, 4.0), "background_0": np.full(n, 100.0),
        "background_1": np.full(n, 10.0),
        **{f"cov_{axis}_deg2": np.full(n, 1e-4) for axis in ("east", "north")},
    }  # fmt: skip
    return table.frame({**clean, **values})


AROUND = Surroundings(R68, EXTENDED.empty(), None, 0.4)


@pytest.mark.parametrize(
    ("values", "flag"),
    [
        ({}, 0),
        ({"edge_deg": [0.49]}, Flag.EDGE),
        ({"converged": [False]}, Flag.NOT_CONVERGED),
        ({"goodness": [5.1]}, Flag.NOT_POINTLIKE),
        ({"index_error": [0.29]}, Flag.INDEX_OF_PRIOR),
        ({"index_error": [0.28]}, 0),
        ({"lon_deg": [359.0], "lat_deg": [-2.0]}, Flag.GALACTIC_CENTRE),
        ({"lon_deg": [5.1], "lat_deg": [0.0]}, 0),
        ({"lon_deg": [180.0], "lat_deg": [0.0]}, 0),
        # 0.03 pi 0.2^2 b / 0.68 reaches half of the error, 2, at b = 361.
        ({"background_1": [350.0]}, 0),
        ({"background_1": [370.0]}, Flag.BACKGROUND_MATTERS),
        # Of a channel it is not seen in, neither PSF nor background count.
        ({"background_0": [1e6]}, 0),
        ({"edge_deg": [0.1], "goodness": [9.0]}, Flag.EDGE | Flag.NOT_POINTLIKE),
    ],
)
def test_each_bit(values: dict[str, object], flag: int) -> None:
    assert flags_of(source(**values), AROUND).tolist() == [int(flag)]


def test_neighbours_are_confused_within_the_psf_they_are_seen_with() -> None:
    apart = np.array([40.0, 40.5])
    high = flags_of(source(2, lat_deg=apart), AROUND)
    low = {"counts_0": np.full(2, 50.0), "counts_1": np.zeros(2), "background_0": np.ones(2)}
    assert high.tolist() == [0, 0]
    assert flags_of(source(2, lat_deg=apart, **low), AROUND).tolist() == [int(Flag.CONFUSED)] * 2
    near = source(2, lat_deg=np.array([40.0, 40.29]))
    assert flags_of(near, Surroundings()).tolist() == [int(Flag.CONFUSED)] * 2


def test_extended_sources_have_a_margin() -> None:
    extended = EXTENDED.frame(
        {"name": ["a"], "lon_deg": [100.0], "lat_deg": [41.0], "radius_deg": [0.8], "s1": [1.0]}
    )
    near = source(2, lat_deg=np.array([39.8, 40.0]))
    near["lon_deg"] = [100.0, 100.0]
    flags = flags_of(near.iloc[:1], Surroundings(extended=extended))
    assert flags.tolist() == [0]
    flags = flags_of(near.iloc[1:], Surroundings(extended=extended))
    assert flags.tolist() == [int(Flag.EXTENDED)]


def test_the_edge_of_the_data_is_an_edge() -> None:
    ra, dec = lon_lat(equatorial_from_galactic(unit_vectors(np.array(100.0), np.array(40.0))))
    lat = np.array([40.0, 42.3, 42.7, 47.0])
    places = source(4, lat_deg=lat)
    covered = circles_covered([(float(ra), float(dec), 3.0)])
    flags = flags_of(places, Surroundings(coverage=covered))
    edge = flags & int(Flag.EDGE) > 0
    assert edge.tolist() == [False, False, True, True]
    assert 3.0 - 2.3 > EDGE_DEG > 3.0 - 2.7


def test_no_source_and_unknown_channels() -> None:
    assert flags_of(source(0), AROUND).shape == (0,)
    with pytest.raises(ValueError, match="no counts_2, counts_error_2, background_2"):
        flags_of(source(), Surroundings((1.0, 1.0, 1.0)))


def test_a_source_of_no_counts_has_no_energies() -> None:
    dark = source(counts_1=[0.0], counts_error_1=[0.0], background_1=[1e9])
    assert flags_of(dark, Surroundings((0.1, 0.1))).tolist() == [0]


def test_every_bit_is_explained_in_the_header(tmp_path: Path) -> None:
    assert set(FLAG_TEXT) == set(Flag)
    frame = build_catalogue(source(goodness=[9.0]), None, ("A",), around=AROUND)
    assert frame["Flags"].tolist() == [int(Flag.NOT_POINTLIKE)]
    write_fits(tmp_path / "c.fits", frame, ("A",), {})
    header = fits.getheader(tmp_path / "c.fits", 1)
    for flag in Flag:
        text = header[f"FLAG{int(flag)}"]
        assert text == f"{flag.name}: {FLAG_TEXT[flag]}"
        assert len(text) <= 68


def test_surroundings_of_a_configuration(config2: Config) -> None:
    response = build_response(config2)
    around = surroundings(config2, response)
    assert len(around.psf_r68_deg) == len(config2.channels)
    assert all(0.03 < r < 6.0 for r in around.psf_r68_deg)
    assert around.index_prior_width == config2.likelihood.fit_index_prior[1]
    assert around.extended is None


@pytest.mark.data
def test_extended_sources_of_the_configuration(config2: Config, lat_data: Path) -> None:
    config = config2.model_copy(update={"data": str(lat_data)})
    around = surroundings(config, build_response(config2), extended="catalogs/gll_psc_v27.fit.gz")
    assert around.extended is not None
    assert len(around.extended) == 75
