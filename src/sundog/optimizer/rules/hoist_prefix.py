"""hoist_prefix: rows that share prompt text are read side by side.

Finds for each LLM step which text is the same for all rows, which is per group (of rows that are equal in some values)
and which is each call's own. It changes no prompt; what it gives the plan is the order in which rows are read.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from sundog.ir.logical import Table
from sundog.ir.templates.template import spell_path
from sundog.optimizer.prefix import prefix_tree, row_keys
from sundog.optimizer.prompt_parts import FixedText, StepPrompt, Value, prompts_of
from sundog.optimizer.rules.base import Context, TableResult, TableRule


class HoistPrefix(TableRule):
    """Choose the order in which rows are read.

    >>> from sundog.flow.example import example_plan
    >>> from sundog.optimizer.rewrite import rewrite_by
    >>> plan = example_plan('''
    ...     nodes:
    ...       answer: {llm: {engine: local, prompt: "{{ row.document }} Answer: {{ row.question }}"}}
    ...     outputs: {answer: "{{ answer.text }}"}''')
    >>> [key.path for key in rewrite_by(HoistPrefix(), plan).plan.tables[0].row_order]
    [('row', 'document'), ('row', 'question')]
    """

    name = "hoist_prefix"

    def apply_to(self, table: Table, context: Context) -> TableResult | None:
        prompts = prompts_of(table, context.plan.constants, context.facts)
        keys = row_keys(prefix_tree(of_pool) for of_pool in prompts.values())
        if keys == table.row_order:
            return None
        order = ", ".join(spell_path(key.path) for key in keys)
        note = f"rows that do not all fit in flight are read by {order}" if keys else "rows are read as they come"
        shown = (describe_prompt(prompt) for of_pool in prompts.values() for prompt in of_pool)
        return TableResult(replace(table, row_order=keys), (note, *shown))


def describe_prompt(prompt: StepPrompt) -> str:
    """Return what of a prompt is the same for all rows, per group, per row; each value once, as it stands first."""
    num_static = sum(
        len(part.text) for message in prompt.messages for part in message.parts if isinstance(part, FixedText)
    )
    parts = [part for message in prompt.messages for part in message.parts]
    values = [part for part in dict.fromkeys(parts) if isinstance(part, Value)]
    groups = [_of_group(value) for value in values if value.fields]
    own = [value.label for value in values if value.fields is None]
    return f"{prompt.step}: {'; '.join(_classes(num_static, groups, own))}"


def _classes(num_static: int, groups: list[str], own: list[str]) -> Iterator[str]:
    yield f"static {num_static:,} character{'' if num_static == 1 else 's'}"
    if groups:
        yield f"per group {', '.join(groups)}"
    if own:
        yield f"per row {', '.join(own)}"


def _of_group(value: Value) -> str:
    if value.path is not None or value.fields is None:
        return value.label
    return f"{value.label} (by {', '.join(sorted(map(spell_path, value.fields)))})"
