"""A document as one HTML page that needs nothing else: the plan as a picture, its numbers, its rewrites.

Owns what stands on the cards. The page is page.html, positions are layout's; jinja2 escapes all that users wrote.
"""

from __future__ import annotations

from functools import cache

from jinja2 import Environment, PackageLoader, StrictUndefined, Template

from sundog.ir.explain import print_tree
from sundog.present.analysis import left_range
from sundog.present.document import QUANTITIES, Document, StepDocument
from sundog.present.figures import Shown, show, show_actual
from sundog.present.layout import HEAD_HEIGHT, LINE_HEIGHT, picture_of
from sundog.present.text import saving

MAX_NAME_CHARACTERS = 30
CARD_LINES = {
    "num_executed": "calls",
    "num_computed_prompt_tokens": "prompt tokens",
    "num_output_tokens": "output tokens",
    "seconds": "seconds",
    "usd": "dollars",
}


def html_of(document: Document) -> str:
    """The page as text, with no resource from elsewhere."""
    lines = {step.name: card_lines(step) for step in _all(document.steps)}
    picture = picture_of(document.steps, {name: len(some) for name, some in lines.items()})
    return _template().render(
        document=document,
        picture=picture,
        lines=lines,
        head_height=HEAD_HEIGHT,
        line_height=LINE_HEIGHT,
        tiles=_tiles(document),
        quantities=_quantities(document),
        show=show,
        show_actual=show_actual,
        left_range=left_range,
        saving=saving,
        shorten=_shorten,
        logical=print_tree(document.logical),
        advice="\n".join(print_tree(tree) for tree in document.advice),
    )


def card_lines(step: StepDocument) -> list[tuple[str, Shown]]:
    """What a card says: a label and a number each."""
    figures = step.estimate or {}
    return [(label, show(figures[name], name)) for name, label in CARD_LINES.items() if name in figures]


def _tiles(document: Document) -> list[tuple[str, Shown]]:
    tiles = [] if document.makespan_s is None else [("seconds, makespan", show(document.makespan_s, "seconds"))]
    named = {name: QUANTITIES[name] for name in CARD_LINES}
    return tiles + [
        (label, show(document.totals[name], name)) for name, label in named.items() if name in document.totals
    ]


def _quantities(document: Document) -> dict[str, str]:
    """Those that some step has."""
    there = {name for step in document.calls() for name in step.estimate or {}}
    return {name: label for name, label in QUANTITIES.items() if name in there}


def _all(steps: tuple[StepDocument, ...]) -> list[StepDocument]:
    return [one for step in steps for one in (step, *_all(step.body))]


def _shorten(text: str) -> str:
    return text if len(text) <= MAX_NAME_CHARACTERS else f"{text[: MAX_NAME_CHARACTERS - 1]}…"


@cache
def _template() -> Template:
    loader = PackageLoader("sundog.present", ".")
    environment = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.get_template("page.html")
