"""What the tests of drawn and of written events share."""

from __future__ import annotations

import numpy as np

from geminga.sky.observation import Observation
from geminga.sky.photons import Photons

OBSERVATION = Observation("P8R2_ULTRACLEANVETO_V6", 239557417.0, 539557417.0)


def same(a: Photons, b: Photons) -> None:
    for name in ("xyz", "channel", "year"):
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name))
