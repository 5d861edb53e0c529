"""The fewest machines with which a flow ends in time.

Owns the search. A simulation answers each of its questions, and more machines are taken to be never slower.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from sundog.errors import ConfigError
from sundog.ir.pool_names import engine_pool
from sundog.whatif.study import Study, VariantOutcome
from sundog.whatif.variant import Variant

MAX_MACHINES = 256
"""The most machines of one kind that the search tries."""


@dataclass(frozen=True, slots=True)
class MachineNumbers:
    """Numbers of machines: replicas by engine, workers by group."""

    replicas: Mapping[str, int]
    workers: Mapping[str, int]

    def variant(self, base: Variant) -> Variant:
        """Return `base` with these machines."""
        words = [f"--replicas {name}={number}" for name, number in self.replicas.items()]
        words += [f"--workers {name}={number}" for name, number in self.workers.items()]
        return replace(base, title=" ".join(words) or base.title, replicas=self.replicas, workers=self.workers)

    def with_one(self, name: str, number: int) -> MachineNumbers:
        """Return these machines with another number of one kind."""
        if name in self.workers:
            return replace(self, workers={**self.workers, name: number})
        return replace(self, replicas={**self.replicas, name: number})

    def number_of(self, name: str) -> int:
        """Return the number of machines of one kind."""
        return self.workers[name] if name in self.workers else self.replicas[name]


def fewest_machines(study: Study, base: Variant, deadline_s: float) -> list[VariantOutcome]:
    """Return the outcomes of the search, the answer last. The busiest kind gets twice as many machines until the
    flow ends in time; then each kind has as few as are enough beside the others. ConfigError where MAX_MACHINES of the
    busiest kind do not do, and for a variant whose replicas come and go or are unlike each other."""
    if base.autoscale or base.splits:
        raise ConfigError(
            "--deadline looks for a number of equal replicas that stay",
            hint="leave --split-phases away, and say --autoscale ENGINE=MIN..MAX:finish=TIME in place of --deadline",
        )
    search = _Search(study, base, deadline_s)
    machines = search.enough()
    for name in (*machines.replicas, *machines.workers):
        machines = search.fewest_of(machines, name)
    search.outcome(machines)
    return search.outcomes


class _Search:
    def __init__(self, study: Study, base: Variant, deadline_s: float) -> None:
        self.outcomes: list[VariantOutcome] = []
        self._study = study
        self._base = base
        self._deadline_s = deadline_s
        self._known: dict[tuple[tuple[str, int], ...], VariantOutcome] = {}

    def outcome(self, machines: MachineNumbers) -> VariantOutcome:
        """Simulate with these machines, once; what was asked for last stands last."""
        key = (*machines.replicas.items(), *machines.workers.items())
        if key not in self._known:
            self._known[key] = self._study.outcome(machines.variant(self._base))
        found = self._known[key]
        self.outcomes = [one for one in self.outcomes if one is not found] + [found]
        return found

    def is_in_time(self, machines: MachineNumbers) -> bool:
        found = self.outcome(machines)
        return found.makespan_s.expected <= self._deadline_s and not found.simulated.num_failed_rows

    def enough(self) -> MachineNumbers:
        """Return machines with which the flow ends in time."""
        plan = self._study.written
        machines = MachineNumbers(
            {block.name: self._base.replicas.get(block.name, 1) for block in plan.engines if block.workers is None},
            {group.name: self._base.workers.get(group.name, 1) for group in plan.workers},
        )
        while not self.is_in_time(machines):
            name = _busiest(self.outcome(machines), machines)
            number = machines.number_of(name) * 2
            if number > MAX_MACHINES:
                best = self.outcome(machines).makespan_s.expected
                raise ConfigError(
                    f"with {machines.number_of(name)} of '{name}' the flow takes {best:,.0f} s, and more do not help",
                    where="--deadline",
                    hint="allow more time, or look at what else is busy: a tool, or the rows in flight",
                )
            machines = machines.with_one(name, number)
        return machines

    def fewest_of(self, machines: MachineNumbers, name: str) -> MachineNumbers:
        """Return the machines with as few of one kind as are enough."""
        return machines.with_one(
            name, _least(lambda number: self.is_in_time(machines.with_one(name, number)), machines.number_of(name))
        )


def _least(is_enough: Callable[[int], bool], enough: int) -> int:
    """Return the least number that is enough, of one from which on all are; `enough` is."""
    too_few = 0
    while enough - too_few > 1:
        middle = (too_few + enough) // 2
        if is_enough(middle):
            enough = middle
        else:
            too_few = middle
    return enough


def _busiest(outcome: VariantOutcome, machines: MachineNumbers) -> str:
    """Return the kind of machine that has most to do; workers have the work of all engines on them."""
    busy: dict[str, float] = {}
    for block in outcome.plan.logical.engines:
        result = outcome.simulated.pools.get(engine_pool(block.name))
        if result is not None:
            name = block.name if block.workers is None else block.workers
            busy[name] = busy.get(name, 0.0) + result.busy_s + sum(result.loads_s)
    shares = {name: seconds / machines.number_of(name) for name, seconds in busy.items()}
    return max(shares, key=lambda name: shares[name])
