"""The folder of a pipeline."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.migrate.pipelines import REVIEWS


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "reviews.json").write_text(json.dumps(REVIEWS))
    return tmp_path
