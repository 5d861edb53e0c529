"""A document as text: the trees of the plans, then what they take.

Owns the tables. The trees of the plans are in present.logical_tree and present.physical_tree.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from sundog.present.analysis import analysis_lines
from sundog.present.document import (
    QUANTITIES,
    PlanDocument,
    QuantityEstimates,
    RewriteDocument,
    StepDocument,
    WarningDocument,
)
from sundog.present.figures import Shown, count, seconds, show_estimate
from sundog.present.logical_tree import Tree, print_tree
from sundog.present.tables import table_lines

HEADS = {
    "num_asked": ("calls", "asked"),
    "num_executed": ("calls", "executed"),
    "num_asked_prompt_tokens": ("prompt tokens", "asked"),
    "num_prompt_tokens": ("prompt tokens", "executed"),
    "num_computed_prompt_tokens": ("prompt tokens", "computed"),
    "num_output_tokens": ("output", "tokens"),
    "seconds": ("", "seconds"),
    "usd": ("", "dollars"),
}
NOTHING_SHOWN = Shown("", "")


def plan_text(document: PlanDocument, physical: Tree) -> str:
    """Return all of a document as text.

    `physical`: the physical plan as present.physical_tree draws it.
    """
    trees = [document.logical, *([rewrites_tree(document.rewrites)] if document.rewrites else []), physical]
    if document.cluster is not None:
        from sundog.present.cluster.cluster_plan import cluster_tree  # what few ask for

        trees.append(cluster_tree(document.cluster))
    lines = [*map(print_tree, [*trees, *document.advice]), *estimate_lines(document)]
    if document.warnings:
        lines += ["", print_tree(warnings_tree(document.warnings))]
    return "\n".join(lines)


def warnings_tree(warnings: Sequence[WarningDocument]) -> Tree:
    """Return the findings of the inspection as a tree, which says so where one of them would end the run."""
    title = "warnings, from looking before the first call"
    if any(one.is_fatal for one in warnings):
        title += "; no row can succeed, and a run would stop here"
    return Tree(
        title,
        tuple(Tree(f"{one.place}: {one.what}", (Tree(one.hint),) if one.hint else ()) for one in warnings),
    )


def rewrites_tree(rewrites: Sequence[RewriteDocument]) -> Tree:
    return Tree("rewrites", tuple(Tree(saving(one), tuple(map(Tree, one.notes))) for one in rewrites))


def estimate_lines(document: PlanDocument) -> Iterator[str]:
    """Yield the lines below the plan: what they rest on, the table of the steps, the makespan, the critical path, and
    what is missing."""
    if document.tables:
        basis = f"{document.num_sampled:,} rows of its tables"
    elif document.num_sampled == document.num_rows:
        basis = f"all {document.num_rows:,} rows"
    else:
        basis = f"{document.num_sampled:,} of {document.num_rows:,} rows, chosen at random"
    yield f"{'estimate' if document.actual_totals is None else 'estimate and actual'}, from {basis}"
    yield ""
    if document.tables:
        yield from table_lines(document.tables)
        yield ""
    yield from _table(document) if document.actual_totals is None else analysis_lines(document)
    yield ""
    if document.makespan_s is not None and document.actual_makespan_s is None:
        yield f"makespan       {_with_unit(show_estimate(document.makespan_s, 'seconds'))}, with the engines started"
    if document.critical_path:
        yield f"critical path  {' -> '.join(document.critical_path)}"
    for line in document.missing:
        yield f"note: {line}"


def saving(rewrite: RewriteDocument) -> str:
    """Return a rule and how much less it leaves, on one line."""
    parts = [
        _part(rewrite.num_calls, "calls"),
        _part(rewrite.num_prompt_tokens, "prompt tokens"),
        _part(rewrite.num_output_tokens, "output tokens"),
    ]
    if rewrite.seconds is not None and abs(rewrite.seconds) >= 0.05:
        parts.append(f"{_signed(rewrite.seconds, seconds(abs(rewrite.seconds)))} s")
    found = [part for part in parts if part]
    return f"{rewrite.rule}: {', '.join(found)}" if found else rewrite.rule


def _part(saved: float, unit: str) -> str:
    text = count(abs(saved))
    return f"{_signed(saved, text)} {unit.removesuffix('s') if text == '1' else unit}" if abs(saved) >= 0.5 else ""


def _signed(saved: float, text: str) -> str:
    """Return a saving as a change of the figure: less has a minus."""
    return f"-{text}" if saved > 0 else f"+{text}"


def _with_unit(shown: Shown) -> str:
    return f"{shown.value} s ({shown.span} s)" if shown.span else f"{shown.value} s"


def _table(document: PlanDocument) -> Iterator[str]:
    lines = [*_rows(document.steps, ""), ("total", document.totals)]
    quantities = [name for name in QUANTITIES if any(figures and name in figures for _, figures in lines)]
    cells = [[_cell(figures, name) for name in quantities] for _, figures in lines]
    heads = [HEADS[name] for name in quantities]
    widths = [
        max(len(heads[column][1]), *(max(len(row[column].value), len(row[column].span)) for row in cells)) + 2
        for column in range(len(quantities))
    ]
    names = max(4, *(len(name) for name, _ in lines))
    yield " " * names + _group_heads([head for head, _ in heads], widths)
    yield _line("step", [head for _, head in heads], names, widths)
    for (name, _), row in zip(lines, cells, strict=True):
        yield _line(name, [cell.value for cell in row], names, widths)
        if any(cell.span for cell in row):
            yield _line("", [cell.span for cell in row], names, widths)


def _rows(steps: Sequence[StepDocument], indent: str) -> Iterator[tuple[str, QuantityEstimates | None]]:
    for step in steps:
        mark = "* " if step.is_critical else "  "
        if step.kind == "call":
            yield f"{mark}{indent}{step.name}", step.estimate
        elif step.kind == "loop":
            yield f"{mark}{indent}{step.name}", None
            yield from _rows(step.body, f"{indent}  ")


def _cell(figures: QuantityEstimates | None, quantity: str) -> Shown:
    return show_estimate(figures[quantity], quantity) if figures and quantity in figures else NOTHING_SHOWN


def _line(name: str, cells: Sequence[str], names: int, widths: Sequence[int]) -> str:
    aligned = "".join(cell.rjust(width) for cell, width in zip(cells, widths, strict=True))
    return f"{name:<{names}}{aligned}".rstrip()


def _group_heads(heads: Sequence[str], widths: Sequence[int]) -> str:
    """Return each head once, over the columns that have it."""
    line, column = "", 0
    while column < len(heads):
        end = column
        while end < len(heads) and heads[end] == heads[column]:
            end += 1
        line += f"{heads[column]:>{sum(widths[column:end])}}"
        column = end
    return line.rstrip()
