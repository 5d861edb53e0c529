"""The `embed` step: the vector of a text, from an engine that has them.

Owns the request's making, and which texts go in one request. Never compares vectors: queries over tables do.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from pydantic import Field

from sundog.engines.base import ENGINES, Message, Usage
from sundog.engines.embeddings import EmbeddingEngine, EmbeddingKind, Embeddings, EmbedRequest
from sundog.errors import CallError, FlowError, OperatorError, suggest
from sundog.ir.logical import EngineBlock, OperatorSpec
from sundog.ir.physical import Sharing
from sundog.ir.pool_names import engine_pool
from sundog.ir.schemas.shape import ListOf, Record, Scalar, Shape
from sundog.ir.templates.render import Scope, render_text
from sundog.ir.templates.template import Template
from sundog.ir.values.normal_form import whole_text
from sundog.operators.base import BoundCall, CallContext, HeldTemplate, Outcome, PayloadForm, Traits

MAX_TEXTS = 256
MAX_CHARACTERS = 100_000
"""The bounds of one request; a text that is longer than this goes alone."""
_OUTPUT_TOKENS = 1
"""The least that an estimate can have: a vector costs its prompt."""


class EmbedSpec(OperatorSpec):
    """One text."""

    engine: str
    text: Template
    #: The length of the vector; None leaves it to the model.
    dimensions: int | None = Field(default=None, ge=1, le=65_536)


class EmbedOperator:
    """This operator makes one vector of each call: `{vector}`."""

    name = "embed"
    Spec: type[OperatorSpec] = EmbedSpec

    def __init__(self, base_dir: Path) -> None:
        pass

    def check(self, spec: EmbedSpec, engines: Mapping[str, EngineBlock]) -> None:
        if spec.engine not in engines:
            what = f"there is no engine '{spec.engine}'"
            raise FlowError(what, where="engine", hint=suggest(spec.engine, engines))
        block = engines[spec.engine]
        # A kind that nobody knows is told where the block stands.
        if block.kind in ENGINES.names() and not _has_embeddings(block):
            what = f"the engine '{block.name}' gives no vectors: its kind is {block.kind}"
            hint = "engines of the kinds openai, vllm and null do, and openvino with the folder of an embedding model"
            raise FlowError(what, where="engine", hint=hint)

    def traits(self, spec: EmbedSpec) -> Traits:
        return Traits(
            Sharing.ALWAYS,
            pool=engine_pool(spec.engine),
            engine=spec.engine,
            conversation=(("user", spec.text),),
            max_tokens=_OUTPUT_TOKENS,
            answer_options=f"vector {spec.dimensions}",
            timeout_s=600.0,
            reason="the vector of a text",
            lookup="text",
            payload=PayloadForm(
                {"dimensions": str(spec.dimensions)}, (HeldTemplate(("text",), spec.text, is_text=True),)
            ),
        )

    def shape(self, spec: EmbedSpec) -> Shape:
        return Record((("vector", ListOf(Scalar("float"))),))

    def bind(self, spec: EmbedSpec, scope: Scope, engines: Mapping[str, Mapping[str, Any]]) -> BoundCall:
        text = whole_text(render_text(spec.text, scope))
        if not text.strip():
            raise OperatorError("the text is empty", hint='leave such rows out: when: "{{ ... }}" beside the step')
        payload = {"engine": dict(engines[spec.engine]), "text": text, "dimensions": spec.dimensions}
        return BoundCall(payload, (Message("user", text),), _OUTPUT_TOKENS)

    async def run(self, call: BoundCall, context: CallContext) -> Outcome:
        (outcome,) = await self._ask((call,), context)
        return outcome

    def group_of(self, spec: EmbedSpec, call: BoundCall) -> Hashable | None:
        return len(call.payload["text"]) <= MAX_CHARACTERS or None

    async def run_gathered(
        self, spec: EmbedSpec, calls: Sequence[BoundCall], context: CallContext
    ) -> Sequence[Outcome | None]:
        """Return what there is: vectors are kept where a later part of the calls fails."""
        outcomes: list[Outcome | None] = []
        for part in _parts(calls):
            try:
                outcomes += await self._ask(part, context)
            except CallError:
                if not outcomes:
                    raise
                break
        return [*outcomes, *[None] * (len(calls) - len(outcomes))]

    async def close(self) -> None:
        pass

    async def _ask(self, calls: Sequence[BoundCall], context: CallContext) -> list[Outcome]:
        texts = [call.payload["text"] for call in calls]
        # Its kind has said so, or the flow would have been refused.
        engine = cast(EmbeddingEngine, context.engine)
        answer = await engine.embed(EmbedRequest(context.request_id, texts, calls[0].payload["dimensions"]))
        shares = _shares(answer, texts)
        return [Outcome({"vector": list(vector)}, usage) for vector, usage in zip(answer.vectors, shares, strict=True)]


def check_answers(block: EngineBlock) -> None:
    """Raise FlowError for an engine whose model gives vectors and no answers."""
    # A kind that nobody knows is told where the block stands.
    kind = ENGINES.get(block.kind)() if block.kind in ENGINES.names() else None
    if isinstance(kind, EmbeddingKind) and not kind.has_answers(kind.Options.model_validate(dict(block.options))):
        what = f"the engine '{block.name}' gives vectors, and no answers"
        raise FlowError(what, where="engine", hint="its model is one for embed steps: use another engine here")


def _has_embeddings(block: EngineBlock) -> bool:
    kind = ENGINES.get(block.kind)()
    return isinstance(kind, EmbeddingKind) and kind.has_embeddings(kind.Options.model_validate(dict(block.options)))


def _parts(calls: Sequence[BoundCall]) -> Iterator[Sequence[BoundCall]]:
    """Yield the calls of each request, in order."""
    part: list[BoundCall] = []
    num_characters = 0
    for call in calls:
        length = len(call.payload["text"])
        if part and (len(part) == MAX_TEXTS or num_characters + length > MAX_CHARACTERS):
            yield part
            part, num_characters = [], 0
        part.append(call)
        num_characters += length
    yield part


def _shares(answer: Embeddings, texts: Sequence[str]) -> Iterator[Usage]:
    """Yield the tokens of each text: as the engine tells them, else those of the request, by the lengths of the texts,
    and in all as many."""
    usage = answer.usage
    if answer.num_tokens is not None:
        yield from (replace(usage, num_prompt_tokens=num_tokens) for num_tokens in answer.num_tokens)
        return
    num_characters = max(1, sum(map(len, texts)))
    done = given = 0
    for text in texts:
        done += len(text)
        until = usage.num_prompt_tokens * done // num_characters
        yield replace(usage, num_prompt_tokens=until - given)
        given = until
