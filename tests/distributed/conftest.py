"""A Ray of its own for the tests of a module."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from geminga.distributed.session import close_ray, ray_session


@pytest.fixture(scope="module")
def ray_on_two_cores() -> Iterator[None]:
    with ray_session(2):
        pass
    yield
    close_ray()
