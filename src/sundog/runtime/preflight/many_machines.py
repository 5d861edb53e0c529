"""A plan that is to run on many machines: what of it is bound to one of them, before anything is started.

Owns these refusals and their remedies; what a step needs, its operator says. Whatever the driver alone reads (inputs of
every kind) may lie anywhere, and a question to a person waits in the state. Asks no other machine: the flow's folder
counts as the same on all of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from sundog.deployment import opened, used_engines
from sundog.engines.base import EmbeddedKind
from sundog.engines.served import ServedKind
from sundog.errors import ConfigError
from sundog.ir.logical import EngineBlock, steps_of
from sundog.ir.physical import PhysicalPlan
from sundog.operators.base import Operator, PlacedOperator


@dataclass(frozen=True, slots=True)
class ManyMachinesCheck:
    """This class says what of a plan is bound to one machine."""

    #: With any of these a run must not begin.
    refusals: tuple[ConfigError, ...]
    #: Sentences about what each machine, or each process, has for itself.
    notes: tuple[str, ...]

    def raise_if_refused(self) -> None:
        """Raise one ConfigError with all refusals, each with its place and what to do; nothing without any."""
        if not self.refusals:
            return
        first, *others = self.refusals
        if not others:
            raise first
        text = str(ConfigError(first.what, hint=first.hint))
        raise ConfigError("\n".join([text, *map(str, others)]), where=first.where)


def check_many_machines(
    plan: PhysicalPlan, operators: Mapping[str, Operator], state: str | Path | None
) -> ManyMachinesCheck:
    """Return what keeps `plan` from running on many machines. `operators` by name; `state`: the folder or URL of the
    run's state as the user wrote it, None where it is not known yet."""
    refusals = list(_of_state(state))
    notes: list[str] = []
    for block in used_engines(plan):
        refusals += _of_engine(block)
    for step in steps_of(plan.logical.nodes):
        operator = operators[step.operator]
        found = operator.bound_to_machine(step.spec) if isinstance(operator, PlacedOperator) else None
        if found is None:
            continue
        if found.is_fatal:
            refusals.append(ConfigError(f"step '{step.name}': {found.what}", where=step.location, hint=found.hint))
        else:
            notes.append(f"step '{step.name}': {found.what}")
    return ManyMachinesCheck(tuple(refusals), tuple(notes))


def _of_state(state: str | Path | None) -> Iterator[ConfigError]:
    if state is not None and "://" not in str(state):
        yield ConfigError(
            f"the state {state} is a folder of this machine, and all machines of a run must reach its state",
            hint="name a URL: --state s3://bucket/folder (gs://, az://), or file:///folder with one that all share",
        )


def _of_engine(block: EngineBlock) -> Iterator[ConfigError]:
    """Yield why processes on other machines cannot ask the engine, one reason at most."""
    kind, options = opened(block)
    remedy = "serve its model where all machines reach it: write the addresses as base_url, or a `pool` of servers"
    if block.workers is not None:
        what = f"the engine '{block.name}' is loaded on workers, which are places of one machine"
        remedy = f"take `workers: {block.workers}` away; {remedy}"
    elif isinstance(kind, EmbeddedKind) and kind.loads_model_here(options):
        what = f"the engine '{block.name}' loads its model into the process that asks it"
    elif isinstance(kind, ServedKind) and kind.needs_server(options):
        what = f"the engine '{block.name}' has servers that are started on this machine and for it alone"
    else:
        return
    yield ConfigError(what, where=block.location, hint=remedy)
