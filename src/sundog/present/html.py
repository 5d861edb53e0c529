"""A document as one HTML page that needs nothing else: the plan as a picture, its numbers, its rewrites.

Owns the page's parts. The page is page.html, its cards are cards', positions are layout's; jinja2 escapes all that
users wrote.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined, Template

from sundog.ir.conversations.transcript import RowConversations
from sundog.present.analysis import left_range
from sundog.present.cards import FIGURE_HEIGHT, FIGURES, HEAD_HEIGHT, LINE_HEIGHT, Card, cards_of, in_words, nodes_of
from sundog.present.cluster.cluster_plan import more_groups, shown_group
from sundog.present.conversations import (
    ShownConversation,
    left_out,
    more_of,
    shown_conversations,
    with_visible_state,
)
from sundog.present.document import QUANTITIES, PlanDocument
from sundog.present.figures import Shown, show_actual, show_estimate
from sundog.present.layout import MAX_CARDS, Picture, picture_of
from sundog.present.logical_tree import print_tree
from sundog.present.tables import left_rows, way_of
from sundog.present.text import saving

HEIGHTS = {"head": HEAD_HEIGHT, "line": LINE_HEIGHT, "figure": FIGURE_HEIGHT}
MAX_DRAWN = 300
"""With more steps a picture says nothing."""


def html_of(document: PlanDocument, said: Sequence[RowConversations] = (), num_rows_said: int = 0) -> str:
    """Return the page as text, with no resource from elsewhere. `said`: the conversations of some rows of the run,
    `num_rows_said`: of how many there are some."""
    cards = cards_of(document)
    return page_template("page.html").render(
        document=document,
        picture=_picture(document, cards) if len(cards) <= MAX_DRAWN else None,
        cards=cards,
        description=in_words(document),
        heights=HEIGHTS,
        tiles=_tiles(document),
        quantities=_quantities(document),
        show=show_estimate,
        show_actual=show_actual,
        left_range=left_range,
        way_of=way_of,
        left_rows=left_rows,
        saving=saving,
        logical=print_tree(document.logical),
        advice="\n".join(print_tree(tree) for tree in document.advice),
        conversations=[_said(row) for row in said],
        num_rows_said=num_rows_said,
        left_out=left_out,
        shown_group=shown_group,
        more_groups=more_groups,
    )


def _picture(document: PlanDocument, cards: Mapping[str, Card]) -> Picture:
    """Return the steps as cards, of a flow that names its tables in a band for each."""
    return picture_of(nodes_of(document, cards), 1 if document.tables else MAX_CARDS)


def _said(row: RowConversations) -> tuple[RowConversations, tuple[ShownConversation, ...], str]:
    shown = shown_conversations(row, is_full=False)
    return with_visible_state(row), shown, more_of(row, shown, is_full=False)


def _tiles(document: PlanDocument) -> list[tuple[str, Shown]]:
    tiles = (
        [] if document.makespan_s is None else [("seconds, makespan", show_estimate(document.makespan_s, "seconds"))]
    )
    named = {name: QUANTITIES[name] for name in FIGURES}
    return tiles + [
        (label, show_estimate(document.totals[name], name)) for name, label in named.items() if name in document.totals
    ]


def _quantities(document: PlanDocument) -> dict[str, str]:
    """Return those that some step has."""
    there = {name for step in document.calls() for name in step.estimate or {}}
    return {name: label for name, label in QUANTITIES.items() if name in there}


@cache
def page_template(name: str, package: str = "sundog.present") -> Template:
    """Return a page of a package, which may include parts of this folder; jinja2 escapes all that users wrote."""
    loader = ChoiceLoader([PackageLoader(package, "."), PackageLoader("sundog.present", ".")])
    environment = Environment(
        loader=loader, autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.get_template(name)
