"""The step `timed`: a tool of a known length, for runs in virtual time. Its pool and its places are the step's own."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sundog.ir.logical import EngineBlock, OperatorSpec
from sundog.ir.physical import Sharing
from sundog.ir.schemas.shape import Anything, Shape
from sundog.ir.templates.render import Scope
from sundog.operators.arguments import Argument, render_argument
from sundog.operators.base import OPERATORS, BoundCall, CallContext, Outcome, Traits


class TimedSpec(OperatorSpec):
    """`about`: what the call depends on; it lasts `seconds` whatever that is. `places`: calls at once in its `pool`."""

    about: Argument
    pool: str
    seconds: float
    places: int


class TimedOperator:
    name = "timed"
    Spec: type[OperatorSpec] = TimedSpec

    def __init__(self, base_dir: Path) -> None:
        """Read nothing from `base_dir`."""

    def check(self, spec: TimedSpec, engines: Mapping[str, EngineBlock]) -> None:
        """Find nothing: pydantic sees all that can be wrong."""

    def traits(self, spec: TimedSpec) -> Traits:
        return Traits(Sharing.NEVER, spec.pool, max_concurrency=spec.places, reason="a modelled tool")

    def shape(self, spec: TimedSpec) -> Shape:
        return Anything()

    def bind(self, spec: TimedSpec, scope: Scope, engines: Mapping[str, Mapping[str, Any]]) -> BoundCall:
        return BoundCall({"about": render_argument(spec.about, scope), "seconds": spec.seconds})

    async def run(self, call: BoundCall, context: CallContext) -> Outcome:
        await asyncio.sleep(call.payload["seconds"])
        return Outcome("found")

    async def close(self) -> None:
        """Do nothing: nothing is open."""


def register() -> None:
    OPERATORS.add(TimedOperator.name, TimedOperator)
