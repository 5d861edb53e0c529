from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sundog.engines.embedded.token_text import TokenTail, take_text


def decode_with(errors: str) -> object:
    """A tokenizer whose tokens are bytes; 256 is a special token without text."""

    def decode(sequences: Sequence[Sequence[int]]) -> list[str]:
        return [bytes(token for token in one if token < 256).decode("utf-8", errors) for one in sequences]

    return decode


@pytest.mark.parametrize("errors", ["replace", "ignore"])
@given(text=st.text(max_size=12), sizes=st.lists(st.integers(1, 3), max_size=40))
def test_pieces_are_whole_characters_and_add_up(errors: str, text: str, sizes: list[int]) -> None:
    tokens, tail, pieces = [*text.encode(), 256], TokenTail(), []
    while tokens:
        size = sizes.pop() if sizes else 1
        tail.pending += tokens[:size]
        tokens = tokens[size:]
        pieces += take_text([tail], [not tokens], decode_with(errors))  # type: ignore[arg-type] # made by a factory
    assert "".join(pieces) == text


def test_an_answer_that_ends_in_half_a_character_ends() -> None:
    tail = TokenTail(pending=[*b"a\xf0\x9f"])
    assert take_text([tail], [True], decode_with("replace")) == ["a\N{REPLACEMENT CHARACTER}"]  # type: ignore[arg-type] # as above


def test_several_answers_take_one_call_of_the_decoder() -> None:
    calls: list[int] = []

    def decode(sequences: Sequence[Sequence[int]]) -> list[str]:
        calls.append(len(sequences))
        return [bytes(one).decode() for one in sequences]

    tails = [TokenTail(pending=[*b"ab"]), TokenTail(context=[*b"c"], pending=[*b"d"]), TokenTail()]
    assert take_text(tails, [False, False, True], decode) == ["ab", "d", ""]
    assert calls == [3]
