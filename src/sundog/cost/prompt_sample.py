"""What of a step's prompt is known before it runs, for one row of a sample.

Owns the split of templates into text that is there and text still to come. Never tokenizes: the counter is handed in.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from zlib import crc32

from sundog.cost.estimate import Estimate, sum_of
from sundog.ir.canonical import canonical_json
from sundog.ir.render import Scope, render_text
from sundog.ir.template import Computed, Literal, Path, Reference, Template

Conversation = Sequence[tuple[str, Template]]
CountTokens = Callable[[str], int]


@dataclass(frozen=True, slots=True)
class Upstream:
    """A step whose value is not known yet: `signature` is equal for rows for which the value will be,
    `value_tokens` is how long its text will be."""

    signature: Hashable
    value_tokens: Estimate


@dataclass(frozen=True, slots=True)
class SampledCall:
    """One call that row `row` of a sample asks for.

    `signature`: equal for calls that will be the same. `blocks`: a key for each full block of the text known before
    anything runs, from the start on; each stands for itself and all before it. `num_prompt_tokens` of the whole.
    """

    row: int
    signature: Hashable
    num_prompt_tokens: Estimate
    blocks: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class _Gap:
    """A place of a prompt whose text is still to come; of `steps`, none where only the template can tell it."""

    steps: tuple[str, ...]


def sample_call(
    row: int,
    conversation: Conversation,
    scope: Scope,
    upstream: Mapping[str, Upstream],
    count_tokens: CountTokens,
    *,
    overhead_tokens: int = 0,
    block_characters: int = 128,
) -> SampledCall:
    """The call of one row. `scope` holds what is known (the row, constants, values of steps), `upstream` what is not;
    `overhead_tokens`: of the chat template. OperatorError where a template cannot be rendered.

    Text after the first gap shares no block: where it will begin is not known.
    """
    parts: list[str | _Gap] = []
    for role, template in conversation:
        parts += (f"{role}\n", *_parts(template, scope, upstream), "\n")
    gaps = [number for number, part in enumerate(parts) if isinstance(part, _Gap)]
    texts = ["" if isinstance(part, _Gap) else part for part in parts]
    prefix = "".join(texts[: gaps[0]] if gaps else texts)
    rest = "".join(texts[gaps[0] :]) if gaps else ""
    steps = [name for part in parts if isinstance(part, _Gap) for name in part.steps]
    num_known = overhead_tokens + count_tokens(prefix) + (count_tokens(rest) if rest else 0)
    sources = tuple(template.source for _, template in conversation) if gaps else ()
    return SampledCall(
        row,
        (*texts, sources, *(upstream[name].signature for name in steps)),
        sum_of(upstream[name].value_tokens for name in steps) + Estimate.exactly(num_known),
        _blocks(prefix, block_characters),
    )


def _parts(template: Template, scope: Scope, upstream: Mapping[str, Upstream]) -> Iterator[str | _Gap]:
    if not template.names & upstream.keys():
        yield render_text(template, scope)
        return
    for segment in template.segments:
        match segment:
            case Literal(text=text):
                yield text
            case Reference(path=path):
                yield _Gap((path[0],)) if path[0] in upstream else _text_at(path, scope)
            case Computed(paths=paths):
                yield _Gap(tuple(sorted({path[0] for path in paths} & upstream.keys())))


def _text_at(path: Path, scope: Mapping[str, Any]) -> str:
    """A plain reference as text; empty where nothing is there."""
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


def _blocks(text: str, block_characters: int) -> tuple[int, ...]:
    keys: list[int] = []
    key = 0
    for start in range(0, len(text) - block_characters + 1, block_characters):
        block = text[start : start + block_characters].encode("utf-8", "surrogatepass")
        key = crc32(block, key)
        keys.append(key)
    return tuple(keys)
