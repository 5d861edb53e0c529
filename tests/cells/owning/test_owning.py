"""Cells over an owner: a call that several want is made by one of them, whatever is lost, killed or late."""

from __future__ import annotations

import asyncio
import pickle
import threading
from collections.abc import Callable, Coroutine, Mapping
from contextlib import AsyncExitStack, closing
from pathlib import Path
from sqlite3 import Connection
from typing import Any

import pytest

from sundog.cells.owning import talk
from sundog.cells.owning.client import ExchangeClient, keeping_in
from sundog.cells.owning.packing import pack_result
from sundog.cluster.leases import DEAD_AFTER_S
from sundog.cluster.owner_events import NewsAsked
from sundog.errors import CallError, PromptTooLong, StoreError
from sundog.host.virtual_loop import run_virtually
from sundog.ir.values.normal_form import decode, encode
from sundog.store.segments import sending
from sundog.store.store import Store
from sundog.store.totals import NodeTotals, node_totals
from tests.cells.owning.owners import LOG, PLAN, USAGE, MemoryLine, OwnerLife, TestCell, asks_of_a, owner_and_cells
from tests.execution.fakes import FakeOperator, World, fails
from tests.store.segments.storages import Machine

K, M = b"k" * 16, b"\xffm" * 8
LIMIT_S = 1.5 * talk.PATIENCE_S
Body = Callable[[OwnerLife, TestCell, TestCell], Coroutine[Any, Any, None]]


class OwnError(CallError):
    """An error of an operator that is installed beside sundog."""


async def keeps_nothing(values: Mapping[bytes, bytes]) -> None:
    """Leave it to the owner."""


async def slowly_fails(payload: Any) -> Any:
    """Fail for good, after all rows have asked."""
    await asyncio.sleep(5.0)
    raise CallError("it is gone")


def two_cells(folder: Path, body: Body) -> None:
    async def main() -> None:
        async with asyncio.timeout(LIMIT_S), owner_and_cells(folder, "x", "y") as (owner, (x, y)):
            await body(owner, x, y)

    run_virtually(main(), waits_for_threads=True)


async def waiting(cell: TestCell, key: bytes) -> asyncio.Task[Any]:
    """Return a claim that waits for another cell."""
    cell.waits.clear()
    task = asyncio.ensure_future(cell.claim(key))
    await asyncio.wait_for(cell.waits.wait(), 5.0)
    return task


@pytest.mark.parametrize("share", [0.0, 0.4])
def test_cells_of_one_run_make_each_call_once(tmp_path: Path, share: float) -> None:
    """Two dispatchers over one owner; some calls fail at first."""
    operator = FakeOperator(behaviours={"a": fails(3, retryable=True)})
    rows = [[{"x": f"{(7 * number + cell) % 30}"} for number in range(40)] for cell in (0, 1)]

    async def main() -> None:
        owner = OwnerLife(tmp_path)
        await owner.start()
        async with asyncio.timeout(LIMIT_S), AsyncExitStack() as stack:
            runs = []
            for number, some in enumerate(rows):
                line = MemoryLine(owner, number, share)
                client = ExchangeClient(f"c{number}", [line], asks_of_a, keeps_nothing)
                await stack.enter_async_context(client.talking())
                world = World(tmp_path / f"cell-{number}", operator, max_concurrency=8, exchange=client)
                scope = {"run_id": "run-1", "is_fresh": False, "repeats_unknown_effects": False}
                runs.append(world._run(world.physical(PLAN), tuple(some), scope))
            for some, ends in zip(rows, await asyncio.gather(*runs), strict=True):
                assert [decode(end.body) for end in ends] == [{"a": row["x"]} for row in some]
        await owner.kill()

    run_virtually(main(), waits_for_threads=True)
    assert sum(operator.runs.values()) == 30 + 3
    driver = Machine(f"file://{tmp_path}/shared", tmp_path / "driver")
    driver.state.read([LOG])
    with closing(driver.store) as store:
        assert node_totals(store, "run-1") == {"a": NodeTotals("a", 0, 0, 0, 30, 300, 60, 150)}
        assert store.select("select count(*) from results", ()) == [(30,)]
    with closing(Store(tmp_path / "cell-0")) as store:
        assert store.select("select * from results", ()) == []


def test_cells_that_wait_for_one_another_both_go_on(tmp_path: Path) -> None:
    async def body(owner: OwnerLife, x: TestCell, y: TestCell) -> None:
        assert await x.claim(K) == await y.claim(M) == "lead"
        of_x, of_y = await waiting(x, M), await waiting(y, K)
        assert await asyncio.gather(*[x.put(K, "1"), y.put(M, "2")]) == [None, None]
        assert await asyncio.gather(*[of_x, of_y]) == ["2", "1"]

    two_cells(tmp_path, body)


def test_the_next_one_makes_a_call_that_was_released(tmp_path: Path) -> None:
    async def body(owner: OwnerLife, x: TestCell, y: TestCell) -> None:
        await x.claim(K)
        of_y = await waiting(y, K)
        x.client.release(K)
        assert await of_y == "lead"
        of_x = await waiting(x, K)
        await y.put(K, "1")
        assert await of_x == "1"

    two_cells(tmp_path, body)


def test_those_who_wait_for_a_call_have_its_failure(tmp_path: Path) -> None:
    """As in one process, with all that a row reads of it. Whoever asks later makes the call again."""

    async def body(owner: OwnerLife, x: TestCell, y: TestCell) -> None:
        await x.claim(K)
        of_y = await waiting(y, K)
        error = PromptTooLong("it is too long", hint="look")
        error.num_attempts, error.usage = 3, lambda: "what cannot be sent"
        x.client.fail(K, error)
        with pytest.raises(PromptTooLong, match="it is too long") as failure:
            await of_y
        told = pickle.loads(pickle.dumps(failure.value))
        assert (told.what, told.hint, told.num_attempts) == ("it is too long", "look", 3)
        assert await x.claim(K) == "lead"
        of_y = await waiting(y, K)
        await x.put(K, "1")
        assert await of_y == "1"

    two_cells(tmp_path, body)


def test_a_failure_of_another_class_is_not_told(tmp_path: Path) -> None:
    """The next one makes the call, and gets it at first hand."""

    async def body(owner: OwnerLife, x: TestCell, y: TestCell) -> None:
        await x.claim(K)
        of_y = await waiting(y, K)
        x.client.fail(K, OwnError("it is gone"))
        assert await of_y == "lead"

    two_cells(tmp_path, body)


def test_a_failure_that_an_owner_has_not_told_is_lost_with_it(tmp_path: Path) -> None:
    """Then one of those who wait makes the call."""

    async def body(owner: OwnerLife, x: TestCell, y: TestCell) -> None:
        await x.claim(K)
        of_y = await waiting(y, K)
        x.line.is_cut = True
        x.client.fail(K, CallError("no such row"))
        await asyncio.sleep(DEAD_AFTER_S + 2.0)
        assert await of_y == "lead"
        x.line.is_cut = False
        of_x = await waiting(x, K)
        await y.put(K, "1")
        assert await of_x == "1"

    two_cells(tmp_path, body)


@pytest.mark.parametrize("share", [0.0, 0.4])
def test_equal_calls_that_fail_are_made_once(tmp_path: Path, share: float) -> None:
    """All rows of two cells ask at once for a call that fails for good, and all of them fail with it."""
    operator = FakeOperator(behaviours={"a": slowly_fails})

    async def main() -> None:
        owner = OwnerLife(tmp_path)
        await owner.start()
        async with asyncio.timeout(LIMIT_S), AsyncExitStack() as stack:
            runs = []
            for number in (0, 1):
                client = ExchangeClient(f"c{number}", [MemoryLine(owner, number, share)], asks_of_a, keeps_nothing)
                await stack.enter_async_context(client.talking())
                world = World(tmp_path / f"cell-{number}", operator, exchange=client)
                scope = {"run_id": "run-1", "is_fresh": False, "repeats_unknown_effects": False}
                runs.append(world._run(world.physical(PLAN), ({"x": "same"},) * 5, scope))
            for ends in await asyncio.gather(*runs):
                assert {(end.state, decode(end.body)["cause"]) for end in ends} == {("failed", "CallError: it is gone")}
        await owner.kill()

    run_virtually(main(), waits_for_threads=True)
    assert operator.runs == {"same": 1}


def test_a_claim_that_is_cancelled_leads_nothing(tmp_path: Path) -> None:
    async def body(owner: OwnerLife, x: TestCell, y: TestCell) -> None:
        claim = asyncio.ensure_future(x.claim(K))
        await asyncio.sleep(0)
        claim.cancel()
        await asyncio.wait([claim])
        assert await y.claim(K) == "lead"
        of_x = await waiting(x, K)
        of_x.cancel()
        await asyncio.wait([of_x])
        await y.put(K, "1")
        assert await x.claim(K) == "1"

    two_cells(tmp_path, body)


def test_a_value_that_nobody_waits_for_is_put_all_the_same(tmp_path: Path) -> None:
    async def body(owner: OwnerLife, x: TestCell, y: TestCell) -> None:
        await x.claim(K)
        put = asyncio.ensure_future(x.put(K, "1"))
        await asyncio.sleep(0)
        put.cancel()
        await asyncio.wait([put])
        x.client.release(K)
        assert await y.claim(K) == "1"
        assert await x.claim(K) == "1"

    two_cells(tmp_path, body)


def test_a_cell_that_is_gone_leads_nothing(tmp_path: Path) -> None:
    async def body(owner: OwnerLife, x: TestCell, y: TestCell) -> None:
        await x.claim(K)
        of_y = await waiting(y, K)
        assert owner.host is not None
        owner.host.gone("x")
        x.line.is_cut = True
        begin_s = asyncio.get_running_loop().time()
        assert await of_y == "lead"
        assert asyncio.get_running_loop().time() < begin_s + 1.0, "nobody waits for its silence"

    two_cells(tmp_path, body)


def test_the_first_value_stays_where_a_silent_cell_goes_on(tmp_path: Path) -> None:
    """Its call runs meanwhile. It is refused, and its value is put; so is that of the one who has led after it."""

    async def body(owner: OwnerLife, x: TestCell, y: TestCell) -> None:
        await asyncio.gather(x.claim(K), x.claim(M))
        of_y = [await waiting(y, key) for key in (K, M)]
        x.line.is_cut = True
        assert await asyncio.wait_for(asyncio.gather(*of_y), 2 * DEAD_AFTER_S) == ["lead", "lead"]
        x.line.is_cut = False
        assert await y.put(K, "of y") is None
        assert await x.put(K, "of x") == "of y"
        assert await x.put(M, "of x") is None
        assert await y.put(M, "of y") == "of x"

    two_cells(tmp_path, body)


def test_an_owner_that_is_started_again_has_its_log_and_hears_who_leads(tmp_path: Path) -> None:
    async def body(owner: OwnerLife, x: TestCell, y: TestCell) -> None:
        await x.claim(K)
        await x.put(K, "1")
        await x.claim(M)
        await owner.kill()
        await owner.start()
        assert await y.claim(K) == "1"
        await asyncio.sleep(2 * talk.BEAT_EVERY_S)
        of_y = await waiting(y, M)
        assert await x.put(M, "2") is None
        assert await of_y == "2"

    two_cells(tmp_path, body)


def test_who_waits_when_an_owner_ends_goes_on(tmp_path: Path) -> None:
    async def body(owner: OwnerLife, x: TestCell, y: TestCell) -> None:
        await x.claim(K)
        of_y = await waiting(y, K)
        x.line.is_cut = True
        await owner.kill()
        await owner.start()
        assert await of_y == "lead"

    two_cells(tmp_path, body)


def test_nobody_sees_a_value_before_it_lies_in_the_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    is_open = threading.Event()
    is_open.set()
    send_unsent = sending.send_unsent

    def stands(log: object, connection: Connection, position: object) -> object:
        is_open.wait(20.0)
        return send_unsent(log, connection, position)  # type: ignore[arg-type]  # as they came

    monkeypatch.setattr(sending, "send_unsent", stands)

    async def body(owner: OwnerLife, x: TestCell, y: TestCell) -> None:
        await x.claim(K)
        of_y = await waiting(y, K)
        is_open.clear()
        put = asyncio.ensure_future(x.put(K, "1"))
        await asyncio.sleep(3.0)
        z = TestCell("z", MemoryLine(owner))
        async with z.client.talking():
            of_z = await waiting(z, K)  # it is committed by now
            assert not any(task.done() for task in (put, of_y, of_z))
            is_open.set()
            assert await asyncio.gather(*[put, of_y, of_z]) == [None, "1", "1"]

    two_cells(tmp_path, body)


def test_what_comes_while_a_batch_is_on_its_way_is_one_more_batch(tmp_path: Path) -> None:
    async def body(owner: OwnerLife, x: TestCell, y: TestCell) -> None:
        keys = [number.to_bytes(16, "big") for number in range(500)]
        await asyncio.gather(*map(x.claim, keys))
        await asyncio.gather(*(x.put(key, "1") for key in keys))
        assert len(x.line.batches) == 2
        assert await asyncio.gather(*map(x.claim, keys)) == ["1"] * 500
        assert len(x.line.batches) == 2, "it keeps what it has put"

    two_cells(tmp_path, body)


def test_a_cell_that_listens_anew_listens_once(tmp_path: Path) -> None:
    """Its first question was lost on its way back, or came twice."""

    async def body(owner: OwnerLife, x: TestCell, y: TestCell) -> None:
        assert owner.host is not None
        first, second = (asyncio.ensure_future(owner.host.listen(NewsAsked(0.0, "z", 1, 0), 100.0)) for _ in range(2))
        assert await asyncio.wait_for(first, 1.0) == ()
        assert not second.done()

    two_cells(tmp_path, body)


def test_an_owner_that_lost_its_log_fails_those_who_wait(tmp_path: Path) -> None:
    async def main() -> None:
        async with asyncio.timeout(LIMIT_S), owner_and_cells(tmp_path, "x") as (owner, (x,)):
            await x.claim(K)
            Machine(owner.url, tmp_path / "driver").state.seal(LOG)
            with pytest.raises(StoreError, match="another process has taken over"):
                await x.put(K, "1")
            with pytest.raises(StoreError, match="another process has taken over"):
                await x.claim(M)

    with pytest.raises(StoreError, match="another process has taken over"):
        run_virtually(main(), waits_for_threads=True)


def test_a_cell_keeps_what_an_owner_that_is_away_does_not_take(tmp_path: Path) -> None:
    async def body(owner: OwnerLife, x: TestCell, y: TestCell) -> None:
        await asyncio.gather(x.claim(K), x.claim(M))
        await owner.kill()
        first = asyncio.ensure_future(x.put(K, "1"))
        await asyncio.sleep(talk.AWAY_AFTER_S - 2 * talk.BEAT_EVERY_S)
        assert x.kept == {}, "it may be back soon"
        await asyncio.sleep(4 * talk.BEAT_EVERY_S)
        second = asyncio.ensure_future(x.put(M, "2"))
        await asyncio.sleep(4 * talk.BEAT_EVERY_S)
        assert (x.kept, x.num_kept) == ({K: "1", M: "2"}, 2)
        await owner.start()
        assert await asyncio.gather(*[first, second]) == [None, None], "it is told all the same"
        assert await asyncio.gather(*[y.claim(K), y.claim(M)]) == ["1", "2"]

    two_cells(tmp_path, body)


def test_what_a_cell_keeps_lies_in_its_log(tmp_path: Path) -> None:
    """A value that the store has stays, as whoever has read it may have gone on with it."""
    here, there = (Machine(f"file://{tmp_path}/shared", tmp_path / name) for name in ("here", "there"))

    async def main(store: Store) -> None:
        store.open_writer()
        await store.put(M, "run-1", "a", encode("first"), USAGE, call_s=0.5)
        values = {K: "1", M: "2"}
        rows = {key: (key, "run-1", "a", encode(value), 10, 2, 5, 0.5) for key, value in values.items()}
        await keeping_in(store)({key: pack_result(row) for key, row in rows.items()})
        store.close_writer()

    with closing(here.store) as store, store.writing_to("run.cell-0"):
        asyncio.run(main(store))
    there.state.read(["run.cell-0"])
    with closing(there.store) as store:
        assert {row[0]: decode(row[3]) for row in store.result_rows([K, M])} == {K: "1", M: "first"}
        assert node_totals(store, "run-1")["a"].num_executed == 1


def test_an_owner_that_is_away_for_too_long_fails_those_who_wait(tmp_path: Path) -> None:
    async def body(owner: OwnerLife, x: TestCell, y: TestCell) -> None:
        await x.claim(K)
        await owner.kill()
        begin_s = asyncio.get_running_loop().time()
        with pytest.raises(StoreError, match="an owner of calls has not answered for 300 seconds"):
            await x.claim(M)
        assert asyncio.get_running_loop().time() >= begin_s + talk.PATIENCE_S - 20

    two_cells(tmp_path, body)
