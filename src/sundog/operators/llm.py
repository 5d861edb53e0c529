"""The LLM step: renders a prompt, drives one engine request, checks the answer's form.

Owns the request's making and the answer's parsing. Never chooses an engine's replica, retries or shares.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar

from pydantic import Field, PlainValidator, model_validator

from sundog.engines.base import ENGINES, PartsKind, SchemaLimitedKind
from sundog.errors import BadResponse, FlowError, suggest
from sundog.ir.conversations.written import Messages, check_prompt, conversation_of, kinds_of_parts
from sundog.ir.logical import EngineBlock, OperatorSpec
from sundog.ir.physical import Sharing
from sundog.ir.pool_names import engine_pool
from sundog.ir.schemas.output_schema import OutputSchema, parse_answer
from sundog.ir.schemas.shape import Anything, Record, Scalar, Shape
from sundog.ir.templates.render import Scope
from sundog.ir.templates.template import SAMPLE, Template
from sundog.ir.templates.whole_numbers import WholeNumber, render_whole_number
from sundog.ir.values.canonical import canonical_json
from sundog.operators.answer_stream import generate_request, paid, whole_answer
from sundog.operators.base import BoundCall, CallContext, Finding, Inspection, Outcome, Traits
from sundog.operators.embed import check_answers
from sundog.operators.llm_inspection import long_prompts, small_limits
from sundog.operators.prompt_messages import has_unread_parts, payload_form, render_messages, written_briefly

SEEDS = (-(2**63), 2**63 - 1)
"""The smallest and the largest that a template may give: what servers hold."""
USAGE_SHAPE = (("usage", Record.of(prompt_tokens=Scalar("int"), output_tokens=Scalar("int"))),)


class LLMSpec(OperatorSpec):
    """One question to an engine: `prompt` alone, or `messages`; `system` comes before either."""

    allows_files: ClassVar[frozenset[str]] = frozenset({"prompt", "system", "messages"})
    engine: str
    prompt: Template | None = None
    messages: Messages = ()
    system: Template | None = None
    #: None leaves the limit to the engine.
    max_tokens: int | None = Field(default=None, ge=1)
    #: 0 is greedy, None the engine's own.
    temperature: float | None = Field(default=0.0, ge=0)
    seed: WholeNumber | None = None
    stop: tuple[str, ...] = ()
    #: So many answers to the same prompt, as a list; None for one answer that is no list.
    samples: int | None = Field(default=None, ge=2, le=100)
    #: The answer's form, as ir.schemas.output_schema says.
    output: Annotated[OutputSchema, PlainValidator(OutputSchema.of)] | None = None

    @model_validator(mode="after")
    def _one_prompt(self) -> LLMSpec:
        check_prompt("an llm step", self.prompt, self.system, self.messages)
        if self.samples is not None and self.temperature == 0:
            raise ValueError(f"{self.samples} samples at temperature 0 are {self.samples} equal answers: raise it")
        return self

    def conversation(self) -> Iterator[tuple[str, Template]]:
        """Yield the messages in the order in which the engine sees them."""
        return conversation_of(self.prompt, self.system, self.messages)


class LLMOperator:
    """This operator makes one generated answer of each call: `{text, <fields of output>}`."""

    name = "llm"
    Spec: type[OperatorSpec] = LLMSpec

    def __init__(self, base_dir: Path) -> None:
        self._base_dir = base_dir

    def check(self, spec: LLMSpec, engines: Mapping[str, EngineBlock]) -> None:
        if spec.engine not in engines:
            what = f"there is no engine '{spec.engine}'"
            raise FlowError(what, where="engine", hint=suggest(spec.engine, engines))
        check_answers(engines[spec.engine])
        check_parts(kinds_of_parts(spec.messages), engines[spec.engine])
        if spec.output is not None:
            _check_output(spec.output, engines[spec.engine])

    def traits(self, spec: LLMSpec) -> Traits:
        is_greedy = spec.temperature == 0
        return Traits(
            Sharing.ALWAYS if is_greedy else Sharing.NEVER,
            pool=engine_pool(spec.engine),
            engine=spec.engine,
            conversation=tuple(spec.conversation()),
            max_tokens=spec.max_tokens,
            answer_options=canonical_json(_answer_options(spec)).decode("utf-8", "surrogatepass"),
            timeout_s=600.0,
            reason=_reason(spec.temperature),
            num_samples=spec.samples,
            payload=payload_form(spec.conversation(), _fixed_options(spec)),
        )

    def shape(self, spec: LLMSpec) -> Shape:
        if spec.output is None:
            return Record((("text", Scalar("str")),), USAGE_SHAPE)
        if isinstance(spec.output.shape, Record):
            return Record((("text", Scalar("str")), *spec.output.shape.fields), USAGE_SHAPE)
        return Anything()

    def bind(self, spec: LLMSpec, scope: Scope, engines: Mapping[str, Mapping[str, Any]]) -> BoundCall:
        messages = render_messages(spec.conversation(), scope)
        payload = {
            "engine": dict(engines[spec.engine]),
            "messages": [written_briefly(message) for message in messages],
            **_answer_options(spec),
            "seed": None if spec.seed is None else render_whole_number(spec.seed, scope, "seed", *SEEDS),
        }
        if spec.samples is not None:
            # Equal requests with one seed would have one answer.
            payload["sample"] = number = scope[SAMPLE]
            payload["seed"] = None if payload["seed"] is None else payload["seed"] + number
        return BoundCall(payload, messages, spec.max_tokens, not has_unread_parts(messages))

    async def prepare(self, call: BoundCall) -> BoundCall:
        from sundog.operators.message_files import read_parts  # few prompts hold pictures

        messages = await read_parts(call.prompt, self._base_dir)
        payload = {**call.payload, "messages": [written_briefly(message) for message in messages]}
        return BoundCall(payload, messages, call.max_tokens)

    async def inspect(self, spec: LLMSpec, given: Inspection) -> Sequence[Finding]:
        schema = None if spec.output is None else spec.output.text
        return await asyncio.to_thread(
            lambda: [*small_limits(schema, spec.max_tokens, given.engine), *long_prompts(given)]
        )

    async def run(self, call: BoundCall, context: CallContext) -> Outcome:
        request = generate_request(call, context)
        request.json_schema = call.payload["json_schema"]
        text, last = await whole_answer(request, context)
        if request.json_schema is None:
            return Outcome({"text": text}, last.usage)
        is_cut = last.finish_reason == "length"
        with paid(last.usage):
            fields = parse_answer(
                text,
                request.json_schema,
                hint="the answer was cut off: raise max_tokens" if is_cut else None,
                retryable=request.temperature != 0,
                redact=context.secrets.redact,
            )
        # A schema that leaves room for other fields may be answered with one of this name.
        return Outcome({"text": text} | fields | {"text": text}, last.usage)

    async def close(self) -> None:
        pass


def check_parts(kinds: frozenset[str], engine: EngineBlock) -> None:
    """Raise FlowError where an engine takes no parts of these kinds."""
    if not kinds or engine.kind not in ENGINES.names():
        return
    kind = ENGINES.get(engine.kind)()
    options = kind.Options.model_validate(dict(engine.options))
    taken = kind.part_kinds(options) if isinstance(kind, PartsKind) else frozenset[str]()
    for missing in sorted(kinds - taken):
        hint = "engines of kind openai take images and PDF files (`api: chat`), those of kind vllm images"
        raise FlowError(f"the engine '{engine.name}' takes no {missing}s", where="messages", hint=hint)


def _check_output(output: OutputSchema, engine: EngineBlock) -> None:
    # A kind that nobody knows is told where the block stands.
    kind = ENGINES.get(engine.kind)() if engine.kind in ENGINES.names() else None
    if not isinstance(kind, SchemaLimitedKind):
        return
    try:
        kind.check_schema(output.text)
    except BadResponse as error:
        where = f" ({error.where})" if error.where else ""
        what = f"the engine '{engine.name}' cannot be asked for this output: {error.what}{where}"
        raise FlowError(what, where="output", hint=error.hint) from error


def _reason(temperature: float | None) -> str:
    if temperature is None:
        return "the engine's own temperature"
    return f"temperature {temperature:g}" if temperature else "greedy"


def _fixed_options(spec: LLMSpec) -> dict[str, Any]:
    """Return those of the answer's options that all rows have in common."""
    return {name: value for name, value in _answer_options(spec).items() if name != "seed"}


def _answer_options(spec: LLMSpec) -> dict[str, Any]:
    """Return what decides the answer beside the engine and the messages."""
    return {
        "max_tokens": spec.max_tokens,
        "temperature": spec.temperature,
        "seed": spec.seed.source if isinstance(spec.seed, Template) else spec.seed,
        "stop": list(spec.stop),
        "json_schema": None if spec.output is None else spec.output.text,
    }
