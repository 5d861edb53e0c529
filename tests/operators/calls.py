"""One call of a step, as a row would make it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from sundog.errors import OperatorError
from sundog.ir.logical import OperatorSpec
from sundog.ir.templates.render import Scope
from sundog.operators.base import Operator
from tests.operators.conformance import Context


def run_step(operator: Operator, step: OperatorSpec, scope: Scope | None, context: Context | None) -> Any:
    """Check, bind and run `step`; `operator` is used up."""

    async def once() -> Any:
        try:
            operator.check(step, {})
            return (await operator.run(operator.bind(step, scope or {}, {}), context or Context())).value
        finally:
            await operator.close()

    return asyncio.run(once())


def fault_of_step(operator: Operator, step: OperatorSpec, context: Context | None) -> OperatorError:
    with pytest.raises(OperatorError) as caught:
        run_step(operator, step, None, context)
    return caught.value
