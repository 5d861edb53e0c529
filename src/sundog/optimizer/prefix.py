"""The templated radix tree: which prompt text the calls of a pool will share, before any of it exists.

Owns the tree, its size, and the order of rows that follows from it (Helium, arXiv 2603.16104, section 5). Never moves a
part of a prompt, never reads rows: what is known of them is handed in.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from sundog.cost.row_statistics import RowStatistics
from sundog.ir.logical import RowKey
from sundog.optimizer.prompt_parts import Fields, Part, Prompt, Text, Value

NumTokens = Callable[[Part], float]
"""How many tokens a part has; of a value, the mean."""
# Above this, too few rows are like others for their order to matter; and the count is off by some per cent.
MAX_DISTINCT_SHARE = 0.8


@dataclass(frozen=True, slots=True)
class PrefixNode:
    """A part that all prompts of `steps` have at this place, after the parts above. `fields`: the values of the row
    that decide the text from the root to here; None: every call has its own."""

    part: Part
    steps: tuple[str, ...]
    fields: Fields | None
    children: tuple[PrefixNode, ...]


Tail = tuple[str, tuple[Part, ...]]


def prefix_tree(prompts: Iterable[Prompt]) -> tuple[PrefixNode, ...]:
    """The first level of the tree; children in the order of the prompts."""
    return _nodes([(prompt.step, prompt.parts) for prompt in prompts], frozenset())


def num_computed_tokens(tree: Iterable[PrefixNode], statistics: RowStatistics, num_tokens: NumTokens) -> float:
    """Prompt tokens that are computed when each different prefix is computed once."""
    total = 0.0
    for node in tree:
        total += num_distinct(node.fields, statistics) * num_tokens(node.part)
        total += num_computed_tokens(node.children, statistics, num_tokens)
    return total


def num_distinct(fields: Fields | None, statistics: RowStatistics) -> float:
    """Combinations of `fields`: one of none, as many as rows of None, and never more, whatever the estimate."""
    if fields is None:
        return float(statistics.num_rows)
    return min(statistics.num_distinct[fields], float(statistics.num_rows)) if fields else 1.0


def fields_of(tree: Iterable[PrefixNode]) -> Iterator[Fields]:
    """The sets of values that `num_computed_tokens` wants counted."""
    for node in tree:
        if node.fields:
            yield node.fields
        yield from fields_of(node.children)


def row_keys(trees: Iterable[Sequence[PrefixNode]]) -> tuple[RowKey, ...]:
    """The values of the row that lead prompts, level by level; on a level, those of most prompts first.

    Nothing below a part of each call's own counts: no two calls share that.
    """
    found: dict[RowKey, None] = {}
    level = [node for tree in trees for node in tree]
    while level:
        level.sort(key=lambda node: -len(node.steps))
        for node in level:
            if isinstance(node.part, Value):
                found |= {RowKey(path, node.part.is_lookup): None for path in sorted(node.part.fields or ())}
        level = [child for node in level if node.fields is not None for child in node.children]
    looked_up = {key.path for key in found if key.is_lookup}
    return tuple(key for key in found if key.is_lookup or key.path not in looked_up)


def reading_order(keys: Sequence[RowKey], statistics: RowStatistics) -> tuple[RowKey, ...]:
    """Those of `keys` by which rows are better read: their values repeat. Of what a tool finds nothing is known but
    that it is longer than what it is found by, so that comes first; of the others, what saves most text."""

    def saved_characters(key: RowKey) -> float:
        num_repeated = statistics.num_rows - statistics.num_distinct[frozenset({key.path})]
        return num_repeated * statistics.num_characters[key.path]

    repeated = [
        key
        for key in keys
        if statistics.num_distinct[frozenset({key.path})] <= MAX_DISTINCT_SHARE * statistics.num_rows
    ]
    return tuple(sorted(repeated, key=lambda key: (not key.is_lookup, -saved_characters(key))))


def _nodes(tails: Sequence[Tail], above: Fields | None) -> tuple[PrefixNode, ...]:
    groups: dict[Hashable, list[Tail]] = {}
    for step, parts in tails:
        if parts:
            first = parts[0]
            groups.setdefault(first.text[0] if isinstance(first, Text) else first, []).append((step, parts))
    return tuple(_node(group, above) for group in groups.values())


def _node(tails: Sequence[Tail], above: Fields | None) -> PrefixNode:
    """Of tails that begin alike."""
    steps = tuple(step for step, _ in tails)
    part = tails[0][1][0]
    if isinstance(part, Value):
        fields = None if above is None or part.fields is None else above | part.fields
        return PrefixNode(part, steps, fields, _nodes([(step, parts[1:]) for step, parts in tails], fields))
    texts = [first.text for _, (first, *_) in tails if isinstance(first, Text)]
    common = _common_prefix(texts)
    rest = [
        (step, (*((Text(text[len(common) :]),) if text != common else ()), *parts[1:]))
        for text, (step, parts) in zip(texts, tails, strict=True)
    ]
    return PrefixNode(Text(common), steps, above, _nodes(rest, above))


def _common_prefix(texts: Sequence[str]) -> str:
    # What the first and the last in order have in common, all have.
    first, last = min(texts), max(texts)
    length = next((index for index, letter in enumerate(first) if letter != last[index]), len(first))
    return first[:length]
