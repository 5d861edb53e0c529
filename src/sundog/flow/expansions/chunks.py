"""The chunks in which texts and answers meet in a prompt, as queries over lengths and numbers.

Owns where a chunk ends. That follows from the rows of the source: from the lengths of texts, and from their hashes, so
that a row put in between moves the ends near it only. No answer and no failure moves one.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from sundog.flow.expansions.base import as_text
from sundog.ir.sql_types import sql_name
from sundog.tokens import CHARACTERS_PER_TOKEN

GROUP, PART, NUM_PARTS, KEY, LONGEST, PARTS, ITEM, PLACE = (
    f"reduce__{name}" for name in ("group", "part", "num_parts", "key", "longest", "parts", "item", "place")
)
_BETWEEN_TOKENS = 8
"""Tokens of what stands between two texts."""
_CHUNKS_OF_SEGMENT = 4
"""Chunks between two ends that hashes decide, on average."""


class Chunking(NamedTuple):
    """The texts, and the room that they have."""

    source: str
    by: tuple[str, ...]
    text: str
    #: A SQL order of the rows `s` of the source.
    order: str
    #: Tokens of the texts in one prompt.
    room_tokens: int
    #: The longest answer.
    answer_tokens: int

    @property
    def num_answers(self) -> int:
        """The number of answers that fit into one prompt however long they are."""
        return self.room_tokens // (self.answer_tokens + _BETWEEN_TOKENS)


def chunks_of_rows(texts: Chunking) -> str:
    """Return a select of the texts, with the part of their group that they belong to, the number of parts, a key that
    follows from the part's texts, the tokens of its longest one, and a number that orders the rows."""
    room, source, text = texts.room_tokens, sql_name(texts.source), as_text(f"s.{sql_name(texts.text)}")
    # A quarter more than there are on average, and of letters that take several bytes as many more.
    size = f"cast(ceil(coalesce(strlen({text}), 0) * 1.25 / {CHARACTERS_PER_TOKEN}) as bigint) + {_BETWEEN_TOKENS}"
    rows = (
        f"select s.rowid as r__id, {_named(texts.by, 's')}{size} as r__tokens, md5(coalesce({text}, '')) as r__digest,"
        f" row_number() over ({_part(texts.by, 's')}order by {texts.order}) as r__n from {source} s"
    )
    by = _named(texts.by, "a")
    # Equal texts must not all end a segment, and a row's number would change with every row before it.
    hashed = (
        f"select a.*, least(a.r__tokens, {room}) as r__fit,"
        f" sum(a.r__tokens) over ({_part(texts.by, 'a')}) as r__all_tokens,"
        " md5_number_lower(a.r__digest || ':' || row_number() over (partition by "
        f"{by}a.r__digest order by a.r__n)) as r__key from ({rows}) a"
    )
    ended = (
        f"select b.*, case when b.r__all_tokens > {room} and b.r__key % {_CHUNKS_OF_SEGMENT * room} < b.r__fit"
        f" then 1 else 0 end as r__is_end from ({hashed}) b"
    )
    segments = f"select c.*, {_before('c.r__is_end', texts.by, 'c')} as r__segment from ({ended}) c"
    # A chunk begins within the step, and the longest text of the segment still fits behind it.
    stepped = (
        f"select d.*, {_before('d.r__fit', (*texts.by, 'r__segment'), 'd')} as r__behind,"
        f" greatest({room} - max(d.r__fit) over ({_part((*texts.by, 'r__segment'), 'd')}), 1) as r__step"
        f" from ({segments}) d"
    )
    chunked = f"select e.*, e.r__behind // e.r__step as r__chunk from ({stepped}) e"
    return _parts(texts.by, chunked, source, text)


def chunks_of_answers(texts: Chunking, table: str, answer: str, level: int) -> str:
    """Return a select of the answers in `table`, which has the columns of `chunks_of_rows`, as that does."""
    num_answers, source = texts.num_answers, sql_name(table)
    rows = (
        f"select s.rowid as r__id, {_named(texts.by, 's')}0 as r__tokens, s.{PART} as r__n,"
        f" s.{NUM_PARTS} as r__num_before,"
        f" md5_number_lower('{level}:' || s.{KEY}) as r__key from {source} s"
    )
    # Few answers are divided by their number, so that each level has at most half as many.
    ended = (
        f"select b.*, case when b.r__num_before > {2 * _CHUNKS_OF_SEGMENT * num_answers}"
        f" and b.r__key % {_CHUNKS_OF_SEGMENT * num_answers} = 0 then 1 else 0 end as r__is_end from ({rows}) b"
    )
    segments = f"select c.*, {_before('c.r__is_end', texts.by, 'c')} as r__segment from ({ended}) c"
    numbered = (
        f"select d.*, row_number() over ({_part((*texts.by, 'r__segment'), 'd')}order by d.r__n) - 1 as r__place"
        f" from ({segments}) d"
    )
    chunked = f"select e.*, e.r__place // {num_answers} as r__chunk from ({numbered}) e"
    return _parts(texts.by, chunked, source, f"s.{sql_name(answer)}")


def _parts(by: tuple[str, ...], chunked: str, source: str, text: str) -> str:
    """Return the select of the texts with their parts, of rows with a segment and a chunk in it."""
    chunk = (*by, "r__segment", "r__chunk")
    told = (
        f"select f.*, min(f.r__id) over ({_part(by, 'f')}) as r__first_id,"
        f" min(f.r__key) over ({_part(chunk, 'f')}) as r__part_key,"
        f" max(f.r__tokens) over ({_part(chunk, 'f')}) as r__longest,"
        f" dense_rank() over ({_part(by, 'f')}order by f.r__segment, f.r__chunk) - 1 as r__part from ({chunked}) f"
    )
    # Numbers alone are sorted: with the texts, that takes more memory than a run has.
    counted = (
        f"select g.*, max(g.r__part) over ({_part(by, 'g')}) + 1 as r__num_parts,"
        f" row_number() over (order by g.r__first_id, g.r__part, g.r__n) as r__rank from ({told}) g"
    )
    return (
        f"select {_named(by, 'h')}h.r__part as {PART}, h.r__num_parts as {NUM_PARTS}, h.r__part_key::varchar as {KEY},"
        f" h.r__longest as {LONGEST}, h.r__rank as {PLACE}, {text} as {ITEM} from ({counted}) h"
        f" join {source} s on s.rowid = h.r__id"
    )


def _named(columns: Iterable[str], alias: str) -> str:
    """Return columns with a comma behind each."""
    return "".join(f"{alias}.{sql_name(column)}, " for column in columns)


def _part(columns: Iterable[str], alias: str) -> str:
    named = _named(columns, alias).removesuffix(", ")
    return f"partition by {named} " if named else ""


def _before(value: str, by: Iterable[str], alias: str) -> str:
    """Return the sum of a value over the rows before in the same group."""
    frame = f"{_part(by, alias)}order by {alias}.r__n rows between unbounded preceding and 1 preceding"
    return f"coalesce(sum({value}) over ({frame}), 0)::bigint"
