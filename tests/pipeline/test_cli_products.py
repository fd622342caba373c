"""The command line's products of a test sky: event list, counts, exposure, expected counts."""

from __future__ import annotations

import shutil
from pathlib import Path

import healpy
import numpy as np
import pytest
from astropy.io import fits
from gammapy.data import EventList
from gammapy.maps import Map
from tiny_run import TINY, geminga

from geminga.cli import USER_ERROR, main
from geminga.config import ObservedConfig, load_config
from geminga.response import build_response
from geminga.sky.formats.ft1 import read_events
from geminga.sky.photons import Photons


@pytest.fixture(scope="module")
def out(finished: tuple[Path, str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the skies of the finished tiny run, so that none is simulated again."""
    folder = tmp_path_factory.mktemp("products")
    for stage in ("response", "skies"):
        shutil.copytree(finished[0] / "tiny" / stage, folder / "tiny" / stage)
    return folder


def run(verb: str, out: Path, *arguments: str) -> list[str]:
    """Run a verb on the tiny configuration; return the lines it printed."""
    done = geminga(verb, "--config", str(TINY), "--set", f"run.output={out}", *arguments)
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout.splitlines()


def test_list_map_and_search_have_the_same_photons(
    finished: tuple[Path, str], out: Path, tmp_path: Path
) -> None:
    path = tmp_path / "lists" / "events.fits"
    (line,) = run("write-events", out, "--out", str(path))
    seen = Photons.load(finished[0] / "tiny" / "observe" / "photons_2000000.parquet")
    assert line == f"{len(seen)} events written to {path}"
    config = load_config(TINY)
    back = read_events([path], ObservedConfig(events=("e",), event_class_bits=(10,)), config)
    for name in ("xyz", "channel", "year"):
        np.testing.assert_array_equal(getattr(back, name), getattr(seen, name))
    header = fits.getheader(path)
    assert (header["SKY_ID"], header["CONFHASH"]) == (2_000_000, config.hash())
    assert len(EventList.read(path).table) == len(seen)
    paths = run("write-maps", out, "--out", str(tmp_path / "maps"), "--kind", "counts")
    assert [Path(p).name for p in paths] == ["counts_nside64.fits", "counts_nside128.fits"]
    for number, (name, channel) in enumerate(zip(paths, config.channels, strict=True)):
        mine = seen.xyz[seen.channel == number].astype(np.float64)
        counts = np.bincount(
            healpy.vec2pix(channel.nside, *mine.T), minlength=12 * channel.nside**2
        )
        np.testing.assert_array_equal(fits.getdata(name, "SKYMAP")["CHANNEL1"], counts)


def test_exposure_and_expected_counts(out: Path, tmp_path: Path) -> None:
    (path,) = run("write-maps", out, "--out", str(tmp_path), "--kind", "exposure")
    exposure = Map.read(path)
    assert exposure.unit == "cm2 s"
    config = load_config(TINY)
    wanted = build_response(config).exposures[0]
    np.testing.assert_allclose(exposure.data, wanted.maps_cm2_s, rtol=1e-6)
    paths = run("write-maps", out, "--out", str(tmp_path), "--component", "PSR", "--year", "3")
    assert [Path(p).name for p in paths] == [
        "expected_PSR_channel0.fits",
        "expected_PSR_channel1.fits",
    ]
    assert healpy.read_map(paths[0]).sum() > 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("write-events", "--out", "FOLDER"), "is a folder; name a file"),
        (("write-events", "--out", "a.fits", "--sky", "1"), "--sky: 1 is out of range; use 0 to 0"),
        (("write-events", "--out", "a.fits", "--sky", "-1"), "--sky: -1 is out of range"),
        (
            ("write-maps", "--out", "FOLDER", "--kind", "counts", "--sky", "2"),
            "--sky: 2 is out of range",
        ),
        (
            ("write-maps", "--out", "FOLDER", "--kind", "counts", "--component", "BLL"),
            "--component: BLL has no meaning for counts maps; leave it out",
        ),
        (
            ("write-maps", "--out", "FOLDER", "--kind", "exposure", "--sky", "0"),
            "--sky: 0 has no meaning for exposure maps; leave it out",
        ),
        (("write-maps", "--out", "FOLDER", "--component", "XYZ"), "--component: 'XYZ' is unknown"),
        (("write-maps", "--out", "FOLDER", "--kind", "pictures"), "'pictures' is not one of"),
        (("write-events", "--sky", "0"), "Missing option '--out'"),
    ],
)
def test_bad_arguments_are_one_line(
    arguments: tuple[str, ...], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    verb, *rest = (str(tmp_path) if a == "FOLDER" else a for a in arguments)
    assert main([verb, "--config", str(TINY), *rest]) == USER_ERROR
    printed = capsys.readouterr()
    assert message in printed.err
    if printed.err.startswith("error:"):
        assert len(printed.err.splitlines()) == 1
    assert printed.out == ""
    assert list(tmp_path.iterdir()) == []


def test_the_installed_command_says_it_in_one_line(tmp_path: Path) -> None:
    done = geminga(
        "write-events", "--config", str(TINY), "--out", str(tmp_path / "a.fits"), "--sky", "1"
    )
    assert done.returncode == USER_ERROR
    assert done.stderr == "error: --sky: 1 is out of range; use 0 to 0 (sets.test is 1)\n"
