"""A plan as a picture without an estimate: its cards carry counts that change.

Owns the picture. Never knows where its counts come from.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from sundog.cost.estimate import Estimate
from sundog.cost.node_cost import RowSample
from sundog.cost.plan_estimate import PlanEstimate
from sundog.cost.tables.sampled_table import TableEstimate
from sundog.ir.physical import PhysicalPlan
from sundog.present.cards import INPUTS, Card, band_of, cards_of, in_words, nodes_of
from sundog.present.document import Explained, PlanDocument, document_of
from sundog.present.figures import Shown
from sundog.present.layout import MAX_CARDS, LayoutNode, Picture, picture_of
from sundog.present.logical_tree import Tree

MAX_DRAWN = 60
"""With more steps a picture on a page that changes says nothing."""
NOTHING_KNOWN = Estimate(0.0, 0.0, 0.0)
StepFigures = Mapping[str, Sequence[tuple[str, str]]]
"""By step, the labels and numbers on its card; as many for each of them."""
NO_FIGURES: StepFigures = {}


@dataclass(frozen=True, slots=True)
class PlanPicture:
    """A plan to be drawn."""

    #: In topological order; their heights are those of cards without figures.
    nodes: tuple[LayoutNode, ...]
    #: By name.
    cards: Mapping[str, Card]
    #: The picture for those who cannot see it.
    words: str
    #: Tables that have names, each with a band of its own.
    tables: tuple[str, ...]
    #: Names of the steps that make calls, in plan order.
    steps: tuple[str, ...]

    @property
    def is_drawn(self) -> bool:
        return len(self.cards) <= MAX_DRAWN


@dataclass(frozen=True, slots=True)
class DrawnPlan:
    """A picture with its counts."""

    picture: Picture
    cards: Mapping[str, Card]
    words: str


def plan_picture(plan: PhysicalPlan) -> PlanPicture:
    """Return the picture of a plan."""
    return picture_of_document(_document(plan))


def picture_of_document(document: PlanDocument) -> PlanPicture:
    """Return the picture of a plan of which nothing was estimated."""
    cards = {name: replace(card, figures=()) for name, card in cards_of(document).items()}
    # The first line is the number of rows, which nobody knows.
    cards[INPUTS] = replace(cards[INPUTS], lines=cards[INPUTS].lines[0 if document.tables else 1 :])
    names = tuple(table.name for table in document.tables)
    steps = tuple(step.name for step in document.calls())
    return PlanPicture(tuple(nodes_of(document, cards)), cards, in_words(document), names, steps)


def drawn(plan: PlanPicture, figures: StepFigures, tables: StepFigures = NO_FIGURES) -> DrawnPlan:
    """Return the picture with `figures` on the cards of its steps, and those of its `tables` on theirs."""
    told = {**figures, **{band_of(table): tables[table] for table in plan.tables if table in tables}}
    cards = {name: _with_figures(card, told.get(name, ())) for name, card in plan.cards.items()}
    nodes = [_sized(node, cards) for node in plan.nodes]
    return DrawnPlan(picture_of(nodes, 1 if plan.tables else MAX_CARDS), cards, plan.words)


def _document(plan: PhysicalPlan) -> PlanDocument:
    """Return the document of a plan of which nothing was estimated."""
    sample = RowSample(0, 0)
    tables = tuple(TableEstimate(table.name, sample, NOTHING_KNOWN, NOTHING_KNOWN, False) for table in plan.tables)
    explained = Explained(Tree(plan.logical.name), plan, (), {}, (), (), (), ())
    return document_of(explained, PlanEstimate(tables, (), None, (), ()))


def _with_figures(card: Card, figures: Sequence[tuple[str, str]]) -> Card:
    return replace(card, figures=tuple((label, Shown(number, "")) for label, number in figures))


def _sized(node: LayoutNode, cards: Mapping[str, Card]) -> LayoutNode:
    body = tuple(_sized(inner, cards) for inner in node.body)
    return replace(node, height=cards[node.name].height, body=body)
