"""How many rows are worked on at once, and how much memory they may take."""

from __future__ import annotations

import asyncio

import pytest

from sundog.runtime.row_window import RowWindow, bytes_of


async def admitted(window: RowWindow, sizes: list[int]) -> int:
    """How many rows of these sizes enter before one has to wait."""
    for number, size in enumerate(sizes):
        entering = asyncio.ensure_future(window.enter(size))
        await asyncio.sleep(0)
        if not entering.done():
            entering.cancel()
            return number
    return len(sizes)


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("sizes", "num_admitted"),
    [
        pytest.param([1] * 5, 3, id="as many as may be"),
        pytest.param([40, 40, 40], 2, id="no more than fit"),
        pytest.param([100, 1], 1, id="all of the room"),
        pytest.param([1000, 1], 1, id="a row that is larger than the room is alone"),
        pytest.param([1, 1000], 1, id="a row that is larger than the room waits for all others"),
    ],
)
async def test_rows_enter_while_there_is_room(
    sizes: list[int], num_admitted: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sundog.runtime.row_window.MAX_BYTES", 100)
    assert await admitted(RowWindow(3), sizes) == num_admitted


@pytest.mark.anyio
async def test_a_row_that_leaves_makes_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sundog.runtime.row_window.MAX_BYTES", 100)
    window = RowWindow(3)
    assert await admitted(window, [60, 40]) == 2
    waiting = asyncio.ensure_future(window.enter(50))
    window.leave(40)
    await asyncio.sleep(0)
    assert not waiting.done(), "60 are still there"
    window.leave(60)
    await waiting


def test_long_rows_count_for_more() -> None:
    assert bytes_of({"text": "x" * 10_000}) > 10_000
    assert bytes_of({"texts": ["x" * 100] * 100}) > 10_000
    assert bytes_of({"id": 1, "none": None}) < 1000
