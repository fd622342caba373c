"""The command line on an event list: photons of the tiny test sky, written as FT1, and none at all."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from tiny_run import TINY, geminga, write_list

from geminga.catalogue import catalog_table, read_fits
from geminga.config import load_config
from geminga.files import read_parquet
from geminga.sky.photons import Photons

TRAINED = (
    "response", "skies", "patches", "miun", "observe_training", "search_training", "ranker", "images",
    "classifier", "evidence_training", "class_model",
)  # fmt: skip


def write_reference(path: Path, truth_file: Path) -> None:
    truth = read_parquet(truth_file)
    columns = [
        fits.Column("Source_Name", "20A", array=[f"SIM {n}" for n in truth["source_id"]]),
        fits.Column("GLON", "D", array=truth["lon_deg"].to_numpy()),
        fits.Column("GLAT", "D", array=truth["lat_deg"].to_numpy()),
        fits.Column("Flux1000", "D", array=truth["s1"].to_numpy()),
        fits.Column("CLASS1", "10A", array=truth["class_name"].to_numpy(dtype=str)),
        fits.Column("Extended_Source_Name", "10A", array=[""] * len(truth)),
    ]
    fits.HDUList([fits.PrimaryHDU(), fits.BinTableHDU.from_columns(columns)]).writeto(path)


@pytest.mark.parametrize("empty", [False, True], ids=["photons", "no photons"])
def test_events_take_the_same_path(empty: bool, finished: tuple[Path, str], tmp_path: Path) -> None:
    first = finished[0] / "tiny"
    for stage in TRAINED:
        shutil.copytree(first / stage, tmp_path / "tiny" / stage)
    photons = Photons.load(first / "observe" / "photons_2000000.parquet")
    if empty:
        photons = photons.select(np.zeros(len(photons), dtype=bool))
    write_list(tmp_path / "events.fits", photons)
    write_reference(tmp_path / "truth.fits", first / "skies" / "sky_2000000" / "sources.parquet")
    observed = (
        f"observed={{events: [{tmp_path / 'events.fits'}], event_class_bits: [7], "
        f"reference_catalogs: {{SIM: {tmp_path / 'truth.fits'}}}, truth_catalog: SIM}}"
    )
    done = geminga(
        "run", "--config", str(TINY), "--set", f"run.output={tmp_path}", "--set", observed
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "class_model: finished before, skipped" in done.stderr
    found = read_fits(tmp_path / "tiny" / "catalog" / "catalog_2000000.fits")
    figures = json.loads((tmp_path / "tiny" / "evaluate" / "real_miun.json").read_text())
    if empty:
        config = load_config(TINY)
        assert len(found) == 0
        assert set(catalog_table(config.classes).names) <= set(found.columns)
        assert {"UNLIKE", "AMBIGUOUS", "LP_Index"} <= set(found.columns)
        assert figures["completeness"]["all"]["value"] == 0
    else:
        same = read_fits(first / "catalog" / "catalog_2000000.fits")
        assert len(found) > 0
        # The list gives back every photon, so the same sources are found at the same places.
        for name in ("GLON", "GLAT"):
            np.testing.assert_array_equal(found[name], same[name])
        # Their years and spectra too, and so the same classes.
        for name in ("Flux_History_0", "Variability_Index", "LP_Index", "Ext_Signif"):
            np.testing.assert_allclose(found[name], same[name], rtol=1e-6)
        assert np.mean(found["CLASS"].to_numpy() == same["CLASS"].to_numpy()) > 0.98
        assert figures["purity"]["all"]["value"] > 0.5
    # Nobody knows the true classes of a real sky: there is nothing to measure classifiers by.
    assert not (tmp_path / "tiny" / "evaluate" / "classes.json").exists()
