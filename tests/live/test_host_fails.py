"""Work beside what is served: where it fails, the host says so at once, and not at its end."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from sundog.errors import StoreError
from sundog.live import host as live_host
from sundog.live.accounts import LiveAccounts
from sundog.live.host import open_live_host
from sundog.secrets import Secrets


def test_a_tick_that_fails_ends_the_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def failed(self: LiveAccounts) -> None:
        raise StoreError("the store failed")

    monkeypatch.setattr(live_host, "TICK_S", 0.0)
    monkeypatch.setattr(LiveAccounts, "look_for_changes", failed)

    async def test() -> None:
        async with open_live_host(tmp_path, Secrets({})) as host:
            with pytest.raises(StoreError, match="the store failed"):
                await asyncio.wait_for(host.failure, 10)

    asyncio.run(test())
