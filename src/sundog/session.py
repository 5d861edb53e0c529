"""The way from a flow to an open run: the one place where the rooms are wired together.

Owns the order of these steps. Everything it does is in the rooms that it calls; what only a run or only an estimate
needs is imported there, since that is half of a command's start.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sundog.config import Config
from sundog.deployment import engine_limits, rows_in_flight, tool_limits
from sundog.errors import ConfigError, suggest
from sundog.flow.bind import load_flow
from sundog.flow.columns import check_columns
from sundog.ir.logical import Filter, InputSource, LogicalPlan, steps_of
from sundog.ir.physical import PhysicalPlan
from sundog.ir.schemas.shape import Record
from sundog.measured.loads import expected_loads
from sundog.measured.node_history import read_history
from sundog.operators.base import OPERATORS, Operator
from sundog.optimizer.placing import PlacementFigures, figures_of
from sundog.optimizer.planner import plan_physical
from sundog.optimizer.rewrite import check_rule_names, rewrite
from sundog.optimizer.rules.catalog import MERGE_CALLS, RULE_NAMES
from sundog.optimizer.rules.reorder_filters import cannot_fail
from sundog.runtime.follow import engine_replicas
from sundog.runtime.preflight.inspection import PlanFinding, inspect_plan, refuse
from sundog.runtime.rows.inputs import RowSource, open_rows
from sundog.sched.policy import POLICIES

if TYPE_CHECKING:
    from sundog.cost.plan_estimate import PlanEstimate
    from sundog.measured.plan_costs import PlanCosts
    from sundog.runtime.run import Run, RunOptions
    from sundog.store.runs import RunRecord


@dataclass(frozen=True, slots=True)
class Choice:
    """Which rows of the input: the first `limit`; of these, `sample` chosen by `seed`. None takes all."""

    limit: int | None = None
    sample: int | None = None
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Rewriting:
    """Which rewrites are made. `without`: rules switched off, by name. `is_naive`: none at all, every call is executed,
    and a row's steps run one after the other."""

    without: tuple[str, ...] = ()
    is_naive: bool = False


class Session:
    """One flow, planned; for one run. `policy` and `max_rows_in_flight`: None takes the planner's. `objective`: None
    takes the flow's; `placement`: the solver that places steps on workers."""

    def __init__(
        self,
        logical: LogicalPlan,
        base_dir: Path,
        config: Config,
        *,
        choice: Choice | None = None,
        rewriting: Rewriting | None = None,
        policy: str | None = None,
        max_rows_in_flight: int | None = None,
        objective: str | None = None,
        placement: str = "auto",
    ) -> None:
        self._base_dir = base_dir
        self._secrets = config.secrets
        self._state_dir = config.state_dir
        self._choice = choice or Choice()
        self.rewriting = rewriting or Rewriting()
        options: dict[str, Any] = {}
        if policy is not None:
            options["policy"] = POLICIES.get(policy).name
        if max_rows_in_flight is not None:
            options["max_rows_in_flight"] = max_rows_in_flight
        check_rule_names(self.rewriting.without)
        self._without = RULE_NAMES if self.rewriting.is_naive else self.rewriting.without
        self._written = logical
        self.operators = self._open_operators()
        self._plan_options = {"objective": objective, "solver": placement, **options}
        self.rewritten = rewrite(logical, self.operators, without=self._without, selectivity=self._selectivity())
        self.plan = self.planned(self.rewritten.plan)

    @contextmanager
    def open_run(self, options: RunOptions) -> Iterator[Run]:
        """The run that is meant, locked while open, and looked at; InputError for columns that are not there,
        ConfigError where no row can succeed."""
        from sundog.runtime.rows.distinct_files import check_distinct
        from sundog.runtime.rows.outputs import check_output_path
        from sundog.runtime.run import open_run

        if options.output is not None:
            check_output_path(options.output)
            check_distinct(options.output, self._written.inputs, self._base_dir, self._files())
        inputs = {**asdict(self._choice), **self._rewriting_identity()}
        with open_run(self.plan, self.open_rows, inputs, self.operators, self._secrets, options, self.figures) as run:
            if not run.is_finished:
                run.findings = self.inspect(run.source)
                try:
                    refuse(run.findings)
                except ConfigError:
                    run.discard()
                    raise
            yield run

    def _files(self) -> dict[Path, str]:
        """Files that a run reads or writes besides its inputs, and what each is."""
        steps = steps_of(self._written.nodes)
        found = {Path(step.location.file): "the flow" for step in steps if step.location is not None}
        for step in steps:
            for name in self.operators[step.operator].traits(step.spec).files:
                found[self._base_dir / name] = f"a file of step '{step.name}'"
        return found

    def inspect(self, rows: RowSource) -> tuple[PlanFinding, ...]:
        return inspect_plan(self.plan, rows, self._open_operators, self._secrets)

    def _open_operators(self) -> dict[str, Operator]:
        names = sorted({step.operator for step in steps_of(self._written.nodes)})
        return {name: OPERATORS.get(name)(self._base_dir) for name in names}

    def costs(self, rows: RowSource, num_rows: int, *, counts_tokens: bool = True) -> PlanCosts:
        """Return what this session's plans cost over a sample of `rows`, of which there are `num_rows`."""
        from sundog.measured.plan_costs import PlanCosts, characters_to_sample, num_rows_to_sample

        sampled = rows.sampled(num_rows_to_sample(self.plan), characters_to_sample(self.plan))
        written = self.plan.written
        return PlanCosts(
            written.name,
            written.engines,
            self.operators,
            self._state_dir,
            sampled,
            num_rows,
            counts_tokens=counts_tokens,
        )

    def _selectivity(self) -> dict[str, float]:
        """Return the share of rows that each filter keeps, where their order may depend on it and files tell it: a
        query or a function is run once only, for the run itself."""
        plan = self._written
        filters = [node for node in plan.nodes if isinstance(node, Filter)]
        constants = frozenset(plan.constants)
        if not any(cannot_fail(node.predicate, constants) for node in filters[1:]):
            return {}
        from sundog.measured.plan_costs import MAX_SAMPLED_ROWS, SampledRows
        from sundog.measured.selectivity import selectivity_of

        rows: SampledRows = []
        if all(source.path is not None for source in plan.inputs):
            with closing(self.open_rows(None, plan.inputs)) as source:
                rows = source.sampled(MAX_SAMPLED_ROWS)
        return selectivity_of(plan, rows, read_history(self._state_dir, plan.name))

    def planned(self, logical: LogicalPlan) -> PhysicalPlan:
        """The physical plan of this session's options."""
        plan = plan_physical(
            logical,
            self.operators,
            written=self._written,
            merges_calls=MERGE_CALLS not in self._without,
            is_serial=self.rewriting.is_naive,
            **self._plan_options,
        )
        if "max_rows_in_flight" in self._plan_options:
            return plan
        return replace(plan, max_rows_in_flight=rows_in_flight(plan))

    def _rewriting_identity(self) -> dict[str, Any]:
        """Other rules may leave other calls behind, so that they make another run."""
        chosen = {"without": sorted(set(self.rewriting.without)), "is_naive": self.rewriting.is_naive}
        return {} if self.rewriting == Rewriting() else {"rewriting": chosen}

    def open_rows(self, snapshot_dir: Path | None, inputs: Sequence[InputSource] | None = None) -> RowSource:
        """Open the rows of `inputs`, or of the plan's, as they were chosen. InputError where they cannot be read or
        lack a column that a template reads."""
        inputs, choice = self.plan.logical.inputs if inputs is None else inputs, self._choice
        rows = open_rows(inputs, base_dir=self._base_dir, snapshot_dir=snapshot_dir, **asdict(choice))
        if isinstance(rows.shape, Record):
            check_columns(self._written, rows.shape)
        return rows

    def figures(self) -> PlacementFigures:
        """Return what the steps of the whole input take, for the placement of a run."""
        with closing(self.open_rows(None, self.plan.written.inputs)) as rows:
            costs = self.costs(rows, rows.count())
        return self.figures_of(costs.estimate(self.plan))

    def planned_calls(self, run: RunRecord) -> float:
        """Return how many calls the whole of a run is expected to execute, if it finds no results of others. Reads rows
        of the run, those of a query or a function as they were kept."""
        with closing(self.open_rows(self._state_dir / "runs" / run.run_id / "inputs")) as rows:
            costs = self.costs(rows, run.num_rows, counts_tokens=False)
        return costs.estimate(self.plan).calls.num_executed.expected

    def figures_of(self, estimate: PlanEstimate) -> PlacementFigures:
        limits = {pool: options.max_concurrency for pool, _, options in engine_limits(self.plan)}
        limits |= tool_limits(self.plan, self.operators)
        return figures_of(estimate, engine_replicas(self.plan), limits, expected_loads(self._state_dir, self.plan))


def load_plan(path: Path, inputs: Mapping[str, str | Path]) -> LogicalPlan:
    """The plan of a flow file. `inputs`: other paths for inputs, from the working directory; globs as in a flow."""
    plan = load_flow(path)
    known = [source.name for source in plan.inputs]
    for name in inputs:
        if name not in known:
            raise ConfigError(f"the flow has no input '{name}'", where=str(path), hint=suggest(name, known))
    return replace(plan, inputs=tuple(_read_from(source, inputs.get(source.name)) for source in plan.inputs))


def _read_from(source: InputSource, path: str | Path | None) -> InputSource:
    if path is None:
        return source
    types = source.types if source.path is not None else {}
    return InputSource(source.name, path=str(Path(path).absolute()), key=source.key, types=types, at=source.at)
