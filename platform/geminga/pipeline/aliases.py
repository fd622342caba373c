"""Names in MLflow's registry."""

from __future__ import annotations

CANDIDATE = "candidate"
"""Alias of the newest version of a registered model."""
CHAMPION = "champion"
"""Alias of the version that the rule of promotion chose."""
DETECTOR = "detector"
"""Registered model that ``geminga detect`` takes: ranker, classifier, settings, card."""
