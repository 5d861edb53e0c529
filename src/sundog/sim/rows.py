"""Rows on their way through a simulation: each call once those before it have ended, as many rows at once as may be.

Owns sharing of equal calls and the window of rows in flight, as the batch runtime has them. Never knows how long a
call takes.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import replace

from sundog.batch.follower import Follower
from sundog.engines.base import Usage
from sundog.errors import CallError
from sundog.host.attempt import Success
from sundog.host.driver import Driver, GivenUp
from sundog.ir.physical import TableExec, calls_of
from sundog.sched.events import RequestArrived, Submit
from sundog.sim.latency import Latencies, RequestTimes
from sundog.sim.machines import Machines
from sundog.sim.phases import ApartCalls
from sundog.sim.workload import SimulatedCall, SimulatedRow, SimulatedTable, StepTraits

NO_TRAITS = StepTraits()


class _Passing:
    """The nodes of the plan that one row has not passed yet. `left`: calls to come, by node."""

    __slots__ = ("_left", "_node_of", "_on_passed")

    def __init__(self, left: dict[str, int], node_of: Mapping[str, str], on_passed: Callable[[str], None]) -> None:
        self._left = left
        self._node_of = node_of
        self._on_passed = on_passed

    def ended(self, step: str) -> None:
        """Count one more call of a step."""
        if self._left:
            node = self._node_of[step]
            self._left[node] -= 1
            if not self._left[node]:
                del self._left[node]
                self._on_passed(node)

    def row_ended(self) -> None:
        for node in self._left:
            self._on_passed(node)


class _TableCourse:
    """One table on its way: which of its rows have ended, for those that wait for them."""

    def __init__(self, table: SimulatedTable) -> None:
        self.table = table
        self.ended = asyncio.Event()
        self.num_begun = 0
        #: Rows begin in their order.
        self.turn = asyncio.Lock()
        self._num_ended = 0
        self._changed = asyncio.Event()

    def row_ended(self) -> None:
        self._num_ended += 1
        self._changed.set()

    def end(self) -> None:
        self.ended.set()
        self._changed.set()

    async def until_given(self, number: int, num_rows: int) -> None:
        """Wait until row `number` of the `num_rows` of a table is there whose rows are made of these."""
        while not self.ended.is_set() and self._num_ended * num_rows <= number * self.table.num_rows:
            self._changed.clear()
            await self._changed.wait()


class SimulatedRows:
    """Rows of one load."""

    def __init__(
        self,
        driver: Driver,
        machines: Machines,
        steps: Mapping[str, StepTraits],
        tables: Sequence[TableExec] = (),
        follower: Follower | None = None,
    ) -> None:
        """`tables` and `follower`: of a plan that is followed, which is told of each node that a row has passed."""
        self.num_rows = self.num_asked = self.num_executed = self.num_failed_rows = 0
        self.latencies = Latencies()
        #: By pool, calls that wait for their first attempt.
        self.num_waiting: Counter[str] = Counter()
        self._driver = driver
        self._machines = machines
        self._steps = steps
        self._follower = follower
        self._node_of = {call.name: node.name for t in tables for node in t.nodes for call in calls_of((node,))}
        self._nodes = {table.name: tuple(node.name for node in table.nodes) for table in tables}
        self._needs_s: Mapping[str, float] = {} if follower is None else follower.needs_s
        self._ended: set[Hashable] = set()
        self._in_flight: dict[Hashable, asyncio.Future[None]] = {}
        self._apart = ApartCalls(driver, machines, self._wait)

    async def run_within(self, rows: Iterator[SimulatedRow], max_rows_in_flight: int) -> None:
        """Run all rows; a row begins when there is room for it, or when another one ends."""

        async def lane() -> None:
            for row in rows:
                await self._run_row(row)

        await asyncio.gather(*(lane() for _ in range(max_rows_in_flight)))

    async def run_tables(self, tables: Sequence[SimulatedTable], max_rows_in_flight: int) -> None:
        """Run all rows of tables, those of each once the tables that it waits for have ended."""
        courses = {table.name: _TableCourse(table) for table in tables}
        await asyncio.gather(*(self._run_table(one, courses, max_rows_in_flight) for one in courses.values()))

    async def _run_table(
        self, course: _TableCourse, courses: Mapping[str, _TableCourse], max_rows_in_flight: int
    ) -> None:
        table = course.table
        for name in table.waits_for:
            await courses[name].ended.wait()
        source = None if table.stream_of is None else courses[table.stream_of]
        if source is None:
            self._begin(table)
        rows = table.rows()

        async def lane() -> None:
            while True:
                async with course.turn:
                    row = next(rows, None)
                    if row is None:
                        return
                    if source is not None:
                        await source.until_given(course.num_begun, table.num_rows)
                    course.num_begun += 1
                await self._run_row(row)
                course.row_ended()

        await asyncio.gather(*(lane() for _ in range(min(max_rows_in_flight, table.num_rows))))
        if source is not None:
            await source.ended.wait()
            self._begin(table)
        course.end()

    def _begin(self, table: SimulatedTable) -> None:
        """Take note of how many rows a table has: of one whose rows come from another, once that has ended."""
        if self._follower is not None:
            self._follower.drains.begin(table.name, table.num_rows)

    async def run_as_they_come(self, rows: Iterator[SimulatedRow]) -> None:
        """Run all rows, each from the time at which it comes, however many are there; they are in the order of these
        times. Memory holds the rows that have not ended."""
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.TaskGroup() as group:
                for row in rows:
                    if row.arrives_s > loop.time():
                        await asyncio.sleep(row.arrives_s - loop.time())
                    group.create_task(self._run_row(row))
        except BaseExceptionGroup as failures:
            # Whatever else it holds follows from the first: a row never fails so, and the rows may be unreadable.
            raise failures.exceptions[0] from None

    async def _run_row(self, arrived: SimulatedRow) -> None:
        begin_s, row = self._driver.now_s(), arrived.calls
        row_index = self.num_rows if arrived.order is None else arrived.order
        self.num_rows += 1
        waited_for = [len(call.before) for call in row]
        after: list[list[int]] = [[] for _ in row]
        for place, call in enumerate(row):
            for other in call.before:
                after[other].append(place)
        tasks: list[Awaitable[None]] = []
        passing = self._passing(arrived)

        async def follow(place: int) -> None:
            """Run a call and then what waits for it alone; what else it sets free has tasks of its own."""
            next_place: int | None = place
            while next_place is not None:
                place, next_place = next_place, None
                await self._call(row_index, place, row[place])
                passing.ended(row[place].node)
                for other in after[place]:
                    waited_for[other] -= 1
                    if not waited_for[other]:
                        if next_place is None:
                            next_place = other
                        else:
                            tasks.append(asyncio.ensure_future(follow(other)))

        roots = [follow(place) for place, call in enumerate(row) if not call.before]
        tasks += roots if len(roots) == 1 else map(asyncio.ensure_future, roots)
        has_failed = False
        # It grows while it is waited for. As in a run, calls beside one that fails go on: others may share them.
        for task in tasks:
            try:
                await task
            except (CallError, GivenUp):
                has_failed = True
        self.num_failed_rows += has_failed
        passing.row_ended()
        self._driver.workflow_left(f"row-{row_index}")
        self.latencies.row_s.add(self._driver.now_s() - begin_s)

    def _passing(self, row: SimulatedRow) -> _Passing:
        if self._follower is None:
            return _Passing({}, {}, lambda node: None)
        left = dict.fromkeys(self._nodes[row.table], 0)
        for call in row.calls:
            left[self._node_of[call.node]] += 1
        return _Passing(left, self._node_of, self._follower.drains.passed)

    def _wait(self, pool: str, change: int) -> None:
        self.num_waiting[pool] += change

    async def _call(self, row_index: int, place: int, call: SimulatedCall) -> None:
        self.num_asked += 1
        if call.key is None:
            await self._execute(row_index, place, call)
        elif call.key in self._ended:
            self._driver.workflow_left(f"row-{row_index}")
        elif (shared := self._in_flight.get(call.key)) is not None:
            self._driver.workflow_left(f"row-{row_index}")
            await asyncio.shield(shared)
        else:
            await self._lead(row_index, place, call)

    async def _lead(self, row_index: int, place: int, call: SimulatedCall) -> None:
        shared = self._in_flight[call.key] = asyncio.get_running_loop().create_future()
        try:
            await self._execute(row_index, place, call)
        except BaseException as error:
            shared.set_exception(error)
            shared.exception()  # nobody may have joined
            raise
        else:
            self._ended.add(call.key)
            shared.set_result(None)
        finally:
            del self._in_flight[call.key]

    async def _execute(self, row_index: int, place: int, call: SimulatedCall) -> None:
        traits = self._steps.get(call.node, NO_TRAITS)
        request_id = f"{row_index}/{place}"
        driver, machines = self._driver, self._machines
        times = RequestTimes(driver.now_s())

        def on_first_token() -> None:
            times.first_token_s = driver.now_s()
            driver.prefill_ended(request_id)

        split = machines.split_of(call.pool)
        computed = call if split is None else replace(call, num_output_tokens=1)

        async def attempt(submit: Submit) -> Success[int]:
            if times.begin_s is None:
                self.num_waiting[call.pool] -= 1
                times.begin_s = driver.now_s()
            replica = machines.replica(submit.replica_id)
            num_cached = await replica.answer(computed, on_first_token)
            if not call.num_prompt_tokens:
                return Success(num_cached)
            return Success(num_cached, Usage(call.num_prompt_tokens, call.num_output_tokens, num_cached))

        arrived = RequestArrived(
            driver.now_s(),
            request_id,
            call.pool,
            row_index,
            call.depth,
            call.num_prompt_tokens,
            call.num_expected_output_tokens,
            call.prefix_key,
            max_attempts=traits.max_attempts,
            need_s=self._needs_s.get(call.node, 0.0),
            has_successor=traits.has_successor and bool(call.prefix_key) and split is None,
            workflow_id=f"row-{row_index}",
            facts=traits.facts,
        )
        self.num_waiting[call.pool] += 1
        try:
            if split is None:
                await driver.run(arrived, attempt)
            else:
                await self._apart.run(arrived, call, split, attempt)
        finally:
            self.num_waiting[call.pool] -= times.begin_s is None
        self.latencies.add(call.pool, times, driver.now_s())
        self.num_executed += 1
