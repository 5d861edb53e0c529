"""The engines of a run: started together, closed whatever happens."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

import sundog as sd
from sundog.engines.base import ENGINES
from sundog.engines.modelled.null import NullEngine, NullKind, NullOptions
from sundog.errors import EngineUnavailable
from sundog.operators.llm import LLMOperator
from sundog.secrets import Secrets

EVENTS: list[str] = []


class Half(NullEngine):
    """The first replica fails as soon as the second one has begun to start, which never ends."""

    def __init__(self, options: NullOptions, replica: int, is_begun: asyncio.Event) -> None:
        super().__init__(options)
        self._replica = replica
        self._is_begun = is_begun

    async def start(self) -> None:
        if self._replica == 0:
            await self._is_begun.wait()
            raise EngineUnavailable("no such server")
        self._is_begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            EVENTS.append("start ended")

    async def close(self) -> None:
        EVENTS.append(f"{self._replica} closed")


class HalfKind(NullKind):
    is_begun = asyncio.Event()

    def open(self, options: NullOptions, replica: int, secrets: Secrets) -> NullEngine:
        return Half(options, replica, self.is_begun)


@pytest.fixture(autouse=True)
def half(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ENGINES._loaded, "half", HalfKind)
    EVENTS.clear()
    HalfKind.is_begun = asyncio.Event()


def test_an_engine_that_cannot_start_ends_the_start_of_the_others_before_they_are_closed(tmp_path: Path) -> None:
    flow = sd.Flow("half")
    engine = flow.engine("e", kind="half", replicas=2)
    row = flow.input("rows", rows=[{"id": 1}])
    flow.output(text=flow.llm("said", engine=engine, prompt=f"Row {row.id}.").text)
    with pytest.raises(EngineUnavailable, match="no such server"):
        flow.run(state=tmp_path)
    assert EVENTS == ["start ended", "0 closed", "1 closed"]


class Stuck(NullEngine):
    """The first replica fails when it is closed."""

    def __init__(self, options: NullOptions, replica: int) -> None:
        super().__init__(options)
        self._replica = replica

    async def close(self) -> None:
        await super().close()
        EVENTS.append(f"{self._replica} closed")
        if self._replica == 0:
            raise RuntimeError("it does not close")


class StuckKind(NullKind):
    def open(self, options: NullOptions, replica: int, secrets: Secrets) -> NullEngine:
        return Stuck(options, replica)


def test_an_engine_that_fails_to_close_leaves_none_of_the_others_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def close(self: LLMOperator) -> None:
        EVENTS.append("operator closed")

    monkeypatch.setitem(ENGINES._loaded, "stuck", StuckKind)
    flow = sd.Flow("stuck")
    engine = flow.engine("e", kind="stuck", replicas=2)
    row = flow.input("rows", rows=[{"id": 1}])
    flow.output(text=flow.llm("said", engine=engine, prompt=f"Row {row.id}.").text)
    monkeypatch.setattr(LLMOperator, "close", close)
    with pytest.raises(RuntimeError, match="it does not close"):
        flow.run(state=tmp_path)
    assert [event for event in EVENTS if event != "operator closed"] == ["0 closed", "1 closed"]
    assert EVENTS[-1] == "operator closed"
