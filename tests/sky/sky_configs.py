"""Configurations that the tests of the sky share."""

from __future__ import annotations

from geminga.config import Config


def typed(config: Config, *entries: str) -> Config:
    tree = config.model_dump()
    tree["response"]["event_types"] = entries
    return Config.model_validate(tree)
