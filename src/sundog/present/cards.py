"""The texts on the cards of the plan's picture: one card for the inputs, one for each step, one for the outputs.

Owns the choice and the length of the texts. Positions are layout's, the drawing is page.html's.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from sundog.present.document import PlanDocument, StepDocument
from sundog.present.figures import Shown, show_estimate
from sundog.present.layout import LayoutNode
from sundog.present.tables import TableDocument, rows_shown, way_of

HEAD_HEIGHT = 30
LINE_HEIGHT = 17
FIGURE_HEIGHT = 19
FOOT_HEIGHT = 10
MAX_CHARACTERS = 44
MAX_NAME_CHARACTERS = 32
MAX_TAGGED_CHARACTERS = 26
MAX_CONDITION_LINES = 2
MAX_LISTED = 8
INPUTS, OUTPUTS = " inputs", " outputs"
"""Names of the cards at both ends; no step can be called so."""
FIGURES = {
    "num_executed": "calls",
    "num_computed_prompt_tokens": "prompt tokens",
    "num_output_tokens": "output tokens",
    "seconds": "seconds",
    "usd": "dollars",
}


@dataclass(frozen=True, slots=True)
class Card:
    """The texts of one card."""

    #: Input, call, loop, filter or output.
    kind: str
    name: str
    #: The text that a pointer over it shows.
    title: str
    #: A word at its right.
    tag: str
    #: Small text below the name.
    lines: tuple[str, ...]
    #: Labels and numbers below that.
    figures: tuple[tuple[str, Shown], ...]
    is_critical: bool

    @property
    def height(self) -> float:
        lines = HEAD_HEIGHT + LINE_HEIGHT * len(self.lines) + FIGURE_HEIGHT * len(self.figures)
        return lines + FOOT_HEIGHT


_ROW_ENDS = {"filter": "keeps rows where ", "require": "fails rows unless "}
"""By kind of the nodes that end rows, how their condition is told."""


def cards_of(document: PlanDocument) -> dict[str, Card]:
    """Return the cards by name, in the order of the plan; the bodies of loops behind these."""
    found = {INPUTS: _inputs(document)} | {band_of(table.name): _band(table, document) for table in document.tables}
    found |= {step.name: _step(step) for step in _all(document.steps)}
    return found | {OUTPUTS: _outputs(document)}


def nodes_of(document: PlanDocument, cards: Mapping[str, Card]) -> list[LayoutNode]:
    """Return what layout places: steps that wait for none stand below the inputs, outputs below what they read."""
    if document.tables:
        return _bands(document, cards)
    steps = [_node(step, cards, INPUTS) for step in document.steps]
    # Filters decide which rows come out.
    read = {name for output in document.outputs for name in output.reads}
    read |= {step.name for step in document.steps if step.kind in _ROW_ENDS}
    waits = tuple(step.name for step in document.steps if step.name in read) or (INPUTS,)
    first = LayoutNode(INPUTS, (), cards[INPUTS].height, True)
    last = LayoutNode(OUTPUTS, waits, cards[OUTPUTS].height, True)
    return [first, *steps, last]


def in_words(document: PlanDocument) -> str:
    """Return the picture for those who cannot see it."""
    if not document.tables:
        return " ".join(_sentences(document.steps))
    return " ".join(
        sentence
        for table in document.tables
        for sentence in (f"The table {table.name} {way_of(table)}.", *_sentences(steps_of_table(document, table)))
    )


def band_of(table: str) -> str:
    """Return the name of the card that holds a table; no step can be called so."""
    return f" table {table}"


def steps_of_table(document: PlanDocument, table: TableDocument) -> list[StepDocument]:
    return [step for step in document.steps if step.name in table.steps]


def _bands(document: PlanDocument, cards: Mapping[str, Card]) -> list[LayoutNode]:
    """Return a band for each table with its steps inside, below the tables that it reads or waits for."""
    bands = [
        LayoutNode(
            band_of(table.name),
            tuple(map(band_of, table.sources)) or (INPUTS,),
            cards[band_of(table.name)].height,
            cards[band_of(table.name)].is_critical,
            tuple(_node(step, cards, None) for step in steps_of_table(document, table)),
            turns=False,
        )
        for table in document.tables
    ]
    results = tuple(band_of(table.name) for table in document.tables if table.is_result)
    first = LayoutNode(INPUTS, (), cards[INPUTS].height, True)
    return [first, *bands, LayoutNode(OUTPUTS, results, cards[OUTPUTS].height, True)]


def _band(table: TableDocument, document: PlanDocument) -> Card:
    source = " ".join(table.source.split())
    ways = [way_of(table)] if table.sources or table.kind != "input" else []
    lines = [f"{table.kind} {source}", *ways, f"gives {', '.join(table.columns)}"]
    rows = [("rows", rows_shown(table))]
    if table.actual is not None:
        rows.append(("rows of the run", Shown(f"{table.num_actual:,}", "")))
    is_critical = any(call.is_critical for step in steps_of_table(document, table) for call in step.calls())
    return Card(
        "table",
        _cut(table.name, MAX_TAGGED_CHARACTERS),
        f"{table.name}: {table.source}; {way_of(table)}",
        "result" if table.is_result else "table",
        tuple(_cut(line, MAX_CHARACTERS) for line in lines),
        tuple(rows),
        is_critical,
    )


def _sentences(steps: Sequence[StepDocument]) -> Iterator[str]:
    for step in steps:
        waits = f"waits for {', '.join(step.waits_for)}" if step.waits_for else "waits for nothing"
        when = f" and runs when {_spoken(step.condition)}" if step.condition and step.kind not in _ROW_ENDS else ""
        yield f"{step.name} ({step.title}) {waits}{when}."
        if step.body:
            yield f"In each turn of {step.name}:"
            yield from _sentences(step.body)


def _all(steps: Sequence[StepDocument]) -> list[StepDocument]:
    return [one for step in steps for one in (step, *_all(step.body))]


def _node(step: StepDocument, cards: Mapping[str, Card], first: str | None) -> LayoutNode:
    waits = step.waits_for or (() if first is None else (first,))
    body = tuple(_node(inner, cards, None) for inner in step.body)
    return LayoutNode(step.name, waits, cards[step.name].height, step.is_critical, body)


def _inputs(document: PlanDocument) -> Card:
    lines = [] if document.tables else [f"{document.num_rows:,} rows"]
    for one in document.inputs[:MAX_LISTED]:
        joined = "" if one.key is None else f", joined by {one.key[0]}"
        lines.append(_cut(f"{one.name}: {' '.join(one.source.split())}", MAX_CHARACTERS - len(joined)) + joined)
    lines += _more(len(document.inputs), "inputs")
    title = "; ".join(f"{one.name}: {one.source}" for one in document.inputs)
    return Card("input", "inputs", title, "", tuple(lines), (), False)


def _outputs(document: PlanDocument) -> Card:
    if document.tables:
        results = [table.name for table in document.tables if table.is_result]
        lines = [_cut(one, MAX_CHARACTERS) for one in results[:MAX_LISTED]] + _more(len(results), "tables")
        return Card("output", "results", ", ".join(results), "", tuple(lines), (), False)
    lines = [_cut(f"{one.name} = {_spoken(one.template)}", MAX_CHARACTERS) for one in document.outputs[:MAX_LISTED]]
    lines += _more(len(document.outputs), "columns")
    title = "; ".join(f"{one.name} = {one.template}" for one in document.outputs)
    return Card("output", "outputs", title, "", tuple(lines), (), False)


def _more(number: int, what: str) -> list[str]:
    return [f"and {number - MAX_LISTED} more {what}"] if number > MAX_LISTED else []


def _step(step: StepDocument) -> Card:
    estimate = step.estimate or {}
    return Card(
        step.kind,
        _cut(step.name, MAX_TAGGED_CHARACTERS if _tag(step) else MAX_NAME_CHARACTERS),
        _title(step),
        _tag(step),
        tuple(_lines(step)),
        tuple((label, show_estimate(estimate[name], name)) for name, label in FIGURES.items() if name in estimate),
        step.is_critical,
    )


def _tag(step: StepDocument) -> str:
    if step.kind == "call":
        return "effect" if step.is_effect else ""
    return step.kind


def _lines(step: StepDocument) -> Iterator[str]:
    if step.kind == "call":
        yield _cut(f"{step.title} on {step.pool}", MAX_CHARACTERS)
    elif step.kind in ("loop", "value"):
        yield _cut(step.title, MAX_CHARACTERS)
    if step.condition is not None:
        yield from _wrapped(_ROW_ENDS.get(step.kind, "when "), step.condition)
    if step.for_each is not None:
        yield from _wrapped("for each of ", step.for_each)
    if step.until is not None:
        yield from _wrapped("until ", step.until)


def _wrapped(word: str, template: str) -> list[str]:
    return textwrap.wrap(word + _spoken(template), MAX_CHARACTERS, max_lines=MAX_CONDITION_LINES, placeholder=" …")


def _spoken(template: str) -> str:
    """Return a template on one line, without the braces of an expression."""
    text = " ".join(template.split())
    is_expression = text.startswith("{{") and text.endswith("}}") and text.count("{{") == 1
    return text[2:-2].strip("-+ ") if is_expression else text


def _title(step: StepDocument) -> str:
    parts = [f"{step.name}: {step.title}" + (f" on {step.pool}" if step.pool else "")]
    if step.sharing:
        reason = f" ({step.sharing_reason})" if step.sharing_reason else ""
        parts.append(f"shared {step.sharing}{reason}")
    named = {"when": step.condition, "for each of": step.for_each, "until": step.until}
    parts += [f"{word} {text}" for word, text in named.items() if text is not None]
    return "; ".join(parts)


def _cut(text: str, max_characters: int) -> str:
    return text if len(text) <= max_characters else f"{text[: max_characters - 1]}…"
