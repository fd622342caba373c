from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import BaseModel, ValidationError

from geminga.bands import Band
from geminga.config import (
    Config,
    config_from_tree,
    data_folder,
    data_path,
    digest,
    load_config,
)
from geminga.errors import InputError

BASE: dict[str, Any] = {
    "bands": [
        {"emin_gev": 1, "emax_gev": 3, "nside": 64, "pixels": 32},
        {"emin_gev": 3, "emax_gev": 30, "nside": 128, "pixels": 64},
    ],
    "images": {"box_deg": [2, 1]},
}


def write(folder: Path, tree: object) -> Path:
    path = folder / "run.yaml"
    path.write_text(yaml.safe_dump(tree))
    return path


def merged(**sections: Any) -> dict[str, Any]:
    tree = {key: value for key, value in BASE.items() if key not in sections}
    for name, value in sections.items():
        old = BASE.get(name)
        tree[name] = {**old, **value} if isinstance(old, dict) else value
    return tree


def test_defaults_fill_what_a_file_leaves_out(tmp_path: Path) -> None:
    config = load_config(write(tmp_path, BASE))
    assert config.seed == 2018
    assert config.top_pixels == 64
    assert config.miun_training.loss == "bce"
    assert config.classifier_training.loss == "cross_entropy"
    assert config.bands[0] == Band(emin_gev=1, emax_gev=3, nside=64, pixels=32)


def test_one_band_is_a_whole_configuration() -> None:
    config = config_from_tree({"bands": BASE["bands"][:1], "images": {"box_deg": [1]}}, "here")
    assert config.top_pixels == 32


def test_resolved_tree_reads_back_as_the_same_configuration(config2: Config) -> None:
    tree = yaml.safe_load(yaml.safe_dump(config2.model_dump(mode="json")))
    again = config_from_tree(tree, "here")
    assert again == config2
    assert again.hash() == config2.hash()


def test_configuration_cannot_be_changed(config2: Config) -> None:
    with pytest.raises(ValidationError, match="frozen"):
        config2.seed = 1  # type: ignore[misc]
    with pytest.raises(ValidationError, match="frozen"):
        config2.sky.years = 1  # type: ignore[misc]


# Every refusal names file, key and value, and what would be right.
BAD: list[tuple[dict[str, Any], str]] = [
    (merged(colour="red"), "unknown key colour = 'red'; known keys here are .*bands"),
    (merged(sky={"yeras": 3}), "unknown key sky.yeras = 3; known keys here are .*years"),
    (merged(bands=[{**BASE["bands"][0], "n": 1}]), "unknown key bands.0.n = 1; .*emin_gev"),
    (
        merged(observed={"events": ["a"], "zenith": 100}),
        "unknown key observed.zenith = 100; .*max_zenith_deg",
    ),
    ({}, "bands: Field required; mend"),
    (merged(bands=[]), "no band given"),
    (merged(bands=BASE["bands"][::-1]), "3-30 GeV and 1-3 GeV overlap or run backwards"),
    (
        merged(bands=[{**BASE["bands"][0], "emax_gev": 3.5}, BASE["bands"][1]]),
        "1-3.5 GeV and 3-30 GeV overlap",
    ),
    (
        merged(bands=[{**BASE["bands"][0], "emax_gev": 0.5}, BASE["bands"][1]]),
        "bands.0: band 1.0-0.5 GeV runs backwards",
    ),
    (merged(bands=[{**BASE["bands"][0], "nside": 65}]), "nside 65 is not a power of two"),
    (merged(seed=-1), "seed = -1: Input should be greater than or equal to 0"),
    (merged(name="a b"), "name = 'a b': String should match"),
    (merged(name="../escape"), "name = '../escape'"),
    (merged(classes=[]), "classes .* not empty"),
    (merged(classes=["PSR", "PSR"]), "classes .* distinct"),
    (merged(classes=["PSR", "PWN+SNR", "FAKE"]), "'FAKE'.* names the platform uses itself"),
    (merged(classes=["PSR", "PWN+SNR", "isotropic"]), "'isotropic'"),
    (merged(classes=["BLL"]), r"rotated_classes \['PSR', 'PWN\+SNR'\] are not among classes"),
    (merged(response={"exposure_nside": 33}), "response.exposure_nside = 33: .*power of two"),
    (merged(response={"event_types": []}), "response.event_types .*at least 1"),
    (merged(response={"duration_years": 0}), "response.duration_years = 0: .*greater than 0"),
    (merged(sky={"diffuse_nside": 0}), "sky.diffuse_nside = 0: .*power of two"),
    (merged(sky={"years": 0}), "sky.years = 0: .*greater than or equal to 1"),
    (merged(sky={"years": 1.5}), "sky.years = 1.5: .*integer"),
    (merged(sky={"density_factor": -1}), "sky.density_factor = -1"),
    (merged(sky={"density_factor": float("inf")}), "sky.density_factor = inf: .*finite"),
    (merged(sky={"density_factor": float("nan")}), "sky.density_factor = nan"),
    (merged(sky=None), "sky = None"),
    (merged(patches={"grid_nside": -8}), "patches.grid_nside = -8"),
    (merged(patches={"size_deg": 170}), "patches.size_deg = 170: .*less than or equal to 90"),
    (merged(miun={"bottleneck_pixels": 32}), "bottleneck_pixels 32 is not below .* use 16"),
    (merged(miun={"bottleneck_pixels": 12}), "bottleneck_pixels 12 does not divide 64"),
    (merged(miun={"bottleneck_pixels": 0}), "miun.bottleneck_pixels = 0"),
    (merged(miun={"dropout": 1.5}), "miun.dropout = 1.5"),
    (merged(miun={"input_scaling": "log"}), "miun.input_scaling = 'log': .*'anscombe'"),
    (merged(miun_training={"loss": "mse"}), "miun_training.loss = 'mse'"),
    (merged(miun_training={"plateau_factor": 1}), "miun_training.plateau_factor = 1"),
    (merged(images={"box_deg": [1]}), "images.box_deg has 1 widths for 2 bands"),
    (merged(images={"box_deg": [1, 0]}), "images.box_deg.1 = 0"),
    (merged(images={"yearly_min_gev": 5}), "images.yearly_min_gev 5.0 .* use 3.0 or less"),
    (merged(observed={}), "observed: give either events or counts"),
    (merged(observed={"events": ["a"], "counts": ["b"]}), "not both"),
    (merged(observed={"events": ["a"], "event_class_bits": [32]}), "event_class_bits.0 = 32"),
    (merged(observed={"events": ["a"], "time_range_met_s": [5, 5]}), "runs backwards"),
    (
        merged(observed={"events": ["a"], "truth_catalog": "2FHL"}),
        r"truth_catalog '2FHL' is not one of reference_catalogs \[\]",
    ),
    (merged(run={"workers": -1}), "run.workers = -1"),
]


@pytest.mark.parametrize(("tree", "message"), BAD, ids=[message for _, message in BAD])
def test_bad_configuration(tree: dict[str, Any], message: str, tmp_path: Path) -> None:
    path = write(tmp_path, tree)
    with pytest.raises(InputError, match=message) as caught:
        load_config(path)
    assert caught.value.where == str(path)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 700


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not a mapping"),
        (b"- a\n- b\n", "not a mapping"),
        (b"bands: [", "is not YAML"),
        (b"\xff\xfe\x00", "is not YAML"),
        (b"name: 2020-13-45\n", "is not YAML"),
        (b"a: !!python/object/apply:os.system ['true']\n", "is not YAML"),
        (b"seed: 1\nseed: 2\n", "is not YAML .*seed.* twice"),
        (b"sky:\n  years: 1\n  years: 2\n", "is not YAML .*years.* twice"),
        (b"1: 2\n", "1 = 1: Keys should be strings"),
    ],
)
def test_file_that_is_no_configuration(content: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "bad.yaml"
    path.write_bytes(content)
    with pytest.raises(InputError, match=message) as caught:
        load_config(path)
    assert "\n" not in str(caught.value)


def test_missing_file_or_folder(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"absent\.yaml: cannot be read \(No such file"):
        load_config(tmp_path / "absent.yaml")
    with pytest.raises(InputError, match="cannot be read"):
        load_config(tmp_path)


def test_set_reaches_every_depth_and_reads_yaml(tmp_path: Path) -> None:
    config = load_config(
        write(tmp_path, BASE),
        [
            "seed=5",
            "sky.years=3",
            "sky.max_photon_flux=1e-9",
            "images.box_deg=[4, 4]",
            "localisation.purity_floor=null",
            "run.output=some/where",
            "sky.interstellar=a=b",
        ],
    )
    assert config.seed == 5
    assert config.sky.years == 3
    assert config.sky.max_photon_flux == 1e-9
    assert config.images.box_deg == (4.0, 4.0)
    assert config.localisation.purity_floor is None
    assert config.run.output == "some/where"
    assert config.sky.interstellar == ("a=b",)


def test_the_last_set_wins(tmp_path: Path) -> None:
    assert load_config(write(tmp_path, BASE), ["seed=5", "seed=6"]).seed == 6


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("seed", "--set seed: has no '='; write --set section.key=value"),
        ("=5", "--set =5: has no '='"),
        ("seed.deeper=5", r"seed = {'deeper': 5}: Input should be a valid integer"),
        ("bands.0.nside=64", "--set bands.0.nside=64: bands is not a section"),
        ("sky.years=[1", "is not YAML"),
        ("sky.yeras=1", "unknown key sky.yeras = 1"),
        ("sky.years=many", "sky.years = 'many'"),
        ("nothing.key=1", "unknown key nothing"),
    ],
)
def test_bad_set(override: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        load_config(write(tmp_path, BASE), [override])


def test_hash_never_changes_for_the_same_settings(config2: Config) -> None:
    assert digest({"b": 1, "a": [1.5, None]}) == digest({"a": [1.5, None], "b": 1})
    assert digest({"a": 1}) == "015abd7f5cc57a2d"
    assert config2.hash() == config2.model_copy().hash()
    assert len(config2.hash()) == 16


def test_hash_ignores_where_a_run_goes_and_what_it_is_called(tmp_path: Path) -> None:
    path = write(tmp_path, BASE)
    plain = load_config(path)
    for override in ("name=other", "run.output=x", "run.workers=7", "run.experiment=y"):
        assert load_config(path, [override]).hash() == plain.hash()


@pytest.mark.parametrize(
    "override", ["seed=1", "sky.years=9", "classes=[PSR, PWN+SNR]", "miun.width=8", "sets.test=2"]
)
def test_hash_follows_every_other_setting(override: str, tmp_path: Path) -> None:
    path = write(tmp_path, BASE)
    assert load_config(path, [override]).hash() != load_config(path).hash()


def test_hash_does_not_depend_on_how_a_number_is_written(tmp_path: Path) -> None:
    path = write(tmp_path, BASE)
    assert load_config(path, ["patches.size_deg=10"]).hash() == load_config(path).hash()
    assert load_config(path, ["patches.size_deg=10.0"]).hash() == load_config(path).hash()


def test_every_section_refuses_unknown_keys_and_is_frozen(config2: Config) -> None:
    sections = [config2, *(v for _, v in config2 if isinstance(v, BaseModel))]
    assert len(sections) > 10
    for section in sections:
        assert section.model_config.get("extra") == "forbid", type(section)
        assert section.model_config.get("frozen") is True, type(section)


def test_data_folder_follows_key_then_variable_then_shared(
    config2: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    monkeypatch.delenv("GEMINGA_DATA", raising=False)
    assert data_folder(config2) is None
    (tmp_path / "shared" / "data").mkdir(parents=True)
    assert data_folder(config2) == Path("../shared/data")
    monkeypatch.setenv("GEMINGA_DATA", "/from/variable")
    assert data_folder(config2) == Path("/from/variable")
    assert data_folder(config2.model_copy(update={"data": "/from/key"})) == Path("/from/key")


def test_data_path(config2: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GEMINGA_DATA", str(tmp_path))
    (tmp_path / "events.fits").write_text("")
    assert data_path(config2, "events.fits") == tmp_path / "events.fits"
    absolute = str(tmp_path / "events.fits")
    assert data_path(config2, absolute) == Path(absolute)
    with pytest.raises(InputError, match=r"absent\.fits: not found at .*set GEMINGA_DATA"):
        data_path(config2, "absent.fits")
