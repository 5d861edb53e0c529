"""A small flow given by its nodes or tables alone: what the examples and the fixtures of rewrite rules begin with.

Owns the sections that they leave out. Opens no file.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from textwrap import dedent, indent

from sundog.flow.bind import bind
from sundog.flow.positions import read_document
from sundog.ir.logical import LogicalPlan

AROUND = {
    "name": "example",
    "engines": {"local": {"kind": "null"}},
    "inputs": {"rows": {"path": "rows.csv"}, "owners": {"path": "owners.csv", "key": {"id": "owner"}}},
}
READ = """
inputs: {mails: {path: mails.csv}}
tables:
  read:
    from: mails
    nodes: {gist: {llm: {engine: local, prompt: "Sum up {{ row.mail }}"}}}
    outputs: {state: "{{ row.status }}", size: "{{ row.bytes }}", gist: "{{ gist.text }}"}
"""


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


def example_tables(tables: str) -> LogicalPlan:
    """Return the plan of a flow with these `tables`, of which the last is the only result, behind the table `read`,
    where a model sums up mails. FlowError for whatever is wrong.

    >>> plan = example_tables('states: {query: "select distinct state from read"}')
    >>> [table.name for table in plan.tables], plan.results
    (['read', 'states'], ('states',))
    """
    plan = example_plan(READ + indent(dedent(tables).strip("\n"), "  "))
    return replace(plan, results=(plan.tables[-1].name,))
