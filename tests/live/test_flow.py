"""Served flows: what is accepted is done, once, whatever happens to the process."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from sundog.errors import StoreError
from sundog.live.flow_request import FlowRequest
from sundog.live.refusals import KeyReused, Overloaded
from sundog.live.terms import Terms
from sundog.store.accepted import Accepted
from tests.live.part import TWO_STEPS, accepted, served, values

ROWS: list[dict[str, Any]] = [{"topic": "bees", "question": "why"}, {"topic": "bees", "question": "when"}]
SLOW = TWO_STEPS.replace("model: m", "model: m, latency_s: 30")
EFFECT = """
name: notes
inputs:
  rows: {path: rows.jsonl}
nodes:
  note:
    python: {call: "notes:write", args: {text: "{{ row.text }}"}, effect: true}
  held:
    python: {call: "notes:hold", args: {text: "{{ note }}"}}
outputs: {text: "{{ held }}"}
"""
NOTES = """
import asyncio
from pathlib import Path

HERE = Path(__file__).parent


def write(text):
    with (HERE / "notes.txt").open("a") as file:
        file.write(text + "\\n")
    return text


async def hold(text):
    if not (HERE / "go").exists():
        await asyncio.Event().wait()
    return text
"""


def run(test: Any) -> None:
    asyncio.run(test)


def test_rows_are_answered_and_equal_calls_are_made_once(tmp_path: Path) -> None:
    async def test() -> None:
        async with served(tmp_path) as (host, flow):
            request = await accepted(flow, ROWS)
            await request.ended()
            assert [state for state, _ in values(host, request)] == ["done", "done"]
            assert values(host, request)[0][1]["topic"] == "bees"
            assert host.figures["topics"].num_executed == 3, "facts on bees are asked for once"
            again = await accepted(flow, ROWS)
            await again.ended()
            assert values(host, again) == values(host, request)
            assert host.figures["topics"].num_executed == 3
            assert flow.num_rows_in_flight == 0

    run(test())


def test_an_idempotency_key_gives_the_same_request(tmp_path: Path) -> None:
    async def test() -> None:
        async with served(tmp_path) as (_, flow):
            first = await accepted(flow, ROWS, idempotency_key="k")
            assert await flow.accept(ROWS, idempotency_key="k") is first, "it is attached to while it runs"
            await first.ended()
            kept = await flow.accept(ROWS, idempotency_key="k")
            assert isinstance(kept, Accepted)
            assert kept.request_id == first.accepted.request_id
            assert kept.ended == "completed"
            other = await accepted(flow, ROWS, idempotency_key="k", principal="another")
            assert other.accepted.request_id != first.accepted.request_id
            with pytest.raises(KeyReused):
                await flow.accept(ROWS[:1], idempotency_key="k")
            await other.ended()

    run(test())


def test_what_was_accepted_goes_on_in_another_process(tmp_path: Path) -> None:
    (tmp_path / "notes.py").write_text(NOTES)

    async def begin() -> str:
        async with served(tmp_path, EFFECT) as (_, flow):
            request = await accepted(flow, [{"text": "one"}, {"text": "two"}], keeps_steps=True)
            told = request.told()
            assert {(await anext(told)).step for _ in range(2)} == {"note"}
            return request.accepted.request_id

    async def go_on(request_id: str) -> None:
        async with served(tmp_path, EFFECT) as (host, flow):
            request = flow.find(request_id)
            assert isinstance(request, FlowRequest)
            await request.ended()
            assert values(host, request) == [("done", {"text": "one"}), ("done", {"text": "two"})]
            kept = flow.find(request_id)
            assert isinstance(kept, Accepted)
            assert kept.ended == "completed"
            another = await accepted(flow, [{"text": "three"}])
            await another.ended()
            assert another.accepted.number == request.accepted.number + 1, (
                "numbers go on, so that effects keep their names"
            )

    request_id = asyncio.run(begin())
    assert sorted((tmp_path / "notes.txt").read_text().split()) == ["one", "two"]
    (tmp_path / "go").touch()
    asyncio.run(go_on(request_id))
    assert sorted((tmp_path / "notes.txt").read_text().split()) == ["one", "three", "two"]


def test_rows_that_a_process_had_ended_are_not_run_again(tmp_path: Path) -> None:
    (tmp_path / "notes.py").write_text(NOTES)
    (tmp_path / "go").touch()

    async def begin() -> str:
        async with served(tmp_path, EFFECT) as (_, flow):
            request = await accepted(flow, [{"text": "one"}])
            await request.ended()
            return request.accepted.request_id

    async def look(request_id: str) -> None:
        async with served(tmp_path, EFFECT) as (host, flow):
            kept = flow.find(request_id)
            assert isinstance(kept, Accepted)
            request = flow.as_ended(kept)
            assert values(host, request) == [("done", {"text": "one"})]
            assert [told.kind async for told in request.told()] == ["row", "end"]

    asyncio.run(look(asyncio.run(begin())))


def test_a_kept_request_that_cannot_be_read_keeps_no_other_back(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def begin() -> list[str]:
        async with served(tmp_path, SLOW) as (_, flow):
            return [(await accepted(flow, ROWS, idempotency_key=key)).accepted.request_id for key in "abcd"]

    async def go_on(bad: list[str], good: str) -> None:
        async with served(tmp_path) as (_, flow):
            request = flow.find(good)
            assert isinstance(request, FlowRequest)
            await asyncio.wait_for(request.ended(), 30)
            for one in bad:
                kept = flow.find(one)
                assert isinstance(kept, Accepted)
                with pytest.raises(StoreError, match=f"run '{one}' of the flow 'topics'") as failed:
                    flow.as_ended(kept)
                assert str(failed.value) in caplog.text, "the log says what and where"
            assert flow.num_rows_in_flight == 0
            another = await accepted(flow, ROWS)
            await another.ended()

    *bad, good = asyncio.run(begin())
    bodies = (
        b"{",
        b'{"rows": [1], "is_single": false, "terms": {}}',
        b'{"rows": [{}], "is_single": 0, "terms": {"x": 1}}',
    )
    with closing(sqlite3.connect(tmp_path / "state" / "store.sqlite")) as store, store:
        for request_id, body in zip(bad, bodies, strict=True):
            store.execute("update accepted set body = ? where request_id = ?", (body, request_id))
    asyncio.run(go_on(bad, good))


def test_a_cancelled_request_ends_and_others_go_on(tmp_path: Path) -> None:
    async def test() -> None:
        async with served(tmp_path, SLOW) as (host, flow):
            request, other = await accepted(flow, ROWS), await accepted(flow, ROWS[:1])
            await asyncio.sleep(0)
            await flow.cancel(request)
            assert [(state, value["node"]) for state, value in values(host, request)] == [("failed", "cancelled")] * 2
            kept = flow.find(request.accepted.request_id)
            assert isinstance(kept, Accepted)
            assert kept.ended == "cancelled"
            assert not other.has_ended
            assert flow.num_rows_in_flight == 1

    run(test())


def test_a_request_that_is_cancelled_before_its_rows_begin_ends(tmp_path: Path) -> None:
    async def test() -> None:
        async with served(tmp_path, SLOW) as (host, flow):
            request = await accepted(flow, ROWS)
            await asyncio.wait_for(flow.cancel(request), 30)
            assert [value["node"] for _, value in values(host, request)] == ["cancelled"] * 2
            assert flow.num_rows_in_flight == 0

    run(test())


def test_an_equal_call_goes_on_when_the_row_that_leads_it_is_cancelled(tmp_path: Path) -> None:
    flow_text = TWO_STEPS.replace("model: m", "model: m, latency_s: 0.05")

    async def test() -> None:
        async with served(tmp_path, flow_text) as (host, flow):
            leader, follower = await accepted(flow, ROWS[:1]), await accepted(flow, ROWS[:1])
            for _ in range(10):
                await asyncio.sleep(0)
            assert host.figures["topics"].num_asked == 2
            await flow.cancel(leader)
            await follower.ended()
            assert [state for state, _ in values(host, follower)] == ["done"]

    run(test())


def test_a_deadline_ends_the_rows_that_are_left(tmp_path: Path) -> None:
    async def test() -> None:
        async with served(tmp_path, SLOW) as (host, flow):
            request = await accepted(flow, ROWS[:1], terms=Terms(deadline_at=time.time() + 0.01))
            await request.ended()
            ((state, value),) = values(host, request)
            assert (state, value["node"]) == ("failed", "deadline")

    run(test())


def test_what_has_no_room_is_refused(tmp_path: Path) -> None:
    async def test() -> None:
        async with served(tmp_path, SLOW) as (_, flow):
            rows = [dict(ROWS[0], question=str(number)) for number in range(1000)]
            for _ in range(2):
                await accepted(flow, rows)
            with pytest.raises(Overloaded) as refused:
                await flow.accept(rows)
            assert refused.value.retry_after_s > 0
            assert flow.num_rows_in_flight == 2000, "a refused request leaves nothing behind"

    run(test())


def test_rows_of_batches_take_no_room_of_others(tmp_path: Path) -> None:
    async def test() -> None:
        async with served(tmp_path, SLOW) as (_, flow):
            rows = [dict(ROWS[0], question=str(number)) for number in range(1000)]
            of_batch = Terms(tier="batch")
            for _ in range(2):
                await accepted(flow, rows, terms=of_batch)
            with pytest.raises(Overloaded):
                await flow.accept(rows, of_batch)
            for _ in range(2):
                await accepted(flow, rows)
            with pytest.raises(Overloaded):
                await flow.accept(rows)
            assert flow.num_rows_in_flight == 4000

    run(test())


def test_the_core_hears_of_the_tier_of_a_request(tmp_path: Path) -> None:
    async def test() -> None:
        tiers = set()
        async with served(tmp_path) as (host, flow):
            tell = host.driver.run

            async def watched(arrived: Any, attempt: Any) -> Any:
                tiers.add(arrived.facts.tier)
                return await tell(arrived, attempt)

            host.driver.run = watched  # type: ignore[method-assign]  # to hear what the core is told
            await (await accepted(flow, ROWS[:1], terms=Terms(tier="batch"))).ended()
        assert tiers == {"batch"}

    run(test())


def test_steps_are_told_in_the_order_in_which_they_end(tmp_path: Path) -> None:
    async def test() -> None:
        async with served(tmp_path) as (_, flow):
            request = await accepted(flow, ROWS[:1], keeps_steps=True)
            told = [one async for one in request.told()]
            assert [(one.number, one.kind, one.step) for one in told] == [
                (0, "step", "facts"),
                (1, "step", "answer"),
                (2, "row", ""),
                (3, "end", ""),
            ]
            assert [one async for one in request.told(1)] == told[2:]

    run(test())


def test_a_flow_is_renewed_while_its_rows_run(tmp_path: Path) -> None:
    from sundog.config import Config
    from sundog.secrets import Secrets
    from sundog.serve.loading import load_served

    async def test() -> None:
        async with served(tmp_path, SLOW.replace("30", "0.05")) as (host, flow):
            old = await accepted(flow, ROWS[:1])
            path = tmp_path / "flow.yaml"
            path.write_text(path.read_text().replace('topic: "{{ row.topic }}"', 'topic: "new {{ row.topic }}"'))
            loaded = load_served(path, Config(tmp_path / "state", Secrets({})))
            assert await host.serve(loaded.served) is flow
            new = await accepted(flow, ROWS[:1])
            await asyncio.gather(old.ended(), new.ended())
            assert [value["topic"] for request in (old, new) for _, value in values(host, request)] == [
                "bees",
                "new bees",
            ]

    run(test())


def test_reads_are_shared_inside_a_request_only(tmp_path: Path) -> None:
    (tmp_path / "count.py").write_text("N = []\ndef count(x):\n    N.append(x)\n    return len(N)\n")
    flow_text = """
name: reads
inputs:
  rows: {path: rows.jsonl}
nodes:
  number:
    share: true
    python: {call: "count:count", args: {x: 1}}
outputs: {number: "{{ number }}", id: "{{ row.id }}"}
"""

    async def test() -> None:
        async with served(tmp_path, flow_text) as (host, flow):
            requests = []
            for _ in range(2):
                requests.append(await accepted(flow, [{"id": 1}, {"id": 2}]))
                await requests[-1].ended()
            numbers = [[value["number"] for _, value in values(host, request)] for request in requests]
            assert numbers == [[1, 1], [2, 2]]

    run(test())


def test_the_terms_of_requests_are_forgotten_with_them(tmp_path: Path) -> None:
    async def test() -> None:
        async with served(tmp_path) as (_, flow):
            request = await accepted(flow, ROWS, terms=Terms(priority=3))
            await request.ended()
            assert flow.terms == {}
            assert json.loads(request.accepted.body)["terms"]["priority"] == 3

    run(test())
