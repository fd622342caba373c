"""Photons are counted once: lists that come again, lists that change, two at work, damaged maps."""

from __future__ import annotations

import gzip
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from filelock import FileLock
from ingest_files import NSIDE, content, counted, events, whole

from geminga.config import Config, ObservedConfig
from geminga.errors import InputError
from geminga.pipeline import ingest as module
from geminga.pipeline.ingest import IngestRequest, ingest
from geminga.pipeline.ingest_catalogs import ingest_catalogs
from geminga.pipeline.ingested import GOOD_TIMES_FILE, LOCK_FILE, MAPS


def run(config: Config, out: Path, *files: Path, **settings: Any) -> Any:
    return ingest(IngestRequest(files, out, **{"nside": NSIDE, **settings}), config)


def test_two_at_once_are_refused(tmp_path: Path, ft1_config: Config) -> None:
    """Both would add to the maps they found, and the later one to those of the other."""
    path, out = events(tmp_path / "a.fits"), tmp_path / "out"
    run(ft1_config, out, path)
    before = content(out)
    with (
        FileLock(out / LOCK_FILE),
        pytest.raises(InputError, match=r"out is being added to by another process; wait"),
    ):
        run(ft1_config, out, events(tmp_path / "b.fits", seed=1, start=2000.0))
    (out / LOCK_FILE).unlink()
    assert content(out) == before
    assert run(ft1_config, out, tmp_path / "b.fits").files == 2
    assert not (out / LOCK_FILE).exists()


def test_a_list_and_its_zipped_copy_are_one(tmp_path: Path, ft1_config: Config) -> None:
    path, out = events(tmp_path / "a.fits"), tmp_path / "out"
    run(ft1_config, out, path)
    zipped = tmp_path / "a.fits.gz"
    zipped.write_bytes(gzip.compress(path.read_bytes()))
    with pytest.raises(InputError, match=r"900 s of it were ingested under the name a\.fits befo"):
        run(ft1_config, out, zipped)


def timeless(path: Path, seed: int = 0) -> Path:
    """Write a list that does not say which times it covers, in place of an older one."""
    path.unlink(missing_ok=True)
    events(path, seed=seed)
    with fits.open(path) as hdus:
        kept = fits.HDUList([hdus[0].copy(), hdus["EVENTS"].copy()])
    for key in ("TSTART", "TSTOP"):
        del kept[1].header[key]
    kept.writeto(path, overwrite=True)
    return path


def test_lists_that_do_not_say_their_times(
    tmp_path: Path, ft1_config: Config, caplog: pytest.LogCaptureFixture
) -> None:
    out = tmp_path / "out"
    run(ft1_config, out, timeless(tmp_path / "a.fits"))
    assert "does not say its times" not in caplog.text
    with pytest.raises(InputError, match=r"has changed: it does not say which times of it were in"):
        run(ft1_config, out, timeless(tmp_path / "a.fits", 1))
    (tmp_path / "a.fits").unlink()
    with pytest.raises(InputError, match=r"has changed: it does not say which times of it were in"):
        run(ft1_config, out, events(tmp_path / "a.fits", seed=1))
    run(ft1_config, out, timeless(tmp_path / "b.fits", 2))
    assert "b.fits does not say its times: counted twice if other files hold" in caplog.text


def test_a_list_that_changes_while_it_is_counted(
    tmp_path: Path, ft1_config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its counts would be kept under the digest of what it was."""
    path, honest = events(tmp_path / "a.fits"), module._count

    def later(*arguments: Any) -> Any:
        status = path.stat()
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns + 1_000_000_000))
        return honest(*arguments)

    monkeypatch.setattr(module, "_count", later)
    with pytest.raises(InputError, match=r"a\.fits: has changed while it was read; ingest it aga"):
        run(ft1_config, tmp_path / "out", path)
    assert not (tmp_path / "out" / MAPS).exists()


def test_an_end_that_is_not_asked_for_is_that_of_the_configuration(
    tmp_path: Path, ft1_config: Config
) -> None:
    path = events(tmp_path / "a.fits")
    bits = ObservedConfig(
        events=("a.fits",), event_class_bits=(10,), time_range_met_s=(1100.0, 1600.0)
    )
    config = ft1_config.model_copy(update={"observed": bits})
    for settings, times in (
        ({}, (1100.0, 1600.0)),
        ({"start_s": 1300.0}, (1300.0, 1600.0)),
        ({"stop_s": 1300.0}, (1100.0, 1300.0)),
    ):
        done = run(config, tmp_path / f"out{len(settings)}{times[0]}", path, **settings)
        np.testing.assert_array_equal(
            counted(done.maps), whole([path], ft1_config, time_range_met_s=times)
        )


def one_more(path: Path) -> None:
    with fits.open(path, mode="update") as hdus:
        hdus[1].data["CHANNEL1"][7] += 1


def nothing(path: Path) -> None:
    path.write_bytes(b"no map at all" * 300)


def other_pixels(path: Path) -> None:
    with fits.open(path) as hdus:
        hdus[1].data = hdus[1].data[:100]
        hdus.writeto(path, overwrite=True)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (one_more, r"is damaged \(([\d,]+) photons, not ([\d,]+)\); ingest all lists into a new"),
        (nothing, r"counts_1-3GeV_nside64\.fits: is damaged"),
        (other_pixels, r"is damaged \(100 pixels, not 49,152\)"),
        (Path.unlink, r"counts_1-3GeV_nside64\.fits: is damaged \(.*No such file"),
    ],
)
def test_damaged_maps_are_not_added_to(
    tmp_path: Path, ft1_config: Config, damage: Any, message: str
) -> None:
    out = tmp_path / "out"
    done = run(ft1_config, out, events(tmp_path / "a.fits"))
    damage(done.maps[0])
    before = content(out / MAPS)
    with pytest.raises(InputError, match=message):
        run(ft1_config, out, events(tmp_path / "b.fits", seed=1, start=2000.0))
    assert content(out / MAPS) == before


@pytest.mark.parametrize("left", [b"", b"no array"])
def test_damaged_good_times_are_refused(tmp_path: Path, ft1_config: Config, left: bytes) -> None:
    path, out = events(tmp_path / "a.fits"), tmp_path / "out"
    run(ft1_config, out, path)
    (out / MAPS / GOOD_TIMES_FILE).write_bytes(left)
    with pytest.raises(InputError, match=r"good_times\.npy: is damaged \("):
        run(ft1_config, out, path)


def test_a_list_truncated_in_its_good_times(tmp_path: Path, ft1_config: Config) -> None:
    path = events(tmp_path / "a.fits")
    path.write_bytes(path.read_bytes()[: -2880 + 8])
    with pytest.raises(InputError, match=r"a\.fits: is truncated in its table GTI; download"):
        run(ft1_config, tmp_path / "out", path)
    assert not (tmp_path / "out").exists()


def test_catalogues_whose_tables_would_have_one_name(tmp_path: Path) -> None:
    files = [tmp_path / "a.fits", tmp_path / "a_extended.fits"]
    with pytest.raises(InputError, match=r"a\.fits and .*a_extended\.fits would both become a_ext"):
        ingest_catalogs(files, tmp_path / "tables")
    with pytest.raises(InputError, match=r"would both become a\.parquet; rename one of them"):
        ingest_catalogs([tmp_path / "a.fits", tmp_path / "x" / "a.fits"], tmp_path / "tables")
