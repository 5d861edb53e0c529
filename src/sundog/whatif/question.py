"""One question of the form "what if", as its user asks it, and the answer.

Owns which of its parts go together, for the command and for Python. How it is answered is known to the study.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import inf
from pathlib import Path

from sundog.config import Config
from sundog.errors import ConfigError
from sundog.ir.logical import LogicalPlan
from sundog.present.simulation import SimulationDocument
from sundog.runtime.kept_runs import event_logs, run_id_of
from sundog.session.choices import PlanChoices
from sundog.sim.replay.logged_run import read_run
from sundog.whatif.deadline import fewest_machines
from sundog.whatif.document import simulation_document
from sundog.whatif.offered import OfferedLoad
from sundog.whatif.study import Study
from sundog.whatif.variant import Variant, read_variant


@dataclass(frozen=True, slots=True)
class Question:
    """A question about a flow: the variants that are simulated, and the load."""

    #: The variant that is simulated first.
    base: Variant = field(default_factory=Variant)
    #: Further variants, each a line of options on top of `base`.
    compared: tuple[str, ...] = ()
    #: Seconds in which the fewest machines are to end; None where none are looked for.
    deadline_s: float | None = None
    #: An arrival process or the path of a trace; "" for a batch.
    arrivals: str = ""
    #: The run that is replayed, as `runs` names it; None for none.
    log: str | None = None

    def answer(self, written: LogicalPlan, base_dir: Path, config: Config, choices: PlanChoices) -> SimulationDocument:
        """Simulate. `written`, `base_dir`, `config`, `choices`: as of `plan_session`. ConfigError where the parts do
        not go together, and for what the flow or its state folder does not have; InputError for rows or a trace that
        cannot be read."""
        self._check()
        variants = [self.base, *(read_variant(line, self.base) for line in self.compared)]
        run = None
        if self.log is not None:
            run = read_run(event_logs(config.state_dir, run_id_of(config.state_dir, self.log)))
        study = Study(written, base_dir, config, choices, OfferedLoad(self.arrivals, run))
        if self.deadline_s is not None:
            return simulation_document(fewest_machines(study, self.base, self.deadline_s), self.deadline_s)
        return simulation_document([study.outcome(one) for one in variants])

    def _check(self) -> None:
        if self.deadline_s is not None and not 0 < self.deadline_s < inf:
            raise ConfigError(f"{self.deadline_s:g} s is no time to end in", where="--deadline", hint="as in 2h or 45s")
        if self.deadline_s is not None and self.compared:
            raise ConfigError("--deadline looks for one answer", hint="leave --compare away, or --deadline")
        if self.deadline_s is not None and (self.arrivals or self.log is not None):
            raise ConfigError("--deadline is of a batch", hint="leave --arrivals and --log away, or --deadline")
        if self.arrivals and self.log is not None:
            raise ConfigError("--log has arrivals of its own", hint="leave --arrivals away, or --log")
