"""The order of waiting."""

from __future__ import annotations

import pytest

from sundog.errors import FlowError, Location
from sundog.ir.graph import dependencies, names_read, topological_order
from sundog.ir.logical import Filter, ForEach, Loop, Node, OperatorSpec, Step
from sundog.ir.templates.template import Template


class Spec(OperatorSpec):
    text: Template


def step(name: str, text: str = "", after: tuple[str, ...] = (), when: str | None = None) -> Step:
    condition = None if when is None else Template(when)
    place = Location("f.yaml", 1, 1)
    return Step(name, "test", Spec(text=Template(text)), condition, after=after, location=place)


def order(*nodes: Node) -> list[str]:
    return [node.name for node in topological_order(nodes, dependencies(nodes))]


def test_a_node_waits_for_what_it_reads_and_for_what_after_names() -> None:
    nodes = (step("a"), step("b", "{{ a.x }} {{ row.y }}"), step("c", after=("b",)), step("d", when="{{ c }}"))
    assert dependencies(nodes) == {"a": (), "b": ("a",), "c": ("b",), "d": ("c",)}


def test_a_for_each_waits_for_its_list() -> None:
    each = Step("b", "test", Spec(text=Template("{{ item }}")), for_each=ForEach(Template("{{ a }}")))
    assert dependencies((step("a"), each)) == {"a": (), "b": ("a",)}


def test_what_is_written_below_a_filter_waits_for_it() -> None:
    nodes = (step("a"), Filter("keep", Template("{{ a }}")), step("b"), step("c", "{{ b }}"))
    assert dependencies(nodes) == {"a": (), "keep": ("a",), "b": ("keep",), "c": ("keep", "b")}


def test_a_loop_waits_for_what_its_body_reads_from_outside() -> None:
    body = (step("draft", "{{ a.x }} {{ loop.last.draft }}"), step("critique", "{{ draft }}"))
    loop = Loop("refine", body, 3, until=Template("{{ critique == b }}"))
    assert names_read(loop) == {"a", "b"}
    assert dependencies((step("a"), step("b"), loop))["refine"] == ("a", "b")


def test_a_shared_resource_adds_order() -> None:
    assert dependencies((step("a"), step("b")), [("a", "b")]) == {"a": (), "b": ("a",)}


def test_the_order_is_that_of_the_file_where_nothing_else_is_asked() -> None:
    assert order(step("c"), step("a"), step("b")) == ["c", "a", "b"]
    assert order(step("c", "{{ b }}"), step("a"), step("b")) == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("nodes", "circle"),
    [
        ((step("a", "{{ a }}"),), "a -> a"),
        ((step("a", "{{ b }}"), step("b", after=("a",))), "a -> b -> a"),
    ],
)
def test_a_circle_is_shown(nodes: tuple[Node, ...], circle: str) -> None:
    with pytest.raises(FlowError, match=circle) as caught:
        order(*nodes)
    assert caught.value.where == Location("f.yaml", 1, 1)
