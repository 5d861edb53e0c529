"""The tokens of a prompt by an openvino tokenizer, whole.

Owns what is done about its cut: made from a GGUF file it leaves out all but the last tokens of a text (8,192 of
smollm2-135m) and does not say so. Never generates.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any

from sundog.engines.base import Message
from sundog.engines.embedded.openvino_pipeline import last_line
from sundog.engines.structured.tool_form import plain_messages
from sundog.errors import BadResponse

FEWEST_CUT_TOKENS = 512
"""No tokenizer is taken to cut a text to less."""
PIECE_CHARACTERS = 500
"""A piece of so many characters has no more tokens than FEWEST_CUT_TOKENS, except of a rare script."""
PROBE = "a b " * 200_000


def encode_prompt(tokenizer: Any, messages: Sequence[Message]) -> list[int]:
    """Return the tokens of a conversation; BadResponse where the model's chat template does not take it."""
    history = [{"role": message.role, "content": message.content} for message in plain_messages(messages)]
    try:
        text = tokenizer.apply_chat_template(history, True)
    except RuntimeError as error:
        raise BadResponse(
            f"the model's chat template does not take this prompt: {last_line(error)}",
            hint="look at its roles, and for characters that are no UTF-8",
        ) from error
    tokens = _encode(tokenizer, text)
    if len(tokens) < FEWEST_CUT_TOKENS or len(tokens) < _cut_tokens(tokenizer):
        return tokens
    return [token for piece in pieces_of(text) for token in _encode(tokenizer, piece)]


def _encode(tokenizer: Any, text: str) -> list[int]:
    tokens: list[int] = tokenizer.encode(text, add_special_tokens=False).input_ids.data[0].tolist()
    return tokens


@lru_cache(maxsize=8)
def _cut_tokens(tokenizer: Any) -> int:
    """Return the length to which it cuts; that of the probe where it cuts nothing so short."""
    return len(_encode(tokenizer, PROBE))


def pieces_of(text: str, max_characters: int = PIECE_CHARACTERS) -> Iterator[str]:
    """Yield `text` cut before single spaces, where tokenizers begin a word; in the midst of a word only where it is
    longer than a piece. So the tokens of the pieces are those of the text, but for a few around such a cut."""
    start = 0
    while len(text) - start > max_characters:
        end = text.rfind(" ", start + 1, start + max_characters)
        while end > start and text[end - 1].isspace():
            end = text.rfind(" ", start + 1, end)
        end = end if end > start else start + max_characters
        yield text[start:end]
        start = end
    yield text[start:]
