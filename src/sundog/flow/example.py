"""A small flow given by its nodes alone: what the examples and the fixtures of rewrite rules begin with.

Owns the sections that they leave out. Opens no file.
"""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent

from sundog.flow.bind import bind
from sundog.flow.positions import read_document
from sundog.ir.logical import LogicalPlan

AROUND = {
    "name": "example",
    "engines": {"local": {"kind": "null"}},
    "inputs": {"rows": {"path": "rows.csv"}, "owners": {"path": "owners.csv", "key": {"id": "owner"}}},
}


def example_plan(sections: str) -> LogicalPlan:
    """Return the plan of a flow file with these `sections`; what they leave out is an engine `local` without a model,
    rows, and `row.owners` joined to them. FlowError for whatever is wrong.

    >>> example_plan('''
    ...     nodes: {is_big: {filter: "{{ row.size > 9 }}"}}
    ...     outputs: {size: "{{ row.size }}"}''').nodes[0].name
    'is_big'
    """
    document = read_document(dedent(sections), "example.yaml")
    return bind({**AROUND, **document.data}, document.positions, base_dir=Path())
