"""The load of a study: all rows at once as in a batch, rows that come at their times, or those of an earlier run.

Owns which of these it is. The loads themselves are sim's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from sundog.batch.follower import PlacementWithFigures
from sundog.errors import ConfigError
from sundog.ir.physical import PhysicalPlan
from sundog.ir.pool_names import engine_of, engine_pool
from sundog.optimizer.placement_figures import PlacementFigures
from sundog.sim.arrivals.live_rows import at_times, read_arrivals, trace_workload
from sundog.sim.arrivals.process import ArrivalProcess
from sundog.sim.arrivals.trace import Trace
from sundog.sim.replay.logged_placement import logged_placing
from sundog.sim.replay.logged_run import LoggedRun
from sundog.sim.replay.replay import replayed_run
from sundog.sim.workload import Workload
from sundog.whatif.variant import Variant

PLANNED = "auto"
"""The solver of plans for which none was named."""


@dataclass(frozen=True, slots=True)
class Offered:
    """A load, ready to be simulated."""

    workload: Workload
    #: Sentences on what is taken for granted; what only reading a trace tells is there once it was simulated.
    notes: Callable[[], Iterable[str]] = tuple


@dataclass(frozen=True, slots=True)
class OfferedLoad:
    """The load that is offered to the machines of every variant; a batch where nothing is said."""

    #: An arrival process or the path of a trace, as a user writes it; "" for none.
    arrivals: str = ""
    #: The run that is replayed.
    run: LoggedRun | None = None

    @property
    def is_batch(self) -> bool:
        return not self.arrivals and self.run is None

    @property
    def has_own_calls(self) -> bool:
        """Return whether the calls are those of a log or a trace, so that no estimate tells of them."""
        return self.run is not None or Path(self.arrivals).is_file()

    def placing(self, plan: PhysicalPlan, figures: PlacementFigures, variant: Variant) -> PlacementWithFigures | None:
        """Return where the steps of the replayed run ran; None where that is to be planned."""
        if self.run is None or variant.workers or plan.solver != PLANNED:
            return None
        return logged_placing(self.run.placement, plan, figures)

    def offered(self, workload: Workload, plan: PhysicalPlan, variant: Variant) -> Offered:
        """Return what is simulated, `workload` where nothing else is said. ConfigError or InputError where it cannot
        be."""
        if self.run is not None:
            return self._replayed(self.run, workload, plan, variant)
        if not self.arrivals:
            return Offered(workload)
        source = read_arrivals(self.arrivals)
        if isinstance(source, ArrivalProcess):
            if workload.tables:
                raise ConfigError(
                    "the rows of a flow with several tables come from each other, not over time",
                    where=f"--arrivals {self.arrivals}",
                    hint="leave it away, or give a flow of one table",
                )
            return Offered(at_times(workload, source.times_s))
        self._check_rows(variant)
        return self._traced(source, workload)

    def _check_rows(self, variant: Variant) -> None:
        if variant.num_rows is not None:
            what = "a replay has the rows of its run" if self.run is not None else "a trace brings its own requests"
            raise ConfigError(what, where=f"--rows {variant.num_rows}", hint="leave --rows away")

    def _replayed(self, run: LoggedRun, workload: Workload, plan: PhysicalPlan, variant: Variant) -> Offered:
        self._check_rows(variant)
        num_replicas = {pool: len(replicas) for pool, replicas in run.replicas.items()}
        num_replicas |= {engine_pool(name): number for name, number in variant.replicas.items()}
        modelled = {
            pool: replace(fleet, num_replicas=num_replicas.get(pool, fleet.num_replicas))
            for pool, fleet in workload.engines.items()
            if fleet.engine.seconds is not None
        }
        replayed = replayed_run(run, plan, modelled, workload.followed, num_replicas)
        num_rows = len({call.row for call in run.calls})
        told = f"the run took {replayed.makespan_s:,.1f} s for the {num_rows:,} rows in its log, under {run.policy}"
        return Offered(replayed.workload, lambda: (told, *replayed.assumptions))

    def _traced(self, trace: Trace, workload: Workload) -> Offered:
        where = f"--arrivals {self.arrivals}"
        engines = list(workload.engines)
        if len(engines) != 1:
            raise ConfigError(
                f"the flow has {len(engines)} engines, and a trace is the load of one",
                where=where,
                hint="give a flow with one engine, or an arrival process such as poisson:5/s",
            )
        (pool,), fleet = engines, workload.engines[engines[0]]
        if fleet.engine.seconds is None:
            raise ConfigError(
                f"nothing tells how long requests of a trace take on '{engine_of(pool)}': it has no profile",
                where=where,
                hint="name a profile with --engine-profile, or calibrate it: sundog calibrate FLOW --engine NAME",
            )
        traced = replace(trace_workload(trace, pool, fleet), steps=workload.steps)
        return Offered(traced, lambda: _notes_on(trace))


def _notes_on(trace: Trace) -> Iterator[str]:
    yield "requests and their lengths are the trace's, not the flow's"
    if trace.num_left_out:
        yield f"requests that had failed when the trace was made are left out: {trace.num_left_out:,}"
    if trace.form.block_tokens is None:
        yield "the trace does not tell what prompts share: nothing is taken to be cached"
