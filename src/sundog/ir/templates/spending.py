"""The limits of one rendering: steps and characters, counted before they are made.

Owns the account and the sizes of values. Never renders. Counts and no clock: the same template over the same row fails
everywhere or nowhere.
"""

from __future__ import annotations

import re
import string
from collections.abc import Callable, Mapping, Sequence
from math import log2
from typing import Any

from jinja2 import TemplateRuntimeError
from jinja2.runtime import Context

from sundog.errors import OperatorError

MAX_STEPS = 1_000_000
"""Elements looped over, calls, filters: about a second of one processor."""
MAX_CHARACTERS = 2**26
"""All texts that a rendering makes have at most so many, those in between too."""
MAX_INTEGER_DIGITS = 4_300
"""As many as Python writes out."""
CHARACTERS_PER_STEP = 256
"""Text is copied and searched that much faster than elements are looped over."""
SPENT = "\0spent"
"""The account's name in a template's scope: no template can spell it."""

Positional = Sequence[Any]
Keywords = Mapping[str, Any]


class TooCostly(TemplateRuntimeError):
    """Raised where a template asks for more than a rendering may cost; caught by `render`, which makes an OperatorError
    of it."""


class Spending:
    """The account of one rendering. `num_source_characters`: of its template, which a macro may repeat."""

    __slots__ = ("num_characters", "num_source_characters", "num_steps")

    def __init__(self, num_source_characters: int = 0) -> None:
        self.num_steps = 0
        self.num_characters = 0
        self.num_source_characters = num_source_characters

    def step(self, number: int = 1) -> None:
        self.num_steps += number
        if self.num_steps > MAX_STEPS:
            raise TooCostly(f"it takes more than {MAX_STEPS:,} steps (loops, calls, filters)")

    def text(self, num_characters: int) -> None:
        self.num_characters += num_characters
        if self.num_characters > MAX_CHARACTERS:
            raise TooCostly(f"it makes more than {MAX_CHARACTERS:,} characters of text")

    def look_at(self, value: Any) -> None:
        """Pay for going through a value once."""
        self.step(
            1 + len(value) // (CHARACTERS_PER_STEP if isinstance(value, str | bytes) else 1) if _is_sized(value) else 1
        )

    def take(self, value: Any) -> Any:
        """Pay for a value that was made, and give it."""
        if isinstance(value, str | bytes):
            self.text(len(value))
        elif isinstance(value, list | tuple | dict):
            self.step(len(value))
        return value

    def text_of(self, value: Any) -> None:
        """Pay for the text of a value before it is made: what it holds several times is written several times."""
        left = [value]
        while left:
            one = left.pop()
            if isinstance(one, str | bytes):
                self.text(len(one))
            elif isinstance(one, int) and not isinstance(one, bool):
                self.text(one.bit_length() // 3 + 1)
            elif isinstance(one, list | tuple | set | frozenset | dict):
                self.step(len(one))
                self.text(2 * len(one))
                left.extend(one)
                if isinstance(one, dict):
                    left.extend(one.values())


def spending_of(context: Context) -> Spending:
    """Return the account of the rendering that `context` belongs to; one of its own where nobody keeps one."""
    found = context.parent.get(SPENT)
    return found if isinstance(found, Spending) else Spending()


def _is_sized(value: Any) -> bool:
    return isinstance(value, str | bytes | list | tuple | dict | set | frozenset | range)


def refuse_long(text: str) -> str:
    """Return `text`, or OperatorError where no rendering may make one that long."""
    if len(text) > MAX_CHARACTERS:
        raise OperatorError(f"template error: it makes more than {MAX_CHARACTERS:,} characters of text")
    return text


# The results of text methods, filters and operators can be longer than all their arguments together.


def pay_operator(spending: Spending, operator: str, left: Any, right: Any) -> None:
    """Pay for `left operator right` before it is computed."""
    if isinstance(left, str | bytes | list | tuple) or isinstance(right, str | bytes | list | tuple):
        _pay_sequences(spending, operator, left, right)
    elif isinstance(left, int) and isinstance(right, int) and operator in ("*", "**"):
        bits = left.bit_length() * right if operator == "**" else left.bit_length() + right.bit_length()
        if abs(left) > 1 and bits > MAX_INTEGER_DIGITS * log2(10):
            raise TooCostly(f"it makes a whole number of more than {MAX_INTEGER_DIGITS:,} digits")


def _pay_sequences(spending: Spending, operator: str, left: Any, right: Any) -> None:
    if operator == "*" and (isinstance(left, int) or isinstance(right, int)):
        sequence, times = (right, left) if isinstance(left, int) else (left, right)
        _pay_length(spending, sequence, len(sequence) * max(0, times))
    elif operator == "+" and type(left) is type(right):
        _pay_length(spending, left, len(left) + len(right))
    elif operator == "%" and isinstance(left, str):
        pay_percent(spending, left, right if isinstance(right, tuple) else (right,))


def _pay_length(spending: Spending, sequence: Any, length: int) -> None:
    spending.text(length) if isinstance(sequence, str | bytes) else spending.step(length)


_PERCENT = re.compile(r"%(?:\([^)]*\))?[-+ #0]*(\*|\d*)(?:\.(\*|\d*))?")


def pay_percent(spending: Spending, template: str, values: Positional | Keywords) -> None:
    """Pay for `template % values`: its widths, and the values' texts once for each place."""
    given = list(values.values() if isinstance(values, Mapping) else values)
    for place in _PERCENT.finditer(template):
        for number in place.groups():
            spending.text(_largest(given) if number == "*" else _number(number))
    spending.text_of(given if not isinstance(values, Mapping) else [given] * max(1, template.count("%(")))


def pay_braces(spending: Spending, template: str, given: Positional) -> None:
    """Pay for `template.format(...)` of the values `given`: its widths, and the values' texts once for each place."""
    num_places = 0
    for _, field, specification, _ in string.Formatter().parse(template):
        if field is not None:
            num_places += 1
            spending.text(_largest(given) if "{" in (specification or "") else 0)
            for number in re.findall(r"\d+", specification or ""):
                spending.text(_number(number))
    spending.text_of([list(given)] * min(num_places, max(1, num_places // max(1, len(given)) + 1)))


def _largest(values: Sequence[Any]) -> int:
    return max((abs(value) for value in values if isinstance(value, int)), default=0)


def _number(digits: str | None) -> int:
    if not digits:
        return 0
    return int(digits) if len(digits) < 12 else MAX_CHARACTERS + 1


def pay_method(spending: Spending, owner: str | bytes, name: str, given: Positional) -> None:
    """Pay for a method of text before it is called: for what goes in, and for what comes out where that is longer."""
    spending.look_at(owner)
    for value in given:
        spending.look_at(value)
    cost = _METHODS.get(name)
    if cost is not None:
        cost(spending, owner, given)


def _pay_width(spending: Spending, owner: str | bytes, given: Positional) -> None:
    spending.text(max(len(owner), _largest(given)))


def _pay_tabs(spending: Spending, owner: Any, given: Positional) -> None:
    tab = "\t" if isinstance(owner, str) else b"\t"
    spending.text(len(owner) + owner.count(tab) * (_largest(given) or 8))


def pay_replace(spending: Spending, owner: Any, given: Positional) -> None:
    """Pay for each place where the old text is replaced."""
    match given:
        case [str() | bytes() as old, str() | bytes() as new, *_] if isinstance(old, type(owner)):
            num_places = owner.count(old) if old else len(owner) + 1
            spending.text(len(owner) + num_places * len(new))


def _pay_join(spending: Spending, owner: Any, given: Positional) -> None:
    match given:
        case [list() | tuple() | dict() | set() | str() | bytes() as items]:
            spending.text_of(items)
            spending.text(len(owner) * len(items))


def _pay_translation(spending: Spending, owner: Any, given: Positional) -> None:
    match given:
        case [dict() as table]:
            spending.text(len(owner) * max((len(new) for new in table.values() if isinstance(new, str)), default=1))


_METHODS: Mapping[str, Callable[[Spending, Any, Positional], None]] = {
    "center": _pay_width,
    "ljust": _pay_width,
    "rjust": _pay_width,
    "zfill": _pay_width,
    "expandtabs": _pay_tabs,
    "replace": pay_replace,
    "join": _pay_join,
    "translate": _pay_translation,
}
