"""Sessions that know what each call of a case takes, where those of a user would have to measure it.

Owns these figures, and the way from a case to its placement problem, to a promise and to a run. All of it is the
product's own but for the figures.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

from placed import timed
from placed.cases import Case
from placed.flow import write_flow
from placed.graphs import PLACES, load_s
from sundog.batch.follower import engine_replicas
from sundog.config import read_config
from sundog.cost.estimate import Estimate
from sundog.cost.history import NodeRecord
from sundog.cost.plan_estimate import PlanEstimate
from sundog.host.virtual_loop import run_virtually
from sundog.ir.pool_names import engine_pool
from sundog.measured.loads import ANY_FLOW, LOAD
from sundog.measured.node_history import extend_history, read_history
from sundog.measured.plan_costs import PlanCosts
from sundog.optimizer.place_steps import place_steps
from sundog.optimizer.placement.choose import solver_named
from sundog.optimizer.placement.problem import PlacementProblem, PlacementSolution
from sundog.optimizer.placement_figures import PlacementFigures
from sundog.optimizer.placement_of_plan import placement_problem
from sundog.runtime.run_options import RunOptions
from sundog.session.choices import PlanChoices
from sundog.session.estimates import FlowEstimates
from sundog.session.flow_file import load_plan
from sundog.session.session import Session, plan_session

ABOUT = Estimate(0.5, 1.0, 2.0)
"""Figures are known within a factor of two, as those of a calibration are."""
NUM_TIMED = 50
"""Calls of each step that earlier runs have timed."""


@dataclass(frozen=True, slots=True)
class Ran:
    """A run in virtual time. `makespan_s`: from the first row's start to the last one's end. `num_replans`: how often
    what was left was planned anew."""

    makespan_s: float
    num_loads: int
    num_replans: int
    cpu_s: float


@dataclass(frozen=True, slots=True)
class Promised:
    """The makespan that `sundog explain` shows, by the simulator, and the processor seconds of the choice of the plan
    and of the simulation of what was chosen."""

    makespan_s: float
    choosing_s: float
    simulating_s: float


class KnownEstimates(FlowEstimates):
    """The estimates of a flow whose seconds are known."""

    def __init__(self, case: Case, session: Session, state_dir: Path) -> None:
        super().__init__(session.flow, session.rows, state_dir)
        self._case = case

    def figures_of(self, estimate: PlanEstimate) -> PlacementFigures:
        """The product's figures for the seconds that are true."""
        seconds = self._seconds()
        nodes = tuple(replace(node, seconds=ABOUT * seconds[node.node]) for node in estimate.nodes)
        loads_s = {engine_pool(model): load_s(model) for model in self._case.graph.models}
        return replace(super().figures_of(replace(estimate, nodes=nodes)), load_s=loads_s)

    def _seconds(self) -> Mapping[str, float]:
        """Return the seconds of each step's pool if the step had that for itself."""
        case = self._case
        places = {True: PLACES * case.num_workers, False: case.tool_places}
        return {step.name: case.num_rows * case.graph.call_s(step) / places[step.is_llm] for step in case.graph.steps}


def known_session(case: Case, folder: Path) -> Session:
    """The case's flow in `folder`, planned."""
    timed.register()
    state_of(folder).mkdir(exist_ok=True)
    extend_history(state_of(folder), case.graph.name, _records(case))
    config = replace(read_config(), state_dir=state_of(folder))
    choices = PlanChoices(max_rows_in_flight=case.max_rows_in_flight)
    session = plan_session(load_plan(write_flow(case, folder), {}), folder, config, choices)
    session.estimates = KnownEstimates(case, session, config.state_dir)
    return session


def state_of(folder: Path) -> Path:
    """The state folder of the flow in `folder`."""
    return folder / "state"


def problem_of(session: Session) -> PlacementProblem:
    """The placement problem of a run that begins."""
    figures = session.estimates.figures_of(_costs(session).estimate(session.plan))
    return placement_problem(session.plan, engine_replicas(session.plan), figures, {})


def _costs(session: Session) -> PlanCosts:
    with closing(session.rows) as rows:
        source = rows.as_written()
        return session.estimates.costs(source, source.count())


def planned(problem: PlacementProblem, solver: str) -> tuple[PlacementSolution, float]:
    """The solver's placement, and the processor seconds that it took."""
    begin_s = time.process_time()
    return solver_named(solver)(problem), time.process_time() - begin_s


def promised(case: Case, folder: Path) -> Promised:
    """Return what `sundog explain` promises of the case. Earlier runs have shown how long calls take."""
    session = known_session(case, folder)
    costs = _costs(session)
    estimate = costs.estimate(session.plan)
    begin_s = time.process_time()
    placing = session.estimates.placed(costs, estimate)
    chosen_s = time.process_time()
    estimate = costs.with_makespan(session.plan, estimate, placing)
    assert estimate.makespan_s is not None, "all calls were timed"
    return Promised(estimate.makespan_s.expected, chosen_s - begin_s, time.process_time() - chosen_s)


def _records(case: Case) -> dict[tuple[str, str], NodeRecord]:
    found: dict[tuple[str, str], NodeRecord] = {}
    for step in case.graph.steps:
        record = found[step.name, step.kind if step.is_llm else ""] = NodeRecord()
        for _ in range(NUM_TIMED):
            record.call_s.add(case.graph.call_s(step))
            record.output_tokens.add(7)
    return found


def run(case: Case, folder: Path) -> Ran:
    """Run the case as a user's `sundog run` does, in virtual time; RuntimeError where a row fails."""
    begin_cpu_s = time.process_time()
    with patch("sundog.batch.follower.place_steps", wraps=place_steps) as replans:
        report = run_virtually(_run(case, folder), waits_for_threads=True)
    if report.num_done != case.num_rows:
        raise RuntimeError(f"{case.name}: {report.num_failed} rows failed: {report.errors}")
    cpu_s = time.process_time() - begin_cpu_s
    return Ran(report.rows_s, _num_loads(state_of(folder)), replans.call_count, cpu_s)


def _num_loads(state_dir: Path) -> int:
    """Return how many loads the state folder has kept."""
    history = read_history(state_dir, ANY_FLOW)
    return sum(record.call_s.count for (name, _), record in history.items() if name == LOAD)


async def _run(case: Case, folder: Path) -> Any:
    session = await asyncio.to_thread(known_session, case, folder)
    with session.open_run(RunOptions(state_of(folder))) as opened:
        return await opened.execute()
