"""The programs that calls of models belong to: sessions that are told, and conversations that go on.

Owns the order in which programs came and how many calls each has made, within bounds. Never schedules; the core does.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sundog.serve.chaining import ChainedRequest, ProgramChains
from sundog.serve.identity import ToldIdentity
from sundog.serve.lineage import Lineage

MAX_PROGRAMS = 100_000


@dataclass(slots=True)
class _Program:
    order: int
    num_turns: int = 0


@dataclass(frozen=True, slots=True)
class ProgramPlace:
    """The place of one call among programs."""

    #: The name of its program; "" for a call on its own, of which nothing tells that another one follows.
    program: str = ""
    #: The program at the root of its parents, "" where it has none.
    root: str = ""
    #: The number of the program in the order in which they came.
    order: int = 0
    #: Calls of the program before this one.
    num_turns: int = 0
    chained: ChainedRequest | None = None


class Programs:
    """This class remembers the programs that came last."""

    def __init__(self, max_programs: int = MAX_PROGRAMS) -> None:
        self._max_programs = max_programs
        self._programs: OrderedDict[str, _Program] = OrderedDict()
        self._lineage = Lineage(max_programs)
        self._chains = ProgramChains(max_programs)
        self._num_programs = 0

    def __len__(self) -> int:
        return len(self._programs)

    def place(self, told: ToldIdentity, scope: str, chat: Mapping[str, Any], request_id: str) -> ProgramPlace:
        """Return the place of a call that has come. `scope`: whose programs they are. A call that tells no session is
        one of a program where it goes on from an earlier conversation, or offers tools, whose results will follow."""
        if told.session:
            name = f"{scope}/{told.session}"
            root = self._lineage.root(name, f"{scope}/{told.parent}" if told.parent else "")
            return self._placed(name, "" if root == name else root, None)
        messages = chat.get("messages")
        chained = self._chains.request(scope, messages if isinstance(messages, Sequence) else [], request_id)
        if chained.is_new and not chained.parent and not chat.get("tools"):
            self._num_programs += 1
            return ProgramPlace(order=self._num_programs, chained=chained)
        return self._placed(chained.program, chained.parent, chained)

    def alone(self) -> ProgramPlace:
        """Return the place of a call that is on its own, and of which nothing is remembered."""
        self._num_programs += 1
        return ProgramPlace(order=self._num_programs)

    def failed(self, place: ProgramPlace) -> None:
        """The call got no answer: the next one stands where it stood."""
        program = self._programs.get(place.program)
        if program is not None and program.order == place.order:
            program.num_turns -= 1
        if place.chained is not None:
            self._chains.failed(place.chained)

    def end(self, scope: str, session: str) -> str:
        """Forget a program that has ended, and return its name."""
        name = f"{scope}/{session}"
        self._programs.pop(name, None)
        self._lineage.forget(name)
        return name

    def _placed(self, name: str, root: str, chained: ChainedRequest | None) -> ProgramPlace:
        program = self._programs.get(name)
        if program is None:
            self._num_programs += 1
            program = self._programs[name] = _Program(self._num_programs)
            if len(self._programs) > self._max_programs:
                self._programs.popitem(last=False)
        self._programs.move_to_end(name)
        place = ProgramPlace(name, root, program.order, program.num_turns, chained)
        program.num_turns += 1
        return place
