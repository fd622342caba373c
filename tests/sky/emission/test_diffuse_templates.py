"""HEALPix templates of interstellar emission, and models made of them."""

from __future__ import annotations

import gzip
from pathlib import Path

import healpy
import numpy as np
import pytest

from geminga.config import Config, SkyConfig
from geminga.errors import InputError
from geminga.response import build_response
from geminga.sky.emission.diffuse import diffuse_counts, diffuse_files, model_names
from geminga.sky.emission.diffuse_models import builtin_interstellar
from geminga.sky.emission.templates import (
    read_healpix,
    read_template,
    template_files,
    template_model,
)

NSIDE = 16
EXPOSURE = "exposure/exposure_2to20GeV_UCV_PSF3_573w_nside128.npy.gz"
MODEL_A = "+".join(f"diffuse/template_A{k}_nside128.npy.gz@{EXPOSURE}" for k in ("pi", "ic"))


def smooth_map(nside: int = NSIDE) -> np.ndarray:
    lon, lat = healpy.pix2ang(nside, np.arange(12 * nside**2), lonlat=True)
    return 1.0 + np.exp(-np.abs(lat) / 10) * (2 + np.cos(np.radians(lon)))


def with_sky(config: Config, **keys: object) -> Config:
    return config.model_copy(update={"sky": SkyConfig(**(config.sky.model_dump() | keys))})


def test_numpy_gzip_and_fits_give_the_same(tmp_path: Path) -> None:
    values = smooth_map()
    np.save(tmp_path / "a.npy", values)
    with gzip.open(tmp_path / "a.npy.gz", "wb") as stream:
        np.save(stream, values)
    healpy.write_map(tmp_path / "r.fits", values, coord="G", dtype=np.float64)
    nested = healpy.reorder(values, r2n=True)
    healpy.write_map(tmp_path / "n.fits", nested, nest=True, coord="G", dtype=np.float64)
    for name in ("a.npy", "a.npy.gz", "r.fits", "n.fits"):
        np.testing.assert_array_equal(read_healpix(tmp_path / name), values)


def test_counts_are_divided_by_the_exposure(tmp_path: Path, config2: Config) -> None:
    exposure = 1e11 * smooth_map()[::-1]
    np.save(tmp_path / "c.npy", smooth_map() * exposure)
    np.save(tmp_path / "e.npy", exposure)
    read = read_template(config2, f"{tmp_path}/c.npy@{tmp_path}/e.npy")
    np.testing.assert_allclose(read, smooth_map())
    assert template_files("a@b+c@b") == ("a", "b", "c", "b")


@pytest.mark.parametrize(
    ("values", "match"),
    [
        (np.ones(100), r"has shape \(100,\), no HEALPix map"),
        (np.ones((12, 2)), "no HEALPix map"),
        (np.full(12, np.nan), "not finite"),
        (np.full(12, np.inf), "not finite"),
        (np.full(12, -1.0), "negative"),
        (np.zeros(12), "zero everywhere"),
        (healpy.reorder(smooth_map(), r2n=True), "NESTED order by the look of it"),
        (np.array(["a"] * 12), "not hold one array of numbers"),
    ],
)
def test_templates_that_cannot_be_used(tmp_path: Path, values: np.ndarray, match: str) -> None:
    np.save(tmp_path / "t.npy", values)
    with pytest.raises(InputError, match=match) as caught:
        read_healpix(tmp_path / "t.npy")
    assert "\n" not in str(caught.value)


def test_template_files_that_are_none(tmp_path: Path, config2: Config) -> None:
    (tmp_path / "t.npy").write_text("no array")
    with pytest.raises(InputError, match="is not a numpy array"):
        read_healpix(tmp_path / "t.npy")
    (tmp_path / "t.npy.gz").write_bytes(b"\x1f\x8b no gzip")
    with pytest.raises(InputError, match="is not a numpy array"):
        read_healpix(tmp_path / "t.npy.gz")
    healpy.write_map(tmp_path / "e.fits", smooth_map(), coord="C", dtype=np.float64)
    with pytest.raises(InputError, match="COORDSYS 'C'"):
        read_healpix(tmp_path / "e.fits")
    np.save(tmp_path / "a.npy", smooth_map())
    np.save(tmp_path / "b.npy", smooth_map(8))
    a, b = str(tmp_path / "a.npy"), str(tmp_path / "b.npy")
    with pytest.raises(InputError, match="an exposure of 768 pixels and a template of 3072"):
        read_template(config2, f"{a}@{b}")
    with pytest.raises(InputError, match="names two exposures"):
        read_template(config2, f"{a}@{a}@{a}")
    with pytest.raises(InputError, match="give one resolution to all"):
        template_model(config2, f"{a}+{b}", builtin_interstellar())
    np.save(tmp_path / "z.npy", np.where(np.arange(3072) == 9, 0.0, smooth_map()))
    with pytest.raises(InputError, match="exposure of zero"):
        read_template(config2, f"{a}@{tmp_path / 'z.npy'}")


def test_a_model_has_the_morphology_of_its_templates_and_the_built_in_norm(
    tmp_path: Path, config2: Config
) -> None:
    np.save(tmp_path / "t.npy", 7.0 * smooth_map())
    builtin = builtin_interstellar()
    model = template_model(config2, str(tmp_path / "t.npy"), builtin)
    assert "no exposure named" in model.origin
    for number in (3, 15, 25):
        plane = model.plane(number, NSIDE)
        np.testing.assert_allclose(plane / plane.mean(), smooth_map() / smooth_map().mean())
        assert plane.mean() == pytest.approx(builtin.plane(number, 32).mean(), rel=1e-6)
        fine = model.plane(number, 2 * NSIDE)
        assert fine.mean() == pytest.approx(plane.mean(), rel=0.01)


@pytest.mark.data
def test_galprop_model_a(lat_data: Path, config2: Config) -> None:
    config = config2.model_copy(update={"data": str(lat_data)})
    builtin = builtin_interstellar()
    model = template_model(config, MODEL_A, builtin)
    gas = model.spectra[:, 0] / model.spectra.sum(axis=1)
    energy = model.energy_mev
    # Gas shines with the bump of neutral pions: little of it below 0.1 GeV, most at 1 GeV.
    assert gas[energy < 60].max() < 0.2
    assert ((gas > 0.5) & (gas < 0.75))[(energy > 500) & (energy < 5e4)].all()
    for number in (6, 11, 19):
        ratio = model.plane(number, 64) / builtin.plane(number, 64)
        assert 0.1 < np.log(ratio).std() < 0.4  # another model, not a copy
        assert 0.6 < np.median(ratio) < 1.5


def test_models_of_a_configuration_in_order(tmp_path: Path, config2: Config) -> None:
    np.save(tmp_path / "t.npy", smooth_map())
    template = str(tmp_path / "t.npy")
    config = with_sky(
        config2, interstellar=("builtin",), test_interstellar=(template,), diffuse_nside=16
    )
    assert model_names(config) == ("builtin", template)
    counts = diffuse_counts(config, build_response(config))
    assert counts.models == ("builtin", template)
    assert counts.interstellar.shape == (2, 2, 3072)
    total = counts.interstellar.sum(axis=2)
    np.testing.assert_allclose(total[1], total[0], rtol=0.05)
    assert diffuse_files(config) == [Path(template)]


@pytest.mark.parametrize("key", ["interstellar", "test_interstellar"])
def test_unknown_models(config2: Config, key: str) -> None:
    with pytest.raises(InputError, match=rf"sky\.{key}: 'biultin' is neither 'builtin' nor found"):
        diffuse_files(with_sky(config2, **{key: "biultin"}))
