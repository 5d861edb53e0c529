"""Short waits for all tests of the log, and a place for one: a folder, then an S3 server on this machine."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from sundog.store.segments import sending, watch
from tests.store.segments.storages import s3_server


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sending, "ALIVE_EVERY_S", 0.02)
    monkeypatch.setattr(sending, "SEND_EVERY_S", 0.02)
    monkeypatch.setattr(watch, "WATCH_S", 0.4)
    monkeypatch.setattr(watch, "_LOOK_EVERY_S", 0.02)


@pytest.fixture(params=["folder", "s3"])
def url(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    if request.param == "folder":
        yield f"file://{tmp_path}/shared"
    else:
        with s3_server(monkeypatch) as bucket:
            yield f"{bucket}/state"
