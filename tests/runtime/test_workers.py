"""Workers in a run: real rows, host, core and null engines with load times, in virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

import sundog as sd
from sundog.batch import follower
from sundog.batch.follower import Follower, engine_replicas
from sundog.cost.estimate import Estimate
from sundog.engines.base import GenerateRequest, Message
from sundog.errors import CallError, EngineUnavailable, RunError, RunStopped
from sundog.execution.calls.call_key import CallIdentity
from sundog.execution.calls.dispatch import CallAnswer
from sundog.execution.calls.refusals import refusal
from sundog.execution.executor import RowExecutor
from sundog.execution.pools import RunPools
from sundog.execution.row_way import RowEnd
from sundog.host.attempt import Success
from sundog.host.driver import Driver, GivenUp
from sundog.host.virtual_loop import run_virtually
from sundog.ir.physical import CallExec, PhysicalPlan, calls_of
from sundog.ir.row_ids import RowRef
from sundog.measured.node_history import Observations
from sundog.operators.base import OPERATORS
from sundog.optimizer.place_steps import place_steps
from sundog.optimizer.placement_figures import PlacementFigures, PoolReplicas
from sundog.optimizer.planner import PlannerOptions, plan_physical
from sundog.sched.catalog import FCFS, PREFIX_GROUPED
from sundog.sched.core import SchedulerCore
from sundog.sched.events import (
    Event,
    Load,
    ReplicaAdded,
    RequestArrived,
    RequestFinished,
    Submit,
    WorkerAdded,
    WorkerPlanned,
)
from sundog.sched.facts import CallFacts
from sundog.sched.policy import PolicySet
from sundog.secrets import Secrets
from sundog.servers.run_servers import RunServers
from sundog.servers.servers import Servers
from sundog.store.store import NO_USAGE

LOAD_S = 5.0
CALL_S = 0.1
SLOTS = 8


def two_models(count: int = 1, **workers: int) -> tuple[sd.Flow, str, str]:
    """A flow with two engines that take turns: a call takes 0.1 s, eight run at once, a load takes 5 s."""
    flow = sd.Flow("turns")
    gpu = flow.workers("gpu", count=count, **workers)
    names = (
        flow.engine(name, kind="null", model=name, latency_s=CALL_S, load_s=LOAD_S, max_concurrency=SLOTS, workers=gpu)
        for name in ("small", "large")
    )
    flow.input("rows", rows=[{"id": 0}])
    return flow, *names  # type: ignore[return-value]  # two of them


@dataclass
class Ran:
    ends: list[RowEnd]
    events: list[Event]
    loads: list[str]
    took_s: float


@dataclass
class Bench:
    """Runs rows without a store: every call goes to the host, tools take `tool_s`."""

    flow: sd.Flow
    policies: PolicySet = PREFIX_GROUPED
    tool_s: float = 0.0
    gap_s: float = 0.0
    max_rows: int = 1000
    figures: PlacementFigures | None = None
    events: list[Event] = field(default_factory=list)

    def run(self, num_rows: int) -> Ran:
        return run_virtually(self._run(num_rows))

    async def _run(self, num_rows: int) -> Ran:
        logical = self.flow.plan()
        names = {node.operator for node in logical.nodes if hasattr(node, "operator")}
        operators = {name: OPERATORS.get(name)(Path()) for name in names}
        plan = plan_physical(logical, operators, PlannerOptions(max_rows_in_flight=self.max_rows))
        self.pools = RunPools(plan, operators, Secrets({}), RunServers(Servers(Path(), Secrets({}))))
        self.host = Driver(SchedulerCore(self.policies), self.events.append, self.pools)
        await self.pools.start()
        for replica in self.pools.replicas(0.0):
            self.host.tell(replica)
        places = engine_replicas(plan)
        figures = self.figures or true_figures(plan, places, num_rows)
        placement = place_steps(plan, places, figures)
        placing = None if placement is None else (figures, placement)
        follower = Follower(plan, placing, num_rows, self.host, self.pools)
        follower.begin()
        follower.drains.begin("", num_rows)
        executor = RowExecutor(plan.tables[0], logical.constants, self, Observations(), follower.drains)
        slots = asyncio.Semaphore(self.max_rows)

        async def row(index: int) -> RowEnd:
            await asyncio.sleep(index * self.gap_s)
            async with slots:
                return await executor.run(RowRef("", (index,)), {"id": index})

        async with follower.reviewing():
            ends = list(await asyncio.gather(*(row(index) for index in range(num_rows))))
        took_s = self.host.now_s()
        await self.host.close()
        await self.pools.close()
        loads = [event.pool for event in self.events if getattr(event, "worker_id", None) and hasattr(event, "pool")]
        return Ran(ends, self.events, loads, took_s)

    async def call_or_error(
        self, node: CallExec, scope: Mapping[str, Any], place: CallIdentity
    ) -> CallAnswer | CallError:
        raise AssertionError("no agent is here")

    async def call(self, node: CallExec, scope: Mapping[str, Any], place: CallIdentity) -> CallAnswer:
        request_id = place.request_id

        async def attempt(submit: Submit) -> Success[str]:
            engine = self.pools.engines.get(submit.replica_id)
            text = request_id
            if engine is None:
                await asyncio.sleep(self.tool_s)
            else:
                request = GenerateRequest(request_id, (Message("user", request_id),))
                text = "".join([chunk.text async for chunk in engine.generate(request)])
            return Success(text)

        arrived = RequestArrived(
            self.host.now_s(),
            request_id,
            node.pool,
            place.order,
            place.depth,
            facts=CallFacts("turns", node.name),
        )
        return CallAnswer({"text": await self.host.run(arrived, attempt)}, NO_USAGE)


def true_figures(plan: PhysicalPlan, places: list[PoolReplicas], num_rows: int) -> PlacementFigures:
    exec_s = {call.name: Estimate(0.5, 1.0, 2.0) * (num_rows * CALL_S / SLOTS) for call in calls_of(plan.nodes)}
    num_waves = dict.fromkeys(exec_s, num_rows / SLOTS)
    num_places, loads_s = dict.fromkeys(exec_s, SLOTS), {place.pool: LOAD_S for place in places}
    return PlacementFigures(exec_s, num_waves, num_places, loads_s, "a test", num_rows=num_rows)


def there_and_back() -> sd.Flow:
    flow, small, large = two_models()
    first = flow.llm("first", engine=small, prompt="begin")
    second = flow.llm("second", engine=large, prompt=f"{first.text}")
    flow.output(third=flow.llm("third", engine=small, prompt=f"{second.text}").text)
    return flow


def side_by_side() -> sd.Flow:
    flow, small, large = two_models()
    flow.output(one=flow.llm("one", engine=small, prompt="a").text, two=flow.llm("two", engine=large, prompt="b").text)
    return flow


def tool_between() -> sd.Flow:
    flow, small, large = two_models()
    first = flow.llm("first", engine=small, prompt="begin")
    found = flow.http("found", url=f"http://host/{first.text}")
    flow.output(second=flow.llm("second", engine=large, prompt=f"{found.text}").text)
    return flow


def test_a_chain_over_two_models_loads_as_planned() -> None:
    """Three stages, three loads: every row is done with one before the next engine comes."""
    ran = Bench(there_and_back()).run(64)
    assert {end.state for end in ran.ends} == {"done"}
    assert ran.loads == ["engine:small", "engine:large", "engine:small"]
    assert ran.took_s == pytest.approx(3 * (LOAD_S + 64 / SLOTS * CALL_S))


@pytest.mark.parametrize(("policies", "num_loads"), [(PREFIX_GROUPED, 2), (FCFS, 32)])
def test_rows_that_come_in_turns(policies: PolicySet, num_loads: int) -> None:
    """128 rows, a little apart, each with a call for both models. First come first served loads for every eight."""
    ran = Bench(side_by_side(), policies, gap_s=0.01).run(128)
    assert {end.state for end in ran.ends} == {"done"}
    assert len(ran.loads) == num_loads


def test_the_next_model_is_loaded_while_tools_run() -> None:
    """The tool takes as long as the load: the load costs nothing."""
    ran = Bench(tool_between(), tool_s=LOAD_S).run(8)
    assert ran.loads == ["engine:small", "engine:large"]
    assert ran.took_s == pytest.approx(LOAD_S + CALL_S + LOAD_S + CALL_S)


def test_few_rows_in_flight_switch_once_a_window() -> None:
    """With 16 rows at once nothing drains before the end; still no model comes twice for one window of rows."""
    ran = Bench(side_by_side(), max_rows=16).run(64)
    assert {end.state for end in ran.ends} == {"done"}
    assert len(ran.loads) <= 1 + 64 // 16


def test_turns_are_kept_in_each_window_of_rows() -> None:
    """The same model ends a window and begins the next one: two loads for each window, and none while calls of the
    engine may still come. In each, every step runs its two waves."""
    ran = Bench(there_and_back(), max_rows=16).run(64)
    assert {end.state for end in ran.ends} == {"done"}
    assert ran.loads == ["engine:small", *["engine:large", "engine:small"] * 4]
    assert ran.took_s == pytest.approx(9 * LOAD_S + 4 * 3 * 16 / SLOTS * CALL_S)


def test_two_places_need_no_turns() -> None:
    flow, small, large = two_models(max_resident=2)
    first = flow.llm("first", engine=small, prompt="begin")
    flow.output(second=flow.llm("second", engine=large, prompt=f"{first.text}").text)
    assert sorted(Bench(flow, max_rows=4).run(32).loads) == ["engine:large", "engine:small"]


def test_a_step_is_split_over_workers() -> None:
    """640 calls of one model on two workers: both load it."""
    flow, small, _ = two_models(count=2)
    flow.output(text=flow.llm("only", engine=small, prompt="begin").text)
    ran = Bench(flow).run(640)
    assert ran.loads == ["engine:small", "engine:small"]
    assert ran.took_s == pytest.approx(LOAD_S + 640 / 2 / SLOTS * CALL_S)


def test_two_models_on_two_workers_stay_and_rows_flow_through_them() -> None:
    """Three stages of 8 s each: two for one model, one for the other. Stage by stage on both workers they would take 12
    s and two loads more."""
    flow, small, large = two_models(count=2)
    first = flow.llm("first", engine=small, prompt="begin")
    second = flow.llm("second", engine=large, prompt=f"{first.text}")
    flow.output(third=flow.llm("third", engine=large, prompt=f"{second.text}").text)
    ran = Bench(flow).run(640)
    assert {end.state for end in ran.ends} == {"done"}
    assert sorted(ran.loads) == ["engine:large", "engine:small"]


def test_the_step_that_feeds_a_worker_comes_before_rows_that_are_further() -> None:
    """Each step takes 8 s. One worker keeps its engine for three of them; the other one's second engine, for the last
    step, can only come when the first of the three is through."""
    flow, small, large = two_models(count=2)
    other = flow.engine(
        "other", kind="null", model="other", latency_s=CALL_S, load_s=LOAD_S, max_concurrency=SLOTS, workers="gpu"
    )
    root = flow.llm("root", engine=small, prompt="begin")
    own = flow.llm("own", engine=small, prompt=f"{root.text}")
    fed = flow.llm("fed", engine=large, prompt=f"{root.text}")
    flow.output(
        own=flow.llm("own_end", engine=small, prompt=f"{own.text}").text,
        fed=flow.llm("fed_end", engine=other, prompt=f"{fed.text}").text,
    )
    ran = Bench(flow).run(640)
    assert sorted(ran.loads) == ["engine:large", "engine:other", "engine:small"]
    assert ran.took_s == pytest.approx(LOAD_S + 3 * 640 / SLOTS * CALL_S)


@pytest.fixture
def plans_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The search takes no thread, which virtual time would not wait for."""

    async def at_once(*question: Any) -> Any:
        return place_steps(*question)

    monkeypatch.setattr(follower, "in_thread", at_once)


@pytest.mark.usefixtures("plans_at_once")
def test_what_is_left_is_planned_anew_when_the_estimate_was_wrong() -> None:
    """The second step takes 8 s where 100 to 150 were expected: seen while it runs, when the first has drained. The
    log tells the same story when it is replayed."""
    exec_s = {"first": Estimate(6, 8, 10), "second": Estimate(100, 120, 150), "third": Estimate(6, 8, 10)}
    loads_s = {"engine:small": LOAD_S, "engine:large": LOAD_S}
    num_waves, num_places = dict.fromkeys(exec_s, 640 / SLOTS), dict.fromkeys(exec_s, SLOTS)
    wrong = PlacementFigures(exec_s, num_waves, num_places, loads_s, "a test")
    right = replace(wrong, exec_s={**exec_s, "second": Estimate(6, 8, 10)})
    assert len(plans(Bench(there_and_back(), figures=right).run(640).events)) == 1
    events = Bench(there_and_back(), figures=wrong).run(640).events
    before, after = plans(events)
    assert before.steps == ("first", "second", "third")
    assert after.steps == ("second", "third")
    replayed = SchedulerCore(PREFIX_GROUPED)
    loads = [action.pool for event in events for action in replayed.handle(event) if isinstance(action, Load)]
    assert loads == ["engine:small", "engine:large", "engine:small"]


@pytest.mark.usefixtures("plans_at_once")
def test_figures_that_are_true_are_never_corrected_while_rows_trickle_in() -> None:
    """Two engines side by side, and of their eight places each has two taken: a call has its engine to itself for four
    times as long as the figures have it."""
    flow, small, large = two_models(count=2)
    first = flow.llm("first", engine=small, prompt="begin")
    flow.output(second=flow.llm("second", engine=large, prompt=f"{first.text}").text)
    ran = Bench(flow, gap_s=CALL_S / 2).run(640)
    assert ran.took_s > 10 * follower.REVIEW_S
    assert len(plans(ran.events)) == 2


@pytest.mark.usefixtures("plans_at_once")
@pytest.mark.parametrize("factor", [0.25, 4.0])
def test_figures_that_are_wrong_are_corrected_soon(factor: float) -> None:
    """Soon is at the first look at which a twentieth of the rows have passed."""
    bench = Bench(there_and_back())
    steps = ("first", "second", "third")
    exec_s = {step: Estimate(0.5, 1.0, 2.0) * (factor * 1600 * CALL_S / SLOTS) for step in steps}
    num_waves, num_places = dict.fromkeys(steps, 1600 / SLOTS), dict.fromkeys(steps, SLOTS)
    loads_s = {"engine:small": LOAD_S, "engine:large": LOAD_S}
    bench.figures = PlacementFigures(exec_s, num_waves, num_places, loads_s, "a test")
    anew = plans(bench.run(1600).events)[1:]
    assert anew[0].time_s <= LOAD_S + 1600 / 20 * CALL_S / SLOTS + follower.REVIEW_S
    assert len(anew) <= len(steps), "each step is corrected once at most"


def plans(events: list[Event]) -> list[WorkerPlanned]:
    return [event for event in events if isinstance(event, WorkerPlanned)]


def test_a_slow_engine_holds_back_the_one_before_it() -> None:
    """Both stay loaded. The first is twenty times as fast; it is never further ahead than the rows in flight."""
    flow = sd.Flow("uneven")
    fast = flow.engine("fast", kind="null", latency_s=0.05)
    slow = flow.engine("slow", kind="null", latency_s=1.0, max_concurrency=4)
    flow.input("rows", rows=[{"id": 0}])
    first = flow.llm("first", engine=fast, prompt="begin")
    flow.output(second=flow.llm("second", engine=slow, prompt=f"{first.text}").text)
    ahead = most = 0
    for event in Bench(flow, max_rows=16).run(64).events:
        if isinstance(event, RequestFinished):
            ahead += 1 if event.request_id.endswith("/first") else -1
            most = max(most, ahead)
    assert most == 16


def test_a_run_that_stops_waits_for_no_load() -> None:
    class Slow:
        async def load(self, worker_id: str, pool: str) -> ReplicaAdded:
            await asyncio.sleep(3600)
            raise AssertionError("nobody waits that long")

        async def unload(self, replica_id: str) -> None:
            raise AssertionError("nothing was loaded")

    async def ask_and_stop() -> float:
        host = Driver(SchedulerCore(PREFIX_GROUPED), lambda event: None, Slow())
        host.tell(WorkerAdded(0.0, "gpu-0", 1, ("engine:small",), (LOAD_S,), (CALL_S,)))

        async def attempt(submit: Submit) -> Success[None]:
            raise AssertionError("there is no engine to run on")

        asyncio.get_running_loop().call_later(1.0, host.stop)
        with pytest.raises(GivenUp) as given_up:
            await host.run(RequestArrived(0.0, "0/first", "engine:small"), attempt)
        assert isinstance(refusal(given_up.value, "engine:small", 0.0), RunStopped)
        return host.now_s()

    assert run_virtually(ask_and_stop()) == pytest.approx(1.0)


def test_an_engine_that_cannot_be_loaded_stops_the_run() -> None:
    class Broken:
        num_loads = 0

        async def load(self, worker_id: str, pool: str) -> ReplicaAdded:
            self.num_loads += 1
            raise EngineUnavailable("no memory", retryable=True)

        async def unload(self, replica_id: str) -> None:
            raise AssertionError("nothing was loaded")

    async def ask() -> None:
        host = Driver(SchedulerCore(PREFIX_GROUPED), lambda event: None, broken)
        host.tell(WorkerAdded(0.0, "gpu-0", 1, ("engine:small",), (LOAD_S,), (CALL_S,)))

        async def attempt(submit: Submit) -> Success[None]:
            raise AssertionError("there is no engine to run on")

        await host.run(RequestArrived(0.0, "0/first", "engine:small"), attempt)

    broken = Broken()
    with pytest.raises(GivenUp) as given_up:
        run_virtually(ask())
    raised = refusal(given_up.value, "engine:small", 0.0)
    assert isinstance(raised, RunError)
    assert str(raised) == "the engine 'small' cannot be loaded: no memory"
    assert broken.num_loads == 3
