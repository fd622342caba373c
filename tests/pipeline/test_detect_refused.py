"""``geminga detect`` on what it cannot use: one clear line, exit code 2, nothing written."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import healpy as hp
import numpy as np
import pytest
from astropy.io import fits
from detect_files import (
    DSS,
    model_folder,
    write_events,
    write_exposure,
    write_map,
)
from tiny_run import TINY, geminga

from geminga.catalogue import read_fits
from geminga.cli import USER_ERROR, main
from geminga.geometry import separation_deg, unit_vectors
from geminga.sky.photons import MOST_PHOTONS

NSIDE = 64
NPIX = 12 * NSIDE**2


def ones() -> np.ndarray:
    return np.ones((2, NPIX))


def with_pixel(value: float) -> np.ndarray:
    counts = np.zeros((2, NPIX))
    counts[1, 20_000] = value
    return counts


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """Run the command; return the one line it says."""
    capsys.readouterr()
    assert main(["detect", *arguments]) == USER_ERROR
    printed = capsys.readouterr()
    assert printed.out == ""
    lines = [line for line in printed.err.splitlines() if line.startswith("error:")]
    assert len(lines) == 1
    assert printed.err.endswith(lines[0] + "\n")
    return lines[0]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a model, its exposure, and the process inside."""
    monkeypatch.chdir(tmp_path)
    model_folder(tmp_path)
    write_exposure(tmp_path / "exposure.fits")
    return tmp_path


MODEL = ("--exposure", "exposure.fits", "--model", "small", "--out", "out")


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda p: write_map(p, ones() * 0.5), "49152 pixels hold no count, the first (row 0) 0.5"),
        (
            lambda p: write_map(p, with_pixel(-1)),
            "1 pixels hold no count, the first (row 20000) -1",
        ),
        (lambda p: write_map(p, with_pixel(np.nan)), "the first (row 20000) nan; need whole"),
        (lambda p: write_map(p, with_pixel(np.inf)), "the first (row 20000) inf; need whole"),
        (
            lambda p: write_map(p, with_pixel(1e9)),
            "row 20000 holds 1e+09 counts; at most 100,000,000",
        ),
        (lambda p: write_map(p, with_pixel(1e30)), "row 20000 holds 1e+30 counts; at most"),
        (
            lambda p: write_map(p, ones(), edges_kev=(1e6, 2e6, 30e6)),
            "do not fit (energies 2-30 GeV",
        ),
        (
            lambda p: write_map(p, ones()[:1], edges_kev=(1e6, 3e6)),
            "no channel holds 3 GeV, inside",
        ),
        (lambda p: write_exposure(p), "has no EBOUNDS table for its 5 channels"),
        (lambda p: write_events(p), "has no HEALPix table (only ['PRIMARY', 'EVENTS'])"),
        (lambda p: p.write_text("counts\n"), "is not a readable FITS file"),
        (lambda p: p.write_bytes(b""), "is not a readable FITS file"),
        (lambda p: None, "counts.fits: does not exist; name a FITS file"),
        (lambda p: p.mkdir(), "counts.fits: does not exist; name a FITS file"),
        (
            lambda p: write_map(
                p, ones(), dss=[*DSS[:3], (DSS[3][0].replace(",1,", ",2,"), *DSS[3][1:])]
            ),
            "do not fit (holds BACK, not FRONT)",
        ),
        (
            lambda p: write_map(
                p, ones(), dss=[(DSS[0][0].replace("1024", "128"), *DSS[0][1:]), *DSS[1:]]
            ),
            "event class bits [7], not event_class_bits [10]",
        ),
    ],
)
def test_counts(
    write: Callable[[Path], object], message: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(here / "counts.fits")
    assert message in refused(capsys, "--counts", "counts.fits", *MODEL)
    assert not (here / "out").exists()


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (
            lambda p: write_exposure(p, np.zeros((5, 3072))),
            "bad.fits: is zero everywhere; give the",
        ),
        (lambda p: write_exposure(p, np.full((5, 3072), np.nan)), "bad.fits: holds NaN"),
        (lambda p: write_exposure(p, np.full((5, 3072), -1.0)), "holds negative exposures"),
        (
            lambda p: write_exposure(p, energy_mev=(1000.0, 2000.0, 3000.0, 9000.0, 1e4)),
            "no cube of FRONT holds the energies of band 3-30 GeV: bad.fits (1-10 GeV)",
        ),
        (
            lambda p: write_exposure(p, dss=[("BIT_MASK(EVENT_TYPE,2,P8R2)", "", "1:1")]),
            "no --exposure of FRONT: bad.fits (0.8-50 GeV, BACK)",
        ),
        (
            lambda p: write_exposure(p, dss=[("IRF_VERSION", "", "P9_OTHER")]),
            "is of P9_OTHER, whose response is not built in; use one of P8R2_SOURCE_V6",
        ),
        (lambda p: write_map(p, ones()), "has no table HPXEXPOSURES (only"),
        (lambda p: write_events(p), "has no table HPXEXPOSURES (only"),
        (lambda p: p.write_text("exposure\n"), "is not a sound FITS file"),
        (lambda p: None, "bad.fits: not found; use a HEALPix cube written by gtexpcube2"),
    ],
)
def test_exposure(
    write: Callable[[Path], object], message: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_map(here / "counts.fits", ones())
    write(here / "bad.fits")
    arguments = ("--counts", "counts.fits", "--exposure", "bad.fits", "--model", "small")
    assert message in refused(capsys, *arguments, "--out", "out")
    assert not (here / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "detect: nothing to search; give --counts or --events FILE..., or --config"),
        (("--out", "out"), "detect: nothing to search; give --counts or --events FILE..."),
        (("--counts", "c.fits"), "--out: is not given; name a folder for the catalogue"),
        (
            ("--counts", "c.fits", "--out", "out"),
            "--exposure: is not given; give the gtexpcube2 cube of these photons, or say "
            "'--exposure builtin'",
        ),
        (
            ("--counts", "c.fits", "--events", "e.fits", "--exposure", "builtin", "--out", "out"),
            "--counts, --events: both are given",
        ),
        (
            ("--counts", "c.fits", "c.fits", *MODEL),
            "--counts, --events: name a file twice; name each file once",
        ),
        (
            ("--counts", "c.fits", "--exposure", "builtin", "exposure.fits", "--out", "out"),
            "--exposure: names cubes and builtin",
        ),
        (
            ("--counts", "c.fits", *MODEL[:3], "big", *MODEL[4:]),
            "--model: 'big' is neither a packaged",
        ),
        (("--counts", "c.fits", *MODEL, "--event-types", "SIDE"), "unknown event type 'SIDE'"),
        (
            ("--counts", "c.fits", *MODEL, "--event-types", "BACK"),
            "do not fit (is of FRONT, not of --event-types BACK)",
        ),
        (("--counts", "c.fits", *MODEL, "--set", "patches.size"), "--set patches.size: has no '='"),
        (("--counts", "c.fits", *MODEL[:5], "c.fits"), "--out: c.fits is a file; name a folder"),
        (
            ("--counts", "c.fits", *MODEL[:5], "c.fits/out"),
            "c.fits is no folder to write into; choose another",
        ),
        (("--config", str(TINY), "--counts", "c.fits"), "--counts: is given with --config"),
        (("--config", str(TINY), "--out", "out"), "--out: is given with --config; leave one"),
        (("--config", str(TINY), "--model", "front"), "--model: is given with --config"),
        (
            ("--counts", "c.fits", "--exposure", "exposure.fits", "--out", "out"),
            "fit no packaged model (above_50gev:",
        ),
    ],
)
def test_arguments(
    arguments: tuple[str, ...], message: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_map(here / "c.fits", ones())
    assert message in refused(capsys, *arguments)
    assert not (here / "out").exists()


def test_models_say_their_bands(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_map(here / "c.fits", ones())
    line = refused(capsys, "--counts", "c.fits", "--exposure", "builtin", "--out", "out")
    assert "front (FRONT: 0.3-0.5, 0.5-1, 1-2, 2-7, 7-20, 20-2000 GeV)" in line
    assert "above_50gev (FRONT+BACK: 50-171, 171-585, 585-2000 GeV)" in line


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"L": np.full(6770, np.nan)}, "6770 events have no direction"),
        ({"ENERGY": np.full(6770, np.nan)}, "ENERGY is not finite"),
    ],
)
def test_events(
    change: dict[str, np.ndarray], message: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_events(here / "events.fits", dss=())
    with fits.open(path, mode="update") as hdus:
        for name, values in change.items():
            hdus["EVENTS"].data[name] = values
    assert message in refused(capsys, "--events", "events.fits", *MODEL)
    write_map(here / "map.fits", ones())
    assert "has no table EVENTS" in refused(capsys, "--events", "map.fits", *MODEL)
    assert not (here / "out").exists()


def test_all_zero_maps_give_an_empty_catalogue(here: Path) -> None:
    write_map(here / "counts.fits", np.zeros((2, NPIX)), dss=())
    model, out = str(here / "small"), here / "out"
    arguments = ("--counts", str(here / "counts.fits"), "--exposure", "builtin", "--model", model)
    done = geminga("detect", *arguments, "--out", str(out))
    assert (done.returncode, done.stdout) == (0, f"0 sources in {out / 'catalog.fits'}\n")
    assert "hold not one photon in the model's bands: an empty catalogue" in done.stderr
    assert "do not say their event types: taken as FRONT" in done.stderr
    assert "do not say their time: taken as 10 years" in done.stderr
    catalog = read_fits(out / "catalog.fits")
    assert len(catalog) == 0
    assert {"GLON", "GLAT", "SCORE"} <= set(catalog.columns)


def test_too_many_events(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write_events(here / "events.fits")
    monkeypatch.setattr("geminga.sky.photons.MOST_PHOTONS", 1000)
    line = refused(capsys, "--events", "events.fits", *MODEL)
    assert "6,770 photons; at most 1,000 are taken: leave out the lowest energies" in line


def test_too_many_filled_pixels(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Maps of 1e9 photons are taken: memory goes with the pixels that hold some."""
    write_map(here / "counts.fits", ones() * 2000)
    monkeypatch.setattr("geminga.sky.formats.healpix.MOST_PHOTONS", 1000)
    line = refused(capsys, "--counts", "counts.fits", *MODEL)
    assert "98,304 pixels with counts; at most 1,000 are taken: make maps with" in line


def test_one_hot_pixel_makes_sources_nowhere_else(here: Path) -> None:
    """A pixel of 0.9 deg is no point source: it is found in pieces."""
    write_map(here / "counts.fits", with_pixel(100_000))
    assert main(["detect", "--counts", "counts.fits", *MODEL]) == 0
    catalog = read_fits(here / "out" / "catalog.fits")
    assert 1 <= len(catalog) < 20
    lon, lat = hp.pix2ang(NSIDE, 20_000, lonlat=True)
    found = unit_vectors(catalog["GLON"].to_numpy(), catalog["GLAT"].to_numpy())
    assert separation_deg(found, unit_vectors(np.array(lon), np.array(lat))).max() < 0.8
    assert np.isfinite(catalog[["GLON", "GLAT", "SCORE"]].to_numpy()).all()


def test_memory_is_bounded(here: Path) -> None:
    """1e9 counts would be a list of 40 GB: refused before it is made, by the real command."""
    write_map(here / "counts.fits", with_pixel(MOST_PHOTONS * 10))
    # Not getrusage: its maximum is that of the process that started this one, if it was higher.
    script = (
        "import sys; from pathlib import Path; from geminga.cli import main;"
        "code = main(sys.argv[1:]); lines = Path('/proc/self/status').read_text().splitlines();"
        "print(*(line.split()[1] for line in lines if line.startswith('VmHWM')), file=sys.stderr);"
        "sys.exit(code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, "detect", "--counts", "counts.fits", *MODEL],
        cwd=here, capture_output=True, text=True, check=False, timeout=200,
    )  # fmt: skip
    assert done.returncode == USER_ERROR
    *_, line, kilobytes = done.stderr.splitlines()
    assert line == (
        "error: counts.fits CHANNEL2: row 20000 holds 1e+09 counts; at most 100,000,000 photons "
        "are taken, each as a row of a list"
    )
    assert int(kilobytes) < 1_000_000
    assert not (here / "out").exists()


def test_a_search_that_fails_leaves_nothing(here: Path) -> None:
    from geminga.pipeline.detect import Request, detect

    write_map(here / "counts.fits", ones())

    def search(*arguments: object) -> object:
        raise RuntimeError("no memory")

    request = Request((here / "counts.fits",), (), ("exposure.fits",), here / "out", "small")
    before = sorted(here.iterdir())
    with pytest.raises(RuntimeError, match="no memory"):
        detect(request, search)  # type: ignore[arg-type]
    assert sorted(here.iterdir()) == before
