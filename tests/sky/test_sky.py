from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import healpy
import numpy as np
import pandas as pd
import pytest

from geminga.bands import Band
from geminga.config import Config, ImageConfig, SkyConfig
from geminga.errors import InputError
from geminga.response import Response, band_exposure, band_nodes, build_response
from geminga.seeds import Split, sky_id
from geminga.sky.asimov import expected_map
from geminga.sky.emission.diffuse import DiffuseCounts, diffuse_counts
from geminga.sky.populations.population import Population, load_population
from geminga.sky.populations.sources import SourceSet
from geminga.sky.sky import Sky, expected_counts, simulate_sky
from geminga.sky.sky_files import load_sky, save_sky
from geminga.sky.spectra import photon_flux
from geminga.tables import TRUTH


@pytest.fixture(scope="module")
def response(config2: Config) -> Response:
    return build_response(config2)


@pytest.fixture(scope="module")
def diffuse(config2: Config, response: Response) -> DiffuseCounts:
    return diffuse_counts(config2, response)


@pytest.fixture(scope="module")
def population() -> Population:
    return load_population("4fgl_dr2")


@pytest.fixture(scope="module")
def sky(config2: Config, response: Response, population: Population, diffuse: DiffuseCounts) -> Sky:
    return simulate_sky(config2, response, population, diffuse, sky_id(Split.TEST, 0))


def truth(**columns: object) -> pd.DataFrame:
    data: dict[str, object] = {c.name: [0.0] for c in TRUTH.columns if c.dtype != "str"}
    data |= {"class_name": ["PSR"], "form": ["log_parabola"], "norm": [1e-12]}
    data |= {"pivot_mev": [1000.0], "index": [2.3]}
    n = max(len(v) for v in columns.values())  # type: ignore[arg-type]
    data = {name: list(value) * n for name, value in data.items()}  # type: ignore[call-overload]
    return TRUTH.frame(data | columns)


def test_band_nodes_integrate_power_laws() -> None:
    for band in (
        Band(emin_gev=0.3, emax_gev=0.5, nside=1, pixels=1),
        Band(emin_gev=20, emax_gev=2000, nside=1, pixels=1),
    ):
        nodes = band_nodes(band)
        energy, weight = nodes.energy_mev, nodes.weight
        assert len(energy) >= 8
        low, high = band.emin_gev * 1e3, band.emax_gev * 1e3
        for index in (1.5, 2.4, 4.0):
            exact = (low ** (1 - index) - high ** (1 - index)) / (index - 1)
            assert (energy**-index * weight).sum() == pytest.approx(exact, rel=1e-5)


def test_counts_of_a_power_law_are_flux_times_exposure(response: Response) -> None:
    lon, lat = [0.0, 123.0, 359.9], [0.0, -90.0, 45.0]
    table = truth(lon_deg=lon, lat_deg=lat)
    counts, index = expected_counts(table, response)
    exposure = band_exposure(response, np.array(lon), np.array(lat), 2.3)
    for band, edges in enumerate(response.channels):
        flux = photon_flux(table, edges.emin_gev * 1e3, edges.emax_gev * 1e3)
        assert counts[:, band] == pytest.approx(flux * exposure[band], rel=2e-3)
    assert index == pytest.approx(np.full_like(index, 2.3), abs=1e-6)


def test_cutoffs_make_pulsars_soft_and_never_break_the_index(response: Response) -> None:
    table = truth(
        form=["plec", "plec"], curvature=[0.002, 3.0], exp_index=[0.7, 0.7], index=[1.5, 1.5]
    )
    counts, index = expected_counts(table, response)
    assert 1.5 < index[0, 0] < index[0, 1]
    assert np.isfinite(index).all()
    assert counts[1, 1] == pytest.approx(0.0, abs=1e-12)


def test_a_table_without_sources_gives_no_counts(response: Response) -> None:
    counts, index = expected_counts(TRUTH.empty(), response)
    assert counts.shape == index.shape == (0, 2)


def test_simulated_sky_fits_its_configuration(sky: Sky, config2: Config) -> None:
    n = len(sky.sources.table)
    assert n > 1000
    assert sky.source_counts.shape == sky.source_psf_index.shape == (n, 2)
    assert (sky.source_counts >= 0).all()
    totals = sky.totals()
    assert totals.shape == (len(config2.classes) + 3, 2, 4)
    counts = sky.source_counts * sky.shares.sum(axis=1, keepdims=True)
    assert totals[:4].sum() == pytest.approx(counts.sum())
    whole = sum(sky.diffuse_density(channel).sum() for channel in range(2))
    assert totals[4:].sum() == pytest.approx(whole * healpy.nside2pixarea(64), rel=1e-5)
    assert (totals[6] == 0).all()


def test_norms_vary_on_training_skies_alone(
    config2: Config, response: Response, population: Population, diffuse: DiffuseCounts
) -> None:
    def norm(split: Split, number: int, config: Config = config2) -> list[float]:
        identifier = sky_id(split, number)
        return (
            simulate_sky(config, response, population, diffuse, identifier)
            .diffuse_norm[:, 0]
            .tolist()
        )

    assert norm(Split.TEST, 3) == [1.0, 1.0, 1.0]
    assert norm(Split.TRAIN, 0) == norm(Split.TRAIN, 0)
    drawn = [norm(Split.TRAIN, n) for n in range(8)] + [norm(Split.VALID, 0)]
    values = np.log(drawn)[:, :2]
    assert 0.03 < values.std() < 0.25
    assert len(np.unique(values)) == values.size
    still = config2.model_copy(
        update={"sky": config2.sky.model_copy(update={"interstellar_norm_scatter": 0.0})}
    )
    assert norm(Split.TRAIN, 0, still) == [1.0, 1.0, 1.0]


def test_one_band_is_enough(population: Population) -> None:
    band = Band(emin_gev=50, emax_gev=2000, nside=64, pixels=32)
    config = Config(
        bands=(band,),
        images=ImageConfig(box_deg=(1.0,)),
        sky=SkyConfig(years=1, diffuse_nside=32, density_factor=0.1),
    )
    response = build_response(config)
    sky = simulate_sky(config, response, population, diffuse_counts(config, response), 0)
    assert sky.totals().shape == (7, 1, 1)
    assert (sky.totals() >= 0).all()


@pytest.mark.parametrize(("lon", "lat"), [(0.0, 0.0), (359.99, 60.0), (10.0, 90.0), (77.7, -12.3)])
@pytest.mark.parametrize("counts", [3.0, 1e5])
def test_maps_keep_the_counts_of_a_source(sky: Sky, lon: float, lat: float, counts: float) -> None:
    table = truth(lon_deg=[lon], lat_deg=[lat])
    yearly = np.array([[2.0, 1.0, 0.5, 0.5]])
    one = replace(
        sky,
        sources=SourceSet(table, yearly),
        source_counts=np.full((1, 2), counts),
        source_psf_index=np.full((1, 2), 2.3),
        shares=yearly / 4,
    )
    for band in (0, 1):
        image = expected_map(one, "PSR", band)
        assert image.shape == (healpy.nside2npix(one.channels[band].nside),)
        assert image.sum() == pytest.approx(counts, rel=1e-3)
        vector = healpy.ang2vec(lon, lat, lonlat=True)
        centre = np.stack(healpy.pix2vec(one.channels[band].nside, np.arange(len(image))), axis=-1)
        mean = image @ centre
        # Pixels wider than the PSF move a centroid by a part of a pixel.
        off = np.degrees(np.linalg.norm(mean / np.linalg.norm(mean) - vector))
        assert off < 0.4 * np.degrees(healpy.nside2resol(one.channels[band].nside))
        assert expected_map(one, "BLL", band).sum() == 0
    assert expected_map(one, "PSR", 1, year=0).sum() == pytest.approx(counts / 2, rel=1e-3)


def test_maps_of_all_components_add_up_to_the_totals(sky: Sky) -> None:
    few = replace(
        sky,
        sources=SourceSet(sky.sources.table.iloc[:200], sky.sources.yearly[:200]),
        source_counts=sky.source_counts[:200],
        source_psf_index=sky.source_psf_index[:200],
        shares=sky.shares[:200],
    )
    totals = few.totals()
    for band in (0, 1):
        for row, name in enumerate([*few.classes, "interstellar", "isotropic"]):
            whole = expected_map(few, name, band).sum()
            assert whole == pytest.approx(totals[row, band].sum(), rel=0.005)
    year = expected_map(few, "isotropic", 0, year=2).sum()
    assert year == pytest.approx(totals[-2, 0, 2], rel=0.005)


def test_unknown_component_is_named(sky: Sky) -> None:
    with pytest.raises(InputError, match="'QSO' is unknown; use one of"):
        expected_map(sky, "QSO", 0)


def test_file_round_trip(sky: Sky, config2: Config, response: Response, tmp_path: Path) -> None:
    save_sky(tmp_path / "sky", sky)
    save_sky(tmp_path / "sky", sky)
    again = load_sky(tmp_path / "sky", config2, response, sky.diffuse)
    pd.testing.assert_frame_equal(again.sources.table, sky.sources.table)
    for name in ("source_counts", "source_psf_index", "diffuse_norm", "shares", "distortion"):
        np.testing.assert_array_equal(getattr(again, name), getattr(sky, name))
    np.testing.assert_array_equal(again.sources.yearly, sky.sources.yearly)
    assert (again.sky_id, again.years, again.channels) == (sky.sky_id, sky.years, sky.channels)


def test_bad_sky_folders(sky: Sky, config2: Config, response: Response, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is not a readable Parquet"):
        load_sky(tmp_path / "none", config2, response, sky.diffuse)
    folder = tmp_path / "sky"
    save_sky(folder, sky)
    other = config2.model_copy(update={"sky": config2.sky.model_copy(update={"years": 3})})
    with pytest.raises(InputError, match="simulate the sky anew"):
        load_sky(folder, other, response, sky.diffuse)
    (folder / "counts.npz").write_bytes((folder / "counts.npz").read_bytes()[:300])
    with pytest.raises(InputError, match="is not a readable sky"):
        load_sky(folder, config2, response, sky.diffuse)
