"""The prediction from catalogue and models against the real 3FHL and 2FHL photons."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from geminga.config import config_from_tree, load_config
from geminga.errors import InputError
from geminga.pipeline.compare_sky import (
    SkyComparison,
    compare_sky,
    comparison_text,
    write_comparison,
)

CONFIGS = Path(__file__).parents[2] / "jobs" / "configs"


def compared(lat_data: Path, name: str, edges: list[float]) -> SkyComparison:
    """A comparison at low resolution in a few bands."""
    bands = [
        {"emin_gev": low, "emax_gev": high, "nside": 32, "pixels": 32}
        for low, high in pairwise(edges)
    ]
    tree = load_config(CONFIGS / f"{name}.yaml").model_dump(mode="json")
    tree.update(bands=bands, data=str(lat_data))
    tree["images"]["box_deg"] = [1.0] * len(bands)
    tree["sky"]["diffuse_nside"] = 64
    return compare_sky(config_from_tree(tree, name))


@pytest.mark.data
def test_3fhl_photons_are_foretold_within_a_tenth(lat_data: Path, tmp_path: Path) -> None:
    comparison = compared(lat_data, "compare_3fhl", [10.0, 34.787148, 165.26936, 574.92499, 2000.0])
    counted = comparison.observed.counts.sum(axis=1)
    assert counted.sum() == 696_519
    assert comparison.ratio == pytest.approx(1.0, abs=0.1)
    # Bands too, but for the last, where the models end.
    ratio = comparison.model.sum(axis=1) / counted
    np.testing.assert_allclose(ratio[:3], 1.0, atol=0.1)
    lat = np.abs(comparison.observed.directions()[1])
    for low, high in ((0, 5), (5, 20), (20, 50), (50, 90)):
        here = (lat >= low) & (lat < high)
        part = comparison.model[:, here].sum() / comparison.observed.counts[:, here].sum()
        assert part == pytest.approx(1.0, abs=0.1), (low, high)
    text = write_comparison(comparison, tmp_path)
    assert (tmp_path / "comparison.md").read_text() == text
    assert "| all | 696519 |" in text
    drawn = sorted(path.name for path in tmp_path.glob("*.png"))
    assert drawn == ["bands.png", "maps.png", "profiles.png", "residuals.png"]
    assert all((tmp_path / name).stat().st_size < 200_000 for name in drawn)


@pytest.mark.data
def test_2fhl_photons_are_foretold_within_a_tenth(lat_data: Path) -> None:
    comparison = compared(lat_data, "compare_2fhl", [50.0, 171.0, 2000.0])
    assert comparison.observed.counts.sum() == 60_275
    assert comparison.observed.galactic
    assert comparison.ratio == pytest.approx(1.0, abs=0.1)
    assert "gll_psch_v09.fit.gz" in comparison_text(comparison)


@pytest.mark.parametrize(
    ("observed", "message"),
    [
        (None, "observed: is not configured"),
        ({"events": ["x.fits"]}, r"observed\.truth_catalog: is not set"),
    ],
)
def test_configurations_that_name_nothing_to_compare(
    observed: dict[str, object] | None, message: str
) -> None:
    tree = load_config(CONFIGS / "compare_2fhl.yaml").model_dump(mode="json")
    tree["observed"] = observed
    with pytest.raises(InputError, match=message):
        compare_sky(config_from_tree(tree, "test"))
