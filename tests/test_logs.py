from __future__ import annotations

import io
import logging
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
