from __future__ import annotations

from dataclasses import replace

import healpy as hp
import numpy as np
import pytest
from photon_cases import Case, all_rows, directions, fitted_list, natural_counts, near, sky_case

from geminga.arrays import Float64
from geminga.classification import measure_evidence as module
from geminga.classification.evidence import DETECTION_NAMES, Evidence
from geminga.classification.light_curves import variability_index
from geminga.classification.measure_evidence import measure_evidence
from geminga.config import Config
from geminga.errors import InputError
from geminga.geometry import separation_deg
from geminga.response import Response, build_response
from geminga.response.exposure import Exposure
from geminga.sky.coverage import NPIX, NSIDE, Coverage
from geminga.sky.photons import Photons, empty_photons
from geminga.sky.pixel_counts import MapPart, PixelCounts

LEVEL = np.array([30.0, 4.0])
N = 40


@pytest.fixture(scope="module")
def response(config2: Config) -> Response:
    return build_response(config2)


@pytest.fixture(scope="module")
def steady(response: Response) -> Case:
    """Forty constant sources of 20 to 600 counts."""
    counts = natural_counts(response, 1.0, N) * np.geomspace(20, 600, N)[:, None]
    return sky_case(response, counts, LEVEL, np.ones((N, 4)))


@pytest.fixture(scope="module")
def steady_evidence(steady: Case, response: Response, config2: Config) -> Evidence:
    return measured(steady, response, config2)


def measured(case: Case, response: Response, config: Config) -> Evidence:
    return measure_evidence(case.photons, case.candidates, response, config, all_rows(case))


def column(evidence: Evidence, name: str) -> Float64:
    return evidence.detection[:, DETECTION_NAMES.index(name)]


def same(a: Evidence, b: Evidence) -> bool:
    names = ("year_ratio", "year_ratio_error", "detection", "stamps", "band_flux")
    return all(np.array_equal(getattr(a, k), getattr(b, k), equal_nan=True) for k in names)


def test_pulls_of_steady_sources(steady_evidence: Evidence) -> None:
    pull = (steady_evidence.year_ratio - 1.0) / steady_evidence.year_ratio_error
    assert pull.shape == (N, 4)
    assert abs(pull.mean()) < 0.2
    # The mean over the years is the source's own: three degrees of freedom for four years.
    assert np.sqrt((pull**2).mean()) == pytest.approx(np.sqrt(0.75), abs=0.13)
    extension = column(steady_evidence, "extension")
    assert abs(extension.mean()) < 0.45
    assert 0.7 < np.sqrt((extension**2).mean()) < 1.3


def test_a_flare_is_measured(response: Response, config2: Config) -> None:
    factors = np.tile([0.4, 2.2, 0.8, 0.6], (10, 1))
    counts = natural_counts(response, 400.0, 10)
    share = response.year_share.at(*(np.array([0.0]), np.array([0.0])))
    case = sky_case(response, counts, LEVEL, factors)
    for weights in ("likelihood", "summed"):
        config = config2.model_copy(
            update={"evidence": config2.evidence.model_copy(update={"year_weights": weights})}
        )
        evidence = measured(case, response, config)
        mean = (factors * share).sum(axis=1, keepdims=True)
        pull = (evidence.year_ratio - factors / mean) / evidence.year_ratio_error
        assert abs(pull.mean()) < 0.35
        assert 0.5 < np.sqrt((pull**2).mean()) < 1.3
        known = variability_index(evidence.year_ratio, evidence.year_ratio_error)
        assert (known > 20).mean() > (0.9 if weights == "likelihood" else 0.3)


def test_a_wide_source_is_noticed(response: Response, config2: Config) -> None:
    counts = natural_counts(response, 800.0, 5)
    case = sky_case(response, counts, LEVEL, np.ones((5, 4)), extent_deg=0.25)
    assert (column(measured(case, response, config2), "extension") > 4).all()


def test_stamps_hold_counts_and_all_but_the_source(
    steady: Case, steady_evidence: Evidence, config2: Config
) -> None:
    scales, side = len(config2.evidence.stamp_widths_r68), config2.evidence.stamp_pixels
    stamps = steady_evidence.stamps
    assert stamps.shape == (N, 2 * scales, 2, side, side)
    own = steady.candidates[["counts_0", "counts_1"]].to_numpy()
    excess = (stamps[:, :, 0] - stamps[:, :, 1]).sum(axis=(2, 3))
    for c in range(2):
        # The narrow stamp, three radii wide, holds most of the source, the wide one nearly all.
        for scale, part in ((0, 0.75), (1, 0.93)):
            share = excess[20:, c * scales + scale].sum() / own[20:, c].sum()
            assert share == pytest.approx(part, abs=0.12)
    middle = stamps[-1, 0, 0]
    assert np.unravel_index(middle.argmax(), middle.shape) == (side // 2, side // 2)


def test_neighbours_are_expected(response: Response, config2: Config, steady: Case) -> None:
    # A neighbour as bright as the candidate, in the list and among the photons.
    counts = natural_counts(response, 3000.0, 1)
    row = steady.candidates.iloc[:1]
    lon, lat = near(steady, 0, 0.5)
    places = (
        np.array([row["lon_deg"].iloc[0], lon[0]]),
        np.array([row["lat_deg"].iloc[0], lat[0]]),
    )
    both = sky_case(
        response, np.repeat(counts, 2, 0), LEVEL / 2, np.ones((2, 4)), lon_lat_deg=places
    )
    both.candidates[["background_0", "background_1"]] = LEVEL
    evidence = measured(both, response, config2)
    narrow = evidence.stamps[:, [0, 2]]
    excess = (narrow[:, :, 0] - narrow[:, :, 1]).sum(axis=(1, 2, 3))
    assert excess == pytest.approx(0.75 * 3000, rel=0.12)
    assert column(evidence, "neighbour_deg")[0] == pytest.approx(0.5, abs=1e-3)
    assert column(evidence, "neighbour_deg")[1] == 2.0
    alone = measure_evidence(
        both.photons, both.candidates.iloc[:1], response, config2, np.array([0])
    )
    unexplained = (alone.stamps[:, [0, 2], 0] - alone.stamps[:, [0, 2], 1]).sum()
    assert unexplained > 1.3 * excess[0]


def test_detection_and_fluxes_are_the_list_s(steady: Case, steady_evidence: Evidence) -> None:
    table = steady.candidates
    assert column(steady_evidence, "sqrt_ts") == pytest.approx(np.sqrt(table["ts"]))
    assert column(steady_evidence, "logit_real") == pytest.approx(np.log(3.0))
    assert column(steady_evidence, "log_position_error") == pytest.approx(-2.0)
    # The harder channel has the fewer diffuse counts, also relative to the source.
    assert column(steady_evidence, "log_background") == pytest.approx(np.log10(4.0), abs=1e-3)
    assert np.array_equal(steady_evidence.band_flux, table[["flux_0", "flux_1"]].to_numpy())
    assert steady_evidence.edges_gev.tolist() == [[1, 3], [3, 30]]


def test_bits_do_not_depend_on_what_is_measured_together(
    steady: Case,
    steady_evidence: Evidence,
    response: Response,
    config2: Config,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "MEMORY", 1)
    rows = np.array([33, 2, 7])
    few = measure_evidence(steady.photons, steady.candidates, response, config2, rows)
    assert same(few, steady_evidence.take(rows))
    mask = np.zeros(N, np.bool_)
    mask[rows] = True
    masked = measure_evidence(steady.photons, steady.candidates, response, config2, mask)
    assert same(masked, steady_evidence.take(np.sort(rows)))


def test_other_positions(steady: Case, response: Response, config2: Config) -> None:
    rows = np.array([39, 39])
    away = near(steady, 39, 0.3)
    table = steady.candidates
    at = tuple(
        np.array([table[name].iloc[39], away[i][0]])
        for i, name in enumerate(("lon_deg", "lat_deg"))
    )
    moved = measure_evidence(steady.photons, table, response, config2, rows, at=at)  # type: ignore[arg-type]
    assert moved.lon_deg[1] == away[0][0]
    middle = config2.evidence.stamp_pixels // 2
    assert moved.stamps[1, 2, 0, middle, middle] < 0.5 * moved.stamps[0, 2, 0, middle, middle]
    with pytest.raises(InputError, match="at: 1 positions for 2 candidates"):
        measure_evidence(steady.photons, table, response, config2, rows, at=away)


def test_nothing_to_measure(steady: Case, response: Response, config2: Config) -> None:
    none = np.zeros(0, np.int64)
    for table in (steady.candidates, steady.candidates.iloc[:0]):
        evidence = measure_evidence(steady.photons, table, response, config2, none)
        assert evidence.year_ratio.shape == (0, 4)
        assert evidence.stamps.shape == (0, 4, 2, 9, 9)
        assert evidence.band_flux.shape == (0, 2)
    dark = measure_evidence(empty_photons(), steady.candidates, response, config2, np.arange(3))
    assert np.isfinite(dark.year_ratio).all()
    assert np.isfinite(dark.detection).all()
    assert (dark.stamps[:, :, 0] == 0).all()


def test_maps_and_single_years_have_no_light_curves(
    steady: Case, steady_evidence: Evidence, response: Response, config2: Config
) -> None:
    nside = 2048
    pixel = hp.vec2pix(nside, *steady.photons.xyz.astype(float).T, nest=True)
    parts = []
    for c in range(2):
        numbers, counts = np.unique(pixel[steady.photons.channel == c], return_counts=True)
        parts.append(MapPart(c, nside, True, numbers, counts))
    rows = np.arange(0, N, 8)
    maps = measure_evidence(PixelCounts(tuple(parts)), steady.candidates, response, config2, rows)
    assert maps.year_ratio.shape == (len(rows), 0)
    photons = steady_evidence.take(rows).stamps
    # Spread over pixels of 0.03 deg: the same counts but at the borders.
    assert maps.stamps[:, :, 0].sum() == pytest.approx(photons[:, :, 0].sum(), rel=0.02)
    assert maps.stamps[:, :, 1] == pytest.approx(photons[:, :, 1], rel=0.1)
    single = config2.model_copy(update={"sky": config2.sky.model_copy(update={"years": 1})})
    timeless = replace(steady.photons, year=np.zeros(len(steady.photons), np.int8))
    once = measure_evidence(timeless, steady.candidates, build_response(single), single, rows)
    assert once.year_ratio.shape == (len(rows), 0)
    assert np.array_equal(once.stamps[:, :, 0], photons[:, :, 0])
    wrong = PixelCounts((replace(parts[0], channel=5),))
    with pytest.raises(InputError, match="channel 5, the configuration has 2"):
        measure_evidence(wrong, steady.candidates, response, config2, rows)


def test_edge_of_the_map(
    steady: Case, steady_evidence: Evidence, response: Response, config2: Config
) -> None:
    centres = np.stack(hp.pix2vec(NSIDE, np.arange(NPIX), nest=True), axis=-1)
    vectors = directions(steady)
    # Data west of the first candidate alone, none at the second.
    cells = separation_deg(centres, vectors[39]) > 0.4
    cells &= separation_deg(centres, vectors[38]) > 3.0
    shifted = np.stack(near(steady, 37, 0.8), axis=-1)[0]
    edge = separation_deg(centres, _unit(shifted)) > 0.6
    rows = np.array([37, 38, 39, 36])
    cut = measure_evidence(
        steady.photons,
        steady.candidates,
        response,
        config2,
        rows,
        coverage=Coverage(cells & edge),
    )
    for i in (1, 2):
        assert np.isnan(cut.stamps[i]).all()
        assert np.isnan(cut.year_ratio[i]).all()
        assert np.isnan(cut.band_flux[i]).all()
        assert np.isnan(column(cut, "extension")[i])
    assert 0 < np.isnan(cut.stamps[0]).mean() < 0.5
    assert np.isfinite(cut.year_ratio[0]).all()
    assert not np.array_equal(cut.year_ratio[0], steady_evidence.year_ratio[37])
    assert np.array_equal(cut.stamps[3], steady_evidence.stamps[36])


def _unit(lon_lat_deg: Float64) -> Float64:
    return hp.ang2vec(*lon_lat_deg, lonlat=True)


def test_a_channel_without_exposure(steady: Case, response: Response, config2: Config) -> None:
    def dark(exposure: Exposure) -> Exposure:
        maps = exposure.maps_cm2_s.copy()
        centres = np.stack(hp.pix2vec(exposure.nside, np.arange(maps.shape[1])), axis=-1)
        maps[:, separation_deg(centres, directions(steady)[39]) < 10] = 0.0
        return replace(exposure, maps_cm2_s=maps)

    half = replace(response, exposures=(response.exposures[0], dark(response.exposures[1])))
    whole = Coverage(np.ones(NPIX, np.bool_))
    rows = np.array([39, 0])
    evidence = measure_evidence(
        steady.photons, steady.candidates, half, config2, rows, coverage=whole
    )
    assert np.isnan(evidence.band_flux[0]).tolist() == [False, True]
    assert np.isnan(evidence.stamps[0]).all(axis=(1, 2, 3)).tolist() == [False, False, True, True]
    assert np.isfinite(evidence.year_ratio).all()
    assert np.isfinite(evidence.band_flux[1]).all()
    none = replace(response, exposures=tuple(dark(e) for e in response.exposures))
    blind = measure_evidence(steady.photons, steady.candidates, none, config2, rows)
    assert np.isnan(blind.year_ratio[0]).all()
    assert np.isnan(blind.stamps[0]).all()
    assert np.isfinite(blind.year_ratio[1]).all()


def test_a_list_without_ranker(steady: Case, response: Response, config2: Config) -> None:
    table = steady.candidates.drop(columns="probability")
    evidence = measure_evidence(steady.photons, table, response, config2, np.array([1]))
    assert np.isnan(column(evidence, "logit_real")).all()
    sure = steady.candidates.assign(probability=1.0)
    evidence = measure_evidence(steady.photons, sure, response, config2, np.array([1]))
    assert np.isfinite(column(evidence, "logit_real")).all()


def test_bad_input(steady: Case, response: Response, config2: Config) -> None:
    table, photons, rows = steady.candidates, steady.photons, np.array([0])
    bad = table.drop(columns=["counts_1", "goodness"])
    with pytest.raises(InputError, match="no column goodness, counts_1"):
        measure_evidence(photons, bad, response, config2, rows)
    for name, many in (("channel", 2), ("year", 4)):
        number = np.array([many], np.int8)
        fields = {"channel": np.zeros(1, np.int8), "year": np.zeros(1, np.int8)} | {name: number}
        wrong = Photons(photons.xyz[:1], **fields)
        with pytest.raises(InputError, match=f"have {name} {many}, the configuration has {many}"):
            measure_evidence(wrong, table, response, config2, rows)
    with pytest.raises(InputError, match="rows 40 to 40 of 40 candidates"):
        measure_evidence(photons, table, response, config2, np.array([N]))
    with pytest.raises(InputError, match="chosen: 3 for 40 candidates"):
        measure_evidence(photons, table, response, config2, np.ones(3, np.bool_))


def test_values_that_are_not_finite_are_flagged(
    steady: Case, response: Response, config2: Config
) -> None:
    table = steady.candidates.copy()
    table.loc[5, ["counts_0", "flux_0", "flux_error_0", "background_0"]] = np.nan
    evidence = measure_evidence(steady.photons, table, response, config2, np.array([5, 6]))
    assert np.isnan(evidence.band_flux[0]).tolist() == [True, False]
    assert np.isfinite(evidence.year_ratio).all()
    assert np.isfinite(evidence.stamps).all()


def test_a_single_band(response: Response, config2: Config) -> None:
    config = config2.model_copy(
        update={"bands": config2.bands[1:], "images": config2.images.model_copy()}
    )
    one = build_response(config)
    counts = natural_counts(one, 200.0, 3)
    case = sky_case(one, counts, LEVEL[1:], np.ones((3, 4)))
    evidence = measured(case, one, config)
    assert evidence.band_flux.shape == (3, 1)
    assert evidence.stamps.shape == (3, 2, 2, 9, 9)
    assert np.isfinite(evidence.year_ratio).all()


def test_the_list_of_the_case_is_complete(response: Response) -> None:
    # Guards the helper: counts are flux times exposure.
    table = fitted_list(
        response, natural_counts(response, 10.0, 2), LEVEL, np.zeros(2), np.array([0.0, 40.0])
    )
    assert (table[["flux_0", "flux_1"]].to_numpy() > 0).all()
