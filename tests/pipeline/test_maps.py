"""HEALPix maps of a simulated sky: what is refused, and what is in the files of expected counts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import healpy as hp
import numpy as np
import pytest
from astropy.io import fits

from geminga.classes import components
from geminga.config import Config, ObservedConfig
from geminga.errors import InputError
from geminga.pipeline import maps
from geminga.pipeline.events import write_event_list
from geminga.pipeline.maps import write_counts_maps, write_expected_maps
from geminga.pipeline.products import SimulatedSky


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int, int | None]]:
    """Replace the simulation: component k has k + 1 counts in a pixel of every map."""
    made: list[tuple[str, int, int | None]] = []

    def simulated_sky(config: Config, number: int) -> SimulatedSky:
        assert number in (0, 2_000_000)
        return SimulatedSky(config, None)  # type: ignore[arg-type]

    def expected_map(config: Any, name: str, band: int, year: int | None) -> Any:
        made.append((name, band, year))
        counts = np.zeros(12 * config.channels[band].nside ** 2)
        counts[7] = components(config.classes).index(name) + 1
        return counts

    monkeypatch.setattr(maps, "simulated_sky", simulated_sky)
    monkeypatch.setattr(maps, "expected_map", expected_map)
    return made


@pytest.mark.parametrize(
    ("component", "year", "message"),
    [
        ("nonsense", None, r"--component: 'nonsense' is unknown; use all or one of .*BLL"),
        ("", None, "--component: '' is unknown"),
        ("FAKE", None, "--component: 'FAKE' is unknown"),
        ("all", 4, "--year: 4 is out of range; use 0 to 3"),
        ("all", -1, "--year: -1 is out of range"),
    ],
)
def test_unknown_components_and_years_are_refused_before_any_work(
    component: str,
    year: int | None,
    message: str,
    config2: Config,
    tmp_path: Path,
    calls: list[Any],
) -> None:
    with pytest.raises(InputError, match=message):
        write_expected_maps(config2, tmp_path / "maps", component, year)
    assert not (tmp_path / "maps").exists()
    assert calls == []


def test_a_map_of_each_band_with_all_components(
    config2: Config, tmp_path: Path, calls: list[Any]
) -> None:
    paths = write_expected_maps(config2, tmp_path / "maps")
    assert [p.name for p in paths] == ["expected_all_channel0.fits", "expected_all_channel1.fits"]
    count = len(components(config2.classes))
    for path, band in zip(paths, config2.bands, strict=True):
        header = fits.getheader(path, 1)
        assert (header["EMIN"], header["EMAX"]) == (band.emin_gev, band.emax_gev)
        assert header["COORDSYS"] == "G"
        assert header["ORDERING"] == "RING"
        assert header["CONFHASH"] == config2.hash()
        assert header["SKY_ID"] == 2_000_000
        counts = hp.read_map(path, dtype=np.float64)
        assert hp.npix2nside(len(counts)) == band.nside
        assert counts[7] == count * (count + 1) / 2
        assert counts.sum() == counts[7]
    assert {year for _, _, year in calls} == {None}


def test_one_component_of_one_year(config2: Config, tmp_path: Path, calls: list[Any]) -> None:
    (path, _) = write_expected_maps(config2, tmp_path / "maps", "PWN+SNR", 3)
    assert path.name == "expected_PWN_SNR_channel0.fits"
    assert calls == [("PWN+SNR", 0, 3), ("PWN+SNR", 1, 3)]
    # A second call replaces the files.
    write_expected_maps(config2, tmp_path / "maps", "PWN+SNR", 0)
    assert len(list((tmp_path / "maps").iterdir())) == 2


def test_a_sky_that_is_not_there_is_refused(
    config2: Config, tmp_path: Path, calls: list[Any]
) -> None:
    for write in (
        lambda n: write_expected_maps(config2, tmp_path, test_sky=n),
        lambda n: write_counts_maps(config2, tmp_path, n),
        lambda n: write_event_list(config2, tmp_path / "events.fits", n),
    ):
        for number in (-1, 1, 7):
            message = f"--sky: {number} is out of range; use 0 to 0"
            with pytest.raises(InputError, match=message):
                write(number)
    with pytest.raises(InputError, match=r"--out: .* is a folder; name a file"):
        write_event_list(config2, tmp_path)
    real = config2.model_copy(update={"observed": ObservedConfig(events=("events.fits",))})
    with pytest.raises(InputError, match="observed: takes the place of simulated test skies"):
        write_event_list(real, tmp_path / "events.fits")
    assert list(tmp_path.iterdir()) == []
    assert calls == []


def test_the_real_sky_shows_expected_counts_of_a_training_sky(
    config2: Config, tmp_path: Path, calls: list[Any]
) -> None:
    real = config2.model_copy(update={"observed": ObservedConfig(events=("events.fits",))})
    path, _ = write_expected_maps(real, tmp_path)
    assert fits.getheader(path, 1)["SKY_ID"] == 0
