"""Flows and rows made by hypothesis: every kind of step and modifier, names that are read and names that are not.

Conditions and templates may fail for some rows; what holds for those is said where plans are compared.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from hypothesis import strategies as st

EFFECTS: dict[Any, list[str]] = defaultdict(list)
"""What `emit` was told, by the row's id."""

CONSTANTS = {"tone": "calm", "empty": "", "bound": 1, "is_on": True, "is_off": False, "nested": {"a": [1, 2]}}
ROW_TEXTS = ["{{ row.id }}", "{{ row.a }}", "{{ row.b }}", "{{ row.a }}{{ row.b }}"]
CONSTANT_TEXTS = ["{{ tone }}", "{{ empty }}", "{{ nested }}", "{{ bound + 1 }}"]
ROW_CONDITIONS = ["row.a == 1", "row.a != 0", "row.b == 'x'", "row.a < bound", "row.b < bound"]
CONSTANT_CONDITIONS = ["is_on", "is_off", "bound == 1", "tone == 'loud'"]


async def measure(text: str) -> dict[str, Any]:
    return {"size": len(str(text)), "text": str(text).upper()}


async def emit(row: int, text: str) -> int:
    EFFECTS[row].append(str(text))
    return len(EFFECTS[row])


Draw = Any
Scope = dict[str, str]
"""The kind of value of each name that may be read."""

TEXT_OF = {
    "llm": "{{ %s.text }}",
    "graded": "{{ %s.grade }} {{ %s.count }}",
    "sql": "{{ %s[0].body }}",
    "python": "{{ %s.text }}",
    "effect": "{{ %s }}",
    "list": "{{ %s | length }}",
    "loop": "{{ %s.turns }} {{ %s.inner.text }}",
    "whole": "{{ %s }}",
}
CONDITION_OF = {
    "llm": "%s.text",
    "graded": "%s.grade == 'good'",
    "sql": "%s | length > 1",
    "python": "%s.size < 9",
    "effect": "%s == 1",
    "list": "%s",
    "loop": "%s.turns == 1",
    "whole": "%s",
}


def text(draw: Draw, scope: Scope) -> str:
    others = [_spell(TEXT_OF, *one) for one in scope.items()]
    pieces = st.sampled_from(["", " - ", *ROW_TEXTS, *CONSTANT_TEXTS])
    found: list[str] = draw(st.lists(pieces, min_size=1, max_size=2))
    if others and draw(st.integers(0, 3)):
        found.append(draw(st.sampled_from(others)))
    return ("T " if draw(st.booleans()) else "") + "".join(found)


def condition(draw: Draw, scope: Scope) -> str:
    def one() -> str:
        of_steps = [_spell(CONDITION_OF, *one) for one in scope.items()]
        found = [of_steps, ROW_CONDITIONS, ROW_CONDITIONS, CONSTANT_CONDITIONS]
        return str(draw(st.sampled_from(draw(st.sampled_from([some for some in found if some])))))

    form: str = draw(st.sampled_from(["{{ %s }}", "{{ not (%s) }}", "{{ %s and %s }}"]))
    return form % tuple(one() for _ in range(form.count("%s")))


def _spell(forms: dict[str, str], name: str, kind: str) -> str:
    form = forms[kind]
    return form.replace("%s", name)


def step(draw: Draw, scope: Scope, *, in_loop: bool = False) -> tuple[dict[str, Any], str]:
    """A step's keys, and the kind of its value."""
    kind = draw(st.sampled_from(["llm", "llm", "graded", "sql", "python", *([] if in_loop else ["effect", "count"])]))
    node: dict[str, Any]
    match kind:
        case "llm" | "graded":
            output = {"output": {"grade": ["good", "bad"], "count": "int"}} if kind == "graded" else {}
            node = {"llm": {"engine": "local", "prompt": "P " + text(draw, scope), **output}}
        case "sql":
            query = "select body from docs where id = :id"
            node = {"sql": {"database": "sqlite:///docs.db", "query": query, "params": {"id": "{{ row.a }}"}}}
        case "python":
            node = {"python": {"call": "tests.optimizer.flows:measure", "args": {"text": text(draw, scope)}}}
        case "effect":
            args = {"row": "{{ row.id }}", "text": text(draw, scope)}
            node = {"python": {"call": "tests.optimizer.flows:emit", "args": args, "effect": True}}
        case "count":
            database, params = "sqlite:///log.db", {"id": "{{ row.id }}"}
            query = draw(
                st.sampled_from(["insert into log values (:id)", "select count(*) as n from log where id = :id"])
            )
            node, kind = {"sql": {"database": database, "query": query, "params": params}}, "whole"
    if draw(st.booleans()):
        node["when"] = condition(draw, scope)
    if kind in ("llm", "python") and draw(st.integers(0, 5)) == 0:
        node["for_each"] = draw(st.sampled_from(["{{ [1, 2] }}", "{{ nested.a }}", "{{ range(row.a) | list }}"]))
        kind = "list"
    return node, kind


def loop(draw: Draw, scope: Scope, number: int) -> dict[str, Any]:
    """A loop over a step `inner<number>` and perhaps others."""
    inner: Scope = dict(scope)
    nodes: dict[str, Any] = {}
    for name in ["side", "inner", "extra"][: draw(st.integers(2, 3))]:
        own = f"{name}{number}"
        nodes[own], kind = step(draw, inner, in_loop=True)
        inner[own] = kind
        if name != "side" and draw(st.booleans()) and "llm" in nodes[own]:
            nodes[own]["llm"]["prompt"] += draw(
                st.sampled_from([" {{ loop.turn }}", f" {{{{ loop.last.side{number} }}}}"])
            )
    until = draw(
        st.sampled_from(["{{ loop.turn == row.a }}", f"{{{{ {_spell(CONDITION_OF, *list(inner.items())[-1])} }}}}"])
    )
    return {"loop": {"max_turns": draw(st.integers(1, 3)), "until": until, "nodes": nodes}}


@st.composite
def flows(draw: Draw) -> dict[str, Any]:
    scope: Scope = {}
    nodes: dict[str, Any] = {}
    for number in range(draw(st.integers(2, 8))):
        name = f"n{number}"
        choice = draw(st.integers(0, 11))
        if choice <= 2:
            nodes[name] = {"filter": condition(draw, scope)}
        elif choice == 4:
            nodes[name] = loop(draw, scope, number)
            scope[name] = draw(st.sampled_from(["whole", "list"]))
        elif choice <= 6 and scope:
            twin = draw(st.sampled_from(sorted(scope)))
            if "loop" not in nodes[twin]:
                nodes[name], scope[name] = dict(nodes[twin]), scope[twin]
        elif choice <= 8 and scope:
            read = _spell(TEXT_OF, *list(scope.items())[-1])
            nodes[name] = {"llm": {"engine": "local", "prompt": f"P {read}"}, "when": condition(draw, {})}
            scope[name] = "llm"
        else:
            nodes[name], scope[name] = step(draw, scope)
        if name in nodes and scope and "loop" not in nodes[name] and draw(st.integers(0, 9)) == 0:
            nodes[name]["after"] = [other for other in sorted(scope)[:1] if other != name]
    shown = draw(st.lists(st.sampled_from(sorted(scope)[-3:]), max_size=2)) if scope else []
    outputs = {
        "id": "{{ row.id }}",
        **{f"o{index}": _spell(TEXT_OF, name, scope[name]) for index, name in enumerate(shown)},
    }
    return {
        "name": "generated",
        "engines": {"local": {"kind": "null"}},
        "inputs": {"rows": {"path": "rows.jsonl"}},
        "constants": CONSTANTS,
        "nodes": nodes,
        "outputs": outputs,
    }


rows = st.lists(
    st.tuples(st.integers(0, 2), st.sampled_from(["x", "y", 1])).map(lambda pair: {"a": pair[0], "b": pair[1]}),
    min_size=1,
    max_size=4,
).map(lambda found: [{"id": index, **row} for index, row in enumerate(found)])
