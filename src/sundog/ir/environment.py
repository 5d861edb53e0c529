"""The one Jinja environment: sandboxed, strict, keys before attributes.

Owns what a template may do. Never touches files, the network or the clock.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jinja2 import ChainableUndefined, StrictUndefined
from jinja2.sandbox import ImmutableSandboxedEnvironment, safe_range


class Skipped(ChainableUndefined):
    """The value of a step that did not run (its `when` was false): empty, false, equal to none."""

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        return other is None or isinstance(other, Skipped)

    def __hash__(self) -> int:
        return hash(None)


SKIPPED = Skipped(name="a skipped step")


class _Environment(ImmutableSandboxedEnvironment):
    def getattr(self, obj: Any, attribute: str) -> Any:
        """A column called `items` or `keys` wins over the method of that name."""
        if isinstance(obj, Mapping) and attribute in obj:
            return obj[attribute]
        return super().getattr(obj, attribute)


ENVIRONMENT = _Environment(undefined=StrictUndefined, keep_trailing_newline=True, autoescape=False)
ENVIRONMENT.globals.clear()
ENVIRONMENT.globals["range"] = safe_range
ENVIRONMENT.tests["none"] = lambda value: value is None or isinstance(value, Skipped)
del ENVIRONMENT.filters["random"]  # a template is a function of its scope
