"""The settings of a request to an engine that is no server: limits, sampling, and how the answer is sent.

Owns which fields are read, and which are refused because they would change the answer and such an engine has nothing of
the kind. All others change no answer, or mean nothing here, and are let be.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sundog.serve.wire.body_fields import Fields, refuse_field, whole_string

MAX_STOPS = 64
_MOST_TOKENS = 2**31 - 1
_NEUTRAL: Mapping[str, tuple[Any, ...]] = {
    "add_generation_prompt": (True,),
    "allowed_token_ids": (),
    "audio": (),
    "bad_words": ([],),
    "best_of": (1,),
    "chat_template": (),
    "chat_template_kwargs": ({},),
    "continue_final_message": (False,),
    "documents": ([],),
    "echo": (False,),
    "frequency_penalty": (0,),
    "function_call": (),
    "functions": (),
    "grammar": (),
    "guided_choice": (),
    "guided_grammar": (),
    "guided_json": (),
    "guided_regex": (),
    "ignore_eos": (False,),
    "length_penalty": (1,),
    "logit_bias": ({},),
    "logits_processors": ([],),
    "logprobs": (False,),
    "min_tokens": (0,),
    "modalities": (["text"],),
    "n": (1,),
    "presence_penalty": (0,),
    "prompt_logprobs": (),
    "repetition_penalty": (1,),
    "return_token_ids": (False,),
    "stop_token_ids": ([],),
    "structured_outputs": (),
    "suffix": ("",),
    "thinking_token_budget": (),
    "top_logprobs": (0,),
    "use_beam_search": (False,),
    "verbosity": ("medium",),
    "web_search_options": (),
}
"""The fields that would change an answer, each with the values by which it does not."""
_OF_SAMPLING: Mapping[str, tuple[Any, ...]] = {"min_p": (0,), "top_k": (0, -1), "top_p": (1,)}
"""The same of fields that change nothing where an answer is greedy."""


@dataclass(frozen=True, slots=True)
class CallSettings:
    """The settings of one request."""

    max_tokens: int | None
    temperature: float | None
    seed: int | None
    stop: tuple[str, ...]
    is_streamed: bool
    #: The stream ends with a chunk that has the tokens.
    has_usage_chunk: bool


def read_settings(body: Fields, default_temperature: float | None) -> CallSettings:
    """Return the settings of a body; a refusal for what an engine that is no server cannot do."""
    temperature = body.number("temperature", 0, 2)
    temperature = default_temperature if temperature is None else temperature
    _refuse_all(body, _NEUTRAL)
    if temperature != 0:
        _refuse_all(body, _OF_SAMPLING)
    limits = [body.whole(name, 1, _MOST_TOKENS) for name in ("max_completion_tokens", "max_tokens")]
    is_streamed = body.flag("stream", False)
    return CallSettings(
        max_tokens=next((limit for limit in limits if limit is not None), None),
        temperature=temperature,
        seed=body.whole("seed", -(2**63), 2**63 - 1),
        stop=_stop(body.value("stop")),
        is_streamed=is_streamed,
        has_usage_chunk=_has_usage_chunk(body, is_streamed),
    )


def _refuse_all(body: Fields, neutral: Mapping[str, tuple[Any, ...]]) -> None:
    for name, values in neutral.items():
        value = body.value(name)
        if value is not None and not any(_equals(value, one) for one in values):
            refuse_field(f"this model cannot do '{name}': leave it out", name, "unsupported_parameter")


def _equals(value: Any, neutral: Any) -> bool:
    return isinstance(value, bool) == isinstance(neutral, bool) and bool(value == neutral)


def _stop(written: Any) -> tuple[str, ...]:
    if written is None:
        return ()
    texts = written if isinstance(written, list) else [written]
    if len(texts) > MAX_STOPS:
        refuse_field(f"'stop' may list {MAX_STOPS} texts", "stop")
    found = tuple(whole_string(text, "stop") for text in texts)
    if "" in found:
        refuse_field("'stop' holds an empty text, which would end every answer", "stop")
    return found


def _has_usage_chunk(body: Fields, is_streamed: bool) -> bool:
    if body.value("stream_options") is None:
        return False
    if not is_streamed:
        refuse_field("'stream_options' goes with 'stream': true", "stream_options")
    return body.inner("stream_options").flag("include_usage", False)
