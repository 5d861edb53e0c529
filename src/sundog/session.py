"""The way from a flow to an open run: the one place where the rooms are wired together.

Owns the order of these steps. Everything it does is in the rooms that it calls.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from sundog.config import Config
from sundog.cost.plan_estimate import PlanEstimate
from sundog.errors import ConfigError, suggest
from sundog.flow.bind import load_flow
from sundog.flow.columns import check_columns
from sundog.ir.explain import Tree, logical_tree
from sundog.ir.explain_physical import PoolFacts, physical_tree
from sundog.ir.logical import Filter, InputSource, LogicalPlan, steps_of
from sundog.ir.physical import CallExec, PhysicalPlan, calls_of
from sundog.ir.shape import Record
from sundog.operators.base import OPERATORS, Operator
from sundog.optimizer.advice import advise, fields_wanted
from sundog.optimizer.facts import PlanFacts
from sundog.optimizer.placing import Figures, figures_of, place_steps
from sundog.optimizer.planner import plan_physical
from sundog.optimizer.prompt_parts import Fields, prompts_of
from sundog.optimizer.rewrite import check_rule_names, rewrite
from sundog.optimizer.rules.catalog import MERGE_CALLS, RULE_NAMES
from sundog.optimizer.rules.reorder_filters import cannot_fail
from sundog.present.analysis import with_actual
from sundog.present.document import (
    Document,
    RewriteDocument,
    WarningDocument,
    document_of,
    merged_calls,
    rewrite_document,
)
from sundog.present.text import text_of
from sundog.runtime.actuals import actuals_of
from sundog.runtime.follow import engine_places
from sundog.runtime.inspection import PlanFinding, inspect_plan, refuse
from sundog.runtime.io.distinct_files import check_distinct
from sundog.runtime.io.inputs import RowSource, open_rows
from sundog.runtime.io.outputs import check_output_path
from sundog.runtime.loads import expected_loads
from sundog.runtime.node_history import read_history
from sundog.runtime.plan_costs import MAX_SAMPLED_ROWS, PlanCosts, Rows, num_rows_to_sample
from sundog.runtime.pools import engine_limits, tool_limits
from sundog.runtime.report import Report
from sundog.runtime.row_order import reading_order_of
from sundog.runtime.run import Run, RunOptions, open_run
from sundog.runtime.selectivity import selectivity_of
from sundog.runtime.store.runs import RunRecord
from sundog.sched.policy import POLICIES

NOT_WHOLE = "this process has not run all of the run: seconds are its own, --fresh runs everything"
MAX_ADVICE_ROWS = 100_000
"""Advice takes no longer on more rows; it says how many it looked at."""


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
        self._rewriting = rewriting or Rewriting()
        options: dict[str, Any] = {}
        if policy is not None:
            options["policy"] = POLICIES.get(policy).name
        if max_rows_in_flight is not None:
            options["max_rows_in_flight"] = max_rows_in_flight
        check_rule_names(self._rewriting.without)
        self._without = RULE_NAMES if self._rewriting.is_naive else self._rewriting.without
        self._written = logical
        self._operators = self._open_operators()
        self._plan_options = {"objective": objective, "solver": placement, **options}
        self._rewritten = rewrite(logical, self._operators, without=self._without, selectivity=self._selectivity())
        self.plan = self._planned(self._rewritten.plan)

    @contextmanager
    def open_run(self, options: RunOptions) -> Iterator[Run]:
        """The run that is meant, locked while open, and looked at; InputError for columns that are not there,
        ConfigError where no row can succeed."""
        if options.output is not None:
            check_output_path(options.output)
            check_distinct(options.output, self._written.inputs, self._base_dir, self._files())
        inputs = {**asdict(self._choice), **self._rewriting_identity()}
        with open_run(self.plan, self._open_rows, inputs, self._operators, self._secrets, options, self.figures) as run:
            if not run.is_finished:
                run.findings = self._inspect(run.source)
                refuse(run.findings)
            yield run

    def _files(self) -> dict[Path, str]:
        """Files that a run reads or writes besides its inputs, and what each is."""
        steps = steps_of(self._written.nodes)
        found = {Path(step.location.file): "the flow" for step in steps if step.location is not None}
        for step in steps:
            for name in self._operators[step.operator].traits(step.spec).files:
                found[self._base_dir / name] = f"a file of step '{step.name}'"
        return found

    def analyzed(self, document: Document, report: Report, *, is_whole: bool) -> Document:
        """`document` with what the run did. `is_whole`: the process that reports has run all of it."""
        notes = () if is_whole else (NOT_WHOLE,)
        return with_actual(
            document, actuals_of(report, self.plan), report.rows_s if is_whole else None, notes, is_whole=is_whole
        )

    def shown(self, document: Document, form: str) -> str:
        """A document of this session; `form`: text, json or html."""
        if form == "json":
            return json.dumps(document.to_dict())
        if form == "html":
            from sundog.present.html import html_of

            return html_of(document)
        placed = replace(self.plan, placement=document.placement)
        physical = physical_tree(placed, self._pool_facts(), self._reasons(), document.num_rows, document.reading_order)
        return text_of(document, physical).rstrip("\n")

    def document(self) -> Document:
        """Return what explain shows, as data. Reads the inputs, runs no step."""
        with closing(self._open_rows(None, self.plan.written.inputs)) as rows:
            num_rows, sampled = rows.count(), rows.sampled(num_rows_to_sample(self.plan))
            order = reading_order_of(self.plan, rows)
            advice = self._advice(rows)
            findings = self._inspect(rows)
        written, costs = self.plan.written, self._costs(sampled, num_rows)
        estimate = costs.estimate(self.plan)
        rewrites = self._rewrite_documents(costs, estimate)
        placement = place_steps(self.plan, engine_places(self.plan), self._figures_of(estimate))
        return document_of(
            replace(self.plan, placement=placement),
            logical_tree(written),
            rewrites,
            self._pool_facts(),
            self._reasons(),
            order,
            estimate,
            advice,
            [WarningDocument(one.place, one.what, one.hint, one.is_fatal) for one in findings],
        )

    def _inspect(self, rows: RowSource) -> tuple[PlanFinding, ...]:
        return inspect_plan(self.plan, rows, self._open_operators, self._secrets)

    def _open_operators(self) -> dict[str, Operator]:
        names = sorted({step.operator for step in steps_of(self._written.nodes)})
        return {name: OPERATORS.get(name)(self._base_dir) for name in names}

    def _costs(self, sampled: Rows, num_rows: int) -> PlanCosts:
        written = self.plan.written
        return PlanCosts(written.name, written.engines, self._operators, self._state_dir, sampled, num_rows)

    def _rewrite_documents(self, costs: PlanCosts, estimate: PlanEstimate) -> list[RewriteDocument]:
        """Return each rule with what it saves in all, and merge_calls, which the planner does."""
        before: dict[str, list[PlanEstimate]] = {}
        after: dict[str, list[PlanEstimate]] = {}
        notes: dict[str, list[str]] = {}
        # Some rules leave all steps as they are, and the last one leaves the plan: those cost no second estimate.
        known = [(self.plan.nodes, estimate)]

        def estimated(logical: LogicalPlan) -> PlanEstimate:
            plan = self._planned(logical)
            found = next((one for nodes, one in known if nodes == plan.nodes), None)
            if found is None:
                found = costs.estimate(plan)
                known.append((plan.nodes, found))
            return found

        last = self.plan.written
        for fired in self._rewritten.fired:
            before.setdefault(fired.rule, []).append(estimated(last))
            after.setdefault(fired.rule, []).append(estimated(fired.plan))
            notes.setdefault(fired.rule, []).extend(fired.notes)
            last = fired.plan
        found = [rewrite_document(rule, notes[rule], before[rule], after[rule]) for rule in notes]
        merged = merged_calls(estimate)
        return found if merged is None else [*found, merged]

    def _selectivity(self) -> dict[str, float]:
        """Return the share of rows that each filter keeps, where their order may depend on it and files tell it: a
        query or a function is run once only, for the run itself."""
        plan = self._written
        filters = [node for node in plan.nodes if isinstance(node, Filter)]
        constants = frozenset(plan.constants)
        if not any(cannot_fail(node.predicate, constants) for node in filters[1:]):
            return {}
        rows: Rows = []
        if all(source.path is not None for source in plan.inputs):
            with closing(self._open_rows(None, plan.inputs)) as source:
                rows = source.sampled(MAX_SAMPLED_ROWS)
        return selectivity_of(plan, rows, read_history(self._state_dir, plan.name))

    def _planned(self, logical: LogicalPlan) -> PhysicalPlan:
        """The physical plan of this session's options."""
        return plan_physical(
            logical,
            self._operators,
            written=self._written,
            merges_calls=MERGE_CALLS not in self._without,
            is_serial=self._rewriting.is_naive,
            **self._plan_options,
        )

    def _advice(self, rows: RowSource) -> list[Tree]:
        """Return what the user could change in the prompts; nothing where nothing would be gained."""
        prompts = prompts_of(self.plan.logical, PlanFacts(self.plan.logical, self._operators))
        wanted = frozenset[Fields]().union(*map(fields_wanted, prompts.values()))
        if not wanted:
            return []
        statistics = rows.statistics(wanted, first=MAX_ADVICE_ROWS)
        found = [Tree(str(one)) for of_pool in prompts.values() for one in advise(of_pool, statistics)]
        title = f"advice, from {statistics.num_rows:,} rows; sundog changes no prompt by itself"
        return [Tree(title, tuple(found))] if found else []

    def _rewriting_identity(self) -> dict[str, Any]:
        """Other rules may leave other calls behind, so that they make another run."""
        chosen = {"without": sorted(set(self._rewriting.without)), "is_naive": self._rewriting.is_naive}
        return {} if self._rewriting == Rewriting() else {"rewriting": chosen}

    def _open_rows(self, snapshot_dir: Path | None, inputs: Sequence[InputSource] | None = None) -> RowSource:
        inputs, choice = self.plan.logical.inputs if inputs is None else inputs, self._choice
        rows = open_rows(inputs, base_dir=self._base_dir, snapshot_dir=snapshot_dir, **asdict(choice))
        if isinstance(rows.shape, Record):
            check_columns(self._written, rows.shape)
        return rows

    def figures(self) -> Figures:
        """Return what the steps of the whole input take, for the placement of a run."""
        with closing(self._open_rows(None, self.plan.written.inputs)) as rows:
            num_rows, sampled = rows.count(), rows.sampled(num_rows_to_sample(self.plan))
        return self._figures_of(self._costs(sampled, num_rows).estimate(self.plan))

    def planned_calls(self, run: RunRecord) -> float:
        """Return how many calls the whole of a run is expected to execute, if it finds no results of others. Reads rows
        of the run, those of a query or a function as they were kept."""
        with closing(self._open_rows(self._state_dir / "runs" / run.run_id / "inputs")) as rows:
            sampled = rows.sampled(num_rows_to_sample(self.plan))
        written = self.plan.written
        costs = PlanCosts(
            written.name,
            written.engines,
            self._operators,
            self._state_dir,
            sampled,
            run.num_rows,
            counts_tokens=False,
        )
        return costs.estimate(self.plan).calls.num_executed.expected

    def _figures_of(self, estimate: PlanEstimate) -> Figures:
        limits = {pool: options.max_concurrency for pool, _, options in engine_limits(self.plan)}
        limits |= tool_limits(self.plan, self._operators)
        return figures_of(estimate, engine_places(self.plan), limits, expected_loads(self._state_dir, self.plan))

    def _pool_facts(self) -> list[PoolFacts]:
        groups = {place.pool: None if place.group is None else place.group.name for place in engine_places(self.plan)}
        engines = [
            PoolFacts(pool, num_replicas, options.max_concurrency, options.max_tokens_in_flight, groups[pool])
            for pool, num_replicas, options in engine_limits(self.plan)
        ]
        return engines + [PoolFacts(pool, 1, limit) for pool, limit in tool_limits(self.plan, self._operators).items()]

    def _reasons(self) -> dict[str, str]:
        found = {call.name: self._reason(call) for call in calls_of(self.plan.nodes)}
        return {name: reason for name, reason in found.items() if reason is not None}

    def _reason(self, call: CallExec) -> str | None:
        if call.step.share is not None:
            return f"share: {str(call.step.share).lower()}"
        traits = self._operators[call.step.operator].traits(call.step.spec)
        if self._rewriting.is_naive or MERGE_CALLS in self._rewriting.without:
            return traits.reason if call.sharing is traits.sharing else "calls are not merged"
        if call.sharing is not traits.sharing:
            return f"{traits.reason}, but this flow writes there" if traits.reason else "this flow writes there"
        return traits.reason


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
