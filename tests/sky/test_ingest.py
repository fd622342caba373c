"""Event lists counted in ranges of rows: the same counts as a list that is read whole."""

from __future__ import annotations

import gzip
import json
import shutil
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from ingest_files import NSIDE, content, counted, events, whole

from geminga.config import Config
from geminga.distributed import ingest as workers
from geminga.pipeline.ingest import PARTS, Ingested, IngestRequest, ingest
from geminga.pipeline.ingested import MAPS, PROVENANCE_FILE
from geminga.sky.formats.healpix import read_counts


@pytest.fixture
def one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Do every piece in this process: these tests are of what is done, not of who does it."""

    def here(worker: Any, arguments: Any, pieces: Any, config: Any, *label: str) -> Any:
        from geminga.distributed.work import run_here

        return run_here(worker, arguments, pieces, *label)

    monkeypatch.setattr("geminga.pipeline.ingest._each", here)


def run(config: Config, out: Path, *files: Path, **settings: Any) -> Ingested:
    return ingest(IngestRequest(files, out, **{"nside": NSIDE, **settings}), config)


@pytest.mark.usefixtures("one_by_one")
@pytest.mark.parametrize("name", ["a.fits", "a.fits.gz"])
@pytest.mark.parametrize("rows", [1000, 1717, 10_000])
def test_counts_are_those_of_whole_lists(
    tmp_path: Path, ft1_config: Config, name: str, rows: int
) -> None:
    path = events(tmp_path / name)
    done = run(ft1_config, tmp_path / "out", path, piece_rows=rows)
    expected = whole([path], ft1_config)
    np.testing.assert_array_equal(counted(done.maps), expected)
    assert done.photons == expected.sum() > 500
    assert (done.new_files, done.files, done.rows) == (1, 1, 3000)


@pytest.mark.usefixtures("one_by_one")
def test_event_types_have_maps_of_their_own(tmp_path: Path, front_back: Config) -> None:
    path = events(tmp_path / "a.fits")
    tree = front_back.model_dump()
    tree["bands"][0].update(emin_gev=1, emax_gev=3)
    tree["bands"][1].update(emin_gev=3, emax_gev=30)
    config = Config.model_validate(tree)
    done = run(config, tmp_path / "out", path)
    np.testing.assert_array_equal(counted(done.maps), whole([path], config))
    assert [p.name for p in done.maps][::3] == [
        "counts_1-3GeV_FRONT_nside64.fits", "counts_3-30GeV_BACK_nside64.fits"
    ]  # fmt: skip


@pytest.mark.usefixtures("one_by_one")
def test_maps_read_back_as_photons(tmp_path: Path, ft1_config: Config) -> None:
    """What a reader of counts maps makes of them, and what their keywords tell it."""
    path = events(tmp_path / "a.fits")
    done = run(ft1_config, tmp_path / "out", path)
    photons = read_counts(done.maps, ft1_config)
    np.testing.assert_array_equal(photons.per_channel(2), whole([path], ft1_config).sum(axis=1))
    header = fits.getheader(done.maps[0], "SKYMAP")
    kinds = [header[f"DSTYP{n}"] for n in range(1, header["NDSKEYS"] + 1)]
    assert (
        kinds[0] == "BIT_MASK(EVENT_CLASS,1024,P8R2)"
    )  # that of the response: P8R2_ULTRACLEANVETO
    assert "1000:3000" in [header[f"DSVAL{n}"] for n in range(1, header["NDSKEYS"] + 1)]
    assert (header["TSTART"], header["TSTOP"]) == (1000.0, 2000.0)
    good = fits.getdata(done.maps[0], "GTI")
    assert [tuple(map(float, row)) for row in good] == [(1000.0, 1400.0), (1500.0, 2000.0)]
    assert fits.getheader(done.maps[0], "GTI")["ONTIME"] == 900.0


@pytest.mark.usefixtures("one_by_one")
def test_a_range_of_time_in_parts(tmp_path: Path, ft1_config: Config) -> None:
    path = events(tmp_path / "a.fits")
    out = tmp_path / "out"
    done = run(ft1_config, out, path, start_s=1200.0, stop_s=1800.0, time_bins=3, piece_rows=500)
    np.testing.assert_array_equal(
        counted(done.maps), whole([path], ft1_config, time_range_met_s=(1200.0, 1800.0))
    )
    for number in range(3):
        part = tuple(out / MAPS / f"time_{number:03d}" / p.name for p in done.maps)
        edges = (1200.0 + 200 * number, 1400.0 + 200 * number)
        np.testing.assert_array_equal(
            counted(part), whole([path], ft1_config, time_range_met_s=edges)
        )
    good = fits.getdata(out / MAPS / "time_001" / done.maps[0].name, "GTI")
    assert [tuple(map(float, row)) for row in good] == [(1500.0, 1600.0)]


@pytest.mark.usefixtures("one_by_one")
def test_one_end_of_time(tmp_path: Path, ft1_config: Config) -> None:
    path = events(tmp_path / "a.fits")
    done = run(ft1_config, tmp_path / "out", path, start_s=1500.0)
    expected = whole([path], ft1_config, time_range_met_s=(1500.0, 9e9))
    np.testing.assert_array_equal(counted(done.maps), expected)


@pytest.mark.usefixtures("one_by_one")
def test_files_added_later_give_the_bytes_of_all_at_once(
    tmp_path: Path, ft1_config: Config, caplog: pytest.LogCaptureFixture
) -> None:
    first, second = events(tmp_path / "a.fits"), events(tmp_path / "b.fits", 2000, 1, 2000.0)
    run(ft1_config, tmp_path / "once", first, second)
    run(ft1_config, tmp_path / "later", second, piece_rows=300)
    done = run(ft1_config, tmp_path / "later", first, second)
    assert (done.new_files, done.files, done.rows) == (1, 2, 5000)
    assert content(tmp_path / "later") == content(tmp_path / "once")
    with caplog.at_level("INFO"):
        before = content(tmp_path / "later")
        assert run(ft1_config, tmp_path / "later", first, second).new_files == 0
    assert "b.fits was ingested before (as b.fits): left out" in caplog.text
    assert content(tmp_path / "later") == before
    np.testing.assert_array_equal(counted(done.maps), whole([first, second], ft1_config))


@pytest.mark.usefixtures("one_by_one")
def test_time_bins_grow_too(tmp_path: Path, ft1_config: Config) -> None:
    files = events(tmp_path / "a.fits"), events(tmp_path / "b.fits", 2000, 1, 2000.0)
    settings = {"start_s": 1500.0, "stop_s": 2500.0, "time_bins": 2}
    run(ft1_config, tmp_path / "once", *files, **settings)
    for file in files:
        run(ft1_config, tmp_path / "later", file, **settings)
    assert content(tmp_path / "later") == content(tmp_path / "once")


@pytest.mark.usefixtures("one_by_one")
def test_an_interrupted_ingestion_goes_on_and_makes_a_damaged_piece_anew(
    tmp_path: Path, ft1_config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, out = events(tmp_path / "a.fits"), tmp_path / "out"
    counted_rows = []
    honest = workers.count_rows

    def stops(*arguments: Any) -> Any:
        if len(counted_rows) == 3:
            raise KeyboardInterrupt
        counted_rows.append(arguments[3])
        return honest(*arguments)

    monkeypatch.setattr(workers, "count_rows", stops)
    with pytest.raises(KeyboardInterrupt):
        run(ft1_config, out, path, piece_rows=500)
    assert not (out / MAPS).exists()
    assert len(list((out / PARTS).rglob("*.parquet"))) == 3
    damaged = sorted((out / PARTS).rglob("*_000000000500_*.parquet"))[0]
    content_before = damaged.read_bytes()
    damaged.write_bytes(content_before[:50] + b"?" * 20 + content_before[70:])
    counted_rows.clear()
    monkeypatch.setattr(
        workers, "count_rows", lambda *a: (counted_rows.append(a[3]), honest(*a))[1]
    )
    run(ft1_config, out, path, piece_rows=500)
    assert counted_rows == [500, 1500, 2000, 2500]
    run(ft1_config, tmp_path / "undisturbed", path)
    assert content(out) == content(tmp_path / "undisturbed")
    assert not (out / PARTS).exists()


@pytest.mark.usefixtures("one_by_one")
def test_maps_moved_aside_by_a_killed_call_come_back(tmp_path: Path, ft1_config: Config) -> None:
    path, out = events(tmp_path / "a.fits"), tmp_path / "out"
    run(ft1_config, out, path)
    before = content(out)
    (out / MAPS).rename(out / f".{MAPS}.0123abcd.old")
    assert run(ft1_config, out, path).new_files == 0
    assert content(out) == before


@pytest.mark.usefixtures("one_by_one")
def test_what_each_cut_left_is_told(tmp_path: Path, ft1_config: Config) -> None:
    path = events(tmp_path / "a.fits")
    run(ft1_config, tmp_path / "out", path, piece_rows=700)
    told = json.loads((tmp_path / "out" / MAPS / PROVENANCE_FILE).read_text())
    data = fits.getdata(path, "EVENTS")
    inside = (data["ENERGY"] >= 1000) & (data["ENERGY"] < 30_000)
    classed = inside & data["EVENT_CLASS"][:, 31 - 10]
    low = classed & (data["ZENITH_ANGLE"] <= 105)
    assert told["rows"] == {
        "read": 3000, "energy": inside.sum(), "event class": classed.sum(),
        "zenith angle": classed.sum(), "time": classed.sum(), "event type": classed.sum(),
        "zenith angle of the band": low.sum(),
    }  # fmt: skip
    assert sum(told["photons"].values()) == low.sum()
    assert told["files"][0]["file"] == "a.fits"
    assert told["files"][0]["bytes"] == path.stat().st_size


def test_memory_does_not_grow_with_the_list(tmp_path: Path, ft1_config: Config) -> None:
    """Of a gzipped list one process reads all: twenty times the rows, the same memory."""
    peaks = []
    few = events(tmp_path / "few.fits", 10_000)
    for rows in (40_000, 800_000):
        path = tmp_path / f"{rows}.fits"
        repeat(few, rows // 10_000, path)
        zipped = path.with_suffix(".fits.gz")
        with path.open("rb") as plain, gzip.open(zipped, "wb", compresslevel=1) as stream:
            shutil.copyfileobj(plain, stream)
        tracemalloc.start()
        done = run(ft1_config, tmp_path / f"out{rows}", zipped, piece_rows=20_000)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert done.rows == rows
    assert path.stat().st_size > 20e6
    assert peaks[1] < 1.2 * peaks[0] < path.stat().st_size / 4


def repeat(source: Path, times: int, target: Path) -> None:
    """Write the rows of a list several times over."""
    with fits.open(source) as hdus:
        hdu = hdus["EVENTS"]
        raw = source.read_bytes()
        start = hdu.fileinfo()["datLoc"]
        size = hdu.header["NAXIS1"] * hdu.header["NAXIS2"]
        head = hdu.header.copy()
        head["NAXIS2"] *= times
        body = raw[start : start + size] * times
        primary = hdus[0].header.tostring().encode()
    target.write_bytes(primary + head.tostring().encode() + body + bytes(-len(body) % 2880))
