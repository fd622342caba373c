from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from geminga.config import Config, config_from_tree
from geminga.errors import InputError
from geminga.files import file_digest
from geminga.networks import build_classifier, build_miun, load_checkpoint, save_checkpoint
from geminga.networks.losses import Kind

BUILD: dict[Kind, Callable[[Config], nn.Module]] = {
    "miun": build_miun,
    "classifier": build_classifier,
}
KINDS = pytest.mark.parametrize("kind", ["miun", "classifier"])


def changed(config: Config, **sections: Any) -> Config:
    tree = config.model_dump(mode="json")
    for name, value in sections.items():
        tree[name] = {**tree[name], **value} if isinstance(value, dict) else value
    return config_from_tree(tree, "test")


class Wrapper(nn.Module):
    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module


@KINDS
@pytest.mark.parametrize("wrapped", [False, True])
def test_round_trip(kind: Kind, wrapped: bool, config2: Config, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = BUILD[kind](config2)
    for buffer in model.buffers():
        buffer += 1
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter)
    extra = {"prior": [0.25, 0.75], "note": "text"}
    save_checkpoint(tmp_path / "m", Wrapper(model) if wrapped else model, kind, config2, extra)
    assert sorted(p.name for p in (tmp_path / "m").iterdir()) == [
        "model.json",
        "weights.safetensors",
    ]
    loaded, meta = load_checkpoint(tmp_path / "m", config2, kind)
    assert not loaded.training
    state = model.state_dict()
    assert loaded.state_dict().keys() == state.keys()
    assert all(torch.equal(tensor, state[name]) for name, tensor in loaded.state_dict().items())
    assert meta["extra"] == extra
    assert meta["kind"] == kind
    assert meta["config_hash"] == config2.hash()


def test_saving_replaces_and_is_the_same_file(config2: Config, tmp_path: Path) -> None:
    for _ in range(2):
        save_checkpoint(tmp_path / "m", build_miun(config2), "miun", config2, {})
        digest = json.loads((tmp_path / "m" / "model.json").read_text())["weights_sha256"]
    save_checkpoint(tmp_path / "n", build_miun(config2), "miun", config2, {})
    assert json.loads((tmp_path / "n" / "model.json").read_text())["weights_sha256"] == digest
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith(".")] == []


def test_a_folder_that_cannot_be_written(config2: Config, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        save_checkpoint(tmp_path / "file" / "m", build_miun(config2), "miun", config2, {})


@pytest.mark.parametrize(
    ("kind", "sections", "problem"),
    [
        ("miun", {"miun": {"width": 8}}, "miun.width 4, the configuration has 8"),
        ("miun", {"miun": {"bottleneck_pixels": 8}}, "bottleneck_pixels 16, .* has 8"),
        ("miun", {"patches": {"size_deg": 5.0}}, "patches.size_deg 10.0, .* has 5.0"),
        ("classifier", {"classes": ["PSR", "PWN+SNR"]}, "classes .*BLL.* has .*'PSR'"),
        ("classifier", {"sky": {"years": 3}}, "sky.years 4, .* has 3"),
        ("classifier", {"images": {"box_deg": [2.0, 2.0]}}, "images.box_deg .*1.0.* has"),
        ("classifier", {"classifier": {"width": 7}}, "classifier.width 64, .* has 7"),
    ],
)
def test_other_settings_are_refused_with_both_values(
    kind: Kind, sections: dict[str, Any], problem: str, config2: Config, tmp_path: Path
) -> None:
    save_checkpoint(tmp_path / "m", BUILD[kind](config2), kind, config2, {})
    with pytest.raises(InputError, match=problem):
        load_checkpoint(tmp_path / "m", changed(config2, **sections))


@KINDS
def test_other_bands_are_refused(kind: Kind, config2: Config, tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "m", BUILD[kind](config2), kind, config2, {})
    bands = config2.model_dump(mode="json")["bands"]
    bands[1]["emax_gev"] = 50.0
    with pytest.raises(InputError, match=r"3.0-30.0 GeV.*the configuration has.*3.0-50.0 GeV"):
        load_checkpoint(tmp_path / "m", changed(config2, bands=bands))


def test_settings_that_do_not_matter_are_not_compared(config2: Config, tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "m", build_miun(config2), "miun", config2, {})
    other = changed(config2, seed=7, classes=["PSR", "PWN+SNR"], localisation={"threshold": 5.0})
    load_checkpoint(tmp_path / "m", other)


def test_the_wrong_kind_is_refused(config2: Config, tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "m", build_miun(config2), "miun", config2, {})
    with pytest.raises(InputError, match="holds a miun; name the folder of a classifier"):
        load_checkpoint(tmp_path / "m", config2, "classifier")


def test_damaged_files_are_refused(config2: Config, tmp_path: Path) -> None:
    folder = tmp_path / "m"
    with pytest.raises(InputError, match=r"model.json: cannot be read"):
        load_checkpoint(folder, config2)
    save_checkpoint(folder, build_miun(config2), "miun", config2, {})
    weights, meta = folder / "weights.safetensors", folder / "model.json"
    good_weights, good_meta = weights.read_bytes(), meta.read_text()

    weights.unlink()
    with pytest.raises(InputError, match=r"weights.safetensors: cannot be read"):
        load_checkpoint(folder, config2)
    weights.write_bytes(good_weights[:-100])
    with pytest.raises(InputError, match="is not the file that"):
        load_checkpoint(folder, config2)
    weights.write_bytes(good_weights)

    meta.write_text("{")
    with pytest.raises(InputError, match="is not JSON"):
        load_checkpoint(folder, config2)
    meta.write_text(json.dumps({**json.loads(good_meta), "format_version": 99}))
    with pytest.raises(InputError, match="format version 99, this geminga reads 1"):
        load_checkpoint(folder, config2)
    meta.write_text(json.dumps({"format_version": 1, "kind": "other"}))
    with pytest.raises(InputError, match="does not describe a network"):
        load_checkpoint(folder, config2)


@pytest.mark.parametrize("content", [b"", b"\x00" * 64, b'{"a": 1}'])
def test_weights_that_are_no_safetensors(content: bytes, config2: Config, tmp_path: Path) -> None:
    folder = tmp_path / "m"
    save_checkpoint(folder, build_miun(config2), "miun", config2, {})
    (folder / "weights.safetensors").write_bytes(content)
    meta = json.loads((folder / "model.json").read_text())
    meta["weights_sha256"] = file_digest(folder / "weights.safetensors")
    (folder / "model.json").write_text(json.dumps(meta))
    with pytest.raises(InputError, match="does not hold this network"):
        load_checkpoint(folder, config2)
