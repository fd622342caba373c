"""Where the platform's own log lines go."""

from __future__ import annotations

import logging
import sys


class _StandardError(logging.Handler):
    """Prints to what standard error is at the time of the line.

    `logging.StreamHandler` keeps the stream it was made with, and a program that redirects or
    captures standard error for a while leaves it with a closed one.
    """

    def emit(self, record: logging.LogRecord) -> None:
        """Print one line."""
        try:
            sys.stderr.write(self.format(record) + "\n")
            sys.stderr.flush()
        except (OSError, ValueError):
            self.handleError(record)


def show_logs() -> None:
    """Print the platform's log lines, and no other library's, to standard error."""
    logger = logging.getLogger("geminga")
    logger.setLevel(logging.INFO)
    if not logger.handlers:
        handler = _StandardError()
        handler.setFormatter(logging.Formatter("%(message)s"))
        logger.addHandler(handler)
    logger.propagate = False
