"""The tokens of a text as an embedding model reads it: whole, with the special ones around it.

Owns the search for a cut: older exports of tokenizers leave out what is beyond the model's length and do not say so.
"""

from __future__ import annotations

from typing import Any

from sundog.engines.embedded.openvino_pipeline import last_line
from sundog.engines.embedded.openvino_tokens import pieces_of
from sundog.errors import BadResponse, PromptTooLong

_BYTES_PER_CHARACTER = 4
"""The most that UTF-8 takes; a character has no more tokens than bytes."""


class TextTokens:
    """A tokenizer and the length that its model takes, in tokens."""

    def __init__(self, tokenizer: Any, max_context_tokens: int, *, is_lower_case: bool) -> None:
        self._tokenizer = tokenizer
        self._is_lower_case = is_lower_case
        num_probed = len(self._encode("a b " * max_context_tokens))
        self._is_cut = num_probed <= max_context_tokens
        self.max_tokens = min(num_probed, max_context_tokens)

    def count(self, text: str) -> int:
        """Return the number of tokens; of a text that the tokenizer may have cut, of its pieces together."""
        text = self._read_as(text)
        num_tokens = len(self._encode(text))
        if not self._is_cut or num_tokens < self.max_tokens:
            return num_tokens
        num_special = len(self._encode(""))
        # A piece that is shorter than the cut by all bytes of its characters is never cut itself.
        most = max(1, (self.max_tokens - num_special - 1) // _BYTES_PER_CHARACTER)
        of_pieces = (len(self._encode(piece)) - num_special for piece in pieces_of(text, most))
        return max(num_tokens, num_special + sum(of_pieces))

    def encode(self, text: str) -> list[int]:
        """Return the tokens; PromptTooLong where the model does not take so many, BadResponse where the text is no
        UTF-8."""
        num_tokens = self.count(text)
        if num_tokens > self.max_tokens:
            raise PromptTooLong(
                f"the text has {num_tokens:,} tokens, and the model takes {self.max_tokens:,}",
                hint="shorten the text, e.g. {{ row.text[:1000] }}, or give each part of it a row",
            )
        return self._encode(self._read_as(text))

    def _read_as(self, text: str) -> str:
        return text.lower() if self._is_lower_case else text

    def _encode(self, text: str) -> list[int]:
        try:
            text.encode()
            tokens: list[int] = self._tokenizer.encode(text).input_ids.data[0].tolist()
        except (RuntimeError, UnicodeError) as error:
            raise BadResponse(f"the model's tokenizer does not take this text: {last_line(error)}") from error
        return tokens
