"""``geminga detect`` on files of photons: results, part of the sky, frames of the input."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import healpy as hp
import numpy as np
import pandas as pd
import pytest
from astropy.coordinates import SkyCoord
from detect_files import (
    CENTRE,
    DSS,
    RADIUS,
    SOURCES,
    model_folder,
    region,
    whole,
    write_events,
    write_exposure,
    write_map,
    write_partial,
)

from geminga.catalogue import read_fits
from geminga.cli import main
from geminga.config import Config, load_config
from geminga.geometry import separation_deg, unit_vectors
from geminga.pipeline.detect import Request, detect
from geminga.sky.coverage import Coverage
from geminga.sky.formats.healpix import read_counts
from geminga.sky.photons import Photons
from geminga.sky.pixel_counts import PixelCounts
from geminga.tables import CANDIDATES


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photons")
    model_folder(folder)
    write_exposure(folder / "exposure.fits")
    return folder


def run(files: Path, out: Path, *arguments: str) -> pd.DataFrame:
    options = ["--exposure", str(files / "exposure.fits"), "--model", str(files / "small")]
    assert main(["detect", *arguments, *options, "--out", str(out)]) == 0
    return read_fits(out / "catalog.fits")


def places(catalog: pd.DataFrame) -> np.ndarray:
    """Return the detections nearest to the sources, (5, 3)."""
    return positions(catalog)[nearest_rows(catalog)]


def positions(catalog: pd.DataFrame) -> np.ndarray:
    return unit_vectors(catalog["GLON"].to_numpy(), catalog["GLAT"].to_numpy())


def nearest_rows(catalog: pd.DataFrame) -> np.ndarray:
    return np.argmax(source_vectors() @ positions(catalog).T, axis=1)


def source_vectors() -> np.ndarray:
    return unit_vectors(*np.array(SOURCES).T)


def test_partial_map_gives_catalogue_regions_and_provenance(
    files: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path, out = write_partial(tmp_path / "counts.fits"), tmp_path / "deep" / "out"
    catalog = run(files, out, "--counts", str(path))
    assert sorted(p.name for p in out.iterdir()) == [
        "catalog.fits",
        "provenance.json",
        "regions.reg",
    ]
    assert separation_deg(places(catalog), source_vectors()).max() < 0.15
    assert (np.diff(catalog["SCORE"]) <= 0).all()
    assert (out / "regions.reg").read_text().count("text={") == len(catalog)
    told = json.loads((out / "provenance.json").read_text())
    assert told["inputs"][0]["file"] == "counts.fits"
    assert len(told["inputs"][0]["sha256"]) == len(told["exposure"][0]["sha256"]) == 16
    assert told["model"]["name"] == "small"
    assert told["photons"]["all"] == sum(told["photons"][b] for b in ("1-3 GeV", "3-30 GeV"))
    assert told["patches"]["all"] == 768
    assert told["patches"]["skipped_without_data"] > 740
    assert told["patches"]["partly_covered"] > 8
    # The disc's area; the catalogue ends where the data do.
    assert told["sky_covered"] == pytest.approx((1 - np.cos(np.radians(9.5))) / 2, rel=0.02)
    centre = unit_vectors(*map(np.array, CENTRE))
    found = unit_vectors(catalog["GLON"].to_numpy(), catalog["GLAT"].to_numpy())
    assert np.degrees(np.arccos(found @ centre)).max() < RADIUS + 0.6


def test_the_results_replace_older_ones_and_nothing_else(files: Path, tmp_path: Path) -> None:
    path, out = write_partial(tmp_path / "counts.fits"), tmp_path / "out"
    out.mkdir()
    (out / "notes.txt").write_text("mine")
    (out / "catalog.fits").write_text("old")
    first = run(files, out, "--counts", str(path))
    kept = (out / "catalog.fits").read_bytes()
    run(files, out, "--counts", str(path))
    assert (out / "catalog.fits").read_bytes() == kept
    assert (out / "notes.txt").read_text() == "mine"
    assert len(list(out.iterdir())) == 4
    assert len(first) >= 5


def test_frames_and_orders_of_the_same_photons(files: Path, tmp_path: Path) -> None:
    """Events: no position moves. NEST and RING: the same bytes."""
    galactic = write_events(tmp_path / "galactic.fits")
    equatorial = write_events(tmp_path / "equatorial.fits", "equatorial")
    a = run(files, tmp_path / "a", "--events", str(galactic))
    b = run(files, tmp_path / "b", "--events", str(equatorial))
    assert len(a) == len(b) >= 5
    assert separation_deg(places(a), places(b)).max() < 0.001
    ring = run(files, tmp_path / "c", "--counts", str(write_partial(tmp_path / "ring.fits")))
    nested = write_partial(tmp_path / "nested.fits", nested=True)
    pd.testing.assert_frame_equal(run(files, tmp_path / "d", "--counts", str(nested)), ring)


@pytest.mark.parametrize("nside", [1024, 2048])
def test_binning_in_another_frame_moves_no_source_by_a_hundredth(
    nside: int, files: Path, tmp_path: Path
) -> None:
    """Two binnings of the same photons differ by what a pixel hides, less the more photons.

    A photon is displaced by 0.7 pixel in the mean between two binnings (each hides where in its
    pixel the photon was, and draws where); the mean of 50 photons of nside 1024 by 0.006 deg.
    """
    config = load_config(files / "small" / "config.yaml")
    centroids = []
    for galactic in (True, False):
        path = write_partial(tmp_path / f"{galactic}.fits", nside, galactic)
        photons = read_counts([path], config)
        high = photons.xyz[photons.channel == 1].astype(np.float64)
        means = []
        for source in source_vectors():
            angle = separation_deg(high, source)
            # Weights without an edge, wider than the spread: photons do not drop in or out.
            mean = np.exp(-0.5 * (angle / 0.3) ** 2) @ high
            means.append(mean / np.linalg.norm(mean))
        centroids.append(np.array(means))
    moved = separation_deg(*centroids)
    assert np.median(moved) < (0.008 if nside == 1024 else 0.004)
    assert moved.max() < (0.02 if nside == 1024 else 0.01)


def test_maps_in_either_frame_and_the_events_have_the_same_sources(
    files: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Photons are spread over their pixels: half a pixel of nside 2048 is 0.014 deg.

    A faint source has few photons to average over: it moves, by less than its own error.
    """
    events = run(files, tmp_path / "a", "--events", str(write_events(tmp_path / "events.fits")))
    error = events["Conf_68_SemiMinor"].to_numpy(np.float64)[nearest_rows(events)]
    found = []
    for galactic in (True, False):
        path = write_partial(tmp_path / f"{galactic}.fits", 2048, galactic)
        found.append(places(run(files, tmp_path / str(galactic), "--counts", str(path))))
    for moved in (separation_deg(*found), separation_deg(found[0], places(events))):
        assert np.median(moved / error) < 0.6
        assert np.all(moved < error), (moved, error)
    assert "positions are limited" not in caplog.text


def test_pixels_that_limit_positions_are_said(
    files: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = write_partial(tmp_path / "counts.fits", 1024)

    def search(
        photons: Photons | PixelCounts, coverage: Coverage, config: Config, folder: Path
    ) -> pd.DataFrame:
        assert isinstance(photons, PixelCounts)
        return CANDIDATES.empty()

    request = Request(
        (path,), (), (str(files / "exposure.fits"),), tmp_path / "out", str(files / "small")
    )
    detect(request, search)
    (line,) = [m for m in caplog.messages if "positions are limited" in m]
    assert f"pixels of {path} CHANNEL2 (nside 1024, 0.057 deg)" in line
    assert "0.017 / sqrt(n): use FT1 events, or nside 2048 or more, for 0.01 deg" in line


def test_zero_and_unseen_outside_a_region_are_not_data(
    files: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    counts = whole(256)
    zeros = run(files, tmp_path / "a", "--counts", str(write_map(tmp_path / "z.fits", counts)))
    unseen = np.full(counts.shape, hp.UNSEEN)
    unseen[:, region(256)] = counts[:, region(256)]
    hidden = run(files, tmp_path / "b", "--counts", str(write_map(tmp_path / "u.fits", unseen)))
    for name, catalog in (("a", zeros), ("b", hidden)):
        told = json.loads((tmp_path / name / "provenance.json").read_text())
        assert 0.005 < told["sky_covered"] < 0.009
        assert told["patches"]["skipped_without_data"] > 740
        assert separation_deg(places(catalog), source_vectors()).max() < 0.2


@pytest.mark.parametrize("kind", ["events", "counts"])
def test_files_of_a_circle_say_so(kind: str, files: Path, tmp_path: Path) -> None:
    icrs = SkyCoord(*CENTRE, unit="deg", frame="galactic").icrs
    circle = ("POS(RA,DEC)", "deg", f"CIRCLE({icrs.ra.deg},{icrs.dec.deg},{RADIUS + 0.2})")
    dss = [circle if cut[0].startswith("POS") else cut for cut in DSS]
    seen: list[Coverage] = []

    def search(
        photons: Photons | PixelCounts, coverage: Coverage, config: Config, folder: Path
    ) -> pd.DataFrame:
        seen.append(coverage)
        assert (folder / "config.yaml").is_file()
        return CANDIDATES.empty()

    if kind == "events":
        path = write_events(tmp_path / "photons.fits", dss=dss)
    else:
        path = write_map(tmp_path / "photons.fits", whole(256), dss=dss)
    paths = ((path,), ()) if kind == "counts" else ((), (path,))
    exposure, out = (str(files / "exposure.fits"),), tmp_path / "out"
    assert len(detect(Request(*paths, exposure, out, str(files / "small")), search)) == 0
    assert seen[0].share == pytest.approx((1 - np.cos(np.radians(9.2))) / 2, rel=0.01)
    assert (out / "catalog.fits").is_file()


def test_exposure_that_is_zero_somewhere(files: Path, tmp_path: Path) -> None:
    maps = np.full((5, 12 * 16**2), 3e11)
    lon, _ = hp.pix2ang(16, np.arange(maps.shape[1]), lonlat=True)
    maps[:, lon > CENTRE[0]] = 0.0
    write_exposure(tmp_path / "exposure.fits", maps)
    model_folder(tmp_path)
    catalog = run(tmp_path, tmp_path / "out", "--events", str(write_events(tmp_path / "e.fits")))
    assert len(catalog)
    # The border follows the pixels of the exposure, 4 deg wide.
    assert (catalog["GLON"] < CENTRE[0] + 4).all()


def test_the_installed_command(files: Path, tmp_path: Path) -> None:
    paths = [
        write_map(tmp_path / "low.fits", whole(128)[:1], edges_kev=(1e6, 3e6)),
        write_map(tmp_path / "high.fits", whole(256)[1:], edges_kev=(3e6, 30e6)),
    ]
    done = subprocess.run(
        [
            sys.executable, "-m", "geminga", "detect", "--counts", *map(str, paths),
            "--exposure", str(files / "exposure.fits"), "--model", str(files / "small"),
            "--out", str(tmp_path / "out"),
        ],
        capture_output=True, text=True, check=False, timeout=200,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.endswith(f"sources in {tmp_path / 'out' / 'catalog.fits'}\n")
    assert "hold no data and are skipped" in done.stderr
    assert "nside 128 is coarser than band 1-3 GeV's 256: sources are smeared" in done.stderr
    assert len(read_fits(tmp_path / "out" / "catalog.fits")) >= 4
