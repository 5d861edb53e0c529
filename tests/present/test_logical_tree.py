"""The logical plan as text."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from sundog.flow.bind import load_flow
from sundog.ir.templates.template import Template
from sundog.present.logical_tree import MAX_SHOWN_CHARACTERS, Tree, logical_tree, print_tree, shorten_value

EVERYTHING = Path(__file__).parents[1] / "flow" / "everything.yaml"


def test_a_plan_with_everything(check_golden: Callable[[str, str], None]) -> None:
    check_golden("explain/logical.txt", print_tree(logical_tree(load_flow(EVERYTHING))))


def test_a_tree_draws_its_branches() -> None:
    leaf = Tree("leaf")
    assert print_tree(Tree("root", (Tree("a", (leaf, leaf)), Tree("b", (leaf,))))) == (
        "root\n├── a\n│   ├── leaf\n│   └── leaf\n└── b\n    └── leaf\n"
    )


def test_values_take_one_short_line() -> None:
    assert shorten_value(Template("one\ntwo {{ a }}")) == '"one\\ntwo {{ a }}"'
    assert shorten_value(Template("{{ a\n  .b }}")) == "{{ a .b }}"
    assert shorten_value({"a": [1, None, Template("{{ b }}")]}) == '{"a": [1, null, "{{ b }}"]}'
    long = shorten_value("é" * 500)
    assert len(long) == MAX_SHOWN_CHARACTERS
    assert long.endswith("...")
