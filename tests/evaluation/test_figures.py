from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from geminga.errors import InputError
from geminga.evaluation.confusion import count_confusion, empty_confusion
from geminga.evaluation.counts import MatchCounts, count_matches, empty_counts
from geminga.evaluation.figures import (
    PatchExample,
    completeness_curves,
    confusion_matrices,
    counts_map,
    patch_examples,
    purity_completeness,
    reference_map,
    save_figure,
    sky_map,
    training_curves,
)
from geminga.evaluation.style import sky_xy
from geminga.matching import match
from geminga.sections import EvaluationConfig

SETTINGS = EvaluationConfig()


def sky(n: int = 40) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    rng = np.random.default_rng(1)
    truth = pd.DataFrame(
        {
            "lon_deg": rng.uniform(0, 360, n),
            "lat_deg": rng.uniform(-80, 80, n),
            "s1": 10 ** rng.normal(-9, 0.5, n),
        }
    )
    found = truth.iloc[: n // 2].assign(lon_deg=lambda t: t["lon_deg"] + 0.05)
    found = pd.concat([found, truth.iloc[:4].assign(lat_deg=85.0)], ignore_index=True)
    found["score"] = rng.uniform(30, 69, len(found))
    return found, truth, match(found, truth, 0.3)


def counts(n: int = 40) -> MatchCounts:
    found, truth, matches = sky(n)
    return count_matches(found, truth, matches, SETTINGS)


def example(bands: int, with_target: bool) -> PatchExample:
    rng = np.random.default_rng(2)
    return PatchExample(
        "l=10°, b=-20°",
        10.0,
        [rng.poisson(1.0, (n, n)).astype(np.float32) for n in (16, 32, 64)[:bands]],
        np.ones((64, 64), np.uint8) if with_target else None,
        rng.random((64, 64), dtype=np.float32),
        rng.uniform(-5, 5, (3, 2)),
        np.zeros((0, 2)),
    )


def size(path: Path) -> tuple[int, int]:
    data = path.read_bytes()
    assert data.startswith(b"\x89PNG")
    width, height = struct.unpack(">II", data[16:24])
    return width, height


def figures() -> dict[str, Figure]:
    found, truth, matches = sky()
    searches = {"MIUN": counts(), "k-means": counts(20)}
    history = [
        {"epoch": k, "train_loss": 1 / k, "valid_loss": 1.1 / k, "learning_rate": 1e-3, "score": k}
        for k in (1, 2, 3)
    ]
    confusion = count_confusion(np.array([0, 1, 2]), np.array([0, 0, 2]), ("BLL", "PSR"))
    return {
        "sky": sky_map(found, truth, matches, "title"),
        "reference": reference_map(found, np.arange(len(found)) < 5, {"2FHL": truth}),
        "map": counts_map(np.abs(np.random.default_rng(3).normal(size=(18, 36))), "counts"),
        "s1": completeness_curves(searches),
        "s10": completeness_curves(searches, "s10"),
        "curve": purity_completeness(searches, purity_counts={"MIUN": counts(20)}),
        "patches": patch_examples([example(3, True), example(3, False)], ["a", "b", "c"]),
        "one band": patch_examples([example(1, True)], ["a"]),
        "confusion": confusion_matrices(confusion),
        "training": training_curves(history, "MIUN"),
    }


def nothing() -> dict[str, Figure]:
    found, truth, _ = sky()
    none_found, none_true = found.iloc[:0], truth.iloc[:0]
    empty = {"MIUN": empty_counts(SETTINGS)}
    return {
        "sky": sky_map(none_found, none_true, match(none_found, none_true, 0.3)),
        "reference": reference_map(none_found, np.zeros(0, bool), {}),
        "map": counts_map(np.zeros((18, 36)), "counts"),
        "s1": completeness_curves(empty),
        "no search": completeness_curves({}),
        "curve": purity_completeness(empty),
        "patches": patch_examples([], ["a"]),
        "confusion": confusion_matrices(empty_confusion(("BLL",))),
        "training": training_curves([]),
    }


@pytest.mark.parametrize("make", [figures, nothing])
def test_every_figure_is_drawn(make: object, tmp_path: Path) -> None:
    assert callable(make)
    for name, figure in make().items():
        path = tmp_path / f"{name}.png"
        save_figure(figure, path)
        width, height = size(path)
        assert 300 <= width <= 2000, name
        assert 250 <= height <= 1000, name
        assert path.stat().st_size < 600_000, name
    assert not list(tmp_path.glob(".*"))


def test_same_figure_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        save_figure(completeness_curves({"MIUN": counts()}), tmp_path / f"{name}.png")
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_figure_below_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match="cannot be written"):
        save_figure(completeness_curves({}), tmp_path / "file" / "a.png")


def test_longitude_rises_to_the_left() -> None:
    x, y = sky_xy(np.array([0.0, 90.0, 179.0, 181.0, 350.0]), np.array([0.0, 10, 20, 30, 90]))
    np.testing.assert_allclose(np.degrees(x), [0, -90, -179, 179, 10])
    np.testing.assert_allclose(np.degrees(y), [0, 10, 20, 30, 90])


def test_sky_map_names_the_numbers() -> None:
    found, truth, matches = sky()
    figure = sky_map(found, truth, matches)
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels == ["missed (20)", "found (20)", "false (4)"]


def test_patches_show_the_east_on_the_left() -> None:
    figure = patch_examples([example(1, True)], ["a"])
    for axes in figure.axes:
        assert axes.get_xlim() == (5.0, -5.0)
        assert axes.get_ylim() == (-5.0, 5.0)
        (image,) = axes.get_images()
        # Columns run east, so the first one must lie at negative x, at the right of the picture.
        assert tuple(image.get_extent()) == (-5.0, 5.0, -5.0, 5.0)
