"""Ingestion through Ray: the same bytes for one worker and two, for any pieces."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "sky"))  # for the helpers there

from ingest_files import NSIDE, content, counted, events, whole

from geminga.config import Config, RunConfig
from geminga.evaluation.reference import read_reference_catalog
from geminga.pipeline.ingest import IngestRequest, ingest
from geminga.pipeline.ingest_catalogs import ingest_catalogs
from geminga.sky.emission.extended import extended_areas

pytestmark = pytest.mark.usefixtures("ray_on_two_cores")


def test_bytes_do_not_depend_on_workers_or_pieces(tmp_path: Path, config2: Config) -> None:
    tree = config2.model_dump()
    tree["response"]["event_types"] = ["FRONT+BACK"]
    config = Config.model_validate(tree)
    files = (
        events(tmp_path / "a.fits"),
        events(tmp_path / "b.fits.gz", 2000, 1, 2000.0),
        events(tmp_path / "c.fits", 500, 2, 3000.0),
    )
    found = []
    for workers, rows in ((1, 700), (2, 700), (2, 5000)):
        out = tmp_path / f"{workers}_{rows}"
        mine = config.model_copy(update={"run": RunConfig(workers=workers)})
        done = ingest(IngestRequest(files, out, nside=NSIDE, piece_rows=rows), mine)
        found.append({n: c for n, c in content(out).items() if not n.endswith(".json")})
        np.testing.assert_array_equal(counted(done.maps), whole(list(files), config))
    assert found[0] == found[1] == found[2]
    assert len(found[0]) == 3


@pytest.mark.data
def test_catalogues(tmp_path: Path, lat_data: Path) -> None:
    names = ["gll_psch_v09.fit.gz", "gll_psch_v13.fit.gz", "gll_psc_v27.fit.gz"]
    files = [lat_data / "catalogs" / name for name in names]
    made = ingest_catalogs(files, tmp_path / "tables")
    assert [n for _, n in made] == [360, 1556, 5788]
    for file, (table, _) in zip(files, made, strict=True):
        assert read_reference_catalog(table, "x").equals(read_reference_catalog(file, "x"))
        assert extended_areas(table).equals(extended_areas(file))
