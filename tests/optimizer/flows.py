"""Flows and rows made by hypothesis: every kind of step and modifier, names that are read and names that are not.

Conditions and templates may fail for some rows; what holds for those is said where plans are compared.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from hypothesis import strategies as st

EFFECTS: dict[Any, list[str]] = defaultdict(list)
"""The texts that `emit` was told, by the row's id."""

CONSTANTS = {"tone": "calm", "empty": "", "bound": 1, "is_on": True, "is_off": False, "nested": {"a": [1, 2]}}
ROW_TEXTS = ["{{ row.id }}", "{{ row.a }}", "{{ row.b }}", "{{ row.a }}{{ row.b }}", "{{ row.tone }}"] * 4
ROW_TEXTS += ["{{ row }}", "{{ row.keys() | list }}"]
CONSTANT_TEXTS = ["{{ tone }}", "{{ empty }}", "{{ nested }}", "{{ bound + 1 }}", "{{ bound }}", "{{ is_on }}"]
CONSTANT_TEXTS += ["{% for tone in [1, 2] %}{{ tone }}{% endfor %}", "{{ [bound] | map('string') | join }}"]
ROW_CONDITIONS = [
    "row.a != 1",
    "row.a != 0",
    "row.a < 2",
    "row.a == 1",
    "row.b == 'x'",
    "row.b != 'y'",
    "row.b < bound",
]
CONSTANT_CONDITIONS = ["is_on", "is_off", "bound == 1", "tone == 'loud'"]


async def measure(text: str, value: Any) -> dict[str, Any]:
    return {"size": len(str(text)), "text": f"{text} {value!r}".upper()}


async def emit(row: int, text: str) -> int:
    EFFECTS[row].append(str(text))
    return len(EFFECTS[row])


KEYS = [0, 1, 1, 2, 5, 7, "5", "5", "05", "a", "a", "A", "b", "twice", None, 1.0, True]
LOOKUPS_SCHEMA = """
create table docs (id integer, body text);
insert into docs values (0, 'zero'), (1, 'one'), (2, 'two');
create table numbers (k integer, body text);
insert into numbers values (0, 'zero'), (1, 'one'), (5, 'five'), (null, 'none');
create table texts (k text, body text);
insert into texts values ('5', 'five'), ('a', 'small'), ('A', 'big'), ('twice', 'y'), ('twice', 'x'), (null, 'none');
create table mixed (k, body text);
insert into mixed values (5, 'number'), ('5', 'text'), (1.0, 'real'), ('a', 'small');
create table folded (k text collate nocase, body text);
insert into folded values ('a', 'small'), ('A', 'big'), ('5', 'five');
"""
"""Point look-ups: keys with one row, several and none, and what is one key here and two there."""

LOOKUPS = [
    "select body from {} where k = :k",
    "select k, body from {} where k = :k order by body",
    "select body from {} where k = :k and body <> :not",
    "select count(*) as n from {} where k = :k",
    "select body from {} where k = :k or k is null",
    "select body from {} where k = :k limit 1",
    "select distinct body from {} where k = :k",
]

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
    "whole": "{{ %s }}",
}
CONDITION_OF = {
    "llm": "%s.text",
    "graded": "%s.grade == 'good'",
    "sql": "%s | length > 1",
    "python": "%s.size < 9",
    "effect": "%s == 1",
    "list": "%s",
    "whole": "%s",
}


def text(draw: Draw, scope: Scope) -> str:
    others = [_spell(TEXT_OF, *one) for one in scope.items()]
    pieces = st.sampled_from(["", " - ", *ROW_TEXTS, *CONSTANT_TEXTS])
    found: list[str] = draw(st.lists(pieces, min_size=1, max_size=2))
    if others and draw(st.booleans()):
        found.append(draw(st.sampled_from(others)))
    return ("T " if draw(st.booleans()) else "") + "".join(found)


def condition(draw: Draw, scope: Scope) -> str:
    def one() -> str:
        of_steps = [_spell(CONDITION_OF, *one) for one in scope.items()]
        found = [of_steps, ROW_CONDITIONS, ROW_CONDITIONS, CONSTANT_CONDITIONS]
        return str(draw(st.sampled_from(draw(st.sampled_from([some for some in found if some])))))

    form: str = draw(st.sampled_from(["{{ %s }}", "{{ not (%s) }}", "{{ %s and %s }}", "{{ %s if %s else %s }}"]))
    return form % tuple(one() for _ in range(form.count("%s")))


def _spell(forms: dict[str, str], name: str, kind: str) -> str:
    """`kind` may be `loop STEP`: of a loop's value, this step's alone."""
    loop_kind, _, inner = kind.partition(" ")
    if loop_kind == "loop":
        return forms["whole"].replace("%s", f"{name}.{inner}")
    return forms[kind].replace("%s", name)


def step(draw: Draw, scope: Scope, *, in_loop: bool = False) -> tuple[dict[str, Any], str]:
    """A step's keys, and the kind of its value."""
    kind = draw(
        st.sampled_from(
            [
                "llm",
                "llm",
                "graded",
                "sql",
                "lookup",
                "lookup",
                "python",
                "value",
                *([] if in_loop else ["effect", "count"]),
            ]
        )
    )
    node: dict[str, Any]
    match kind:
        case "llm" | "graded":
            output = {"output": {"grade": ["good", "bad"], "count": "int"}} if kind == "graded" else {}
            node = {"llm": {"engine": "local", "prompt": "P " + text(draw, scope), **output}}
        case "sql":
            query = "select body from docs where id = :id"
            node = {"sql": {"database": "sqlite:///docs.db", "query": query, "params": {"id": "{{ row.a }}"}}}
        case "lookup":
            table = draw(st.sampled_from(["numbers", "numbers", "texts", "texts", "mixed", "folded"]))
            query = draw(st.sampled_from(LOOKUPS[:2] * 2 + LOOKUPS)).format(table)
            params = {"k": "{{ row.k }}"}
            if ":not" in query:
                params["not"] = draw(st.sampled_from(["one", "{{ tone }}", "{{ row.b }}"]))
            node, kind = {"sql": {"database": "sqlite:///docs.db", "query": query, "params": params}}, "whole"
        case "python":
            values = ["{{ bound }}", "{{ is_on }}", "{{ nested }}", "{{ row.a }}", "{{ tone }}"]
            args = {"text": text(draw, scope), "value": draw(st.sampled_from(values))}
            node = {"python": {"call": "tests.optimizer.flows:measure", "args": args}}
        case "value":
            template = (
                text(draw, scope) if draw(st.booleans()) else draw(st.sampled_from(["{{ nested }}", "{{ row.a }}"]))
            )
            node, kind = {"value": template}, "whole"
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
        if name == "extra" and draw(st.booleans()):
            nodes[own], kind = dict(nodes[f"inner{number}"]), inner[f"inner{number}"]
        inner[own] = kind
        if name != "side" and draw(st.booleans()) and "llm" in nodes[own]:
            nodes[own]["llm"]["prompt"] += draw(
                st.sampled_from([" {{ loop.turn }}", f" {{{{ loop.last.side{number} }}}}"])
            )
    until = draw(
        st.sampled_from(["{{ loop.turn == row.a }}", f"{{{{ {_spell(CONDITION_OF, *list(inner.items())[-1])} }}}}"])
    )
    node: dict[str, Any] = {"loop": {"max_turns": draw(st.integers(1, 3)), "until": until, "nodes": nodes}}
    if draw(st.integers(0, 2)) == 0:
        node["when"] = condition(draw, scope)
    if draw(st.integers(0, 3)) == 0:
        node["for_each"] = "{{ [1, 2] }}"
    return node


def twin(draw: Draw, scope: Scope, node: dict[str, Any]) -> dict[str, Any]:
    """An equal step, or one that differs in what is easily overlooked."""
    other = dict(node)
    change = draw(st.sampled_from(["nothing", "nothing", "when", "when", "for_each", "for_each", "after"]))
    if change in other:
        del other[change]
    elif change == "when":
        other["when"] = condition(draw, scope)
    elif change == "for_each":
        other["for_each"] = "{{ [1] }}"
    return other


def filters(draw: Draw, scope: Scope, nodes: dict[str, Any], number: int) -> None:
    """A filter; often a second one after it, on columns alone, that may fail where the first has dropped the row."""
    nodes[f"n{number}"] = {"filter": condition(draw, scope)}
    if not scope or draw(st.booleans()):
        return
    name = draw(st.sampled_from(sorted(scope)))
    nodes[f"n{number}"] = {"filter": f"{{{{ row.a != 1 and {_spell(CONDITION_OF, name, scope[name])} }}}}"}
    if draw(st.integers(0, 3)) == 0:
        args = {"row": "{{ row.id }}", "text": "{{ row.b }}"}
        nodes[f"e{number}"] = {"python": {"call": "tests.optimizer.flows:emit", "args": args, "effect": True}}
    second = draw(st.sampled_from(["row.a != 0", "row.b == 'x'", "row.b < bound or row.a < 9", "row.a != 2"]))
    nodes[f"s{number}"] = {"filter": f"{{{{ {second} }}}}"}


def private(draw: Draw, scope: Scope, nodes: dict[str, Any], number: int) -> None:
    """A step for conditional readers, most often for nobody else."""
    name = f"p{number}"
    nodes[name], kind = step(draw, scope)
    nodes[name].pop("when", None)
    if draw(st.integers(0, 4)) == 0:
        nodes[f"f{number}"] = {"filter": condition(draw, scope)}
    for reader in [f"n{number}", f"m{number}"][: draw(st.integers(1, 2))]:
        prompt = f"P {_spell(TEXT_OF, name, kind)}"
        when = condition(draw, {} if draw(st.booleans()) else scope)
        nodes[reader] = {"llm": {"engine": "local", "prompt": prompt}, "when": when}
        scope[reader] = "llm"
    if draw(st.integers(0, 4)) == 0:
        scope[name] = kind


@st.composite
def flows(draw: Draw) -> dict[str, Any]:
    scope: Scope = {}
    nodes: dict[str, Any] = {}
    for number in range(draw(st.integers(2, 8))):
        name, above = f"n{number}", sorted(scope)
        choice = draw(st.integers(0, 11))
        if choice <= 2:
            filters(draw, scope, nodes, number)
        elif choice <= 4:
            nodes[name] = loop(draw, scope, number)
            parts = [] if "for_each" in nodes[name] else [f"loop {inner}" for inner in nodes[name]["loop"]["nodes"]]
            scope[name] = draw(st.sampled_from(["whole", "list", *parts, *parts]))
        elif choice <= 6 and scope:
            first = draw(st.sampled_from(sorted(scope)))
            if "loop" not in nodes[first]:
                nodes[name] = twin(draw, scope, nodes[first])
                is_list = ("for_each" in nodes[name]) != ("for_each" in nodes[first])
                scope[name] = "whole" if is_list else scope[first]
        elif choice <= 8:
            private(draw, scope, nodes, number)
        else:
            nodes[name], scope[name] = step(draw, scope)
        if name in nodes and above and "loop" not in nodes[name] and draw(st.integers(0, 9)) == 0:
            nodes[name]["after"] = above[:1]
    # Often the last step alone: what leads to it is then read by nobody else.
    last = list(scope)[-draw(st.sampled_from([1, 2, 2, 4])) :]
    shown = draw(st.lists(st.sampled_from(last), min_size=1, max_size=2, unique=True)) if scope else []
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
    st.fixed_dictionaries(
        {
            "a": st.integers(0, 2),
            "b": st.sampled_from(["x", "y", 1]),
            "k": st.sampled_from(KEYS),
            "tone": st.sampled_from(["calm", "loud"]),
        }
    ),
    min_size=2,
    max_size=6,
).map(lambda found: [{"id": index, **row} for index, row in enumerate(found)])
