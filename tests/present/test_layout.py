"""Positions of the picture: below what a step waits for, side by side otherwise, nothing on top of another."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from itertools import combinations, pairwise

from hypothesis import given
from hypothesis import strategies as st

from sundog.present.layout import GAP_Y, MAX_CARDS, Box, Edge, LayoutNode, Picture, picture_of


def node(
    name: str,
    waits_for: tuple[str, ...] = (),
    height: float = 60,
    *,
    is_critical: bool = False,
    body: Sequence[LayoutNode] = (),
) -> LayoutNode:
    return LayoutNode(name, waits_for, height, is_critical, tuple(body))


def graphs(
    max_size: int, bodies: st.SearchStrategy[list[LayoutNode]] | None = None
) -> st.SearchStrategy[list[LayoutNode]]:
    """Nodes in topological order; some hold one of `bodies`."""
    inner = st.just([]) if bodies is None else st.one_of(st.just([]), bodies)
    one = st.tuples(st.sets(st.integers(0, max_size)), st.integers(30, 200), inner)
    return st.lists(one, min_size=1, max_size=max_size).map(
        lambda written: [
            node(str(number), tuple(str(other) for other in sorted(waits) if other < number), height, body=body)
            for number, (waits, height, body) in enumerate(written)
        ]
    )


def overlap(one: Box, two: Box) -> bool:
    return (
        one.x < two.x + two.width
        and two.x < one.x + one.width
        and one.y < two.y + two.height
        and two.y < one.y + one.height
    )


def levels(boxes: Sequence[Box], edges: Sequence[Edge]) -> Iterator[tuple[Sequence[Box], Sequence[Edge]]]:
    """The picture's own cards and lines, and those of each loop."""
    yield boxes, edges
    for box in boxes:
        if box.inner:
            yield from levels(box.inner, box.edges)


def points(edge: Edge) -> list[tuple[float, float]]:
    return [(float(x), float(y)) for x, y in re.findall(r"(-?[\d.]+),(-?[\d.]+)", edge.path)]


@given(graphs(12, graphs(4)))
def test_steps_stand_below_what_they_wait_for(nodes: list[LayoutNode]) -> None:
    picture = picture_of(nodes)
    assert {box.node.name for box in picture.boxes} == {one.name for one in nodes}
    assert all(box.x >= 0 and box.x + box.width <= picture.width for box in picture.boxes)
    assert all(box.y >= 0 and box.y + box.height <= picture.height for box in picture.boxes)
    for boxes, _ in levels(picture.boxes, picture.edges):
        by_name = {box.node.name: box for box in boxes}
        for box in boxes:
            for other in box.node.waits_for:
                assert box.y >= by_name[other].y + by_name[other].height + GAP_Y
            for inner in box.inner:
                assert box.x < inner.x
                assert inner.x + inner.width < box.x + box.width
                assert box.y + box.node.height <= inner.y
                assert inner.y + inner.height < box.y + box.height
        assert not any(overlap(one, two) for one, two in combinations(boxes, 2))
        assert all(sum(other.y == box.y for other in boxes) <= MAX_CARDS for box in boxes)


@given(graphs(12))
def test_no_line_runs_behind_a_card(nodes: list[LayoutNode]) -> None:
    """The straight parts of a line go down beside the cards, and it turns only where there are none."""
    picture = picture_of(nodes)
    for edge in picture.edges:
        for (x0, y0), (x1, y1) in pairwise(points(edge)):
            for box in picture.boxes:
                is_in_its_layer = box.y < y0 < box.y + box.height or box.y < y1 < box.y + box.height
                assert not (is_in_its_layer and x0 == x1 and box.x < x0 < box.x + box.width), (edge, box)


@given(graphs(12))
def test_every_wait_follows_from_the_lines(nodes: list[LayoutNode]) -> None:
    reached: dict[str, set[str]] = {}
    edges = picture_of(nodes).edges
    for one in nodes:
        sources = [edge.source for edge in edges if edge.target == one.name]
        reached[one.name] = {name for source in sources for name in (source, *reached[source])}
        assert set(one.waits_for) <= reached[one.name]


def test_an_edge_that_follows_from_others_is_not_drawn() -> None:
    nodes = [node("a", is_critical=True), node("b", ("a",), is_critical=True), node("c", ("a", "b"))]
    edges = picture_of(nodes).edges
    assert [(edge.source, edge.target, edge.is_critical) for edge in edges] == [("a", "b", True), ("b", "c", False)]


def describe(picture: Picture) -> str:
    def lines(boxes: Sequence[Box], edges: Sequence[Edge], indent: str) -> Iterator[str]:
        for box in boxes:
            yield f"{indent}{box.node.name}: {box.width:g} x {box.height:g} at {box.x:g}, {box.y:g}"
            yield from lines(box.inner, box.edges, f"{indent}  ")
            if box.turn is not None:
                yield f"{indent}  next turn: {box.turn}"
        for edge in edges:
            yield f"{indent}{edge.source} -> {edge.target}{' (critical)' if edge.is_critical else ''}: {edge.path}"

    head = f"{picture.width:g} x {picture.height:g}"
    return "\n".join([head, *lines(picture.boxes, picture.edges, ""), ""])


def test_the_picture_of_a_plan_with_all_there_is(check_golden: Callable[[str, str], None]) -> None:
    """A fan wider than a page, a line that passes layers, a loop with branches, a card in a tall layer."""
    body = [
        node("decide"),
        node("search", ("decide",)),
        node("compute", ("decide",)),
        node("note", ("search", "compute")),
    ]
    nodes = [
        node("input", is_critical=True),
        *(node(f"fan{number}", ("input",), is_critical=number == 0) for number in range(5)),
        node("work", ("fan0",), 50, is_critical=True, body=body),
        node("aside", ("fan1",), 90),
        node("output", ("work", "aside", "fan4"), is_critical=True),
    ]
    check_golden("explain/layout.txt", describe(picture_of(nodes)))
