from __future__ import annotations

import numpy as np

from geminga.config import Config
from geminga.patches.grid import make_grid
from geminga.patches.records import make_records
from geminga.response import build_response
from geminga.seeds import Split, sky_id
from geminga.sky.emission.diffuse import diffuse_counts
from geminga.sky.labelled import labelled
from geminga.sky.populations.population import load_population
from geminga.sky.sky import simulate_sky
from geminga.tables import TRUTH

FLUXES = [c for c in TRUTH.columns if c.dtype != "int64"]


def test_faint_sources_shine_but_are_no_targets(config2: Config) -> None:
    cut = config2.model_copy(update={"sky": config2.sky.model_copy(update={"labelled_flux": 1e-9})})
    response = build_response(config2)
    diffuse, population = diffuse_counts(config2, response), load_population("4fgl_dr2")
    sky = simulate_sky(config2, response, population, diffuse, sky_id(Split.TRAIN, 0))
    table = sky.sources.table
    assert labelled(table, config2.sky) is table
    bright = labelled(table, cut.sky)
    assert 0 < len(bright) < len(table)
    assert bright["s1"].min() >= 1e-9
    assert table["s1"].drop(bright.index).max() < 1e-9

    grid = make_grid(2, 20.0)
    all_of_them, few = (make_records(sky, grid, c, [20]) for c in (config2, cut))
    assert 0 < few["target"].sum() < all_of_them["target"].sum()
    np.testing.assert_array_equal(few["image_0"], all_of_them["image_0"])


def test_depth_alone_sets_a_limit(config2: Config) -> None:
    table = TRUTH.frame(
        {c.name: ["BLL", "BLL"] if c.dtype == "str" else [2e-11, 2e-10] for c in FLUXES}
        | {"sky_id": [0, 0], "source_id": [0, 1]}
    )
    deep = config2.sky.model_copy(update={"depth": 1e-11})
    assert labelled(table, config2.sky)["s1"].tolist() == [2e-11, 2e-10]
    assert labelled(table, deep)["s1"].tolist() == [2e-10]
