"""The report of a run: rows, calls asked for and executed, tokens asked for and computed.

Owns the numbers and their text. Read from the store, so that it covers every process that worked on the run.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from sundog.ir.agents import agents_of
from sundog.ir.alternatives import alternatives_of
from sundog.ir.physical import PhysicalPlan, calls_of
from sundog.runtime.figures.engine_report import EngineReport, engine_reports
from sundog.runtime.figures.run_figures import RunFigures
from sundog.store.store import Store
from sundog.store.totals import NodeTotals, node_totals


@dataclass(frozen=True, slots=True)
class Report:
    """The report of a run."""

    run_id: str
    state: str
    num_done: int
    num_failed: int
    num_dropped: int
    #: Rows made of rows that failed.
    num_not_run: int
    #: Seconds that processes worked on the run.
    busy_s: float
    #: In plan order.
    nodes: tuple[NodeTotals, ...]
    #: The files and folders of rows that were written.
    outputs: tuple[str, ...]
    errors: str | None
    #: The things that the reader should know of the output, and those seen before the first call.
    warnings: tuple[str, ...] = ()
    #: Sentences about what was computed, of which none is wrong.
    notes: tuple[str, ...] = ()
    #: Seconds of this process from the first row's start to the last one's end, with the engines started, but for those
    #: of cells; None when it ran none.
    rows_s: float | None = None
    #: By step, its share of its pool's time in this process and its cells.
    step_seconds: Mapping[str, float] = field(default_factory=dict)
    #: The engines of this process and its cells.
    engines: tuple[EngineReport, ...] = ()
    #: By step, the calls of this process and its cells that results of other runs answered.
    num_reused: Mapping[str, int] = field(default_factory=dict)
    #: By step, the answers of what stands in for it: a second engine, or a value.
    num_stood_in: Mapping[str, int] = field(default_factory=dict)
    #: By agent, the uses of tools that could not be run: an unknown tool, or arguments that do not fit.
    num_wrong_uses: Mapping[str, int] = field(default_factory=dict)
    #: By agent, the uses of tools that failed; of both the model was told.
    num_failed_uses: Mapping[str, int] = field(default_factory=dict)

    @property
    def num_asked(self) -> int:
        return sum(node.num_asked for node in self.nodes)

    @property
    def num_executed(self) -> int:
        return sum(node.num_executed for node in self.nodes)

    @property
    def num_asked_prompt_tokens(self) -> int:
        """Prompt tokens if every call of every row had been executed."""
        return sum(node.num_asked_prompt_tokens for node in self.nodes)

    @property
    def num_prompt_tokens(self) -> int:
        """Prompt tokens of the executed calls."""
        return sum(node.num_prompt_tokens for node in self.nodes)

    @property
    def num_computed_prompt_tokens(self) -> int:
        """Prompt tokens that went through prefill: executed and not in the engine's prefix cache."""
        return self.num_prompt_tokens - sum(node.num_cached_tokens for node in self.nodes)

    @property
    def num_asked_output_tokens(self) -> int:
        return sum(node.num_asked_output_tokens for node in self.nodes)

    @property
    def num_output_tokens(self) -> int:
        return sum(node.num_output_tokens for node in self.nodes)

    @property
    def prefix_cache_hit_rate(self) -> float:
        """Share of executed prompt tokens found in the engine's prefix cache."""
        executed = self.num_prompt_tokens
        return (executed - self.num_computed_prompt_tokens) / executed if executed else 0.0

    @property
    def _not_run(self) -> str:
        if not self.num_not_run:
            return ""
        return f"{self.num_not_run:,} not run because of {'it' if self.num_failed == 1 else 'them'}, "

    def to_dict(self) -> dict[str, Any]:
        """Return every number, sums included, for machines."""
        sums = (
            "num_asked num_executed num_asked_prompt_tokens num_prompt_tokens num_computed_prompt_tokens"
            " num_asked_output_tokens num_output_tokens prefix_cache_hit_rate"
        )
        return {**asdict(self), **{name: getattr(self, name) for name in sums.split()}}

    def __str__(self) -> str:
        lines = [
            f"run {self.run_id}: {self.state}",
            f"rows     {self.num_done:,} done, {self.num_failed:,} failed, {self._not_run}"
            f"{self.num_dropped:,} filtered out in {self.busy_s:,.1f} s",
            _saving("calls", self.num_asked, "executed", self.num_executed),
            _saving("prompt", self.num_asked_prompt_tokens, "computed", self.num_computed_prompt_tokens, "tokens "),
            _saving("output", self.num_asked_output_tokens, "computed", self.num_output_tokens, "tokens "),
            f"prefix cache hit rate {self.prefix_cache_hit_rate:.0%} of executed prompt tokens",
            *map(str, self.engines),
            "",
            *_table(self.nodes),
        ]
        lines += [
            f"instead  {count:,} {'answer' if count == 1 else 'answers'} of {step}"
            for step, count in self.num_stood_in.items()
        ]
        lines += [
            f"told     the model of {agent}: {_wrong_uses(self.num_wrong_uses.get(agent, 0))},"
            f" {self.num_failed_uses.get(agent, 0):,} that failed"
            for agent in dict.fromkeys([*self.num_wrong_uses, *self.num_failed_uses])
        ]
        lines += [f"note     {note}" for note in self.notes]
        lines += [f"warning: {warning}" for warning in self.warnings]
        lines += [f"output   {output}" for output in self.outputs]
        lines += [f"errors   {self.errors}"] if self.errors else []
        if self.num_failed:
            rows = "1 row" if self.num_failed == 1 else f"{self.num_failed:,} rows"
            lines.append(f"failed   {rows}; --retry-failed (in Python retry_failed=True) tries them again")
        return "\n".join(lines)


def _wrong_uses(count: int) -> str:
    return "1 wrong use of a tool" if count == 1 else f"{count:,} wrong uses of tools"


@dataclass(frozen=True, slots=True)
class Written:
    """The files of a run that has ended, and what the reader should know of them."""

    outputs: tuple[str, ...]
    #: None where no row failed.
    errors: Path | str | None
    warnings: tuple[str, ...]
    #: As of the report.
    notes: tuple[str, ...]


def read_report(
    store: Store,
    run_id: str,
    plan: PhysicalPlan,
    written: Written,
    figures: RunFigures,
    *,
    busy_s: float,
) -> Report:
    """Return the report of a run that has ended. Counts of rows and calls come from the store, so that they hold after
    a kill too; `figures` tell of this process alone, and of those that worked for it."""
    rows = store.count_states(run_id)
    totals = node_totals(store, run_id)
    seconds = figures.step_seconds(plan.logical.name)
    names = [call.name for call in calls_of(plan.nodes)]
    agents = list(agents_of(plan.logical.nodes))

    def counted(names: Mapping[str, str]) -> dict[str, int]:
        return {
            told: totals[name].num_asked for told, name in names.items() if name in totals and totals[name].num_asked
        }

    return Report(
        run_id=run_id,
        state="finished",
        num_done=rows["done"],
        num_failed=rows["failed"],
        num_dropped=rows["dropped"],
        num_not_run=rows["not_run"],
        busy_s=busy_s,
        nodes=tuple(totals.get(name, NodeTotals(name)) for name in names),
        outputs=written.outputs,
        errors=None if written.errors is None else str(written.errors),
        warnings=written.warnings + figures.warnings(),
        notes=written.notes,
        rows_s=figures.rows_s,
        step_seconds={name: seconds[name] for name in names if name in seconds},
        engines=engine_reports(plan.logical.engines, figures.work),
        num_reused=figures.num_reused,
        num_stood_in=counted({f"{one.name} {one.told}": one.counted_as for one in alternatives_of(plan.logical.nodes)}),
        num_wrong_uses=counted({agent.name: agent.counted_wrong for agent in agents}),
        num_failed_uses=counted({agent.name: agent.counted_failed for agent in agents}),
    )


def _saving(what: str, asked: int, verb: str, done: int, unit: str = "") -> str:
    # Calls of rows that were forgotten since were executed all the same.
    saved = f"  ({1 - done / asked:.0%} saved)" if asked and done <= asked else ""
    return f"{what:<8} {asked:,} {unit}asked for, {done:,} {verb}{saved}"


def _table(nodes: tuple[NodeTotals, ...]) -> list[str]:
    width = max([4, *(len(node.node) for node in nodes)])
    head = f"{'step':<{width}} {'asked':>9} {'executed':>9} {'prompt':>11} {'cached':>11} {'output':>9}"
    body = [
        f"{node.node:<{width}} {node.num_asked:>9,} {node.num_executed:>9,} {node.num_prompt_tokens:>11,}"
        f" {node.num_cached_tokens:>11,} {node.num_output_tokens:>9,}"
        for node in nodes
    ]
    return [head, *body]
