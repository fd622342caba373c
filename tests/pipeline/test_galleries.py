"""Images around places on the sky, and the two galleries of a run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from geminga.config import Config
from geminga.distributed.search import photon_file
from geminga.geometry import from_plane, tangent_frames
from geminga.pipeline import galleries
from geminga.pipeline.galleries import MARKED_TS, place_images, run_galleries
from geminga.pipeline.measured import RunLists
from geminga.pipeline.runner import Context
from geminga.pipeline.search import primary_search
from geminga.pipeline.simulate import test_sky_ids as sky_ids_of
from geminga.sky.photons import Photons
from geminga.tables import EXTENDED


def photons_at(lon_deg: float, lat_deg: float, channel: int, n: int) -> Photons:
    """Return n photons of a channel at one place, and 300 spread over 5 deg around it."""
    frame = tangent_frames(np.array([lon_deg]), np.array([lat_deg]))[0]
    x, y = np.random.default_rng(1).uniform(-5, 5, (2, 300))
    x, y = np.append(x, np.full(n, 0.01)), np.append(y, np.full(n, 0.01))
    count = len(x)
    return Photons(
        from_plane(frame, x, y).astype(np.float32),
        np.full(count, channel, np.int8),
        np.zeros(count, np.int8),
    )


@pytest.mark.parametrize("channel", [0, 1])
def test_the_place_is_in_the_middle(config2: Config, channel: int) -> None:
    frames = tangent_frames(np.array([120.0, 120.0]), np.array([-33.0, 40.0]))
    here, elsewhere = place_images(photons_at(120.0, -33.0, channel, 60), frames, config2)
    labels = [label for label, _, _ in here]
    assert labels == ["1-3 GeV: counts", "3-30 GeV: counts", "significance to 6 sigma"]
    for number, (_, image, width) in enumerate(here):
        assert image.shape[0] == image.shape[1]
        assert width == pytest.approx(10.0 * galleries.SHOWN, rel=0.1)
        if number in (channel, 2):
            peak = np.unravel_index(image.argmax(), image.shape)
            middle = len(image) // 2  # 0.01 deg beyond the centre
            assert np.abs(np.array(peak) - middle).max() <= (0 if number < 2 else 3)
    assert here[channel][1].max() >= 60
    assert here[1 - channel][1].sum() == 0
    assert all(image.max() == 0 for _, image, _ in elsewhere)


def test_one_channel_is_shown_twice(config2: Config) -> None:
    one = config2.model_copy(update={"bands": config2.bands[:1]})
    frames = tangent_frames(np.array([0.0]), np.array([0.0]))
    (pictures,) = place_images(photons_at(0.0, 0.0, 0, 9), frames, one)
    np.testing.assert_array_equal(pictures[0][1], pictures[1][1])
    assert len(pictures) == 3


def run_of(config: Config, root: Path, n_false: int) -> tuple[Context, RunLists]:
    """Return a run of one sky: a source found, one missed, one too faint, false detections."""
    (sky,) = sky_ids_of(config)
    photons_at(50.0, 10.0, 0, 40).save(photon_file(root / "observe", sky))
    truth = pd.DataFrame(
        {
            "lon_deg": [50.0, 50.5, 51.0],
            "lat_deg": [10.0, 10.5, 10.0],
            "s1": [1e-9, 5e-10, 1e-11],
            "ts": [200.0, 30.0, 1.0],
            "index": 2.2,
        }
    )
    found = pd.DataFrame(
        {
            "lon_deg": [50.0, *(50.0 + np.arange(n_false))],
            "lat_deg": [10.0, *np.full(n_false, 11.5)],
            "score": [0.99, *np.linspace(0.6, 0.1, n_false)],
        }
    )
    context = Context(config, root, None)  # type: ignore[arg-type]
    return context, RunLists({primary_search(config): [found]}, [truth], [EXTENDED.empty()])


@pytest.mark.parametrize("n_false", [0, 12])
def test_galleries_of_a_run(
    config2: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, n_false: int
) -> None:
    context, lists = run_of(config2, tmp_path, n_false)
    primary = primary_search(config2)
    monkeypatch.setattr(galleries, "score_cuts", lambda _: {primary: 0.5})
    figures = run_galleries(context, lists, number=2)
    assert set(figures) == {"gallery_false", "gallery_missed"}
    false, missed = (figures[name].axes for name in ("gallery_false", "gallery_missed"))
    captions = [axes.get_title(loc="left") for axes in missed]
    assert captions[0].startswith("sky 0: l 50.50, b +10.50\nmissed: TS 30, S1 5e-10, index 2.20\n")
    assert captions[3].startswith("sky 0: l 51.00, b +10.00\nmissed: TS 1, ")
    assert [captions[k] for k in (1, 2, 4, 5)] == [""] * 4
    # The faint source is marked where the gallery is about it, and nowhere else.
    assert MARKED_TS > 1.0
    circles, crosses = (len(missed[0].collections[k].get_offsets()) for k in (0, 1))
    assert (circles, len(missed[3].collections[0].get_offsets())) == (2, 3)
    # Above the cut and inside the image: the found source, and three false ones to the north.
    assert crosses == (4 if n_false else 1)
    place = np.asarray(missed[3].collections[0].get_offsets())
    assert np.abs(place).sum(axis=1).min() == pytest.approx(0.0, abs=1e-9)
    if n_false:
        assert false[0].get_title(loc="left").startswith("sky 0: l 50.00, b +11.50\nfalse: score")
        assert len(false) == 6
    else:
        assert [text.get_text() for text in false[0].texts] == ["none"]
