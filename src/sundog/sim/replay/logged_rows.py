"""Rows from the calls of a log: which call waited for which, by the plan of the flow.

Owns the way from a call's path to the calls before it. A call that the plan has and the log has not was reused, or its
condition was false. Where the row went on just when an equal step of another row ended, it had waited for that one.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from sundog.ir.physical import Exec, LoopExec, PhysicalPlan, Sharing, calls_of
from sundog.sim.replay.logged_run import LoggedCall, step_of
from sundog.sim.workload import SimulatedCall, SimulatedRow

JOIN_S = 0.05
"""A row that waited for another one's call goes on so soon after that call's end: committing it takes some time."""
_SEGMENT = re.compile(r"(?P<name>[^\[./]+)(?:\[\d+\])?(?:\.(?P<turn>\d+))?")
OfCall = Callable[[LoggedCall], SimulatedCall]
"""Gives the simulated call of a logged one, without what it waits for."""


class LoggedRows:
    """The rows of one run."""

    def __init__(self, plan: PhysicalPlan, calls: Sequence[LoggedCall], simulated: OfCall) -> None:
        self._plan = plan
        self._simulated = simulated
        self._joinable = {
            call.name for call in calls_of(plan.nodes) if call.sharing is not Sharing.NEVER or call.step.is_gathered
        }
        self._rows: dict[int, list[LoggedCall]] = {}
        self._ended: dict[str, list[LoggedCall]] = defaultdict(list)
        for call in calls:
            self._ended[step_of(call.path)].append(call)
        for call in sorted(calls, key=lambda call: call.number):
            self._rows.setdefault(call.row, []).append(call)
        self._ends_s = {step: [call.end_s for call in ended] for step, ended in self._ended.items()}

    def __len__(self) -> int:
        return len(self._rows)

    def rows(self) -> Iterator[SimulatedRow]:
        """Yield the rows in the order in which they were read; that of their numbers, unless the plan groups them."""
        for number in self._rows if any(table.table.row_order for table in self._plan.tables) else sorted(self._rows):
            yield _Row(self._plan.nodes, self._rows[number], self).simulated(number)

    def call_of(self, call: LoggedCall) -> SimulatedCall:
        """Return a call, without what it waits for; `key` tells those of which only the first is executed."""
        key: Hashable = call.arrived.request_id if step_of(call.path) in self._joinable else None
        return replace(self._simulated(call), key=key)

    def joined(self, step: str, row: int, since_s: float, until_s: float) -> LoggedCall | None:
        """Return the call of another row for which this row waited from `since_s` to about `until_s`, if it did."""
        if step not in self._joinable or step not in self._ended:
            return None
        place = bisect_right(self._ends_s[step], until_s) - 1
        if place < 0:
            return None
        call = self._ended[step][place]
        has_waited = call.end_s > since_s and until_s - call.end_s <= JOIN_S
        return call if has_waited and call.row != row else None


class _Row:
    """One row while its calls find those before them."""

    def __init__(self, nodes: tuple[Exec, ...], logged: Sequence[LoggedCall], run: LoggedRows) -> None:
        self._run = run
        self._logged = logged
        self._nodes = nodes
        self._made: list[SimulatedCall] = []
        self._ends_s: list[float] = []
        #: By the path of a node without its item, the places of its calls; of a loop, of all inside.
        self._places: dict[str, list[int]] = defaultdict(list)
        self._passed: dict[str, tuple[int, ...]] = {}
        self._now_s = 0.0

    def simulated(self, number: int) -> SimulatedRow:
        """Return the row, whose number is `number`."""
        for call in self._logged:
            self._now_s = call.arrived_s
            prefix, _, last = call.path.rpartition("/")
            before = self._before(prefix, last.partition("[")[0])
            # Alone after it was gathered: the same call again.
            before += tuple(self._places.get(f"={call.path}", ()))
            self._put(call.path, replace(self._run.call_of(call), before=tuple(dict.fromkeys(before))), call.end_s)
        return SimulatedRow(tuple(self._made), order=number)

    def _put(self, path: str, call: SimulatedCall, end_s: float) -> int:
        place = len(self._made)
        self._made.append(call)
        self._ends_s.append(end_s)
        for name in {f"={path}", *_holders(path)}:
            self._places[name].append(place)
        return place

    def _before(self, prefix: str, name: str) -> tuple[int, ...]:
        """Return the places of what a node waits for; `prefix`: the turn of the loop that it is in, "" for none."""
        found = _flat(self._ends(prefix, other) for other in self._nodes_of(prefix)[name].before)
        return (*found, *self._before_turn(prefix)) if prefix else found

    def _before_turn(self, prefix: str) -> tuple[int, ...]:
        """Return what a turn of a loop waits for: the turn before it, or what the loop does."""
        loop, _, turn = prefix.rpartition(".")
        if turn == "1":
            outer, _, last = loop.rpartition("/")
            return self._before(outer, last.partition("[")[0])
        earlier = f"{loop}.{int(turn) - 1}"
        return tuple(self._places.get(earlier, ())) or self._before_turn(earlier)

    def _ends(self, prefix: str, name: str) -> tuple[int, ...]:
        """Return the places of the calls that must have ended for a node to have."""
        path = f"{prefix}/{name}" if prefix else name
        if path in self._places:
            return tuple(self._places[path])
        if path not in self._passed:
            before = self._before(prefix, name)
            place = self._joined(path, name, before)
            self._passed[path] = before if place is None else (place,)
        return self._passed[path]

    def _joined(self, path: str, name: str, before: tuple[int, ...]) -> int | None:
        """Return the place of a call that another row's call answered while this row waited; None where nothing shows
        that it waited."""
        since_s = max((self._ends_s[place] for place in before), default=-1.0)
        leader = self._run.joined(name, self._logged[0].row, since_s, self._now_s)
        if leader is None:
            return None
        return self._put(path, replace(self._run.call_of(leader), before=before), leader.end_s)

    def _nodes_of(self, prefix: str) -> Mapping[str, Exec]:
        """Return by name the nodes of a scope."""
        nodes = self._nodes
        for segment in prefix.split("/") if prefix else ():
            match = _SEGMENT.fullmatch(segment)
            assert match is not None, f"{segment} is no turn of a loop"
            loop = next(node for node in nodes if node.name == match["name"])
            assert isinstance(loop, LoopExec), f"{loop.name} is no loop"
            nodes = loop.body
        return {node.name: node for node in nodes}


def _holders(path: str) -> Iterator[str]:
    """Yield the paths of the nodes, and of the turns of loops, that a call belongs to, items left out of the last name.

    >>> list(_holders("loop[1].2/ask[0]"))
    ['loop[1].2/ask', 'loop[1].2', 'loop']
    """
    prefix, _, last = path.rpartition("/")
    name = last.partition("[")[0]
    yield f"{prefix}/{name}" if prefix else name
    while prefix:
        yield prefix
        outer, _, last = prefix.rpartition("/")
        name = last.partition(".")[0].partition("[")[0]
        yield f"{outer}/{name}" if outer else name
        prefix = outer


def _flat(parts: Iterable[tuple[int, ...]]) -> tuple[int, ...]:
    return tuple(dict.fromkeys(place for part in parts for place in part))
