"""The way from tokens to text, piece by piece: whole characters only.

Owns what is held back and why. Never knows a tokenizer: decoding is handed in.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

DecodeBatch = Callable[[Sequence[Sequence[int]]], Sequence[str]]

# The character that many decoders give for bytes that are not a character, or not yet; others give nothing.
REPLACEMENT = "\N{REPLACEMENT CHARACTER}"


@dataclass(slots=True)
class TokenTail:
    """The end of one answer.

    Decoded alone, a token can lose the blank before it or be half a character, so pending tokens are decoded after
    their context.
    """

    #: The last tokens that have text.
    context: list[int] = field(default_factory=list)
    #: The tokens that have no text yet.
    pending: list[int] = field(default_factory=list)


def take_text(tails: Sequence[TokenTail], are_last: Sequence[bool], decode_batch: DecodeBatch) -> list[str]:
    """Return the new text of each answer, in one call of the decoder; an unfinished character waits unless it is the
    last."""
    sequences = [sequence for tail in tails for sequence in (tail.context, tail.context + tail.pending) if sequence]
    decoded = iter(decode_batch(sequences) if sequences else ())
    texts = []
    for tail, is_last in zip(tails, are_last, strict=True):
        known = next(decoded) if tail.context else ""
        whole = next(decoded) if tail.context or tail.pending else ""
        is_unfinished = len(whole) <= len(known) or whole.endswith(REPLACEMENT)
        if is_unfinished and not is_last:
            texts.append("")
            continue
        texts.append(whole[len(known) :])
        tail.context, tail.pending = tail.pending, []
    return texts
