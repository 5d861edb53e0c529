"""The `human` step: a question that a person answers.

Owns the spec and the question. Nothing is run: a call without an answer ends its row for now, the question is kept, and
`sundog answer` gives what the run goes on with.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from sundog.errors import OperatorError
from sundog.ir.logical import EngineBlock, OperatorSpec
from sundog.ir.physical import Sharing
from sundog.ir.schemas.shape import Record, Scalar, Shape
from sundog.ir.templates.render import Scope, render_text
from sundog.ir.templates.template import Template
from sundog.operators.base import BoundCall, CallContext, Outcome, Traits

POOL = "human"


class HumanSpec(OperatorSpec):
    """One question."""

    #: It is shown to whoever answers, and is all that they see of the row.
    question: Template


class HumanOperator:
    """Questions to people. Each is answered for itself, equal or not, unless the step says `share: true`."""

    name = "human"
    Spec: type[OperatorSpec] = HumanSpec

    def __init__(self, base_dir: Path) -> None:
        pass

    def check(self, spec: HumanSpec, engines: Mapping[str, EngineBlock]) -> None:
        pass

    def traits(self, spec: HumanSpec) -> Traits:
        return Traits(Sharing.NEVER, POOL, retries=0, reason="a person's answer")

    def shape(self, spec: HumanSpec) -> Shape:
        return Record((("text", Scalar("str")),))

    def bind(self, spec: HumanSpec, scope: Scope, engines: Mapping[str, Mapping[str, object]]) -> BoundCall:
        question = render_text(spec.question, scope)
        if not question.strip():
            hint = "nobody could answer it: a `when` that asks for the text skips the step where there is none"
            raise OperatorError("the question is empty", hint=hint)
        return BoundCall({"question": question}, question=question)

    async def run(self, call: BoundCall, context: CallContext) -> Outcome:
        raise AssertionError("a question waits for its answer, and is not run")

    async def close(self) -> None:
        pass
