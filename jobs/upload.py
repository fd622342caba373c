"""Lets a job import the package it was uploaded with, before one that the machine may have.

A job's working folder is a copy of ``jobs/`` and ``platform/``, and nothing is installed from it.
"""

import sys
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1] / "platform"

sys.path.insert(0, str(PACKAGE))
