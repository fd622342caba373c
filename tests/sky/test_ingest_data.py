"""Real event lists, ingested: equal to the list read whole, and taken by a search."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from ingest_files import NSIDE, counted, whole

from geminga.config import Config
from geminga.pipeline.detect_inputs import summarise_counts
from geminga.pipeline.ingest import IngestRequest, ingest


@pytest.mark.data
@pytest.mark.parametrize("rows", [60_275, 9_999])
def test_2fhl_events(tmp_path: Path, lat_data: Path, config2: Config, rows: int) -> None:
    path = lat_data / "events" / "fermi_2fhl_events.fits.gz"
    tree = config2.model_dump()
    tree["bands"][0].update(emin_gev=50, emax_gev=171)
    tree["bands"][1].update(emin_gev=171, emax_gev=2000)
    tree["response"].update(irf="P8R2_SOURCE_V6", event_types=["FRONT", "BACK"])
    config = Config.model_validate(tree)
    done = ingest(IngestRequest((path,), tmp_path, nside=NSIDE, piece_rows=rows), config)
    assert done.photons == done.rows == 60_275
    np.testing.assert_array_equal(counted(done.maps), whole([path], config, event_class_bits=(7,)))
    told = summarise_counts(done.maps[1])
    with fits.open(path) as hdus:
        good = hdus["GTI"].data
        assert told.span_s == (good["START"].min(), good["STOP"].max())
        ours = fits.getheader(done.maps[0], "GTI")["ONTIME"]
        assert ours == pytest.approx(np.sum(good["STOP"] - good["START"]), rel=1e-9)
    assert (told.types, told.class_bit, told.region) == (frozenset({0}), 7, None)
    assert told.bins[0].edges_mev == (171_000.0, 2_000_000.0)
