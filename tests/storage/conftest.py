from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from pyarrow import fs

sys.path.insert(0, str(Path(__file__).parent))  # for the helpers beside it, in importlib mode

from geminga import storage
from geminga.storage.address import parse
from geminga.storage.mirror import Mirror

URI = "s3://bucket/runs"


@pytest.fixture
def mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Mirror:
    """Return a mirror whose objects are files of another folder; all of `geminga.storage` uses it."""
    root, objects = tmp_path / "mirror", tmp_path / "objects"
    root.mkdir()
    objects.mkdir()
    made = Mirror(root, parse(URI), fs.LocalFileSystem(), str(objects))
    monkeypatch.setattr(storage, "_open_mirror", lambda *_: made)
    monkeypatch.setenv(storage.VARIABLE, json.dumps({str(root): URI}))
    return made
