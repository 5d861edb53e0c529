"""The load of a study: all rows at once as in a batch, rows that come at their times, or those of an earlier run.

Owns which of these it is. The loads themselves are sim's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from sundog.errors import ConfigError
from sundog.ir.physical import PhysicalPlan
from sundog.ir.pool_names import engine_of
from sundog.sim.arrivals.live_rows import at_times, read_arrivals, trace_workload
from sundog.sim.arrivals.process import ArrivalProcess
from sundog.sim.replay.replay import replayed_run
from sundog.sim.workload import Workload


@dataclass(frozen=True, slots=True)
class Offered:
    """A load, ready to be simulated."""

    workload: Workload
    #: Sentences on what is taken for granted.
    notes: tuple[str, ...] = ()
    #: The policy set under which the run of a log ran; "" for other loads.
    policy: str = ""


@dataclass(frozen=True, slots=True)
class OfferedLoad:
    """The load that is offered to the machines of every variant; a batch where nothing is said."""

    #: An arrival process or the path of a trace, as a user writes it; "" for none.
    arrivals: str = ""
    #: The event logs of the run that is replayed.
    logs: tuple[Path, ...] = ()

    @property
    def is_batch(self) -> bool:
        return not self.arrivals and not self.logs

    def offered(self, workload: Workload, plan: PhysicalPlan, profiled: Sequence[str]) -> Offered:
        """Return what is simulated. `profiled`: the
        pools whose engines are those of a profile, not of the log. ConfigError or InputError where it cannot be."""
        if self.logs:
            fleets = {pool: workload.engines[pool] for pool in profiled}
            replayed = replayed_run(self.logs, plan, fleets, workload.followed)
            told = f"the run took {replayed.makespan_s:,.1f} s under {replayed.policy}"
            return Offered(replayed.workload, (told, *replayed.assumptions), replayed.policy)
        if not self.arrivals:
            return Offered(workload)
        source = read_arrivals(self.arrivals)
        if isinstance(source, ArrivalProcess):
            return Offered(at_times(workload, source.times_s))
        engines = list(workload.engines)
        if len(engines) != 1:
            raise ConfigError(
                f"the flow has {len(engines)} engines, and a trace is the load of one",
                where=f"--arrivals {self.arrivals}",
                hint="give a flow with one engine, or an arrival process such as poisson:5/s",
            )
        fleet = workload.engines[engines[0]]
        if fleet.engine.seconds is None:
            raise ConfigError(
                f"nothing tells how long requests of a trace take on '{engine_of(engines[0])}': it has no profile",
                where=f"--arrivals {self.arrivals}",
                hint="name a profile with --engine-profile, or calibrate it: sundog calibrate FLOW --engine NAME",
            )
        traced = trace_workload(source, engines[0], fleet)
        return Offered(
            replace(traced, steps=workload.steps), ("requests and their lengths are the trace's, not the flow's",)
        )
