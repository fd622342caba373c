from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from scipy.stats import norm

from geminga.errors import InputError
from geminga.sky.populations.catalogs import (
    UNASSOCIATED_HIGH,
    UNASSOCIATED_LOW,
    FaintRule,
    read_catalog,
)
from geminga.sky.populations.copula import (
    PROBABILITIES,
    correlation_root,
    draw_uniforms,
    normal_scores,
    quantile,
    quantile_table,
    score_correlation,
    without_noise,
)
from geminga.sky.populations.fit import SHARED, _faint_extension, _membership
from geminga.sky.populations.law import FaintExtension
from geminga.sky.populations.population import (
    FORMAT_VERSION,
    fit_population,
    load_population,
    save_population,
    shipped_populations,
)

CATALOGUES = {"4fgl_dr2": "gll_psc_v27.fit.gz", "2fhl": "gll_psch_v09.fit.gz"}


def write_catalogue(path: Path, leave_out: str = "") -> Path:
    """A 4FGL-like file: 300 bll at index 2.0, 100 fsrq at 2.5, 200 bcu half and half, 60 psr."""
    rng = np.random.default_rng(5)
    n_class = {"bll": 150, "BLL": 150, "fsrq": 100, "bcu": 200, "PSR": 60, "": 20, "unk": 20}
    name = np.repeat(list(n_class), list(n_class.values()))
    n = len(name)
    mean = np.where(name == "fsrq", 2.5, 2.0)
    mean[np.flatnonzero(name == "bcu")[::2]] = 2.5
    true = mean + 0.15 * rng.standard_normal(n)
    index = true + 0.1 * rng.standard_normal(n)
    psr = name == "PSR"
    lat = np.degrees(np.arcsin(rng.uniform(-1, 1, n)))
    lat[psr] = rng.normal(0, 4, psr.sum())
    flux = 10 ** rng.uniform(-10, -8, n)
    history = flux[:, None] * np.exp(0.5 * rng.standard_normal((n, 10)))
    columns = {
        "Source_Name": np.where(psr & (np.arange(n) % 4 == 0), "4FGL Je", "4FGL J"),
        "GLON": rng.uniform(0, 360, n),
        "GLAT": lat,
        "CLASS1": name,
        "Flux1000": flux,
        "Energy_Flux100": flux * 0.05,
        "Pivot_Energy": 10 ** rng.normal(3.3, 0.2, n),
        "SpectrumType": np.where(psr, "PLSuperExpCutoff", "PowerLaw"),
        "Signif_Avg": np.full(n, 50.0),
        "LP_Flux_Density": 1e-12 * flux / 1e-9,
        "PLEC_Flux_Density": 1e-12 * flux / 1e-9,
        "PL_Index": index,
        "Unc_PL_Index": np.full(n, 0.1),
        "LP_Index": index - 0.05,
        "LP_beta": 0.1 + 0.05 * rng.standard_normal(n),
        "Unc_LP_beta": np.full(n, 0.04),
        "PLEC_Index": rng.uniform(0.5, 1.5, n),
        "Unc_PLEC_Index": np.full(n, 0.05),
        "PLEC_Expfactor": 10 ** rng.normal(-2, 0.1, n),
        "PLEC_Exp_Index": np.full(n, 2 / 3),
        "Unc_PLEC_Expfactor": np.full(n, 5e-4),
        "Flux_History": history,
        "Unc_Flux_History": np.stack([-0.05 * history, 0.05 * history], axis=-1),
    }
    fits_columns = []
    for key, values in columns.items():
        if key == leave_out:
            continue
        array = np.asarray(values)
        text = array.dtype.kind == "U"
        size = int(np.prod(array.shape[1:]))
        dim = f"({','.join(map(str, array.shape[:0:-1]))})" if array.ndim > 2 else None
        fits_columns.append(fits.Column(key, "18A" if text else f"{size}E", array=array, dim=dim))
    fits.BinTableHDU.from_columns(fits_columns).writeto(path)
    return path


@pytest.fixture(scope="module")
def catalogue(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_catalogue(tmp_path_factory.mktemp("catalogue") / "cat.fits")


THREE = {"BLL": ("bll",), "FSRQ": ("fsrq",), "PSR": ("psr",)}


# Copula


def test_quantile_table_runs_from_least_to_largest() -> None:
    table = quantile_table(np.array([3.0, 1.0, 2.0]))
    assert table[0] == 1.0
    assert table[-1] == 3.0
    assert np.interp(0.5, PROBABILITIES, table) == pytest.approx(2.0)


def test_weights_count() -> None:
    x = np.concatenate([np.linspace(0, 1, 100), np.linspace(10, 11, 100)])
    w = np.repeat([3.0, 1.0], 100)
    table = quantile_table(x, w)
    assert np.interp(0.7, PROBABILITIES, table) < 1.0
    assert np.interp(0.8, PROBABILITIES, table) > 10.0


def test_constant_tables() -> None:
    assert np.ptp(quantile_table(np.full(7, 2.5))) == 0
    assert np.array_equal(
        quantile(np.array([0.1, 0.9]), PROBABILITIES, np.array([4.0])), [4.0, 4.0]
    )


def test_uniforms_have_the_correlation() -> None:
    matrix = np.array([[1.0, 0.7, -0.4], [0.7, 1.0, 0.0], [-0.4, 0.0, 1.0]])
    u = draw_uniforms(np.random.default_rng(0), 40_000, matrix)
    assert np.corrcoef(norm.ppf(u).T) == pytest.approx(matrix, abs=0.015)
    assert u.mean(axis=0) == pytest.approx(0.5, abs=0.01)


def test_root_survives_rounding_of_a_singular_matrix() -> None:
    matrix = np.array([[1.0, 1.0, 0.5], [1.0, 1.0, 0.51], [0.5, 0.51, 1.0]])
    assert np.linalg.eigvalsh(matrix).min() < 0
    root = correlation_root(matrix)
    assert root @ root.T == pytest.approx(matrix, abs=0.02)


def test_scores_ignore_scale_and_constants_correlate_with_nothing() -> None:
    rng = np.random.default_rng(1)
    x = rng.standard_normal(500)
    columns = np.stack([x, np.exp(x), np.full(500, 3.0), rng.standard_normal(500)], axis=1)
    assert np.array_equal(normal_scores(columns)[:, 0], normal_scores(columns)[:, 1])
    matrix = score_correlation(columns)
    assert matrix[0, 1] == pytest.approx(1.0)
    assert np.array_equal(matrix[2], [0, 0, 1, 0])


def test_noise_is_taken_out() -> None:
    rng = np.random.default_rng(2)
    covariate = rng.uniform(-1, 1, 5000)
    true = 2.0 + 0.3 * covariate + 0.2 * rng.standard_normal(5000)
    errors = rng.uniform(0.02, 0.5, 5000)
    clean, mean, tau = without_noise(true + errors * rng.standard_normal(5000), errors, covariate)
    assert tau == pytest.approx(0.2, rel=0.05)
    assert mean == pytest.approx(2.0 + 0.3 * covariate, abs=0.03)
    assert clean.std() == pytest.approx(true.std(), rel=0.05)


# Fitting


def test_uncertain_rows_are_shared_not_copied(catalogue: Path) -> None:
    kind, rows, _ = read_catalog(catalogue)
    weight = _membership(kind, rows, THREE, SHARED)
    bcu = (rows["designation"] == "bcu").to_numpy()
    assert weight["BLL"][bcu] + weight["FSRQ"][bcu] == pytest.approx(1.0)
    assert weight["FSRQ"][bcu].sum() == pytest.approx(100, abs=20)
    soft = bcu & (rows["PL_Index"].to_numpy() > 2.7)
    assert weight["FSRQ"][soft].min() > 0.8
    assert sum(w.sum() for w in weight.values()) == pytest.approx(300 + 100 + 200 + 60)


def test_counts_add_up_and_laws_come_from_classified_rows(catalogue: Path) -> None:
    population = fit_population(catalogue, THREE)
    assert [population.classes[name].extended_share for name in ("PSR", "BLL")] == [0.25, 0.0]
    assert population.classes["BLL"].max_energy_flux == pytest.approx(5e-10, rel=0.1)
    laws = population.classes
    assert laws["BLL"].mean_number + laws["FSRQ"].mean_number == pytest.approx(600, rel=1e-5)
    assert laws["BLL"].fitted_on == 300
    middle = len(PROBABILITIES) // 2
    assert laws["BLL"].variables["index"][middle] == pytest.approx(1.95, abs=0.04)
    assert laws["FSRQ"].variables["index"][middle] == pytest.approx(2.45, abs=0.05)
    assert laws["PSR"].form == "plec"
    assert laws["PSR"].position.law == "disk"
    assert laws["BLL"].position.law == "isotropic"
    assert laws["BLL"].variability.sigma == pytest.approx(0.5, abs=0.08)
    assert population.origin.rows == 700


def test_a_claimed_designation_is_not_shared(catalogue: Path) -> None:
    population = fit_population(catalogue, {**THREE, "BLL": ("bll", "bcu")})
    assert population.classes["BLL"].mean_number == pytest.approx(500)
    assert population.classes["FSRQ"].mean_number == pytest.approx(100)


def test_unassociated_rows_are_named_by_latitude(catalogue: Path) -> None:
    _, rows, _ = read_catalog(catalogue)
    assert rows["designation"].isin([UNASSOCIATED_LOW, UNASSOCIATED_HIGH]).sum() == 40
    low = rows["designation"] == UNASSOCIATED_LOW
    assert (rows.loc[low, "GLAT"].abs() <= 10).all()


@pytest.mark.parametrize("window", [10.0, np.inf])
def test_faint_counts_continue_the_catalogues(window: float) -> None:
    """One power law from 5e-10 up: the law found gives as many sources further down."""
    rule = FaintRule(5e-10, window, (1.5, 1.95), None, True)
    u = (np.arange(5000) + 0.5) / 5000
    for slope in (1.7, 1.85):
        log_flux = np.log10(rule.threshold * u ** (-1 / (slope - 1)))
        faint = _faint_extension(rule, log_flux, np.ones(5000))
        assert faint is not None
        assert faint.slope == pytest.approx(slope, rel=0.02)
        assert faint.density == pytest.approx(5000 * (slope - 1), rel=0.03)
        expected = 5000 * (0.02 ** (1 - slope) - 1)
        assert faint.number(1e-11) == pytest.approx(expected, rel=0.06)


def test_slopes_stay_in_their_range() -> None:
    rule = FaintRule(5e-10, np.inf, (1.8, 1.97), None, True)
    u = (np.arange(2000) + 0.5) / 2000
    for slope, cut in ((2.5, 1.97), (1.4, 1.8)):
        faint = _faint_extension(rule, np.log10(5e-10 * u ** (-1 / (slope - 1))), np.ones(2000))
        assert faint is not None
        assert faint.slope == cut
        # Continuous at the threshold: the density there is the catalogue's own.
        assert faint.density == pytest.approx(2000 * (slope - 1), rel=0.03)
    assert _faint_extension(rule, np.full(5, -9.0), np.ones(5)) is None


@pytest.mark.parametrize("slope", [1.0, 1.6, 1.9, 2.0, 2.3])
def test_integrals_of_the_faint_law(slope: float) -> None:
    law = FaintExtension(threshold=1e-9, slope=slope, density=100.0)
    log_s = np.linspace(np.log(1e-11), np.log(1e-9), 20_001)
    density = 100.0 * np.exp((1 - slope) * (log_s - log_s[-1]))
    assert law.number(1e-11) == pytest.approx(np.trapezoid(density, log_s), rel=1e-6)
    assert law.flux(1e-11) == pytest.approx(np.trapezoid(density * np.exp(log_s), log_s), rel=1e-6)
    assert law.diverges == (slope >= 2)


@pytest.mark.parametrize(
    ("classes", "message"), [({"NOVA": ("nov",)}, "nov has 0 rows"), ({}, "there is none")]
)
def test_bad_classes(catalogue: Path, classes: dict[str, tuple[str, ...]], message: str) -> None:
    with pytest.raises(InputError, match=message):
        fit_population(catalogue, classes)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is missing"):
        fit_population(tmp_path / "none.fits")


def test_not_fits(tmp_path: Path) -> None:
    (tmp_path / "a.fits").write_text("no FITS at all")
    with pytest.raises(InputError, match="not a readable FITS file"):
        fit_population(tmp_path / "a.fits")


@pytest.mark.parametrize("share", [0.9, 0.5])
def test_truncated_file(catalogue: Path, tmp_path: Path, share: float) -> None:
    content = catalogue.read_bytes()
    (tmp_path / "cut.fits").write_bytes(content[: int(share * len(content))])
    with pytest.raises(InputError, match="not a readable FITS file"):
        fit_population(tmp_path / "cut.fits")


def test_file_without_table(tmp_path: Path) -> None:
    fits.PrimaryHDU(np.zeros((2, 2))).writeto(tmp_path / "image.fits")
    with pytest.raises(InputError, match="holds no table"):
        fit_population(tmp_path / "image.fits")


def test_missing_column_is_named(tmp_path: Path) -> None:
    path = write_catalogue(tmp_path / "cat.fits", leave_out="LP_beta")
    with pytest.raises(InputError, match="4FGL it lacks LP_beta"):
        fit_population(path)


# Files


@pytest.mark.parametrize("name", shipped_populations())
def test_shipped_files_are_small_and_complete(name: str, tmp_path: Path) -> None:
    population = load_population(name)
    assert population.name == name
    save_population(population, tmp_path / "again.json")
    assert load_population(str(tmp_path / "again.json")) == population
    assert (tmp_path / "again.json").stat().st_size < 60_000


def test_shipped_names() -> None:
    assert shipped_populations() == ("2fhl", "4fgl_dr2")
    assert set(load_population("4fgl_dr2").classes) == {"BLL", "FSRQ", "PSR", "PWN+SNR"}
    assert set(load_population("2fhl").classes) == {"AGN", "GALACTIC"}


def broken(tmp_path: Path, **changes: object) -> str:
    tree = load_population("2fhl").model_dump(mode="json")
    for key, value in changes.items():
        node = tree
        *sections, last = key.split("__")
        for section in sections:
            node = node[section]
        node[last] = value
    path = tmp_path / "population.json"
    path.write_text(json.dumps(tree))
    return str(path)


def test_other_version_is_named(tmp_path: Path) -> None:
    other = FORMAT_VERSION + 1
    with pytest.raises(InputError, match=f"format version {other}; this program reads version"):
        load_population(broken(tmp_path, format_version=other))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"colour": "red"}, "colour: Extra inputs"),
        ({"probabilities": [0.0, 0.5]}, "rise from 0 to 1"),
        ({"classes": {}}, "there is no class"),
        ({"reference_flux_min_mev": 1e9}, "runs backwards"),
        ({"classes__AGN__mean_number": float("nan")}, "mean_number"),
        ({"classes__AGN__form": "band"}, "form"),
        ({"classes__AGN__variables__index": [2.0, 1.0]}, "must rise"),
        ({"classes__AGN__variables__index": [2.0, 3.0]}, "2 quantiles for"),
        ({"classes__AGN__variables": {"index": [2.0]}}, "needs"),
        ({"classes__AGN__correlation": [[1.0]]}, "must be 4 x 4"),
        ({"classes__AGN__correlation": np.triu(np.ones((4, 4))).tolist()}, "symmetric"),
        ({"classes__AGN__faint_extension__flux_min": 1.0}, "below threshold"),
        ({"classes__AGN__faint_extension__density": 0.0}, "density"),
        ({"classes__AGN__independent": {}}, "needs"),
        ({"classes__AGN__independent__index__low": 99.0}, "low must not be above high"),
        ({"classes__AGN__independent__index__law": "constant"}, "scale 0"),
        ({"classes__AGN__position": {"law": "disk"}}, "needs components"),
    ],
)
def test_bad_files(tmp_path: Path, changes: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        load_population(broken(tmp_path, **changes))


def test_other_json(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("[1, 2]")
    with pytest.raises(InputError, match="no format_version"):
        load_population(str(tmp_path / "a.json"))
    (tmp_path / "a.json").write_text("{")
    with pytest.raises(InputError, match="not JSON"):
        load_population(str(tmp_path / "a.json"))


def test_unknown_name() -> None:
    with pytest.raises(InputError, match="shipped: 2fhl, 4fgl_dr2"):
        load_population("5fgl")


def test_unwritable_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        save_population(load_population("2fhl"), tmp_path / "file" / "population.json")


@pytest.mark.data
@pytest.mark.parametrize("name", CATALOGUES)
def test_shipped_files_come_from_the_catalogues(lat_data: Path, name: str) -> None:
    fitted = fit_population(lat_data / "catalogs" / CATALOGUES[name])
    shipped = load_population(name)
    assert fitted.origin == shipped.origin
    assert set(fitted.classes) == set(shipped.classes)
    for key, law in fitted.classes.items():
        other = shipped.classes[key]
        assert law.mean_number == pytest.approx(other.mean_number, rel=1e-3)
        assert law.position == other.position
        assert law.faint_extension == other.faint_extension
        for parameter, alone in law.independent.items():
            shipped_law = other.independent[parameter]
            assert alone.law == shipped_law.law
            assert alone.location == pytest.approx(shipped_law.location, rel=1e-3)
            assert alone.scale == pytest.approx(shipped_law.scale, rel=1e-3)
        assert np.array(law.correlation) == pytest.approx(np.array(other.correlation), abs=1e-3)
        for variable, table in law.variables.items():
            assert table == pytest.approx(other.variables[variable], rel=1e-3, abs=1e-3)


@pytest.mark.data
def test_dr2_counts(lat_data: Path) -> None:
    laws = load_population("4fgl_dr2").classes
    assert laws["PSR"].mean_number == 271
    assert laws["PWN+SNR"].mean_number == 157
    # 271 psr and msp; 18 pwn, 43 snr and 96 spp. 1308 bll, 744 fsrq, 1384 bcu shared between them.
    assert laws["BLL"].mean_number + laws["FSRQ"].mean_number == pytest.approx(3436, abs=1)
    assert laws["BLL"].mean_number > 1308
    assert laws["FSRQ"].variability.sigma > 1.5 * laws["BLL"].variability.sigma
    assert laws["PSR"].variability.sigma == laws["PWN+SNR"].variability.sigma == 0
