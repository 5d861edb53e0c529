"""Positions of the picture: below what a step waits for, side by side otherwise, nothing on top of another."""

from __future__ import annotations

from itertools import combinations

from hypothesis import given
from hypothesis import strategies as st

from sundog.present.document import StepDocument
from sundog.present.layout import GAP_Y, Box, picture_of


def step(name: str, waits_for: tuple[str, ...] = (), *, is_critical: bool = False) -> StepDocument:
    return StepDocument(name, "call", "llm", waits_for, is_critical)


graphs = st.lists(st.sets(st.integers(0, 11)), min_size=1, max_size=12).map(
    lambda waits: [
        step(str(number), tuple(str(other) for other in sorted(some) if other < number))
        for number, some in enumerate(waits)
    ]
)


def overlap(one: Box, two: Box) -> bool:
    return (
        one.x < two.x + two.width
        and two.x < one.x + one.width
        and one.y < two.y + two.height
        and two.y < one.y + one.height
    )


@given(graphs)
def test_steps_stand_below_what_they_wait_for(steps: list[StepDocument]) -> None:
    picture = picture_of(steps, {one.name: 3 for one in steps})
    boxes = {box.step.name: box for box in picture.boxes}
    assert boxes.keys() == {one.name for one in steps}
    for one in steps:
        for other in one.waits_for:
            assert boxes[one.name].y >= boxes[other].y + boxes[other].height + GAP_Y
    assert not any(overlap(one, two) for one, two in combinations(picture.boxes, 2))
    assert all(box.x >= 0 and box.x + box.width <= picture.width for box in picture.boxes)
    assert all(box.y >= 0 and box.y + box.height <= picture.height for box in picture.boxes)


def test_an_edge_that_follows_from_others_is_not_drawn() -> None:
    steps = [step("a", is_critical=True), step("b", ("a",), is_critical=True), step("c", ("a", "b"))]
    edges = picture_of(steps, dict.fromkeys("abc", 0)).edges
    assert [(edge.source, edge.target, edge.is_critical) for edge in edges] == [("a", "b", True), ("b", "c", False)]


def test_the_body_of_a_loop_stands_inside_it() -> None:
    loop = StepDocument("loop", "loop", "at most 3 turns", (), False, body=(step("a"), step("b", ("a",))))
    (box,) = picture_of([loop], {"a": 4, "b": 0}).boxes
    first, second = box.inner
    assert box.x < first.x
    assert first.x + first.width < box.x + box.width
    assert first.y + first.height < second.y
    assert second.y + second.height < box.y + box.height
