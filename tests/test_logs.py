from __future__ import annotations

import io
import logging
import subprocess
import sys

import pytest

from geminga.logs import show_logs


def test_lines_go_to_what_standard_error_is_now(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A stream that was standard error once, and is closed, takes no line with it."""
    logger = logging.getLogger("geminga")
    monkeypatch.setattr(logger, "handlers", [])
    monkeypatch.setattr(logger, "propagate", True)
    with monkeypatch.context() as patch:
        gone = io.StringIO()
        patch.setattr(sys, "stderr", gone)
        show_logs()
        logger.warning("first")
        assert gone.getvalue() == "first\n"
        gone.close()
    show_logs()
    logger.warning("second")
    assert capsys.readouterr().err == "second\n"


STOPPED = """
import os, signal
from geminga.logs import say_when_stopped
say_when_stopped()
try:
    os.kill(os.getpid(), signal.SIGTERM)
finally:
    print("left in order")
    os.kill(os.getpid(), signal.SIGTERM)  # a second one does not disturb that
    print("to the end")
"""


def test_a_process_that_is_stopped_says_so_and_leaves_in_order_with_143() -> None:
    done = subprocess.run(
        [sys.executable, "-c", STOPPED], capture_output=True, text=True, check=False
    )
    assert done.returncode == 143
    assert done.stdout == "left in order\nto the end\n"
    (line,) = done.stderr.splitlines()
    assert line.startswith("stopped by SIGTERM: what is finished is kept")
