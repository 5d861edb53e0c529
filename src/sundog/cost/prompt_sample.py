"""The prompts of one row of a sample, as far as they are known before the steps run.

Owns the split of templates into text that is there and text still to come. Never tokenizes: the counter is handed in.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from hashlib import blake2b
from typing import Any, Protocol
from zlib import crc32

from sundog.cost.estimate import NOTHING, Estimate, sum_of
from sundog.ir.conversations.given import given_messages
from sundog.ir.conversations.written import FROM, PART_ROLES, Conversation
from sundog.ir.templates.render import Scope, render_text
from sundog.ir.templates.template import Computed, Literal, Path, Reference, Template
from sundog.ir.values.canonical import canonical_json
from sundog.tokens import CHARACTERS_PER_TOKEN

Texts = Sequence[tuple[str, str]]
"""Messages, each a role and its text."""
# A stand-in for text to come where blocks are cut: its length is a guess, where it begins and whose it is are not.
# Each is a token of its own for any tokenizer of English.
FILLER_WORDS = (
    *("time", "year", "people", "way", "day", "man", "thing", "woman"),
    *("life", "child", "world", "school", "state", "family", "student", "group"),
)
FILLER_TOKENS = 32
IMAGE_TOKENS = 765
"""As of a picture of 1,024 by 1,024 pixels."""
LOW_DETAIL_TOKENS = 85
FILE_TOKENS = 4_096
"""As of a document of 64 KiB."""
_TOKENS_TO_READ = {
    role: FILE_TOKENS if kind == "file" else LOW_DETAIL_TOKENS if detail == "low" else IMAGE_TOKENS
    for role, (kind, detail) in PART_ROLES.items()
    if kind != "text"
}
UNKNOWN_TOKENS = Estimate(0.0, 64.0, 1024.0)


@dataclass(frozen=True, slots=True)
class MeasuredPrompt:
    """Tokens of a prompt."""

    num_tokens: float
    #: A key for each full block of the prefix cache, which stands for the block and all before it; None where there is
    #: no such cache.
    blocks: tuple[int, ...] | None = None


Measure = Callable[[Texts], MeasuredPrompt]


class ScaledMeasure(Protocol):
    """Measures prompts of a model. Where they are counted from characters, a prompt has `scale` tokens for each that is
    counted, and `block_scale` tells the same of all prompts of the model: blocks of two steps are cut alike."""

    def __call__(self, texts: Texts, *, scale: float, block_scale: float) -> MeasuredPrompt: ...


def text_blocks(texts: Texts, num_characters: int) -> tuple[int, ...]:
    """Return blocks of characters, where there is no tokenizer to tell them."""
    data = "".join(f"{role}\n{text}\n" for role, text in texts).encode("utf-8", "surrogatepass")
    return _blocks(data, num_characters)


def token_blocks(tokens: Sequence[int], num_tokens: int) -> tuple[int, ...]:
    return _blocks(array("q", tokens).tobytes(), 8 * num_tokens)


def _blocks(data: bytes, num_bytes: int) -> tuple[int, ...]:
    keys: list[int] = []
    key = 0
    for start in range(0, len(data) - num_bytes + 1, num_bytes):
        key = crc32(data[start : start + num_bytes], key)
        keys.append(key)
    return tuple(keys)


@dataclass(frozen=True, slots=True)
class Upstream:
    """A step whose value is not known yet."""

    #: Equal for rows for which the value will be equal.
    signature: str
    #: The length that its text will have, None where nobody can tell.
    value_tokens: Estimate | None
    #: The length of a tool's value as JSON in earlier runs, in the mean; None where none tells.
    value_bytes: float | None = None


@dataclass(frozen=True, slots=True)
class Filling:
    """The length of the stand-ins for text to come, where blocks are cut."""

    #: Mean tokens of the step's prompts in earlier runs; None where no run tells.
    prompt_tokens: float | None = None
    #: The length of FILLER_WORDS, as the engine's prompts are measured.
    tokens_per_word: float = 1.0

    def gap_tokens(self, num_known_tokens: float, num_gaps: int) -> float:
        """Return the tokens of each of `num_gaps` places of unknown length beside `num_known_tokens`."""
        if self.prompt_tokens is None:
            return FILLER_TOKENS
        return max(0.0, self.prompt_tokens - num_known_tokens) / num_gaps


NO_FILLING = Filling()


def filling_of(measure: Measure, prompt_tokens: float | None) -> Filling:
    """Return the filling of a step whose prompts `measure` measures."""
    words = " ".join(FILLER_WORDS)
    counts = [measure([("user", text)]).num_tokens for text in (words, f"{words} {words}")]
    return Filling(prompt_tokens, max(0.5, (counts[1] - counts[0]) / len(FILLER_WORDS)))


@dataclass(frozen=True, slots=True)
class SampledCall:
    """One call that row `row` of a sample asks for."""

    row: int
    #: Equal for calls that will be the same.
    signature: str
    #: Tokens of the whole prompt but for `num_gaps` places of unknown length.
    num_prompt_tokens: Estimate
    #: Keys as Measured has them; text to come stands in them as the value that it will be.
    blocks: tuple[int, ...] = ()
    num_gaps: int = 0
    #: The length of those places where no earlier run tells better.
    guessed_tokens: Estimate = NOTHING
    #: True where no text is to come.
    is_known: bool = True


@dataclass(frozen=True, slots=True)
class _Gap:
    """A place of a prompt whose text cannot be told."""

    #: The steps that it comes from; none where only rendering it apart from its template would tell it.
    steps: tuple[str, ...]
    #: The rest of what it depends on, as text.
    reads: tuple[str, ...] = ()
    #: True where it is the whole text of the step's value.
    is_text: bool = False


def sample_call(
    row: int,
    conversation: Conversation,
    scope: Scope,
    upstream: Mapping[str, Upstream],
    measure: Measure,
    *,
    identity: str = "",
    filling: Filling = NO_FILLING,
) -> SampledCall:
    """Return the call of one row. `scope` holds what is known (the row, constants, values of steps), `upstream` what is
    not; a name in both is known in part, as `loop.turn` is. `identity`: what else decides the answer. OperatorError
    where a template cannot be rendered."""
    messages = [one for role, template in conversation for one in _messages(role, template, scope, upstream)]
    texts = [(role, "".join(part for part in parts if isinstance(part, str))) for role, parts in messages]
    gaps = [part for _, parts in messages for part in parts if isinstance(part, _Gap)]
    steps = [name for gap in gaps for name in gap.steps]
    marks = [identity, *(part for message in texts for part in message)]
    if gaps:
        marks += (template.source for _, template in conversation)
        marks += (text for gap in gaps for text in gap.reads)
        marks += (upstream[name].signature for name in steps)
    known = measure(texts)
    texts_to_come = [gap for gap in gaps if gap.is_text and upstream[gap.steps[0]].value_tokens is not None]
    unknown = [gap for gap in gaps if gap not in texts_to_come]
    num_tokens = Estimate.exactly(known.num_tokens) + sum_of(_guess(gap, upstream) for gap in texts_to_come)
    guessed = sum_of(_guess(gap, upstream) for gap in unknown)
    blocks = known.blocks
    if gaps and blocks is not None:
        gap_tokens = filling.gap_tokens(num_tokens.expected, len(unknown)) if unknown else 0.0
        fill = partial(_fill, upstream=upstream, gap_tokens=gap_tokens, tokens_per_word=filling.tokens_per_word)
        blocks = measure([(role, "".join(fill(parts))) for role, parts in messages]).blocks
    return SampledCall(row, signature_of(marks), num_tokens, blocks or (), len(unknown), guessed, not gaps)


def _guess(gap: _Gap, upstream: Mapping[str, Upstream]) -> Estimate:
    """Return the tokens of a gap as far as the steps it comes from tell."""
    found = sum_of(upstream[name].value_tokens or UNKNOWN_TOKENS for name in gap.steps) if gap.steps else UNKNOWN_TOKENS
    return found if gap.is_text else Estimate(0.0, found.expected, found.high)


def signature_of(texts: Iterable[str]) -> str:
    """Return a text that is equal for equal texts in equal order, in every process."""
    return blake2b("\0".join(texts).encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()


def _messages(
    role: str, template: Template, scope: Scope, upstream: Mapping[str, Upstream]
) -> list[tuple[str, list[str | _Gap]]]:
    """Return the messages that stand in one place of a conversation, each as a role and its parts."""
    if (num_tokens := _TOKENS_TO_READ.get(role)) is not None:
        return [("user", _part_to_read(template, scope, upstream, num_tokens))]
    if role != FROM:
        return [("user" if role in PART_ROLES else role, _parts(template, scope, upstream))]
    if not template.names & upstream.keys():
        return [(message.role, [message.text]) for message in given_messages(template, scope)]
    # A list to come counts as one message of unknown length: nobody knows how many messages it holds.
    return [("user", [part for part in _parts(template, scope, upstream) if isinstance(part, _Gap)])]


def _part_to_read(
    template: Template, scope: Scope, upstream: Mapping[str, Upstream], num_tokens: int
) -> list[str | _Gap]:
    """Return what stands for a picture or a document, whose size is not known before it is read: as much text as it has
    tokens, another one for another source, which may be bytes and much longer."""
    found = _parts(template, scope, upstream)
    mark = signature_of(part for part in found if isinstance(part, str))
    text = f"{mark} " * (num_tokens * CHARACTERS_PER_TOKEN // (len(mark) + 1) + 1)
    return [*(part for part in found if isinstance(part, _Gap)), text[: num_tokens * CHARACTERS_PER_TOKEN]]


def _parts(template: Template, scope: Scope, upstream: Mapping[str, Upstream]) -> list[str | _Gap]:
    if not template.names & upstream.keys():
        return [render_text(template, scope)]
    found: list[str | _Gap] = []
    for segment in template.segments:
        match segment:
            case Literal(text=text):
                found.append(text)
            case Reference(path=path):
                known = _text_at(path, scope)
                is_gap = path[0] in upstream and not known
                found.append(_Gap((path[0],), is_text=path[1:] in (("text",), ())) if is_gap else known)
            case Computed(paths=paths):
                steps = tuple(sorted({path[0] for path in paths} & upstream.keys()))
                others = sorted(path for path in paths if path[0] not in upstream)
                found.append(_Gap(steps, tuple(_text_at(path, scope) for path in others)))
    return found


def _text_at(path: Path, scope: Mapping[str, Any]) -> str:
    """Return a plain reference as text; empty where nothing is there."""
    value: Any = scope
    for key in path:
        if isinstance(value, Mapping):
            value = value.get(key)
        elif isinstance(value, list) and key.isdigit() and int(key) < len(value):
            value = value[int(key)]
        else:
            return ""
    if value is None:
        return ""
    return value if isinstance(value, str) else canonical_json(value).decode("utf-8", "surrogatepass")


def _fill(
    parts: Sequence[str | _Gap], upstream: Mapping[str, Upstream], gap_tokens: float, tokens_per_word: float
) -> Iterator[str]:
    for part in parts:
        if isinstance(part, str):
            yield part
            continue
        yield from part.reads
        for name in part.steps:
            tokens = upstream[name].value_tokens
            value_bytes = upstream[name].value_bytes
            if tokens is not None:
                num_tokens = tokens.expected
            elif value_bytes is not None:
                # As long in every prompt: what two steps have in common would end where their lengths differ.
                num_tokens = value_bytes / CHARACTERS_PER_TOKEN
            else:
                num_tokens = gap_tokens / len(part.steps)
            words = [FILLER_WORDS[int(digit, 16)] for digit in signature_of([upstream[name].signature])]
            num_words = round(num_tokens / tokens_per_word)
            yield " ".join((words * (num_words // len(words) + 1))[:num_words])
