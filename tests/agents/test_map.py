"""Functions over rows: their model calls go through the gateway, and what has ended is kept."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import openai
import pytest

import sundog as sd
from sundog.agents.redirect import program_url
from sundog.store.runs import RunList
from sundog.store.store import Store

ENGINES = 'engines: {local: {kind: "null", model: m}}\n'


@pytest.fixture
def engines(tmp_path: Path) -> Path:
    path = tmp_path / "engines.yaml"
    path.write_text(ENGINES, encoding="utf-8")
    return path


async def ask(text: str) -> str:
    """Ask with a client that knows nothing of the gateway."""
    async with openai.AsyncOpenAI(base_url="http://models.invalid/v1", api_key="none", max_retries=0) as client:
        messages: Any = [{"role": "user", "content": text}]
        answer = await client.chat.completions.create(model="local", messages=messages, temperature=0)
        return answer.choices[0].message.content or ""


async def two_turns(row: dict[str, str]) -> dict[str, str]:
    first = await ask(row["text"])
    return {"first": first, "second": await ask(first)}


def test_each_row_is_a_program_whose_calls_go_to_the_engines(tmp_path: Path, engines: Path) -> None:
    rows = [{"text": "one"}, {"text": "two"}, {"text": "one"}]
    ends = asyncio.run(sd.agents.map(two_turns, rows, engines=engines, state=tmp_path / "state"))
    assert [end.index for end in ends] == [0, 1, 2]
    assert ends[0].value == ends[2].value != ends[1].value
    assert all(end.error is None for end in ends)
    assert program_url.get() is None
    with pytest.raises(openai.APIConnectionError):
        asyncio.run(ask("outside of a row a client asks whom it was told to ask"))


def test_a_failed_row_leaves_the_others(tmp_path: Path, engines: Path) -> None:
    async def sometimes(row: int) -> Any:
        if row == 1:
            raise RuntimeError("no such thing")
        return object() if row == 2 else row

    ends = asyncio.run(sd.agents.map(sometimes, range(4), engines=engines, state=tmp_path / "state"))
    assert [end.value for end in ends] == [0, None, None, 3]
    assert "no such thing" in (ends[1].error or "")
    assert "no form in JSON" in (ends[2].error or "")


def test_a_call_that_was_broken_off_goes_on_and_repeats_no_row(tmp_path: Path, engines: Path) -> None:
    seen: list[int] = []

    async def until_two(row: int) -> int:
        seen.append(row)
        if row == 2 and seen.count(2) == 1:
            raise asyncio.CancelledError
        return row * 10

    options: Any = {"engines": engines, "state": tmp_path / "state", "max_in_flight": 1}
    with pytest.raises(asyncio.CancelledError):
        asyncio.run(_cancelled_by_a_row(until_two, options))
    ends = asyncio.run(sd.agents.map(until_two, range(4), **options))
    assert [end.value for end in ends] == [0, 10, 20, 30]
    assert seen == [0, 1, 2, 2, 3]
    store = Store(tmp_path / "state")
    assert [record.state for record in RunList(store, tmp_path / "state").all()] == ["finished"]
    store.close()


async def _cancelled_by_a_row(function: Any, options: Any) -> None:
    task = asyncio.current_task()
    assert task is not None

    async def cancelling(row: int) -> Any:
        try:
            return await function(row)
        except asyncio.CancelledError:
            task.cancel()
            await asyncio.Event().wait()

    cancelling.__qualname__ = function.__qualname__
    await sd.agents.map(cancelling, range(4), **options)
