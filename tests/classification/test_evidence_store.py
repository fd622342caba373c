"""The contract of the room: evidence is whole, of one shape, and comes back from its file."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
from evidence_cases import EDGES, changed, classed_evidence

from geminga.classification.evidence import DETECTION_NAMES, Evidence, without
from geminga.errors import InputError


def same(a: Evidence, b: Evidence) -> bool:
    return all(
        np.array_equal(getattr(a, f.name), getattr(b, f.name), equal_nan=True)
        and getattr(a, f.name).dtype == getattr(b, f.name).dtype
        for f in fields(Evidence)
    )


def flux_alone(n: int, years: int) -> Evidence:
    """Return what a catalogue without photons says."""
    rng = np.random.default_rng(n)
    parts = without(n, years=years) if years else without(n)
    ratios = {
        name: parts.pop(name, np.zeros((n, 0))) for name in ("year_ratio", "year_ratio_error")
    }
    flux = rng.random((n, 2))
    return Evidence(rng.random(n), rng.random(n), EDGES, flux, flux, **ratios, **parts)


@pytest.mark.parametrize("n", [0, 1, 7])
def test_a_file_gives_back_evidence_and_labels(tmp_path: Path, n: int) -> None:
    evidence, label = classed_evidence(n, 5)
    evidence.band_flux[::2, 1] = np.nan
    path = tmp_path / "deep" / "evidence.npz"
    evidence.save(path, label=label, counted=np.ones(n, np.bool_))
    back, more = Evidence.load(path)
    assert same(back, evidence)
    assert sorted(more) == ["counted", "label"]
    assert np.array_equal(more["label"], label)
    assert more["counted"].dtype == np.bool_
    assert [p.name for p in path.parent.iterdir()] == ["evidence.npz"], "nothing temporary is left"


@pytest.mark.parametrize("years", [0, 3])
def test_evidence_without_photons_is_stored_too(tmp_path: Path, years: int) -> None:
    evidence = flux_alone(4, years)
    assert evidence.year_ratio.shape == (4, years)
    assert evidence.stamps.shape == (4, 0, 2, 1, 1)
    assert np.isnan(evidence.detection).all()
    evidence.save(tmp_path / "a.npz")
    assert same(Evidence.load(tmp_path / "a.npz")[0], evidence)


def test_damaged_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "evidence.npz"
    with pytest.raises(InputError, match=r"evidence\.npz: holds no evidence .*make the evidence"):
        Evidence.load(path)
    classed_evidence(5, 1)[0].save(path)
    whole = path.read_bytes()
    for damaged in (whole[: len(whole) // 2], b"no archive", b""):
        path.write_bytes(damaged)
        with pytest.raises(InputError, match="holds no evidence"):
            Evidence.load(path)
    np.savez(path, lon_deg=np.zeros(5))
    with pytest.raises(InputError, match=r"holds no evidence .*lat_deg is not a file"):
        Evidence.load(path)
    # An archive whose arrays do not belong together.
    kept = {f.name: getattr(classed_evidence(5, 1)[0], f.name) for f in fields(Evidence)}
    np.savez(path, **kept | {"lat_deg": np.zeros(4)})
    with pytest.raises(InputError, match=r"holds no evidence .*lat_deg \(4,\), not \(5,\)"):
        Evidence.load(path)
    # Nothing that could run code is read.
    np.savez(path, **kept | {"label": np.array([{"a": 1}], dtype=object)})
    with pytest.raises(InputError, match=r"holds no evidence .*allow_pickle"):
        Evidence.load(path)


@pytest.mark.parametrize(
    ("name", "array"),
    [
        ("lon_deg", np.zeros(5)),
        ("lat_deg", np.zeros((6, 1))),
        ("edges_gev", np.ones((3, 2))),
        ("band_flux_error", np.zeros((6, 3))),
        ("year_ratio_error", np.zeros((6, 3))),
        ("year_ratio", np.zeros((5, 4))),
        ("detection", np.zeros((6, len(DETECTION_NAMES) - 1))),
        ("stamps", np.zeros((5, 2, 2, 5, 5), np.float32)),
        ("stamps", np.zeros((6, 2, 5, 5), np.float32)),
    ],
)
def test_arrays_that_do_not_belong_together(name: str, array: np.ndarray) -> None:
    evidence, _ = classed_evidence(6, 1)
    with pytest.raises(ValueError, match=r"evidence: "):
        changed(evidence, **{name: array})


def test_join_and_take_are_inverse() -> None:
    evidence, _ = classed_evidence(9, 2)
    parts = [evidence.take(np.arange(4)), evidence.take(np.arange(4, 4)), evidence.take(
        np.arange(9) >= 4
    )]  # fmt: skip
    assert [len(part) for part in parts] == [4, 0, 5]
    assert same(Evidence.join(parts), evidence)
    assert same(evidence.take(np.arange(9)[::-1]).take(np.arange(9)[::-1]), evidence)


def test_evidence_of_another_kind_is_not_joined() -> None:
    evidence, _ = classed_evidence(6, 1)
    others = [
        changed(evidence, edges_gev=EDGES * 2),
        changed(evidence, year_ratio=np.ones((6, 2)), year_ratio_error=np.ones((6, 2))),
        changed(evidence, stamps=evidence.stamps[:, :, :, :3, :3]),
        changed(evidence, stamps=evidence.stamps[:, :1]),
        flux_alone(6, 4),
    ]
    for other in others:
        with pytest.raises(InputError, match="of different channels, years or stamps"):
            Evidence.join([evidence, other])
    with pytest.raises(InputError, match="none given"):
        Evidence.join([])
