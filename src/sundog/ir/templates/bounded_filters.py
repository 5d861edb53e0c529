"""Jinja's filters, each of which pays for what it makes before it makes it.

Owns what each filter costs, and that null is empty text to those that take text. The filters themselves are Jinja's.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Generator
from typing import Any

from jinja2 import pass_context
from jinja2.runtime import Context, Undefined
from jinja2.utils import _PassArg

from sundog.ir.templates.spending import (
    CHARACTERS_PER_STEP,
    Keywords,
    Positional,
    Spending,
    pay_percent,
    pay_replace,
    spending_of,
)

TemplateFilter = Callable[..., Any]
_COPIED_PER_STEP = 40 * CHARACTERS_PER_STEP

TEXT_FILTERS = frozenset(
    {
        *(
            "capitalize",
            "center",
            "e",
            "escape",
            "forceescape",
            "format",
            "indent",
            "lower",
            "replace",
            "safe",
            "string",
        ),
        *("striptags", "title", "trim", "truncate", "upper", "urlencode", "urlize", "wordcount", "wordwrap"),
    }
)
WRITING_FILTERS = TEXT_FILTERS | {"tojson", "pprint", "xmlattr", "filesizeformat"}
"""These filters make text of any value."""


def bounded(name: str, function: TemplateFilter) -> TemplateFilter:
    """Return `function`, the filter `name`, as one that pays."""
    pass_arg = _PassArg.from_obj(function)  # how Jinja itself knows what a filter wants first
    cost = _COSTS.get(name)
    is_text, is_writing = name in TEXT_FILTERS, name in WRITING_FILTERS

    @pass_context
    def paying(context: Context, value: Any, *args: Any, **kwargs: Any) -> Any:
        spending = spending_of(context)
        if value is None and is_text:
            value = ""
        spending.look_at(value)
        if is_writing and not isinstance(value, str | Undefined):
            spending.text_of(value)
        if cost is not None:
            value = cost(spending, value, args, kwargs)
        if pass_arg is None:
            return spending.take(function(value, *args, **kwargs))
        return spending.take(function(_first(context, pass_arg), value, *args, **kwargs))

    return paying


def _first(context: Context, pass_arg: _PassArg) -> Any:
    if pass_arg is _PassArg.context:
        return context
    return context.eval_ctx if pass_arg is _PassArg.eval_context else context.environment


@pass_context
def sized(context: Context, value: Any) -> Any:
    """Return a value that is about to be gone through: compared, or searched."""
    spending_of(context).look_at(value)
    return value


@pass_context
def is_in(context: Context, value: Any, sequence: Any) -> bool:
    """Return the outcome of the test `in`, for `select` and its like; the operator is a comparison."""
    spending_of(context).look_at(sequence)
    return value in sequence


@pass_context
def iterated(context: Context, value: Any, num_characters: int) -> Any:
    """Return what a loop goes over. `num_characters`: of the text that each turn writes as it stands."""
    spending = spending_of(context)
    if isinstance(value, str | list | tuple | dict | range):
        spending.step(len(value))
        spending.text(len(value) * num_characters)
        return value
    return value if isinstance(value, Undefined) else _counted(spending, value, num_characters)


def _counted(spending: Spending, values: Any, num_characters: int) -> Generator[Any, None, None]:
    for value in values:
        spending.step()
        spending.text(num_characters)
        yield value


def _argument(args: Positional, kwargs: Keywords, at: int, name: str, default: Any = None) -> Any:
    return args[at] if len(args) > at else kwargs.get(name, default)


def _whole(value: Any) -> int:
    return abs(value) if isinstance(value, int) else 0


def _pay_width(spending: Spending, value: Any, args: Positional, kwargs: Keywords) -> Any:
    spending.text(_whole(_argument(args, kwargs, 0, "width")))
    return value


def _pay_indent(spending: Spending, value: Any, args: Positional, kwargs: Keywords) -> Any:
    width = _argument(args, kwargs, 0, "width", 4)
    num_lines = value.count("\n") + 1 if isinstance(value, str) else 1
    spending.text(num_lines * (len(width) if isinstance(width, str) else _whole(width)))
    return value


def _pay_count(spending: Spending, value: Any, args: Positional, kwargs: Keywords) -> Any:
    """Pay for the lists that are made, and for what fills the last one."""
    spending.step(max(_whole(_argument(args, kwargs, 0, name)) for name in ("linecount", "slices")))
    return value


def _pay_precision(spending: Spending, value: Any, args: Positional, kwargs: Keywords) -> Any:
    spending.step(_whole(_argument(args, kwargs, 0, "precision")))
    return value


def _pay_replace(spending: Spending, value: Any, args: Positional, kwargs: Keywords) -> Any:
    old, new = _argument(args, kwargs, 0, "old"), _argument(args, kwargs, 1, "new")
    pay_replace(spending, value if isinstance(value, str) else str(value), (str(old), str(new)))
    return value


def _pay_format(spending: Spending, value: Any, args: Positional, kwargs: Keywords) -> Any:
    pay_percent(spending, value if isinstance(value, str) else str(value), kwargs or args)
    return value


def _pay_join(spending: Spending, value: Any, args: Positional, kwargs: Keywords) -> Any:
    """Return the elements themselves, null as empty text: a generator can be looked at once only."""
    if isinstance(value, Undefined):
        return value
    items = ["" if item is None else item for item in _counted(spending, value, 0)]
    spending.text_of(items)
    spending.text(len(items) * len(str(_argument(args, kwargs, 0, "d", ""))))
    return items


def _pay_values(spending: Spending, value: Any, args: Positional, kwargs: Keywords) -> Any:
    """Return the elements themselves, each of which is written once."""
    if isinstance(value, Undefined | str | dict):
        return value
    items = list(_counted(spending, value, 0))
    spending.text_of(items)
    return items


def _pay_json(spending: Spending, value: Any, args: Positional, kwargs: Keywords) -> Any:
    # Each level indents all that it holds.
    spending.text(_whole(_argument(args, kwargs, 0, "indent")) * spending.num_steps)
    return value


def _pay_wrap(spending: Spending, value: Any, args: Positional, kwargs: Keywords) -> Any:
    separator = _argument(args, kwargs, 2, "wrapstring")
    width = max(1, _whole(_argument(args, kwargs, 0, "width", 79)))
    text = str(value)
    num_lines = len(text) // width
    # A word is broken by copying the rest of it for each line.
    longest = max((len(run) for run in re.findall(r"\S+|\s+", text)), default=0)
    spending.step(4 * num_lines + longest * longest // width // _COPIED_PER_STEP)
    spending.text(num_lines * len(separator or "\n"))
    return value


def _pay_pprint(spending: Spending, value: Any, args: Positional, kwargs: Keywords) -> Any:
    # It breaks every long text into words, which takes as long as copying it many times.
    for _ in range(8):
        spending.text_of(value)
    return value


def _pay_tags(spending: Spending, value: Any, args: Positional, kwargs: Keywords) -> Any:
    # Each tag is cut out of the whole text.
    text = str(value)
    spending.step(text.count("<") * len(text) // _COPIED_PER_STEP)
    return value


_COSTS: dict[str, Callable[[Spending, Any, Positional, Keywords], Any]] = {
    "center": _pay_width,
    "indent": _pay_indent,
    "batch": _pay_count,
    "slice": _pay_count,
    "round": _pay_precision,
    "replace": _pay_replace,
    "format": _pay_format,
    "join": _pay_join,
    "mean": _pay_values,
    "vote": _pay_values,
    "tojson": _pay_json,
    "wordwrap": _pay_wrap,
    "pprint": _pay_pprint,
    "striptags": _pay_tags,
}
