"""`/v1/completions` of engines that are no servers."""

from __future__ import annotations

from typing import Any

import pytest
from openai.types import Completion

from sundog.engines.base import Chunk, Message
from sundog.errors import BadResponse
from sundog.serve.wire.completions import CompletionStream, completion_call, text_completion
from sundog.serve.wire.errors import Refusal
from tests.serve.wire.chats import CONSTRAINED, HEAD, in_pieces


@pytest.mark.parametrize("prompt", ["Once", ["Once"]])
def test_a_prompt_is_what_a_user_says(prompt: Any) -> None:
    call = completion_call({"model": "small", "prompt": prompt, "temperature": 0, "seed": 4}, "r1", CONSTRAINED)
    assert call.request.messages == (Message("user", "Once"),)
    assert (call.request.max_tokens, call.request.temperature, call.request.seed) == (16, 0, 4)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"prompt": None}, "prompt"),
        ({"prompt": []}, "prompt"),
        ({"prompt": ["a", "b"]}, "prompt"),
        ({"prompt": [1, 2]}, "prompt"),
        ({"prompt": [[1, 2]]}, "prompt"),
        ({"prompt": [{}]}, "prompt[0]"),
        ({"echo": True}, "echo"),
        ({"suffix": "end"}, "suffix"),
        ({"logprobs": 0}, "logprobs"),
        ({"best_of": 2}, "best_of"),
        ({"max_tokens": -1}, "max_tokens"),
    ],
)
def test_refusals_name_the_field(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(Refusal) as caught:
        completion_call({"prompt": "Once", **fields}, "r1", CONSTRAINED)
    assert (caught.value.status, caught.value.param) == (400, param)


def test_a_whole_answer() -> None:
    answer = Completion.model_validate(text_completion(in_pieces("upon a time", "length"), HEAD), strict=True)
    assert (answer.object, answer.id, answer.model) == ("text_completion", HEAD.id, "small")
    (choice,) = answer.choices
    assert (choice.text, choice.finish_reason, choice.index) == ("upon a time", "length", 0)
    assert answer.usage is not None
    assert answer.usage.total_tokens == 10


def test_a_stream() -> None:
    body = {"prompt": "Once", "stream": True, "stream_options": {"include_usage": True}}
    stream = CompletionStream(completion_call(body, "r1", CONSTRAINED), HEAD)
    *chunks, usage = [one for chunk in in_pieces("upon a") for one in stream.feed(chunk)]
    assert [(one["choices"][0]["text"], one["choices"][0]["finish_reason"]) for one in chunks] == [
        ("upo", None),
        ("n a", "stop"),
    ]
    assert all(one["usage"] is None for one in chunks)
    assert usage["choices"] == []
    assert usage["usage"]["total_tokens"] == 10
    last = Completion.model_validate(chunks[-1], strict=True)
    assert last.choices[0].text == "n a"


def test_usage_is_streamed_only_where_it_is_asked_for() -> None:
    stream = CompletionStream(completion_call({"prompt": "Once", "stream": True}, "r1", CONSTRAINED), HEAD)
    chunks = [one for chunk in in_pieces("upon a") for one in stream.feed(chunk)]
    assert len(chunks) == 2
    assert not any("usage" in one for one in chunks)


@pytest.mark.parametrize("chunks", [[], [Chunk("upon")]])
def test_an_answer_without_an_end_is_none(chunks: list[Chunk]) -> None:
    with pytest.raises(BadResponse, match="ended before the answer did"):
        text_completion(chunks, HEAD)
