"""`/v1/embeddings` of engines that give vectors."""

from __future__ import annotations

import base64
import struct
from typing import Any

import pytest
from openai.types import CreateEmbeddingResponse

from sundog.engines.base import Usage
from sundog.engines.embeddings import Embeddings
from sundog.serve.wire.embeddings import embed_call, embeddings_answer
from sundog.serve.wire.errors import Refusal

FOUND = Embeddings(((0.5, -2.0), (1.25, 0.0)), Usage(9, 0))


def test_texts_and_dimensions() -> None:
    call = embed_call({"input": ["a", "b"], "dimensions": 2, "user": "u"}, "r1")
    assert (call.request.texts, call.request.dimensions, call.is_base64) == (("a", "b"), 2, False)
    assert embed_call({"input": "a"}, "r1").request.texts == ("a",)


def test_numbers() -> None:
    written = embeddings_answer(embed_call({"input": ["a", "b"], "encoding_format": "float"}, "r1"), FOUND, "small")
    answer = CreateEmbeddingResponse.model_validate(written, strict=True)
    assert [(one.index, one.embedding) for one in answer.data] == [(0, [0.5, -2.0]), (1, [1.25, 0.0])]
    assert (answer.model, answer.usage.prompt_tokens, answer.usage.total_tokens) == ("small", 9, 9)


def test_base64() -> None:
    written = embeddings_answer(embed_call({"input": ["a", "b"], "encoding_format": "base64"}, "r1"), FOUND, "small")
    first = base64.b64decode(written["data"][0]["embedding"])
    assert first == struct.pack("<2f", 0.5, -2.0)


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "input"),
        ({"input": []}, "input"),
        ({"input": ["a"] * 2049}, "input"),
        ({"input": [1, 2]}, "input"),
        ({"input": [[1, 2]]}, "input"),
        ({"input": [{}]}, "input"),
        ({"input": "a", "encoding_format": "int8"}, "encoding_format"),
        ({"input": "a", "dimensions": 0}, "dimensions"),
    ],
)
def test_refusals_name_the_field(body: dict[str, Any], param: str) -> None:
    with pytest.raises(Refusal) as caught:
        embed_call(body, "r1")
    assert (caught.value.status, caught.value.param) == (400, param)
