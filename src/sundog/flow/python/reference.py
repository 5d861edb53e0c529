"""Names of a flow as Python values: `facts.text` in Python is `{{ facts.text }}` in a template.

Owns expressions built in Python. Never evaluates one; `str` of it is the template.
"""

from __future__ import annotations

import json
from typing import Any


class Expression:
    """A template expression. Comparisons, `&`, `|` and `~` give longer ones; it has no truth value of its own."""

    __slots__ = ("_source",)
    __hash__ = None  # type: ignore[assignment]  # == gives an expression, so no two are equal as keys

    def __init__(self, source: str) -> None:
        self._source = source

    def __str__(self) -> str:
        return f"{{{{ {self._source} }}}}"

    def __repr__(self) -> str:
        return str(self)

    def __bool__(self) -> bool:
        raise TypeError(f"{self} is known only when the flow runs; write & | ~ for and, or, not")

    def __iter__(self) -> Any:
        raise TypeError(f"{self} is known only when the flow runs; a step fans out over it with for_each")

    def __eq__(self, other: object) -> Expression:  # type: ignore[override]  # an expression, as in query builders
        return self._join("==", other)

    def __ne__(self, other: object) -> Expression:  # type: ignore[override]  # as above
        return self._join("!=", other)

    def __lt__(self, other: object) -> Expression:
        return self._join("<", other)

    def __le__(self, other: object) -> Expression:
        return self._join("<=", other)

    def __gt__(self, other: object) -> Expression:
        return self._join(">", other)

    def __ge__(self, other: object) -> Expression:
        return self._join(">=", other)

    def __and__(self, other: Expression) -> Expression:
        return self._join("and", other)

    def __or__(self, other: Expression) -> Expression:
        return self._join("or", other)

    def __invert__(self) -> Expression:
        return Expression(f"not {_operand(self)}")

    def __add__(self, other: object) -> str:
        """Text before and after a value is a template: `reference + " euros"`."""
        if isinstance(other, str):
            return f"{self}{other}"
        raise self._refusal("+", other)

    def __radd__(self, other: object) -> str:
        if isinstance(other, str):
            return f"{other}{self}"
        raise self._refusal("+", other)

    def __sub__(self, other: object) -> Any:
        raise self._refusal("-", other)

    def __mul__(self, other: object) -> Any:
        raise self._refusal("*", other)

    def __truediv__(self, other: object) -> Any:
        raise self._refusal("/", other)

    def __mod__(self, other: object) -> Any:
        raise self._refusal("%", other)

    def __format__(self, form: str) -> str:
        if not form:
            return str(self)
        written = f'{{{{ "%{form}" | format({self._source}) }}}}'
        raise TypeError(f"{self} is known only when the flow runs, so :{form} cannot be done here; write {written}")

    def __call__(self, *arguments: object, **options: object) -> Any:
        raise TypeError(
            f"{self} is a value that is known only when the flow runs, and no function; a template has filters, as in "
            "{{ row.name | upper }}, and a python step calls any function"
        )

    def _refusal(self, operator: str, other: object) -> TypeError:
        """Numbers are reckoned with where they are known."""
        shown = other._source if isinstance(other, Expression) else repr(other)
        text = ' or, for text, f"{...}{...}"' if operator == "+" and isinstance(other, Expression) else ""
        return TypeError(
            f"{self} is known only when the flow runs; write {{{{ {self._source} {operator} {shown} }}}} as text{text}"
        )

    def _join(self, operator: str, other: object) -> Expression:
        return Expression(f"{_operand(self)} {operator} {_operand(other)}")


class Ref(Expression):
    """A name, or a path below one: `Ref("facts").text`, `Ref("context")[0]["body text"]`."""

    __slots__ = ()

    def __getattr__(self, name: str) -> Ref:
        if name.startswith("_"):  # notebooks and copy ask for methods like these; ref["_name"] reads such a field
            raise AttributeError(name)
        return Ref(f"{self._source}.{name}")

    def __getitem__(self, key: str | int) -> Ref:
        return Ref(f"{self._source}[{_literal(key)}]")


def _operand(value: object) -> str:
    if isinstance(value, Ref):
        return value._source
    return f"({value._source})" if isinstance(value, Expression) else _literal(value)


def _literal(value: object) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool | int | float | str):
        return json.dumps(value, ensure_ascii=False)
    raise TypeError(f"only text, numbers, truth values and None stand in an expression, not {type(value).__name__}")
