"""Models made of finished runs."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from tiny_run import TINY

from geminga.cli import USER_ERROR, main
from geminga.config import Config, load_config
from geminga.errors import InputError
from geminga.files import read_json
from geminga.pipeline.model_card import model_card, table
from geminga.pipeline.models import load_model
from geminga.pipeline.package import package_model, packaged_config, replaced


@pytest.fixture(scope="module")
def run(finished: tuple[Path, str]) -> Config:
    return load_config(TINY, [f"run.output={finished[0]}"])


def test_the_command_makes_a_model(
    run: Config, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [
        "package-model", "--config", str(TINY), "--set", f"run.output={run.run.output}",
        "--name", "mine", "--to", str(tmp_path),
    ]  # fmt: skip
    assert main(arguments) == 0
    folder = tmp_path / "mine"
    files = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert files == {
        "MODEL.md", "config.yaml", "ranker/model.json", "ranker/weights.safetensors",
        "classes/model.json", "classes/weights.safetensors",
    }  # fmt: skip
    size = sum((folder / name).stat().st_size for name in files) / 1e6
    assert capsys.readouterr().out == f"model mine: {size:.2f} MB in {folder}\n"
    model = load_model(str(folder))
    assert model.config.name == "mine"
    # Nothing of this machine; everything else, so that later defaults change nothing.
    tree = yaml.safe_load((folder / "config.yaml").read_text())
    assert not {"run", "data", "observed"} & set(tree)
    assert tree["likelihood"] == run.likelihood.model_dump(mode="json")
    assert model.config.hash() == run.hash()
    cut = read_json(Path(run.run.output) / "tiny" / "ranker" / "cuts.json")["ranked"]
    assert read_json(folder / "ranker" / "model.json")["extra"]["score_cut"] == cut
    text = "".join((folder / n).read_text() for n in files if not n.endswith("safetensors"))
    assert str(run.run.output) not in text
    # Once more in the same place.
    first = {name: (folder / name).read_bytes() for name in files}
    assert main(arguments) == 0
    assert {name: (folder / name).read_bytes() for name in files} == first


def test_the_card_says_what_was_trained_and_how_well_it_does(run: Config) -> None:
    root = Path(run.run.output) / "tiny"
    card = model_card(run, root, "mine", 0.25, ["sky.extended"])
    for text in (
        "# Model mine",
        "1 to train, 1 to validate and choose the cut, 1 to test; seed 2018",
        "probability 0.250: chosen for purity 0.8 on validation skies",
        "| interstellar models of the training skies | builtin |",
        "likelihood and ranker",
        "oracle (true background)",
        "| classifier | 2 networks on evidence, ",
        "and classifier",
        "AGN against galactic",
        "UNLIKE",
        "The run read files for sky.extended",
        "Apache License 2.0",
    ):
        assert text in card, text
    bare = run.model_copy(update={"name": "none"})
    assert "no figures" in model_card(bare, _not_evaluated(root), "mine", 0.5)


def _not_evaluated(root: Path) -> Path:
    """Return a folder in which the run was not evaluated."""
    alone = root.parent / "alone"
    for stage in ("ranker", "class_model"):
        (alone / stage).mkdir(parents=True, exist_ok=True)
        (alone / stage / "stage.json").write_bytes((root / stage / "stage.json").read_bytes())
    return alone


def test_settings_that_name_files_become_what_is_built_in() -> None:
    config = load_config(
        TINY,
        [
            "sky.interstellar=[builtin, diffuse/a.fits]",
            "sky.extended=catalogs/x.fits",
            "sky.isotropic={FRONT: iso.txt}",
            "sky.population=own.json",
            "response.caldb=irfs",
            "data=somewhere",
        ],
    )
    assert replaced(config) == [
        "data", "response.caldb", "sky.population", "sky.interstellar", "sky.isotropic",
        "sky.extended",
    ]  # fmt: skip
    packaged = packaged_config(config, "x")
    assert replaced(packaged) == []
    assert packaged.likelihood == config.likelihood
    assert packaged.bands == config.bands
    shipped = load_config(TINY, ["sky.population=2fhl"])
    assert packaged_config(shipped, "x").sky.population == "2fhl"


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("seed=7", "holds no ranker trained with this configuration; run 'geminga run'"),
        ("evidence_net.width=8", "holds no class model trained with this configuration; run"),
        ("evidence.stamp_pixels=5", "holds no class model trained with this configuration; run"),
        ("likelihood.reference=diffuse/a.fits", "'diffuse/a.fits' is a file that users do not"),
        ("localisation.detector=miun", "miun is not what 'geminga detect' runs"),
    ],
)
def test_what_cannot_be_packaged(
    run: Config, tmp_path: Path, override: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    output = f"run.output={run.run.output}"
    given = ["--config", str(TINY), "--set", output, "--set", override, "--name", "x"]
    assert main(["package-model", *given, "--to", str(tmp_path)]) == USER_ERROR
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_names_are_plain(run: Config, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="'a/b' is no plain name"):
        package_model(run, "a/b", tmp_path)


def test_cells_are_kept_apart() -> None:
    assert table([("a", "b"), ("|b| > 20", "1")]) == "| a | b |\n|---|---|\n| \\|b\\| > 20 | 1 |"
