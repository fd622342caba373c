"""Real LAT event lists."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from geminga.config import Config, ObservedConfig
from geminga.errors import InputError
from geminga.geometry import separation_deg, unit_vectors
from geminga.sky.formats.ft1 import read_events


def observed(**settings: object) -> ObservedConfig:
    return ObservedConfig(events=("a.fits",), **settings)


def config_of(config: Config, edges_gev: list[float], *event_types: str) -> Config:
    band = config.bands[0]
    bands = [
        band.model_copy(update={"emin_gev": low, "emax_gev": high})
        for low, high in pairwise(edges_gev)
    ]
    tree = config.model_dump()
    tree["bands"] = [b.model_dump() for b in bands]
    tree["images"]["box_deg"] = [1.0] * len(bands)
    tree["response"]["event_types"] = event_types or ("FRONT+BACK",)
    return Config.model_validate(tree)


@pytest.mark.data
def test_2fhl_events(lat_data: Path, config2: Config):
    path = lat_data / "events" / "fermi_2fhl_events.fits.gz"
    edges = [50.0, 171.0, 585.0, 2000.0]
    asked = observed(event_class_bits=(7,), max_zenith_deg=105.0)
    photons = read_events([path], asked, config_of(config2, edges))
    assert len(photons) == 60_275
    front = read_events([path], observed(), config_of(config2, edges, "FRONT"))
    assert len(front) == 36_064
    both = read_events([path], observed(), config_of(config2, edges, "FRONT", "BACK"))
    assert np.sum(both.channel < 3) == 36_064
    assert len(both) == 60_275
    np.testing.assert_array_equal(both.xyz[both.channel < 3], front.xyz)
    quartiles = ("PSF0", "PSF1", "PSF2", "PSF3")
    psf = read_events([path], observed(), config_of(config2, edges, *quartiles))
    assert len(psf) == 60_275
    shares = np.bincount(psf.channel // 3, minlength=4) / len(psf)
    np.testing.assert_allclose(shares, 0.25, atol=0.05)
    # Most of the photons within a tenth of a degree of Mkn 421 are its own.
    mkn421 = unit_vectors(np.array([179.8319]), np.array([65.0316]))
    assert np.sum(separation_deg(photons.xyz, mkn421) < 0.1) > 100
    with pytest.raises(InputError, match="DSS energy cut 50000:2e"):
        read_events([path], asked, config_of(config2, [10.0, 100.0]))


@pytest.mark.data
def test_3fhl_events_of_the_galactic_centre(lat_data: Path, config2: Config):
    path = lat_data / "events" / "fermi-3fhl-gc-events.fits.gz"
    config = config_of(config2, [10.0, 100.0, 2000.0])
    photons = read_events([path], observed(event_class_bits=(7,)), config)
    assert len(photons) == 32_843
    lon, lat = photons.lon_lat()
    assert np.abs(lat).max() < 20
    assert np.abs((lon + 180) % 360 - 180).max() < 20


@pytest.mark.data
def test_twelve_photons_of_the_crab(
    lat_data: Path, config2: Config, caplog: pytest.LogCaptureFixture
):
    path = lat_data / "events" / "lat_ft1_sample_sourceveto_psf0.fits.gz"
    photons = read_events([path], observed(), config_of(config2, [400.0, 2511.8], "PSF0"))
    assert len(photons) == 12
    crab = unit_vectors(np.array([184.5575]), np.array([-5.7843]))
    assert separation_deg(photons.xyz, crab).max() < 1.0
    assert "covers only CIRCLE" in caplog.text
    with pytest.raises(InputError, match=r"event type bits \[2\] only, without \[0, 1\]"):
        read_events([path], observed(), config_of(config2, [400.0, 2511.8]))
