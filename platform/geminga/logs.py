"""Where the platform's own log lines go."""

from __future__ import annotations

import logging
import sys


def show_logs() -> None:
    """Print the platform's log lines, and no other library's, to standard error."""
    logger = logging.getLogger("geminga")
    logger.setLevel(logging.INFO)
    if not logger.handlers:
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(logging.Formatter("%(message)s"))
        logger.addHandler(handler)
    logger.propagate = False
