"""Look-ups asked for together, held against each one alone."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from sundog.errors import OperatorError
from sundog.operators.base import Outcome
from sundog.operators.sql.operator import SQLOperator
from sundog.operators.sql.spec import SQLSpec
from tests.operators.conformance import Context


def spec(url: str, query: str) -> SQLSpec:
    return SQLSpec.model_validate({"database": url, "query": query, "params": {"id": "{{ row.k }}"}})


def compare(operator: SQLOperator, url: str, query: str, keys: Sequence[Any]) -> int:
    """Check each gathered answer against the one alone; how many there were."""
    step, context = spec(url, query), Context()

    async def run() -> int:
        calls = [operator.bind(step, {"row": {"k": key}}, {}) for key in keys]
        groups: dict[object, list[Any]] = defaultdict(list)
        for call in calls:
            groups[operator.group_of(step, call)].append(call)
        groups.pop(None, None)
        num_answers = 0
        for group in groups.values():
            try:
                answers: Sequence[Outcome | None] = await operator.run_gathered(step, group, context)
            except OperatorError:
                continue
            for call, answer in zip(group, answers, strict=True):
                if answer is not None:
                    num_answers += 1
                    assert answer == await operator.run(call, context)
        return num_answers

    return asyncio.run(run())
