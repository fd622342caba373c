"""Where the platform's own log lines go."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading

STOPPED = 143
"""Exit code of a process that was asked to end, 128 + SIGTERM, as a shell has it."""


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


def say_when_stopped() -> None:
    """On SIGTERM, which is what ``ray job stop`` sends, say so in one line and end with code 143.

    Files are renamed when they are whole, so what is there is finished, and the same command goes
    on from it. Only the main thread may say what a signal does; elsewhere nothing is changed.
    """
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, _stopped)


def _stopped(number: int, frame: object) -> None:
    # A second one must not disturb the way out.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    # Not through sys.stderr: the signal may have come in the middle of a line of its own.
    os.write(2, b"stopped by SIGTERM: what is finished is kept, the same command goes on from it\n")
    raise SystemExit(STOPPED)
