"""Expected counts as HEALPix maps: what is refused, and what is in the files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import healpy as hp
import numpy as np
import pytest
from astropy.io import fits

from geminga.classes import components
from geminga.config import Config
from geminga.errors import InputError
from geminga.pipeline import maps
from geminga.pipeline.maps import write_expected_maps
from geminga.pipeline.runner import Context
from geminga.sky.diffuse import DiffuseCounts


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[tuple[str, int, int | None]]:
    """Replace the simulation: component k has k + 1 counts in a pixel of every map."""
    made: list[tuple[str, int, int | None]] = []

    def run_pipeline(config: Config, until: str) -> Context:
        assert until == "skies"
        return Context(config, tmp_path, None)  # type: ignore[arg-type]

    def expected_map(config: Any, name: str, band: int, year: int | None) -> Any:
        made.append((name, band, year))
        counts = np.zeros(12 * config.bands[band].nside ** 2)
        counts[7] = components(config.classes).index(name) + 1
        return counts

    monkeypatch.setattr(maps, "run_pipeline", run_pipeline)
    monkeypatch.setattr(maps, "build_response", lambda _: None)
    monkeypatch.setattr(DiffuseCounts, "load", lambda _: None)
    monkeypatch.setattr(maps, "load_sky", lambda folder, config, *_: config)
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
    assert [p.name for p in paths] == ["expected_all_band0.fits", "expected_all_band1.fits"]
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
    assert path.name == "expected_PWN_SNR_band0.fits"
    assert calls == [("PWN+SNR", 0, 3), ("PWN+SNR", 1, 3)]
    # A second call replaces the files.
    write_expected_maps(config2, tmp_path / "maps", "PWN+SNR", 0)
    assert len(list((tmp_path / "maps").iterdir())) == 2
