"""One engine request driven to its end.

Owns what the scheduler is told on the way. Never reads what an answer says.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sundog.engines.base import Chunk, GenerateRequest, Usage
from sundog.errors import BadResponse, CallError
from sundog.ir.values.normal_form import whole_text
from sundog.operators.base import BoundCall, CallContext


def generate_request(call: BoundCall, context: CallContext) -> GenerateRequest:
    """Return the request for a call whose payload has `max_tokens`, `temperature`, `seed` and `stop`."""
    payload = call.payload
    return GenerateRequest(
        request_id=context.request_id,
        messages=call.prompt,
        max_tokens=payload["max_tokens"],
        temperature=payload["temperature"],
        seed=payload["seed"],
        stop=tuple(payload["stop"]),
        priority=context.priority,
        about=context.about,
        needs_first_token=context.needs_first_token,
    )


async def whole_answer(request: GenerateRequest, context: CallContext) -> tuple[str, Chunk]:
    """Return the whole text and the last chunk; leaving early closes the stream, which aborts the request. BadResponse
    where the stream ends before the answer does."""
    pieces: list[str] = []
    last: Chunk | None = None
    stream = context.engine.generate(request)
    try:
        async for last in stream:
            # An answer in one piece ends with its prefill: its end says all.
            if not pieces and last.finish_reason is None:
                context.prefill_ended()
            pieces.append(last.text)
    finally:
        await stream.aclose()
    if last is None or last.finish_reason is None:
        raise BadResponse("the engine's stream ended before the answer did", retryable=True)
    # Engines that cut text into tokens may cut a character, and servers write what Python cannot encode.
    return whole_text("".join(pieces)), last


@contextmanager
def paid(usage: Usage | None) -> Iterator[None]:
    """Give a failure to read an answer the tokens that the answer has taken."""
    try:
        yield
    except CallError as error:
        error.usage = usage
        raise
