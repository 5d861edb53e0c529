"""The signals that end a server: the first one lets accepted work end, the second one does not."""

from __future__ import annotations

import asyncio
import signal
import threading
from typing import Any

import pytest

from sundog.serve import server


def test_signals_that_come_at_once_end_a_server_once(monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[str] = []
    troubles: list[Any] = []

    class Timer:
        """A timer that ends no process."""

        def __init__(self, *args: Any) -> None:
            self.daemon = False

        def start(self) -> None:
            begun.append("timer")

    monkeypatch.setattr(threading, "Timer", Timer)

    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, trouble: troubles.append(trouble))
        serving: Any = None
        with server._signals(asyncio.Event(), serving) as hurry:
            for _ in range(4):
                signal.raise_signal(signal.SIGTERM)
            assert await asyncio.wait_for(hurry, 5) == signal.SIGTERM
            await asyncio.sleep(0)

    asyncio.run(main())
    assert (begun, troubles) == (["timer"], [])
