"""The blocks of candidate pairs: those that share a key, and those of one value or row, as a run tells of them.

Owns the selects that count them. They read the pairs that are there and never make any, so that they are cheap.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from sundog.ir.sql_types import sql_name
from sundog.ir.tables import COMPARED, NUMBER, PAIRS


def blocks_of_values(column: str, equal: Sequence[str], *, by_words: bool, by_likeness: bool) -> str:
    """Return a select of blocks among pairs of values, as `Candidates` has it. The relation that the pairs' table reads
    has each value with its `id`.

    `equal`: SQL expressions over `column`. `by_words`: a word that both have makes a block. `by_likeness`: pairs of a
    value are a block of it."""
    return " union all ".join(_of_values(column, equal, by_words=by_words, by_likeness=by_likeness))


def _of_values(column: str, equal: Sequence[str], *, by_words: bool, by_likeness: bool) -> Iterator[str]:
    for expression in equal:
        named = f"(select v.id, v.value as {sql_name(column)} from {COMPARED} v)"
        yield _sharing(f"{expression} = ", f"(select n.id, ({expression}) as key from {named} n)")
    if by_words:
        words = f"(select distinct v.id, w.key from {COMPARED} v, unnest(string_split(lower(v.value), ' ')) as w(key))"
        yield _sharing("the word ", words, " where l.key <> ''")
    if by_likeness:
        ids = f"select p.left_id as id from {PAIRS} p union all select p.right_id from {PAIRS} p"
        yield (
            f"select {_shown('v.value')} as block, count(*) as num_pairs from ({ids}) i"
            f" join {COMPARED} v on v.id = i.id group by v.value"
        )


def _sharing(label: str, keyed: str, where: str = "") -> str:
    return (
        f"select {_text(label)} || {_shown('l.key')} as block, count(*) as num_pairs from {PAIRS} p"
        f" join {keyed} l on l.id = p.left_id join {keyed} r on r.id = p.right_id and r.key = l.key{where}"
        " group by l.key"
    )


def blocks_of_rows(keys: Sequence[str]) -> str:
    """Return a select of blocks among pairs of rows, as `Candidates` has it. The left row of a pair is one of the
    relation that the pairs' table reads first.

    `keys`: SQL expressions over `l` which a condition of all pairs says to equal one over the right row. Without one
    the pairs of a row are a block of it."""
    if keys:
        label = " || ', ' || ".join(f"{_text(f'{key} = ')} || {_shown(f'({key})')}" for key in keys)
        return (
            f"select {label} as block, count(*) as num_pairs from {PAIRS} p join {COMPARED} l"
            f" on l.{NUMBER} = p.left_id group by {', '.join(f'({key})' for key in keys)}"
        )
    sides = (("left", "p.left_id"), ("right", 'md5(p."right"::varchar)'))
    return " union all ".join(
        f"select '{side} ' || any_value(p.\"{side}\")::varchar as block, count(*) as num_pairs"
        f" from {PAIRS} p group by {by}"
        for side, by in sides
    )


def columns_for_blocks(keys: Sequence[str]) -> tuple[str, ...]:
    """Return the columns of the pairs that `blocks_of_rows` reads."""
    return ("left_id",) if keys else ("left_id", "left", "right")


def _shown(expression: str) -> str:
    return f"coalesce(to_json({expression})::varchar, 'null')"


def _text(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
