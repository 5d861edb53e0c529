"""The contexts of programs between two calls at one replica: KV tokens that their next calls will want to find there.

Owns what each weighs, the less the longer its program is away. Never knows what a cache has kept of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf

HALF_LIFE_S = 30.0
"""After so long away a context weighs half. ThunderAgent, where only those that resume are asked, has 1 s. Simulated on
128 agents (benchmarks/live_agents.py): with tools of 1 to 15 s 5 s are 8 % worse and 120 s equal, with tools three
times as long 36 % worse and 8 % better; beyond that idle programs would hold what others could use."""
GONE_HALF_LIVES = 10
"""After so many, a thousandth: it is forgotten."""


@dataclass(slots=True)
class _Context:
    arrival_s: float
    num_tokens: int
    #: None while its next call is there and waits.
    away_since_s: float | None

    def weight(self, time_s: float) -> float:
        return 1.0 if self.away_since_s is None else float(0.5 ** ((time_s - self.away_since_s) / HALF_LIFE_S))


class Contexts:
    """This class has the contexts of one replica by program, in the order in which they went away or came back."""

    def __init__(self) -> None:
        self._by_program: dict[str, _Context] = {}

    def __len__(self) -> int:
        return len(self._by_program)

    def num_tokens(self, time_s: float, before_s: float = inf, besides: str = "") -> float:
        """Return the weighed sum over the programs that arrived before `before_s`, without the one named `besides`."""
        return sum(
            context.num_tokens * context.weight(time_s)
            for program, context in self._by_program.items()
            if context.arrival_s < before_s and program != besides
        )

    def go_away(self, program: str, arrival_s: float, num_tokens: int, time_s: float) -> None:
        """A call of the program has ended here; `arrival_s` is the program's."""
        self.remove(program)
        self._by_program[program] = _Context(arrival_s, num_tokens, time_s)
        self._forget_gone(time_s)

    def come_back(self, program: str) -> None:
        """Its next call is there: from now on its context weighs all that it is, if it is known still."""
        context = self._by_program.get(program)
        if context is not None:
            context.away_since_s = None

    def remove(self, program: str) -> None:
        """Its next call has started, here or elsewhere, or none will come."""
        self._by_program.pop(program, None)

    def _forget_gone(self, time_s: float) -> None:
        until_s = time_s - GONE_HALF_LIVES * HALF_LIFE_S
        while True:
            program, context = next(iter(self._by_program.items()))
            if context.away_since_s is None:
                self._by_program[program] = self._by_program.pop(program)
                return
            if context.away_since_s > until_s:
                return
            del self._by_program[program]
