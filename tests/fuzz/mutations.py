"""Flows made wrong, as text and as data: what hands, editors and generators do to a file, and what nobody does.

Owns the kinds of mutations. A mutation is four numbers, so that hypothesis can make a failing flow small again.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

from hypothesis import strategies as st

TextMutation = Callable[[str, int, int, int], str]

TEMPLATES = (
    "{{ row.id }}",
    "{{",
    "}}",
    "{%",
    "{# ",
    "{{ x",
    "{{ 1e999 }}",
    "{{ 'nan' | float }}",
    "{{ 1 / 0 }}",
    "{{ '#' * 99999999 }}",
    "{{ 9 ** 9 ** 9 ** 9 }}",
    "{{ 10 ** 9999 }}",
    "{% for a in range(99999) %}x{% endfor %}",
    "{{ row.text | truncate(3) }}",
    "{% for a in range(9999) %}{% for b in range(9999) %}{% for c in range(9999) %}x" + "{% endfor %}" * 3,
    "{{ 'a' | center(999999999) }}",
    "{{ '%099999999d' | format(1) }}",
    "{{ '{:>999999999}'.format('x') }}",
    "{{ 'x' | indent(99999999) }}",
    "{% macro m(n) %}{{ m(n) }}{% endmacro %}{{ m(1) }}",
    "{% set x = row %}{{ x }}",
    "{{ loop.turn }}",
    "{{ row.__class__ }}",
    "{% for x in row.points %}{{ loop.turn }}{% endfor %}",
    "{{ row | attr('x') }}",
    "{{ [1, 2] | sum(start='a') }}",
    "{{ none }}",
    "{{ row.points | map(attribute='x') | list }}",
    "{{ {}.__init__ }}",
    "{{ ''.join(row) }}",
    "{{ row is none }}",
    "{{ 1 if }}",
    "{{ '\\ud800' }}",
    "{{ 'ab' | replace('', 'aaaaaaaaaaaaaaaa') | replace('', 'aaaaaaaaaaaaaaaaaa') }}",
    "{{ item.x }}",
    "{{ ''|xmlattr }}",
    "{% raw %}",
    "{% include 'x' %}",
    "{% set a, b = 1 %}",
    "{{ self }}",
    "{{ range }}",
    "{{ range(3) }}",
    "{{ [range] }}",
    "{{ row.get }}",
)
SCALARS = (
    "1e999",
    ".inf",
    "-.inf",
    ".nan",
    "-1",
    "0",
    "1.5",
    "1_000",
    "0x1f",
    "0o17",
    "9" * 400,
    "9" * 5000,
    "1e-400",
    "null",
    "~",
    "true",
    "yes",
    "''",
    "[]",
    "{}",
    "[1, [2, [3]]]",
    "{a: {b: c}}",
    "2026-01-01",
    "12:30:45",
    "!!binary aGk=",
    "!!set {a}",
    "!!python/name:os.system",
    "!x y",
    "&a 1",
    "*a",
    "*b",
    "<<",
    "? x",
    "|",
    ">-",
    "%YAML 3.0",
    "%TAG ! x",
    "---",
    "...",
    "# x",
    "\t",
    "\\",
    '"',
    "'",
    ": ",
    "- ",
    ",",
    "]",
    "}",
    "?",
    "${env:X}",
    "${env:}",
    "${env",
    "null:",
    "engine",
    "module:function",
    "json:loads",
    "*.csv",
    "x" * 3000,
    "\n",
    "\r",
    "\r\n",
    "\n\n  ",
)
CHARACTERS = "\0\x07\x1b\x7f\x85\xa0­​‎‮\u2028\u2029﻿￼￾\U0001f600\U0010ffff́ßİK"
KEYS = (
    "name",
    "engines",
    "inputs",
    "nodes",
    "outputs",
    "constants",
    "workers",
    "objective",
    "kind",
    "model",
    "llm",
    "sql",
    "http",
    "loop",
    "filter",
    "when",
    "for_each",
    "as",
    "after",
    "until",
    "max_turns",
    "prompt",
    "messages",
    "output",
    "json_schema",
    "path",
    "query",
    "key",
    "types",
    "row",
    "item",
    "self",
    "__class__",
    "true",
    "",
    " ",
    "a b",
    "a.b",
    "loop",
    "text",
    "é",
    "x" * 300,
    "max_retry_wait",
    "timeout",
    "retries",
    "share",
)
SCHEMAS: tuple[Any, ...] = (
    {"json_schema": {"type": "object", "properties": {"a": {"$ref": "#"}}}},
    {
        "json_schema": {
            "type": "object",
            "properties": {"a": {"$ref": "#/$defs/a"}},
            "$defs": {"a": {"$ref": "#/$defs/a"}},
        }
    },
    {"json_schema": {"type": "object", "properties": {"a": {"type": "string", "pattern": "^(a+)+$"}}}},
    {"json_schema": {"type": "object", "properties": {"a": {"pattern": "("}}}},
    {"json_schema": {"type": "object", "$ref": "https://example.org/schema"}},
    {"json_schema": {"type": "object", "$schema": "x", "$id": "y", "$dynamicRef": "#z"}},
    {
        "json_schema": {
            "type": "object",
            "properties": {"a": {"enum": [1, "1", None, [], {}]}, "b": {"const": 1}, "c": False},
        }
    },
    {"a": ["x"] * 3},
    {"a": [["str"]]},
    {"a": "list[list[list[str]]]"},
    {"a": "list["},
    {"a": {}},
    {"a": []},
    {"text": "str"},
    [],
    "str",
    {"a": "list[" * 500},
)


def _deep(opening: str, closing: str, depth: int) -> str:
    return opening * depth + closing * depth


def _token(pick: int) -> str:
    deep = (_deep("[", "]", pick % 4000), _deep("{a: ", "}", pick % 400), "{{ " + _deep("(", ")", pick % 500) + " }}")
    long = (
        "{{ 1" + "+1" * (pick % 3000) + " }}",
        "{{ row" + ".a" * (pick % 2000) + " }}",
        "{{ " + "not " * (pick % 1500) + "1 }}",
    )
    words: tuple[str, ...] = (*SCALARS, *SCALARS, *TEMPLATES, *CHARACTERS, *KEYS, *deep, *long)
    return words[pick % len(words)]


# -- text


def _cut(text: str, at: int, size: int, pick: int) -> str:
    return text[:at] + text[at + 1 + size % 40 :]


def _repeat(text: str, at: int, size: int, pick: int) -> str:
    return text[: at + 1 + size % 200] + text[at:]


def _insert(text: str, at: int, size: int, pick: int) -> str:
    return text[:at] + _token(pick) + text[at:]


def _put_value(text: str, at: int, size: int, pick: int) -> str:
    """Put something in place of a value on a line."""
    colon = text.find(": ", at)
    end = text.find("\n", colon)
    if colon < 0 or end < 0:
        return _insert(text, at, size, pick)
    value = _token(pick)
    quoted = '"' + value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'
    return text[: colon + 2] + (value if size % 2 else quoted) + text[end:]


def _on_lines(change: Callable[[list[str], int, int, int], None]) -> Callable[[str, int, int, int], str]:
    def mutate(text: str, at: int, size: int, pick: int) -> str:
        lines = text.splitlines(keepends=True)
        if lines:
            change(lines, at % len(lines), size % len(lines), pick)
        return "".join(lines)

    return mutate


def _swap_lines(lines: list[str], one: int, other: int, pick: int) -> None:
    lines[one], lines[other] = lines[other], lines[one]


def _copy_line(lines: list[str], one: int, other: int, pick: int) -> None:
    lines.insert(other, lines[one])


def _drop_line(lines: list[str], one: int, other: int, pick: int) -> None:
    del lines[one]


def _indent(lines: list[str], one: int, other: int, pick: int) -> None:
    lines[one] = (
        lines[one].lstrip() if pick % 3 == 0 else " " * (pick % 7) + lines[one] if pick % 3 == 1 else "\t" + lines[one]
    )


def _anchor(lines: list[str], one: int, other: int, pick: int) -> None:
    """An alias to a value of another line; sometimes to what holds it."""
    name = f"n{pick % 3}"
    for index, mark in ((one, f"&{name} "), (other, f"*{name}")):
        key, colon, value = lines[index].partition(": ")
        if colon:
            lines[index] = f"{key}: {mark}{value if mark[0] == '&' else chr(10)}"


def _bomb(text: str, at: int, size: int, pick: int) -> str:
    levels = [
        f"  b{level}: &b{level} [{', '.join([f'*b{level - 1}' if level else 'x'] * (2 + pick % 9))}]"
        for level in range(size % 12)
    ]
    return text + "\nconstants:\n" + "\n".join(levels) + "\n"


TEXT_KINDS: tuple[TextMutation, ...] = (
    _cut,
    _repeat,
    _insert,
    _insert,
    _put_value,
    _put_value,
    _put_value,
    _bomb,
    *map(_on_lines, (_swap_lines, _copy_line, _drop_line, _indent, _anchor, _anchor)),
)


def mutated_text(text: str, mutations: Sequence[tuple[int, int, int, int]]) -> str:
    for kind, at, size, pick in mutations:
        mutate: TextMutation = TEXT_KINDS[kind % len(TEXT_KINDS)]
        text = mutate(text, at % (len(text) + 1), size, pick)
    return text


# -- data


def _paths(data: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    found = [path]
    items = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    for key, value in items:
        found += _paths(value, (*path, key))
    return found


def _hostile(pick: int, old: Any) -> Any:
    numbers = (0, -1, 1, 1.5, 10**9, 10**30, 10**400, -(10**18), 1e308, 1e-320, 2**63)
    plain: tuple[Any, ...] = (
        None,
        True,
        False,
        "",
        " ",
        [],
        {},
        [[]],
        {"": ""},
        [None],
        {"a": None},
        old,
        [old],
        {"a": old},
        str(old),
        [old] * 3,
    )
    values = (
        *numbers,
        *plain,
        *SCHEMAS,
        *SCHEMAS,
        *TEMPLATES,
        *TEMPLATES,
        *KEYS,
        *SCALARS,
        *CHARACTERS,
        _token(pick // 7),
    )
    return copy.deepcopy(values[pick % len(values)])


def _mutate_data(data: Any, kind: int, at: int, size: int, pick: int) -> Any:
    paths = _paths(data)
    *parents, last = paths[at % len(paths)] or (None,)
    holder = data
    for key in parents:
        holder = holder[key]
    if last is None:
        return data
    old = holder[last]
    match kind % 6:
        case 0 | 1:
            holder[last] = _hostile(pick, old)
        case 2:
            del holder[last]
        case 3 if isinstance(holder, dict):
            other = [path[-1] for path in paths if path and isinstance(path[-1], str)]
            renamed = KEYS[pick % len(KEYS)] if size % 2 else other[pick % len(other)]
            items = [(renamed if key == last else key, value) for key, value in holder.items()]
            holder.clear()
            holder.update(items)
        case 4 if isinstance(old, str):
            cut = pick % (len(old) + 1)
            holder[last] = (
                old[:cut],
                old[cut:],
                old + TEMPLATES[size % len(TEMPLATES)],
                TEMPLATES[size % len(TEMPLATES)] + old,
            )[pick % 4]
        case _:
            source: Any = data
            for key in paths[pick % len(paths)]:
                source = source[key]
            holder[last] = copy.deepcopy(source)
    return data


def mutated_data(data: Any, mutations: Sequence[tuple[int, int, int, int]]) -> Any:
    data = copy.deepcopy(data)
    for kind, at, size, pick in mutations:
        data = _mutate_data(data, kind, at, size, pick)
        if not isinstance(data, dict) or len(_paths(data)) > 3000:
            break
    return data


MUTATIONS = st.lists(
    st.tuples(st.integers(0, 99), st.integers(0, 9999), st.integers(0, 9999), st.integers(0, 99_999)),
    min_size=1,
    max_size=5,
)
