"""Limits of a run: kept to the last token, over restarts, and what is left can be continued."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

import sundog as sd
from sundog.errors import ConfigError, LimitReached, RunStopped
from sundog.ledger.charges import shown_usd

PRICE = {"input_usd_per_mtok": 1.0, "output_usd_per_mtok": 4.0}
NUM_ROWS = 40
MAX_OUTPUT = 100


def priced(num_rows: int = NUM_ROWS, max_tokens: int | None = MAX_OUTPUT, **engine: Any) -> sd.Flow:
    """A flow that asks once a row."""
    flow = sd.Flow("priced")
    local = flow.engine("local", kind="null", **{"price": PRICE, "max_concurrency": 8, **engine})
    rows = flow.input("rows", rows=[{"id": number + 100} for number in range(num_rows)])
    said = flow.llm("ask", engine=local, prompt=f"Say something about row {rows.id}.", max_tokens=max_tokens)
    flow.output(id=rows.id, said=said.text)
    return flow


def accounts(state: Path) -> list[tuple[int, int, int, int]]:
    with closing(sqlite3.connect(state / "store.sqlite")) as store:
        return store.execute(
            "select nano_usd, num_tokens, reserved_nano_usd, num_reserved_tokens from spent"
        ).fetchall()


def test_a_run_stops_before_the_first_call_that_does_not_fit_and_is_continued(tmp_path: Path) -> None:
    whole = priced().run(state=tmp_path / "whole", progress=False)
    (node,) = whole.report.nodes
    each, prompt = (node.num_prompt_tokens + node.num_output_tokens) // NUM_ROWS, node.num_prompt_tokens // NUM_ROWS
    limit = 400
    # So many calls fit, each with what it may cost at most before it and what it costs after it.
    num_calls = (limit - prompt - MAX_OUTPUT) // each + 1
    with pytest.raises(LimitReached) as reached:
        priced().run(state=tmp_path / "state", progress=False, max_tokens=limit)
    text = str(reached.value)
    assert f"is {limit}: spent {num_calls * each}, reserved 0, and the call may take {prompt + MAX_OUTPUT}" in text
    assert f"{num_calls} of {NUM_ROWS} rows have ended" in text
    assert "--max-tokens" in text
    ((nano_usd, num_tokens, *reserved),) = accounts(tmp_path / "state")
    assert num_tokens == num_calls * each
    assert nano_usd == 1000 * num_calls * (prompt + 4 * (each - prompt))
    assert reserved == [0, 0]
    with pytest.raises(LimitReached) as again:
        priced().run(state=tmp_path / "state", progress=False, max_tokens=limit)
    assert str(again.value) == text, "a restart forgets nothing"
    result = priced().run(state=tmp_path / "state", progress=False, max_tokens=NUM_ROWS * each + MAX_OUTPUT)
    assert list(map(dict, result)) == list(map(dict, whole))
    assert result.report.num_executed == NUM_ROWS
    assert result.report.notes == (
        f"spent {shown_usd(1000 * NUM_ROWS * (prompt + 4 * (each - prompt)))} and {NUM_ROWS * each:,} of "
        f"{NUM_ROWS * each + MAX_OUTPUT:,} tokens, with calls that failed or were killed",
    )


def test_dollars_are_limited_alike(tmp_path: Path) -> None:
    with pytest.raises(LimitReached, match=r"max_usd of the run 'priced-\w+' is \$0\.001: spent \$0\.000") as reached:
        priced().run(state=tmp_path, progress=False, max_usd=0.001)
    assert reached.value.refusal.spent.nano_usd + reached.value.refusal.asked.nano_usd > 1_000_000
    assert accounts(tmp_path)[0][0] <= 1_000_000


def test_a_run_without_limits_writes_no_account(tmp_path: Path) -> None:
    priced().run(state=tmp_path, progress=False)
    assert accounts(tmp_path) == []


def test_what_was_spent_without_limits_counts_when_there_are_some(tmp_path: Path) -> None:
    async def first_rows() -> None:
        stream = priced().stream(state=tmp_path, max_rows_in_flight=1)
        async for _ in stream:
            break
        await stream.aclose()

    asyncio.run(first_rows())
    with closing(sqlite3.connect(tmp_path / "store.sqlite")) as store:
        ((num_tokens,),) = store.execute("select num_prompt_tokens + num_output_tokens from executed").fetchall()
    assert num_tokens > 0
    with pytest.raises(LimitReached) as reached:
        priced().run(state=tmp_path, progress=False, max_tokens=num_tokens)
    assert reached.value.refusal.spent.num_tokens == num_tokens
    priced().run(state=tmp_path, progress=False)
    ((_, in_all, *_),) = accounts(tmp_path)
    assert in_all > num_tokens, "a run that had limits is counted on without"


def test_no_call_starts_after_the_deadline_and_what_ran_is_kept(tmp_path: Path) -> None:
    slow: dict[str, Any] = {"latency_s": 0.02, "max_concurrency": 1}
    with pytest.raises(LimitReached, match=r"the deadline of the run 'priced-\w+' has passed"):
        priced(1000, **slow).run(state=tmp_path, progress=False, deadline=0.8)
    with pytest.raises(LimitReached, match="has passed") as late:
        priced(1000, **slow).run(state=tmp_path, progress=False, deadline="0.1s")
    assert "it counts from the run's begin at 2" in str(late.value)
    # Another engine is the same run where its identity is.
    assert priced(1000).run(state=tmp_path, progress=False, deadline="2h").report.num_done == 1000


@pytest.mark.parametrize(
    ("flow", "limits", "message"),
    [
        (priced(price=None), {"max_usd": 1.0}, "no engine of the flow has a price"),
        (priced(max_tokens=None), {"max_tokens": 1000}, "nobody knows how long an answer of the engine 'local' may be"),
        (priced(), {"max_usd": -1.0}, "max_usd cannot be -1.0"),
        (priced(), {"deadline": "soon"}, "'soon' is no duration"),
    ],
)
def test_limits_that_cannot_hold_are_refused_before_the_first_call(
    flow: sd.Flow, limits: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=message):
        flow.run(state=tmp_path, progress=False, **limits)


def test_free_tokens_need_no_bound_where_dollars_are_limited(tmp_path: Path) -> None:
    flow = sd.Flow("mixed")
    free = flow.engine("free", kind="null")
    paid = flow.engine("paid", kind="null", price=PRICE)
    rows = flow.input("rows", rows=[{"id": number} for number in range(5)])
    first = flow.llm("first", engine=free, prompt=f"About {rows.id}.")
    second = flow.llm("second", engine=paid, prompt=f"More than {first.text}.", max_tokens=20)
    flow.output(said=second.text)
    assert flow.run(state=tmp_path, progress=False, max_usd=1.0).report.num_done == 5


def test_texts_that_are_embedded_together_are_charged_together(tmp_path: Path) -> None:
    flow = sd.Flow("vectors")
    local = flow.engine("local", kind="null", price=PRICE)
    rows = flow.input("rows", rows=[{"text": f"text number {number}"} for number in range(30)])
    near = flow.embed("near", engine=local, text=f"{rows.text}")
    flow.output(vector=near.vector)
    result = flow.run(state=tmp_path, progress=False, max_tokens=100_000)
    (node,) = result.report.nodes
    assert accounts(tmp_path)[0][1:] == (node.num_prompt_tokens + node.num_output_tokens, 0, 0)
    with pytest.raises(RunStopped, match="max_tokens of the run"):
        flow.run(state=tmp_path, progress=False, fresh=True, max_tokens=10)
