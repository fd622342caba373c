"""What ingestion refuses: one line that names the file, the row or the option."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from astropy.io import fits
from ft1_files import bits, event_columns, write_events
from ingest_files import NSIDE, content, counted, events

from geminga.cli import main
from geminga.config import Config
from geminga.errors import InputError
from geminga.pipeline.ingest import PARTS, IngestRequest, ingest

CONFIG = """
name: small
bands:
  - {emin_gev: 1.0, emax_gev: 30.0, nside: 64, pixels: 32}
images: {box_deg: [2.0]}
response: {event_types: [FRONT+BACK]}
"""


def run(config: Config, out: Path, *files: Path, **settings: Any) -> Any:
    return ingest(IngestRequest(files, out, **{"nside": NSIDE, **settings}), config)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "c.yaml").write_text(CONFIG)
    return tmp_path


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """Run the command; check that it says one line and leaves nothing; return the line."""
    capsys.readouterr()
    assert main(["ingest", *arguments]) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert not Path("out").exists()
    return said.err.splitlines()[-1]


ARGUMENTS = ("--config", "c.yaml", "--events", "a.fits", "--out", "out", "--nside", "64")


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (("--events", "no.fits"), "no.fits: does not exist; name an FT1 file"),
        (("--events", "a.fits", "./a.fits"), "--events: a.fits is given twice"),
        (("--from", "2", "--to", "1"), "--to: 1 is not after --from 2"),
        (("--from", "nan"), "--from: nan is no mission elapsed time"),
        (("--to", "inf"), "--to: inf is no mission elapsed time"),
        (("--time-bins", "3", "--from", "1"), "--time-bins: divides a time without ends"),
        (("--time-bins", "0"), "--time-bins: 0; give 1 to 127"),
        (("--nside", "100"), "--nside: 100; give a power of two"),
        (("--piece-rows", "0"), "--piece-rows: 0; give 1 or more"),
        (("--out", "c.yaml"), "--out: c.yaml is a file; name a folder"),
        (("--out", "c.yaml/out"), "--out: "),
        (("--catalogs", "b.fits"), "ingest: takes one kind of files"),
    ],
)
def test_arguments(
    here: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], line: str
) -> None:
    events(here / "a.fits")
    options = dict(zip(ARGUMENTS[::2], ARGUMENTS[1::2], strict=True))
    if arguments[0] == "--events":
        del options["--events"]
    every = [word for pair in options.items() for word in pair]
    assert f"error: {line}" in refused(capsys, *every, *arguments)


def test_missing_options(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "takes one kind of files" in refused(capsys, "--out", "out")
    assert "--out: is not given" in refused(capsys, "--events", "a.fits")
    assert "--config: is not given" in refused(capsys, "--events", "a.fits", "--out", "out")
    line = refused(capsys, "--catalogs", "a.fits", "--out", "out", "--nside", "64")
    assert "--nside: has no meaning with --catalogs" in line


def test_no_number(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["ingest", *ARGUMENTS, "--from", "yesterday"]) == 2
    said = capsys.readouterr()
    assert "Invalid value for '--from'" in said.err
    assert not Path("out").exists()


def test_folder_without_write_access(
    tmp_path: Path, ft1_config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = events(tmp_path / "a.fits")
    # Root may write anywhere: the question is asked of the system.
    monkeypatch.setattr("geminga.pipeline.ingest.os.access", lambda *_: False)
    with pytest.raises(InputError, match="is no folder to write into"):
        run(ft1_config, tmp_path / "out", path)


@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize("kept", [0.4, 0.7])
def test_truncated(tmp_path: Path, ft1_config: Config, kept: float, zipped: bool) -> None:
    path = events(tmp_path / ("a.fits.gz" if zipped else "a.fits"), 20_000)
    raw = path.read_bytes()
    path.write_bytes(raw[: int(len(raw) * kept)])
    message = r"a\.fits.*: is truncated after row [\d,]+ of 20,000; download"
    with pytest.raises(InputError, match=message) as caught:
        run(ft1_config, tmp_path / "out", path)
    row = int(str(caught.value).split("after row ")[1].split(" of")[0].replace(",", ""))
    assert row == pytest.approx(20_000 * kept, abs=2500)
    assert not (tmp_path / "out").exists()


def test_damaged_gzip(tmp_path: Path, ft1_config: Config) -> None:
    path = events(tmp_path / "a.fits.gz", 20_000)
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 255
    path.write_bytes(raw)
    with pytest.raises(InputError, match=r"is (damaged|truncated).* after row [\d,]+ of 20,000"):
        run(ft1_config, tmp_path / "out", path)


def test_shortened_while_it_is_read(
    tmp_path: Path, ft1_config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = events(tmp_path / "a.fits")
    honest = run.__globals__["ingest"].__globals__["_count"]

    def shorter(*arguments: Any) -> Any:
        path.write_bytes(path.read_bytes()[:100_000])
        return honest(*arguments)

    monkeypatch.setattr("geminga.pipeline.ingest._count", shorter)
    with pytest.raises(InputError, match=r"a\.fits: is truncated after row [\d,]+ of 3,000"):
        run(ft1_config, tmp_path / "out", path)


@pytest.mark.parametrize("content", [b"", b"no FITS at all" * 500])
def test_no_fits(tmp_path: Path, ft1_config: Config, content: bytes) -> None:
    path = tmp_path / "a.fits"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"a\.fits: is not a readable FITS file"):
        run(ft1_config, tmp_path / "out", path)


def test_no_events(tmp_path: Path, ft1_config: Config) -> None:
    path = tmp_path / "a.fits"
    fits.HDUList([fits.PrimaryHDU(), fits.ImageHDU(np.zeros((9, 9)), name="MAP")]).writeto(path)
    with pytest.raises(InputError, match=r"has no table EVENTS \(only \['PRIMARY', 'MAP'\]\)"):
        run(ft1_config, tmp_path / "out", path)


def test_an_empty_list_makes_empty_maps(
    tmp_path: Path, ft1_config: Config, caplog: pytest.LogCaptureFixture
) -> None:
    path = events(tmp_path / "a.fits", 0)
    done = run(ft1_config, tmp_path / "out", path)
    assert "a.fits holds not one event" in caplog.text
    assert (done.rows, done.photons) == (0, 0)
    assert not counted(done.maps).any()


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        ("ENERGY", np.nan, r"ENERGY of 1 events is no number, the first in row 2,?346"),
        ("L", np.nan, r"1 events have no direction, the first \(row 2346\)"),
        ("B", 91.0, r"1 events have no direction, the first \(row 2346\)"),
        ("ZENITH_ANGLE", np.nan, r"no zenith angle \(ZENITH_ANGLE is nan in row 2346\)"),
    ],
)
def test_an_impossible_row_is_named(
    tmp_path: Path, ft1_config: Config, column: str, value: float, message: str
) -> None:
    path = events(tmp_path / "a.fits.gz")
    with fits.open(path) as hdus:
        data = hdus["EVENTS"].data
        data["ENERGY"][2345], data["EVENT_CLASS"][2345] = 2000.0, bits(7, 10)
        data[column][2345] = value
        hdus.writeto(path, overwrite=True)
    with pytest.raises(InputError, match=message):
        run(ft1_config, tmp_path / "out", path, piece_rows=500)
    assert not (tmp_path / "out" / "counts").exists()
    assert (tmp_path / "out" / PARTS).exists()  # four pieces need not be counted again


def test_the_same_bytes_twice(tmp_path: Path, front_back: Config) -> None:
    path = events(tmp_path / "a.fits")
    shutil.copy(path, tmp_path / "b.fits")
    with pytest.raises(InputError, match=r"b\.fits: holds the same bytes as .*a\.fits"):
        here_alone(front_back, tmp_path / "out", path, tmp_path / "b.fits")


def here_alone(config: Config, out: Path, *files: Path) -> None:
    from geminga.distributed.work import run_here

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "geminga.pipeline.ingest._each", lambda w, a, p, c, *label: run_here(w, a, p, *label)
        )
        run(config, out, *files)


def test_a_file_that_changed_under_its_name(
    tmp_path: Path, ft1_config: Config, caplog: pytest.LogCaptureFixture
) -> None:
    """A list of the current week, published again: its first days would be counted twice."""
    out = tmp_path / "out"
    run(ft1_config, out, events(tmp_path / "a.fits"))
    before = content(out)
    (tmp_path / "a.fits").unlink()
    with pytest.raises(InputError, match=r"a\.fits: has changed: 900 s of it were ingested under"):
        run(ft1_config, out, events(tmp_path / "a.fits", seed=7))
    assert content(out) == before
    run(ft1_config, out, events(tmp_path / "b.fits", seed=7))
    assert "covers 900 s that other files cover as well" in caplog.text


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"nside": 32}, "was ingested with nside = 64, not 32"),
        ({"start_s": 1200.0}, "was ingested with from_met_s = None, not 1200.0"),
    ],
)
def test_other_settings_in_the_same_folder(
    tmp_path: Path, ft1_config: Config, settings: dict[str, Any], message: str
) -> None:
    path, out = events(tmp_path / "a.fits"), tmp_path / "out"
    run(ft1_config, out, path)
    before = content(out)
    with pytest.raises(InputError, match=message):
        run(ft1_config, out, path, **settings)
    assert content(out) == before


def test_narrower_files(tmp_path: Path, ft1_config: Config) -> None:
    path = write_events(tmp_path / "a.fits", event_columns(), [("ENERGY", "MeV", "2000:500000")])
    with pytest.raises(InputError, match="DSS energy cut 2000:500000 MeV starts above"):
        run(ft1_config, tmp_path / "out", path)


def test_a_missing_column(tmp_path: Path, ft1_config: Config) -> None:
    columns = event_columns()
    del columns["ENERGY"]
    path = write_events(tmp_path / "a.fits", columns)
    with pytest.raises(InputError, match="table EVENTS has no column ENERGY"):
        run(ft1_config, tmp_path / "out", path)


def test_a_damaged_piece(tmp_path: Path, ft1_config: Config) -> None:
    """A piece kept from an interrupted call and damaged since is no reason to count wrongly."""
    path = events(tmp_path / "a.fits.gz")
    out = tmp_path / "out"
    from geminga.pipeline import ingest as module

    honest = module._added

    def damage(*arguments: Any) -> Any:
        part = next((out / PARTS).rglob("*.parquet"))
        content = bytearray(part.read_bytes())
        content[len(content) // 3] ^= 255
        part.write_bytes(content)
        return honest(*arguments)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_added", damage)
        with pytest.raises(InputError, match=r"is not a readable file of partial counts"):
            run(ft1_config, out, path)
    assert not (out / "counts").exists()
