"""Names of a flow: what may be called how, and that no two things share a name.

Owns the rules of naming. Never looks at values.
"""

from __future__ import annotations

from sundog.errors import Location
from sundog.flow.complaints import Complaints
from sundog.ir.templates.template import ITEM, LOOP, ROW

_MEANINGS = {
    ROW: "the input row",
    ITEM: "the element of a for_each",
    LOOP: "the state of a loop",
}
_TEMPLATE_WORDS = frozenset(
    {"and", "block", "call", "caller", "elif", "else", "extends", "filter", "for", "from", "if", "import", "in"}
    | {"include", "is", "kwargs", "macro", "not", "or", "range", "raw", "recursive", "self", "set", "super", "varargs"}
    | {"with", "true", "false", "none", "True", "False", "None"}
)


class Names:
    """Every name given so far. `row`, `item` and `loop` belong to the language."""

    def __init__(self, complaints: Complaints) -> None:
        self._complaints = complaints
        self._given: dict[str, tuple[str, Location]] = {}

    def give(self, name: str, kind: str, where: Location) -> None:
        """Give `name` to a `kind` ("step", "input", ...), complaining where it cannot have it."""
        if name in _MEANINGS:
            self._complaints.add(
                f"'{name}' cannot name {_a(kind)}: in templates it is {_MEANINGS[name]}", where, "choose another name"
            )
        elif not self.check(name, kind, where):
            return
        elif name in self._given:
            other, place = self._given[name]
            self._complaints.add(
                f"the name '{name}' is taken by {_a(other)} (line {place.line})",
                where,
                "inputs, constants, steps and for_each variables have names of their own",
            )
        else:
            self._given[name] = (kind, where)

    def give_variable(self, name: str, where: Location) -> None:
        """Give a name to a for_each variable: `item` is free for it, and sibling steps may use the same one."""
        if name != ITEM and self._given.get(name, ("",))[0] != "variable":
            self.give(name, "variable", where)

    def check(self, name: str, kind: str, where: Location) -> bool:
        """Return whether templates can spell `name`."""
        if not name.isidentifier():
            hint = "a name is made of letters, digits and _, and does not begin with a digit"
        elif name in _TEMPLATE_WORDS:
            hint = "the template language has another meaning for it"
        else:
            return True
        self._complaints.add(f"'{name}' cannot name {_a(kind)}", where, hint)
        return False


def _a(kind: str) -> str:
    return f"an {kind}" if kind[0] in "aeiou" else f"a {kind}"
