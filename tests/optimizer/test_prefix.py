"""The templated radix tree: what prompts share, how much is computed, and by what rows are read."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from sundog.cost.row_statistics import RowStatistics
from sundog.ir.logical import RowKey
from sundog.ir.templates.template import Path
from sundog.optimizer.prefix import PrefixNode, fields_of, num_computed_tokens, prefix_tree, reading_order, row_keys
from sundog.optimizer.prompt_parts import FixedText, MessageParts, Part, StepPrompt, Value

DOCUMENT, TOPIC, REGION = (("row", name) for name in ("document", "topic", "region"))


def value(path: Path) -> Value:
    return Value(".".join(path), frozenset({path}), path)


def own(name: str) -> Value:
    """A result that only its own row has."""
    return Value(name, None)


def prompt(step: str, *parts: Part | str | Path) -> StepPrompt:
    made = (
        FixedText(part) if isinstance(part, str) else value(part) if isinstance(part, tuple) else part for part in parts
    )
    return StepPrompt(step, (MessageParts("user", tuple(made)),))


def shown(tree: tuple[PrefixNode, ...]) -> list[object]:
    """A tree as nested lists: what a node holds, then its children."""
    return [
        [node.part.text if isinstance(node.part, FixedText) else node.part.label, *shown(node.children)]
        for node in tree
    ]


def counts(num_rows: int, num_distinct: Mapping[tuple[Path, ...], float]) -> RowStatistics:
    sets = {frozenset(paths): number for paths, number in num_distinct.items()}
    return RowStatistics(num_rows, sets, {DOCUMENT: 400.0, TOPIC: 12.0, REGION: 4.0})


def length(part: Part) -> float:
    return len(part.text) if isinstance(part, FixedText) else 100.0


def test_prompts_share_text_up_to_the_first_difference() -> None:
    tree = prefix_tree(
        [
            prompt("facts", "Read: ", DOCUMENT, "\nList ", TOPIC),
            prompt("answer", "Read: ", DOCUMENT, "\nLook: ", own("facts.text")),
            prompt("other", "Run"),
        ]
    )
    assert shown(tree) == [
        [
            "user\nR",
            ["ead: ", ["row.document", ["\nL", ["ist ", ["row.topic", ["\n"]]], ["ook: ", ["facts.text", ["\n"]]]]]],
            ["un\n"],
        ]
    ]
    (root,) = tree
    assert root.steps == ("facts", "answer", "other")
    assert [node.steps for node in root.children] == [("facts", "answer"), ("other",)]
    assert set(fields_of(tree)) == {frozenset({DOCUMENT}), frozenset({DOCUMENT, TOPIC})}


def test_a_prompt_may_end_where_another_goes_on() -> None:
    tree = prefix_tree([prompt("a", "x"), prompt("b", "x\n\ny"), prompt("c", "x")])
    assert shown(tree) == [["user\nx\n", ["\ny\n"]]]


def test_each_different_prefix_is_computed_once() -> None:
    tree = prefix_tree(
        [prompt("facts", "abc", DOCUMENT, TOPIC), prompt("answer", "abc", DOCUMENT, own("facts.text"), "xyz")]
    )
    statistics = counts(60, {(DOCUMENT,): 10, (DOCUMENT, TOPIC): 50})
    static, documents, topics, results, ends = len("user\nabc"), 10 * 100, 50 * 100, 60 * 100, 50 + 60 * 4
    assert num_computed_tokens(tree, statistics, length) == static + documents + topics + results + ends


def test_a_count_is_never_more_than_there_are_rows() -> None:
    tree = prefix_tree([prompt("a", DOCUMENT)])
    assert num_computed_tokens(tree, counts(10, {(DOCUMENT,): 10.4}), lambda part: 1.0) == 1 + 10 + 10


def test_keys_come_level_by_level_and_those_of_most_prompts_first() -> None:
    looked_up = Value("context.body", frozenset({("row", "id")}), is_lookup=True)
    trees = [
        prefix_tree([prompt("a", "q", REGION, TOPIC)]),
        prefix_tree([prompt("b", DOCUMENT, own("a.text"), TOPIC), prompt("c", DOCUMENT, looked_up)]),
    ]
    assert row_keys(trees) == (RowKey(DOCUMENT), RowKey(REGION), RowKey(("row", "id"), is_lookup=True), RowKey(TOPIC))


@pytest.mark.parametrize(
    ("num_distinct", "expected"),
    [
        ({DOCUMENT: 20, TOPIC: 5, REGION: 2}, [DOCUMENT, TOPIC, REGION]),  # what saves most text comes first
        ({DOCUMENT: 95, TOPIC: 5, REGION: 2}, [TOPIC, REGION]),  # what hardly repeats does not count
        ({DOCUMENT: 100, TOPIC: 100, REGION: 100}, []),
    ],
)
def test_rows_are_read_by_what_repeats(num_distinct: dict[Path, float], expected: list[Path]) -> None:
    keys = [RowKey(REGION), RowKey(TOPIC), RowKey(DOCUMENT)]
    assert [
        key.path for key in reading_order(keys, counts(100, {(path,): number for path, number in num_distinct.items()}))
    ] == expected


def test_what_a_tool_finds_comes_before_what_rows_hold() -> None:
    keys = [RowKey(DOCUMENT), RowKey(REGION, is_lookup=True)]
    order = reading_order(keys, counts(100, {(DOCUMENT,): 20, (REGION,): 20}))
    assert order == (RowKey(REGION, is_lookup=True), RowKey(DOCUMENT))
