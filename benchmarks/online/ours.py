"""sundog's arm: the real core with the live host's policies, over engines that stay, as the live host has them.

Owns the way from requests to rows of calls. Each request is admitted as it comes. LLM calls are greedy, so equal ones
are made once, in flight and over time; look-ups of different requests are each made, since a live host shows the world
of today.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cache
from math import inf
from pathlib import Path

from placed import timed
from placed.graphs import PLACES, Graph

from online.answered import Answered
from online.batch_run import problem_of
from online.flows import write_flow
from online.load import DURATION_S, Asked
from online.workload import Machines, most_per_s
from sundog.batch.step_facts import plan_facts
from sundog.config import read_config
from sundog.host.driver import Driver
from sundog.host.recorder import Recorder
from sundog.host.virtual_loop import run_virtually
from sundog.optimizer.placement.choose import solver_named
from sundog.sched.core import SchedulerCore
from sundog.sched.events import Event
from sundog.sched.facts import CallFacts
from sundog.sched.policy import POLICIES
from sundog.session.flow_file import load_plan
from sundog.session.session import plan_session
from sundog.sim.machines import Machines as SimulatedMachines
from sundog.sim.rows import SimulatedRows
from sundog.sim.workload import EngineFleet, ModelledEngine, SimulatedCall, SimulatedRow, StepTraits

POLICY = "live"


@dataclass(frozen=True, slots=True)
class Counts:
    """LLM and tool calls: how many were asked for, and how many were made."""

    num_asked: int
    num_executed: int


def planned_shares(graph: Graph, machines: Machines) -> dict[str, int]:
    """Return how many workers each model gets from the planner's partition, for as many requests as there can be."""
    num_rows = round(DURATION_S * most_per_s(graph, machines))
    problem = problem_of(graph, machines, num_rows, (None,) * machines.num_workers)
    timeline = solver_named("partition")(problem).timeline
    kinds = {step.name: step.kind for step in graph.steps}
    models = [{kinds[step] for step in timeline.order_on(replica.name)} for replica in problem.replicas]
    return {model.name: sum(model.name in some for some in models) for model in problem.models}


@cache
def facts_of(graph: Graph) -> dict[str, CallFacts]:
    """Return what the live host tells the core of each step's calls: what the plan of the graph's flow knows."""
    timed.register()
    with tempfile.TemporaryDirectory(prefix="sundog-online-") as folder:
        plan = load_plan(write_flow(graph, Path(folder), planned_shares(graph, Machines())), {})
        session = plan_session(plan, Path(folder), replace(read_config(), state_dir=Path(folder)))
        return plan_facts(session.plan)


class _TimedRows(SimulatedRows):
    """Rows whose ends are kept, by number."""

    def __init__(self, driver: Driver, machines: SimulatedMachines, steps: Mapping[str, StepTraits]) -> None:
        super().__init__(driver, machines, steps)
        self.ends_s: dict[int, float] = {}

    async def _run_row(self, arrived: SimulatedRow) -> None:
        await super()._run_row(arrived)
        assert arrived.order is not None, "the rows of this arm are numbered"
        self.ends_s[arrived.order] = self._driver.now_s()


class OurRun:
    """One run. `counts`: of the last one."""

    def __init__(self, graph: Graph, machines: Machines, policy: str = POLICY, *, shares_tools: bool = False) -> None:
        """`shares_tools`: equal look-ups are made once too, over time, as Halo makes them."""
        self._graph = graph
        self._machines = machines
        self._policy = policy
        self._shares_tools = shares_tools
        self.counts = Counts(0, 0)

    def run(self, asked: Sequence[Asked], until_s: float = inf) -> list[Answered]:
        """Answer the requests, or those that can be until a moment."""
        ends_s = run_virtually(self._answer(asked, until_s))
        return [Answered(one.time_s, ends_s.get(row, inf)) for row, one in enumerate(asked)]

    async def _answer(self, asked: Sequence[Asked], until_s: float) -> dict[int, float]:
        engine = ModelledEngine(PLACES)
        shares = planned_shares(self._graph, self._machines)
        tools = {step.kind: self._machines.tool_places for step in self._graph.steps if not step.is_llm}
        machines = SimulatedMachines({model: EngineFleet(engine, num) for model, num in shares.items()}, tools)
        driver = Driver(SchedulerCore(POLICIES.get(self._policy)), _ignore, machines, Recorder(machines.count))
        steps = {name: StepTraits(facts) for name, facts in facts_of(self._graph).items()}
        rows = _TimedRows(driver, machines, steps)
        try:
            for replica in machines.begin(0.0):
                driver.tell(replica)
            with suppress(TimeoutError):
                async with asyncio.timeout(None if until_s == inf else until_s):
                    await rows.run_as_they_come(self._rows(asked))
        finally:
            await driver.close()
        self.counts = Counts(rows.num_asked, rows.num_executed)
        return rows.ends_s

    def _rows(self, asked: Sequence[Asked]) -> Iterator[SimulatedRow]:
        places = {step.name: place for place, step in enumerate(self._graph.steps)}
        depths = self._graph.depths
        for row, one in enumerate(asked):
            calls = tuple(
                SimulatedCall(
                    step.name,
                    step.kind,
                    tuple(places[parent] for parent in step.parents),
                    (step.name, one.query) if step.is_llm or self._shares_tools else None,
                    depths[step.name],
                    call_s=self._graph.call_s(step),
                )
                for step in self._graph.steps
            )
            yield SimulatedRow(calls, row, arrives_s=one.time_s)


def _ignore(event: Event) -> None:
    """A benchmark keeps no log."""
