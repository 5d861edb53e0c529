"""The state of a graph in a flow: which step's value a key has at a place.

Owns the expressions. A flow has no state that steps write into: each step has a value, and a later writer counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class StateWriter:
    """A step that writes keys of the state."""

    step: str
    keys: frozenset[str]
    #: Keys that it writes whenever it runs.
    always: frozenset[str]
    #: It asks a model, and its text is the value of its key.
    is_question: bool
    #: It may be skipped.
    is_conditional: bool

    def expression(self, key: str) -> str:
        return f"{self.step}.text" if self.is_question else f"{self.step}.{key}"

    def is_certain(self, key: str) -> bool:
        return not self.is_conditional and key in self.always

    def test(self, key: str) -> str:
        return f"{self.step} is not none" if self.is_question else f"'{key}' in ({self.step} or {{}})"


def value_of_key(key: str, writers: Sequence[StateWriter], *, is_input: bool) -> str:
    """Return the expression of a key after `writers`, in the order in which they come. Where none of them writes it for
    certain it is the input's, or, with `is_input` False, null.

    >>> writer = StateWriter("s", frozenset("a"), frozenset("a"), is_question=True, is_conditional=True)
    >>> value_of_key("a", [], is_input=True), value_of_key("a", [writer], is_input=False)
    ('row.a', 's.text if s is not none else none')
    """
    made: list[str] = []
    for writer in reversed([one for one in writers if key in one.keys]):
        if writer.is_certain(key):
            return " else ".join([*made, writer.expression(key)])
        made.append(f"{writer.expression(key)} if {writer.test(key)}")
    return " else ".join([*made, f"row.{key}" if is_input else "none"])
