"""The templated radix tree: which prompt text the calls of a pool will share, before any of it exists.

Owns the tree, its size, and the order of rows that follows from it (Helium, arXiv 2603.16104, section 5). Never moves a
part of a prompt, never reads rows: what is known of them is handed in.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from sundog.cost.row_statistics import RowFields, RowStatistics
from sundog.ir.logical import RowKey
from sundog.optimizer.prompt_parts import FixedText, Part, StepPrompt, Value

NumTokens = Callable[[Part], float]
"""The number of tokens of a part; of a value, the mean."""
# Above this, too few rows are like others for their order to matter; and the count is off by some per cent.
MAX_DISTINCT_SHARE = 0.8


@dataclass(frozen=True, slots=True)
class PrefixNode:
    """A part that all prompts of `steps` have at this place, after the parts above."""

    part: Part
    steps: tuple[str, ...]
    #: The values of the row that decide the text from the root to here; None where every call has its own.
    fields: RowFields | None
    children: tuple[PrefixNode, ...]


@dataclass(slots=True)
class _Tail:
    """The rest of a prompt: of its part number `index` the text from `begin` on, and the parts after it."""

    prompt: StepPrompt
    parts: tuple[Part, ...]
    index: int = 0
    begin: int = 0

    @property
    def first(self) -> Part:
        part = self.parts[self.index]
        return FixedText(part.text[self.begin :]) if self.begin and isinstance(part, FixedText) else part

    def without(self, part: Part) -> _Tail | None:
        """Return what comes after `part`, with which it begins; None at its end."""
        first = self.first
        if isinstance(first, FixedText) and isinstance(part, FixedText) and len(part.text) < len(first.text):
            return _Tail(self.prompt, self.parts, self.index, self.begin + len(part.text))
        return _Tail(self.prompt, self.parts, self.index + 1) if self.index + 1 < len(self.parts) else None


@dataclass(slots=True)
class _Draft:
    """A node of the tree before its children are made."""

    part: Part
    tails: list[_Tail]
    fields: RowFields | None
    #: Their numbers.
    children: range = range(0)


def prefix_tree(prompts: Iterable[StepPrompt]) -> tuple[PrefixNode, ...]:
    """Return the first level of the tree; children in the order of the prompts. Without recursion: a prompt may have
    thousands of parts."""
    drafts: list[_Draft] = []
    roots = _begin([_Tail(prompt, parts) for prompt in prompts if (parts := prompt.parts)], frozenset(), drafts)
    for draft in drafts:  # which grows on the way
        left = [tail for one in draft.tails if (tail := one.without(draft.part))]
        draft.children = _begin(left, draft.fields, drafts)
    nodes: dict[int, PrefixNode] = {}
    for number in reversed(range(len(drafts))):
        draft = drafts[number]
        steps = tuple(tail.prompt.step for tail in draft.tails)
        nodes[number] = PrefixNode(draft.part, steps, draft.fields, tuple(nodes[one] for one in draft.children))
    return tuple(nodes[root] for root in roots)


def num_computed_tokens(tree: Iterable[PrefixNode], statistics: RowStatistics, num_tokens: NumTokens) -> float:
    """Return the number of prompt tokens that are computed when each different prefix is computed once."""
    return sum(num_distinct(node.fields, statistics) * num_tokens(node.part) for node in _all_nodes(tree))


def _all_nodes(tree: Iterable[PrefixNode]) -> Iterator[PrefixNode]:
    """Yield each node before its children."""
    left = list(tree)[::-1]
    while left:
        node = left.pop()
        yield node
        left += node.children[::-1]


def num_distinct(fields: RowFields | None, statistics: RowStatistics) -> float:
    """Return the number of combinations of `fields`: one of none, as many as rows of None, and never more, whatever the
    estimate."""
    if fields is None:
        return float(statistics.num_rows)
    return min(statistics.num_distinct[fields], float(statistics.num_rows)) if fields else 1.0


def fields_of(tree: Iterable[PrefixNode]) -> Iterator[RowFields]:
    """Return the sets of values that `num_computed_tokens` wants counted."""
    return (node.fields for node in _all_nodes(tree) if node.fields)


def row_keys(trees: Iterable[Sequence[PrefixNode]]) -> tuple[RowKey, ...]:
    """Return the values of the row that lead prompts, level by level; on a level, those of most prompts first.

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
    """Return those of `keys` by which rows are better read: their values repeat. Of what a tool finds nothing is known
    but that it is longer than what it is found by, so that comes first; of the others, what saves most text."""

    def saved_characters(key: RowKey) -> float:
        num_repeated = statistics.num_rows - statistics.num_distinct[frozenset({key.path})]
        return num_repeated * statistics.num_characters[key.path]

    repeated = [
        key
        for key in keys
        if statistics.num_distinct[frozenset({key.path})] <= MAX_DISTINCT_SHARE * statistics.num_rows
    ]
    return tuple(sorted(repeated, key=lambda key: (not key.is_lookup, -saved_characters(key))))


def _begin(tails: Sequence[_Tail], above: RowFields | None, drafts: list[_Draft]) -> range:
    """Add a draft for each part with which some of `tails` begin alike; their numbers."""
    groups: dict[Hashable, list[_Tail]] = {}
    for tail in tails:
        first = tail.first
        groups.setdefault(first.text[0] if isinstance(first, FixedText) else first, []).append(tail)
    begin = len(drafts)
    for alike in groups.values():
        part, fields = alike[0].first, above
        if isinstance(part, Value):
            fields = None if above is None or part.fields is None else above | part.fields
        else:
            part = FixedText(
                _common_prefix([first.text for tail in alike if isinstance(first := tail.first, FixedText)])
            )
        drafts.append(_Draft(part, alike, fields))
    return range(begin, len(drafts))


def _common_prefix(texts: Sequence[str]) -> str:
    # All have in common what the first and the last in order have.
    first, last = min(texts), max(texts)
    length = next((index for index, letter in enumerate(first) if letter != last[index]), len(first))
    return first[:length]
