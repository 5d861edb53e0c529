"""The one document that explain shows: what of a plan and its estimate its reader gets, in every format.

Owns the document and its JSON form (docs/cli.md). Text and HTML are made from it; it computes nothing but differences.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from sundog.cost.estimate import Estimate
from sundog.cost.plan_estimate import NodeEstimate, PlanEstimate
from sundog.ir.agents import AgentExec, ToolFlowExec
from sundog.ir.alternatives import AlternativesExec
from sundog.ir.logical import ForEach, InputSource
from sundog.ir.physical import (
    CallExec,
    Exec,
    FilterExec,
    LoopExec,
    PhysicalPlan,
    Placement,
    TableExec,
    ValueExec,
)
from sundog.ir.templates.template import SAMPLE, Path, Template
from sundog.present.logical_tree import Tree, shorten_value, spell_turns
from sundog.present.physical_tree import PoolFacts
from sundog.present.tables import TableDocument, table_documents

if TYPE_CHECKING:
    from sundog.present.cluster.cluster_plan import ClusterPlan

QuantityEstimates = Mapping[str, Estimate]
"""By quantity, those that are known and mean something for the step, in the order of QUANTITIES."""

QUANTITIES = {
    "num_asked": "calls asked for",
    "num_executed": "calls executed",
    "num_asked_prompt_tokens": "prompt tokens asked for",
    "num_prompt_tokens": "prompt tokens executed",
    "num_computed_prompt_tokens": "prompt tokens computed",
    "num_output_tokens": "output tokens",
    "seconds": "seconds",
    "usd": "dollars",
}


@dataclass(frozen=True, slots=True)
class StepDocument:
    """One node of the physical plan."""

    name: str
    #: Call, loop, filter, require or value.
    kind: str
    #: Its operator or condition, shortened.
    title: str
    waits_for: tuple[str, ...]
    is_critical: bool
    pool: str | None = None
    #: Always, run or never; None for other kinds.
    sharing: str | None = None
    #: A phrase that says why.
    sharing_reason: str | None = None
    is_effect: bool = False
    max_attempts: int | None = None
    timeout_s: float | None = None
    max_turns: int | None = None
    estimate: QuantityEstimates | None = None
    #: By quantity, what a run did.
    actual: Mapping[str, float] | None = None
    #: The nodes of a loop.
    body: tuple[StepDocument, ...] = ()
    #: The text of `when`, or of a filter; None where there is none.
    condition: str | None = None
    #: The list that it fans out over, as written; None where there is none.
    for_each: str | None = None
    #: The condition that ends a loop, as written; None where there is none.
    until: str | None = None

    def calls(self) -> Iterator[StepDocument]:
        """Yield this call, or those of the loop's body."""
        if self.kind == "call":
            yield self
        for inner in self.body:
            yield from inner.calls()


@dataclass(frozen=True, slots=True)
class InputDocument:
    """One input."""

    name: str
    #: Its path, query or function as written.
    source: str
    #: (its column, the driving column), None for the first input.
    key: tuple[str, str] | None


@dataclass(frozen=True, slots=True)
class OutputDocument:
    """One output column."""

    name: str
    template: str
    #: The nodes whose values it has.
    reads: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class RewriteDocument:
    """A rule that fired, what it did, and how much less the plan then takes: expected values, less than 0 where it
    takes more."""

    rule: str
    notes: tuple[str, ...]
    num_calls: float
    num_prompt_tokens: float
    num_output_tokens: float
    #: Seconds of the makespan, None where that is not known.
    seconds: float | None


@dataclass(frozen=True, slots=True)
class WarningDocument:
    """Something wrong with the plan that can be seen before it runs."""

    #: As in "step 'answer'".
    place: str
    what: str
    hint: str | None
    #: No row can succeed, so that `sundog run` would call nothing.
    is_fatal: bool


@dataclass(frozen=True, slots=True)
class PlanDocument:
    """The document that `explain` shows, in all its forms."""

    flow: str
    policy: str
    max_rows_in_flight: int
    num_rows: int
    #: The rows that made the estimate, out of `num_rows`.
    num_sampled: int
    #: The values that rows are read by, none for their own order.
    reading_order: tuple[Path, ...]
    #: The plan as written.
    logical: Tree
    rewrites: tuple[RewriteDocument, ...]
    steps: tuple[StepDocument, ...]
    pools: tuple[PoolFacts, ...]
    #: Over all steps.
    totals: QuantityEstimates
    makespan_s: Estimate | None
    critical_path: tuple[str, ...]
    #: Sentences that say what was not known, or which tool decides the makespan, and what to do about it.
    missing: tuple[str, ...]
    #: Sentences that say what the user could change in the prompts.
    advice: tuple[Tree, ...]
    #: The placement of steps on workers, None where there are none.
    placement: Placement | None
    inputs: tuple[InputDocument, ...] = ()
    outputs: tuple[OutputDocument, ...] = ()
    #: The findings from before the first call.
    warnings: tuple[WarningDocument, ...] = ()
    #: The totals of a run, None where there was none.
    actual_totals: Mapping[str, float] | None = None
    #: The makespan of a run, None where there was none or it does not tell.
    actual_makespan_s: float | None = None
    #: Other runs or processes did a part of its work.
    is_actual_partial: bool = False
    #: The tables of a flow with named ones, else none: its rows are then those of the whole.
    tables: tuple[TableDocument, ...] = ()
    #: The plan on many machines, None where nobody asked for it.
    cluster: ClusterPlan | None = None

    def calls(self) -> Iterator[StepDocument]:
        for step in self.steps:
            yield from step.calls()

    def to_dict(self) -> dict[str, Any]:
        """Return JSON types; an estimate is {low, expected, high}. `tables` is there where the flow names some,
        `cluster` where it was asked for."""
        found = {"form": 1, **asdict(self)}
        if not self.tables:
            del found["tables"]
        if self.cluster is None:
            del found["cluster"]
        return found


@dataclass(frozen=True, slots=True)
class Explained:
    """The facts of a plan that are told beside its estimate."""

    #: The plan as it was written.
    logical: Tree
    plan: PhysicalPlan
    pools: Sequence[PoolFacts]
    #: By step, why its calls may be shared or not.
    reasons: Mapping[str, str]
    rewrites: Sequence[RewriteDocument]
    #: The values that rows are read by; none for their own order.
    reading_order: Sequence[Path]
    #: Sentences that say what the user could change in the prompts.
    advice: Sequence[Tree]
    #: The findings from before the first call.
    warnings: Sequence[WarningDocument]
    #: None where nobody asked for it.
    cluster: ClusterPlan | None = None


def document_of(explained: Explained, estimate: PlanEstimate) -> PlanDocument:
    """Return the document of a plan, with `estimate` as what it takes."""
    plan = explained.plan
    by_name = {node.node: node for node in estimate.nodes}
    path = frozenset(estimate.critical_path)
    return PlanDocument(
        flow=plan.logical.name,
        policy=plan.policy,
        max_rows_in_flight=plan.max_rows_in_flight,
        num_rows=estimate.sample.num_rows,
        num_sampled=estimate.sample.num_sampled,
        reading_order=tuple(explained.reading_order),
        logical=explained.logical,
        rewrites=tuple(explained.rewrites),
        steps=tuple(_step(node, by_name, path, explained.reasons) for node in plan.nodes),
        pools=tuple(explained.pools),
        totals=_totals(estimate),
        makespan_s=estimate.makespan_s,
        critical_path=estimate.critical_path,
        missing=estimate.missing,
        advice=tuple(explained.advice),
        placement=plan.placement,
        inputs=tuple(_input(source) for source in plan.logical.inputs),
        outputs=tuple(_output(*column, table) for table in plan.tables for column in table.table.outputs),
        warnings=tuple(explained.warnings),
        tables=table_documents(plan, estimate.tables),
        cluster=explained.cluster,
    )


def rewrite_document(
    rule: str, notes: Sequence[str], before: Sequence[PlanEstimate], after: Sequence[PlanEstimate]
) -> RewriteDocument:
    """Return the document of one rule; `before` and `after` are the estimates each time that it fired."""
    pairs = list(zip(before, after, strict=True))
    spans = [(one.makespan_s, two.makespan_s) for one, two in pairs]
    seconds = [one.expected - two.expected for one, two in spans if one is not None and two is not None]
    return RewriteDocument(
        rule,
        tuple(notes),
        sum(one.calls.num_executed.expected - two.calls.num_executed.expected for one, two in pairs),
        sum(one.tokens.prompt_computed.expected - two.tokens.prompt_computed.expected for one, two in pairs),
        sum(one.tokens.output.expected - two.tokens.output.expected for one, two in pairs),
        sum(seconds) if len(seconds) == len(pairs) else None,
    )


def merged_calls(estimate: PlanEstimate) -> RewriteDocument | None:
    """Return what executing equal calls once saves; None where no two are equal, as far as can be seen."""
    calls, tokens = estimate.calls, estimate.tokens
    num_saved = calls.num_asked.expected - calls.num_executed.expected
    if num_saved < 0.5:
        return None
    return RewriteDocument(
        "merge_calls",
        ("equal calls are executed once",),
        num_saved,
        tokens.prompt_asked.expected - tokens.prompt.expected,
        tokens.output_asked.expected - tokens.output.expected,
        None,
    )


def _input(source: InputSource) -> InputDocument:
    return InputDocument(source.name, source.path or source.query or source.call or "", source.key)


def _output(name: str, template: Template, table: TableExec) -> OutputDocument:
    reads = tuple(node.name for node in table.nodes if node.name in template.names)
    return OutputDocument(name, template.source, reads)


def _text(template: Template | None) -> str | None:
    return None if template is None else template.source


def _each(each: ForEach | None) -> str | None:
    return None if each is None or each.variable == SAMPLE else each.items.source


def _step(
    node: Exec, by_name: Mapping[str, NodeEstimate], path: frozenset[str], reasons: Mapping[str, str]
) -> StepDocument:
    match node:
        case FilterExec():
            predicate = node.filter.predicate
            kind = "filter" if node.filter.reason is None else "require"
            return StepDocument(
                node.name, kind, shorten_value(predicate), node.before, False, condition=predicate.source
            )
        case ValueExec():
            return _value(node)
        case LoopExec():
            body = tuple(_step(inner, by_name, path, reasons) for inner in node.body)
            is_critical = any(call.is_critical for inner in body for call in inner.calls())
            most = node.loop.max_turns
            kind = "agent, " if isinstance(node, AgentExec) else ""
            title = f"{kind}at most {spell_turns(most)}"
            if isinstance(node, AlternativesExec):
                title = f"one step, or {node.alternatives.told}"
            elif isinstance(node, ToolFlowExec):
                title = f"the flow {node.flow.file}, once for each use"
            return StepDocument(
                node.name,
                "loop",
                title,
                node.before,
                is_critical,
                max_turns=None if isinstance(most, Template) else most,
                body=body,
                condition=_text(node.loop.when),
                for_each=_each(node.loop.for_each),
                until=_text(node.loop.until),
            )
        case CallExec():
            return StepDocument(
                node.name,
                "call",
                node.step.operator,
                node.before,
                node.name in path,
                pool=node.pool,
                sharing=node.sharing.value,
                sharing_reason=reasons.get(node.name),
                is_effect=node.is_effect,
                max_attempts=node.max_attempts,
                timeout_s=node.timeout_s,
                estimate=_figures(by_name[node.name]) if node.name in by_name else None,
                condition=_text(node.step.when),
                for_each=_each(node.step.for_each),
            )


def _value(node: ValueExec) -> StepDocument:
    value = node.value
    return StepDocument(
        node.name,
        "value",
        shorten_value(value.template),
        node.before,
        False,
        condition=_text(value.when),
        for_each=_each(value.for_each),
    )


def _figures(node: NodeEstimate) -> QuantityEstimates:
    found = {"num_asked": node.calls.num_asked, "num_executed": node.calls.num_executed}
    if node.tokens is not None:
        found["num_asked_prompt_tokens"] = node.tokens.prompt_asked
        found["num_prompt_tokens"] = node.tokens.prompt
        found["num_computed_prompt_tokens"] = node.tokens.prompt_computed
        found["num_output_tokens"] = node.tokens.output
    if node.seconds is not None:
        found["seconds"] = node.seconds
    if node.usd is not None:
        found["usd"] = node.usd
    return found


def _totals(estimate: PlanEstimate) -> QuantityEstimates:
    tokens = estimate.tokens if any(node.tokens is not None for node in estimate.nodes) else None
    return _figures(NodeEstimate("", "", "", estimate.calls, tokens, None, estimate.usd))
