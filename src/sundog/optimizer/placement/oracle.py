"""The exact solver for small problems: the semantics of `simulate` as a constraint program (ortools CP-SAT).

Owns the model. Used by tests and benchmarks alone: ortools is in the extra `dev`, and a run never needs it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations, pairwise

from ortools.sat.python import cp_model

from sundog.errors import PlanError
from sundog.optimizer.placement.answer import solution_of
from sundog.optimizer.placement.baselines import heft
from sundog.optimizer.placement.indexed import Indexed, whole_calls
from sundog.optimizer.placement.objective import Objective
from sundog.optimizer.placement.problem import PlacementProblem, PlacementSolution
from sundog.optimizer.placement.schedule import IndexedAssignment

TICKS_PER_S = 100
MAX_ORACLE_EFFORT = 8.0


def solve_oracle(
    problem: PlacementProblem, *, reached: float | None = None, max_effort: float = MAX_ORACLE_EFFORT
) -> PlacementSolution:
    """Return the optimum, but for rounding each time to a hundredth of a second.

    `reached`: a makespan that some placement has; nothing longer is looked at. PlanError when a replica holds several
    models at once, and when `max_effort` (CP-SAT's deterministic seconds) is spent before the optimum is proven.
    """
    if any(replica.max_resident > 1 for replica in problem.replicas):
        raise PlanError("the oracle knows replicas with one resident model only", hint="compare with brute force")
    model = _Model(Indexed(problem), reached)
    solver = cp_model.CpSolver()
    solver.parameters.max_deterministic_time = max_effort
    solver.parameters.num_workers = 1  # one thread gives one answer, and is the fastest on problems this small
    status = solver.solve(model.cp)
    if status != cp_model.OPTIMAL:
        raise PlanError(f"no proven optimum: {solver.status_name(status)}", hint="a smaller problem or more max_effort")
    placement = solution_of(model.ix, model.steps(solver), "oracle")
    return PlacementSolution(placement.sequence, placement.timeline, "oracle", placement.value, True)


class _Model:
    """This class is the model of the exact solver. `on[n, r]`: node n has a shard on replica r, from `start[n, r]` to
    `end[n, r]`; `open` and `free` are those of a schedule after it. `firsts`: when the first rows of each node are
    through. `rank`: the global sequence."""

    def __init__(self, ix: Indexed, reached: float | None) -> None:
        self.ix = ix
        self._rounding = ix.num_nodes * max(1, ix.num_replicas)  # a tick for each shard
        self.cp = cp_model.CpModel()
        self._horizon = self._most_ticks(reached)
        self._ends = [self._time(f"end {name}") for name in ix.names]
        self._ranks = [self.cp.new_int_var(-1, max(0, ix.num_llm - 1), f"rank {name}") for name in ix.names]
        self._paid = [self._time(f"paid {replica}") for replica in range(ix.num_replicas)]
        self._on: dict[tuple[int, int], cp_model.IntVar] = {}
        self._firsts = [self._time(f"first {name}") for name in ix.names] if ix.rows_flow else self._ends
        self._shard_start: dict[tuple[int, int], cp_model.IntVar] = {}
        self._shard_end: dict[tuple[int, int], cp_model.IntVar] = {}
        self._open: dict[tuple[int, int], cp_model.IntVar] = {}
        self._free: dict[tuple[int, int], cp_model.IntVar] = {}
        self._width: list[dict[int, cp_model.IntVar]] = []
        for node in range(ix.num_llm):
            self._add_llm_node(node)
        self._add_tools()
        for replica in range(ix.num_replicas):
            self._add_sequence(replica)
        for node in range(ix.num_llm):
            self.cp.add(self._ranks[node] >= 0)
            for parent in ix.parents[node]:
                self.cp.add(self._ranks[node] > self._ranks[parent])
        self._break_symmetry()
        self._minimize()

    def steps(self, solver: cp_model.CpSolver) -> Iterator[IndexedAssignment]:
        """Yield the solver's answer as steps, in the order in which it ranks the nodes."""
        ix = self.ix
        for node in sorted(range(ix.num_llm), key=lambda node: solver.value(self._ranks[node])):
            yield node, tuple(r for r in ix.replicas_of[node] if solver.boolean_value(self._on[node, r]))

    def _most_ticks(self, reached: float | None) -> int:
        ix = self.ix
        if ix.objective is Objective.MAKESPAN:
            return _ticks(heft(ix.problem).value if reached is None else reached) + self._rounding
        loads_s = sum(ix.switch_s[ix.model[node]] for node in range(ix.num_llm))
        return sum(map(_ticks, map(whole_calls, ix.exec_s, ix.call_s))) + _ticks(loads_s) + ix.num_nodes

    def _time(self, name: str) -> cp_model.IntVar:
        return self.cp.new_int_var(0, self._horizon, name)

    def _add_llm_node(self, node: int) -> None:
        ix, cp = self.ix, self.cp
        widths = {width: cp.new_bool_var(f"width {node} {width}") for width in range(1, ix.max_width[node] + 1)}
        self._width.append(widths)
        cp.add_exactly_one(widths.values())
        for replica in ix.replicas_of[node]:
            key = node, replica
            self._on[key] = cp.new_bool_var(f"on {key}")
            self._shard_start[key], self._shard_end[key] = self._time(f"start {key}"), self._time(f"end {key}")
            self._open[key] = self._free[key] = self._shard_end[key]
            if ix.rows_flow:
                self._open[key], self._free[key] = self._time(f"open {key}"), self._time(f"free {key}")
                cp.add(self._free[key] >= self._shard_end[key])
            cp.add(self._ends[node] >= self._shard_end[key]).only_enforce_if(self._on[key])
            cp.add(self._paid[replica] >= self._shard_end[key]).only_enforce_if(self._on[key])
            for parent in ix.parents[node]:
                cp.add(self._shard_start[key] >= self._firsts[parent]).only_enforce_if(self._on[key])
        chosen = sum(self._on[node, replica] for replica in ix.replicas_of[node])
        cp.add(chosen == sum(width * literal for width, literal in widths.items()))

    def _add_tools(self) -> None:
        ix, cp = self.ix, self.cp
        tools = range(ix.num_llm, ix.num_nodes)
        starts = {tool: self._time(f"start {tool}") for tool in tools}
        for tool in tools:
            self._add_run(tool, starts[tool], self._ends[tool], self._ends[tool], ix.exec_s[tool], ())
            # A tool has the rank of the last LLM node that it waits for.
            cp.add_max_equality(self._ranks[tool], [-1, *(self._ranks[parent] for parent in ix.parents[tool])])
            for parent in ix.parents[tool]:
                cp.add(starts[tool] >= self._firsts[parent])
        if not ix.num_pools:
            return
        cp.add_all_different(self._ranks[: ix.num_llm])
        for first, second in combinations(sorted(tools, key=lambda tool: (-ix.tail_s[tool], ix.order.index(tool))), 2):
            if ix.pool[first] < 0 or ix.pool[first] != ix.pool[second]:
                continue
            is_turned = cp.new_bool_var(f"{second} before {first}")
            cp.add(self._ranks[second] < self._ranks[first]).only_enforce_if(is_turned)
            cp.add(self._ranks[second] >= self._ranks[first]).only_enforce_if(~is_turned)
            for literal, early, late in ((~is_turned, first, second), (is_turned, second, first)):
                cp.add(starts[late] >= starts[early] + _ticks(ix.exec_s[early])).only_enforce_if(literal)

    def _add_sequence(self, replica: int) -> None:
        """Add a circuit through the nodes on the replica; number 0 is its begin and its end."""
        ix, cp = self.ix, self.cp
        nodes = [node for node in range(ix.num_llm) if replica in ix.replicas_of[node]]
        if not nodes:
            cp.add(self._paid[replica] == 0)
            return
        cp.add_no_overlap(self._span(node, replica) for node in nodes)
        arcs: list[tuple[int, int, cp_model.LiteralT]] = []
        empty = cp.new_bool_var(f"empty {replica}")
        cp.add(self._paid[replica] == 0).only_enforce_if(empty)
        arcs.append((0, 0, empty))
        for node in nodes:
            arcs.append((node + 1, node + 1, ~self._on[node, replica]))
            arcs.append((node + 1, 0, cp.new_bool_var(f"last {node} {replica}")))
            first = cp.new_bool_var(f"first {node} {replica}")
            arcs.append((0, node + 1, first))
            self._add_shard(None, node, replica, first)
            for before in nodes:
                if before != node:
                    follows = cp.new_bool_var(f"{before} then {node} on {replica}")
                    arcs.append((before + 1, node + 1, follows))
                    cp.add(self._ranks[node] > self._ranks[before]).only_enforce_if(follows)
                    self._add_shard(before, node, replica, follows)
        cp.add_circuit(arcs)

    def _span(self, node: int, replica: int) -> cp_model.IntervalVar:
        """The circuit implies that these do not overlap; said outright, the search is far shorter."""
        key = node, replica
        return self.cp.new_optional_interval_var(
            self._shard_start[key], self._size(node), self._open[key], self._on[key], f"span {key}"
        )

    def _size(self, node: int) -> cp_model.IntVar:
        """Return a span as long as the node's work, or as it may wait for rows."""
        most = self._horizon if self.ix.rows_flow else _ticks(self.ix.exec_s[node]) + 1
        return self.cp.new_int_var(0, most, f"size {node}")

    def _add_run(
        self,
        node: int,
        start: cp_model.IntVar,
        end: cp_model.IntVar,
        done: cp_model.IntVar,
        work_s: float,
        literals: Sequence[cp_model.LiteralT],
    ) -> None:
        """Constrain the end of a tool, or of a shard where the `literals` hold. `done`: when its work would be done
        without waiting."""
        span_s = whole_calls(work_s, self.ix.call_s[node])
        wave = _ticks(min(span_s, self.ix.wave_s[node]))
        if not self.ix.rows_flow:
            self.cp.add(end == start + _ticks(work_s)).only_enforce_if(literals)
            return
        self.cp.add(self._firsts[node] >= start + wave).only_enforce_if(literals)
        self.cp.add(done >= start + _ticks(work_s)).only_enforce_if(literals)
        self.cp.add(end >= start + _ticks(span_s)).only_enforce_if(literals)
        for parent in self.ix.parents[node]:
            self.cp.add(end >= self._ends[parent] + wave).only_enforce_if(literals)

    def _add_shard(self, before: int | None, node: int, replica: int, follows: cp_model.IntVar) -> None:
        ix, cp = self.ix, self.cp
        start, end = self._shard_start[node, replica], self._shard_end[node, replica]
        done = self._open[node, replica]
        if before is None:
            cp.add(start >= _ticks(self._load_s(before, node, replica))).only_enforce_if(follows)
        elif ix.model[before] == ix.model[node]:
            cp.add(start >= self._open[before, replica]).only_enforce_if(follows)
            cp.add(self._free[node, replica] >= self._free[before, replica]).only_enforce_if(follows)
        else:
            load_s = self._load_s(before, node, replica)
            cp.add(start >= self._free[before, replica] + _ticks(load_s)).only_enforce_if(follows)
        is_warm = before is not None and before in ix.warm_parents[node]
        for width, literal in self._width[node].items():
            exec_s = ix.exec_s[node] / width
            if before is None or not is_warm:
                self._add_run(node, start, end, done, exec_s, (follows, literal))
                continue
            for parent_width, parent_literal in self._width[before].items():
                warm_s = exec_s * (1 - ix.saved_share[node] * min(1.0, width / parent_width))
                self._add_run(node, start, end, done, warm_s, (follows, literal, parent_literal))

    def _load_s(self, before: int | None, node: int, replica: int) -> float:
        ix = self.ix
        model = ix.model[node]
        resident = ix.resident[replica] if before is None else (ix.model[before],)
        if model in resident:
            return 0.0
        return ix.switch_s[model] if resident else ix.load_s[model]

    def _break_symmetry(self) -> None:
        """Break symmetries: of replicas that differ in name alone, the earlier has the larger set of nodes, read as a
        binary number."""
        ix = self.ix
        kinds: dict[tuple[int, tuple[int, ...]], list[int]] = {}
        for replica in range(ix.num_replicas):
            kinds.setdefault((ix.twins[replica], ix.resident[replica]), []).append(replica)
        for replicas in kinds.values():
            sets = [sum((1 << node) * on for (node, at), on in self._on.items() if at == r) for r in replicas]
            for larger, smaller in pairwise(sets):
                self.cp.add(larger >= smaller)

    def _minimize(self) -> None:
        ix = self.ix
        match ix.objective:
            case Objective.MAKESPAN:
                makespan = self._time("makespan")
                self.cp.add_max_equality(makespan, self._ends)
                self.cp.minimize(makespan)
            case Objective.MEAN_COMPLETION:
                self.cp.minimize(sum(self._ends[sink] for sink in ix.sinks))
            case Objective.COST:
                prices = zip(ix.usd_per_s, self._paid, strict=True)
                self.cp.minimize(sum(price * paid for price, paid in prices))


def _ticks(seconds: float) -> int:
    return round(seconds * TICKS_PER_S)
