"""Flows of one to four tables made by hypothesis: inputs, queries of every class, steps, filters, failures, effects.

Every table gives `id`, `a` and `b`, so that any query may read any table; some give more, which may be read or not.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from hypothesis import strategies as st

EFFECTS: dict[str, list[str]] = defaultdict(list)
"""The texts that `emit` was told, by the step's name."""
HERE = "tests.tables.generated"
Draw = Any
Flow = Mapping[str, Any]


def measure(text: Any) -> dict[str, Any]:
    return {"size": len(str(text)), "text": f"{text}".upper()}


def refuse(value: Any) -> str:
    """One of three rows fails."""
    if value == 2:
        raise ValueError("two is too much")
    return f"took {value}"


def emit(step: str, text: Any) -> int:
    EFFECTS[step].append(str(text))
    return len(str(text))


# Queries over a table {s}, and over another relation {o}, by their class.
QUERIES = {
    "projection": [
        "select id, a, b from {s}",
        "select id, b as b, a + 0 as a from {s}",
        "select a, id, b, b as c from {s}",
    ],
    "star": ["select * from {s}", "from {s}", "select s.*, s.a as twice from {s} s"],
    "where": [
        "select * from {s} where a > 0",
        "select id, a, b from {s} where a = 1 and b <> 'y'",
        "select id, a, b from {s} where length(b) > 1 or a is null",
    ],
    "unnest": ["select s.id, u.q as a, s.b, u.q as c from {s} s, unnest([1, s.a]) as u(q)"],
    "join": [
        "select l.id, l.a, r.b from {s} l join {o} r on l.a = r.a",
        "select l.id, r.a, l.b from {s} l join {o} r on l.id = r.id where r.a < 2 and l.a >= 0",
    ],
    "left join": [
        "select l.id, l.a, r.b from {s} l left join {o} r on l.id = r.a",
        "select l.id, r.a, l.b from {s} l left join {o} r on l.a = r.id",
    ],
    "union all": [
        "select id, a, b from {s} union all select id, a, b from {o}",
        "select id, a, b from {s} union all select id, 1 as a, b from {s}",
    ],
    "group by": [
        "select a as id, a, min(b) as b from {s} group by a",
        "select count(*) as id, a, b from {s} group by a, b",
        "select count(*) as id, 1 as a, 'all' as b from {s}",
    ],
    "distinct": ["select distinct a, b, a as id from {s}", "select distinct id, a, b from {s}"],
    "limit": [
        "select id, a, b from {s} order by a desc, id, b limit 2",
        "select id, a, b from {s} order by id limit 3",
    ],
}  # fmt: skip
CONDITIONS = [
    "row.a == 1",
    "row.a != 1",
    "row.b != 'x'",
    "row.b == 'y' or row.a == 0",
    "row.a is none",
    "row.a < 2",
    "row.id != 3 and row.a != bound",
]


class _Table:
    """The sections of one table as they are drawn."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.nodes: dict[str, Any] = {}
        #: Templates that give text.
        self.texts = ["{{ row.b }}", "{{ row.b }}", "{{ row.a }}{{ row.b }}"]
        #: Conditions over steps.
        self.conditions: list[str] = []

    def add(self, draw: Draw) -> None:
        kind = draw(st.sampled_from(["llm", "llm", "llm", "python", "refuse", "effect", "filter", "filter", "filter"]))
        name = f"{self.name}_n{len(self.nodes)}"
        text = draw(st.sampled_from(self.texts))
        match kind:
            case "llm":
                prompt = draw(st.sampled_from(["P " + text, "P {{ row.b }}", "P {{ row.a }}"]))
                self.nodes[name] = {"llm": {"engine": "local", "prompt": prompt}}
                self.texts.append(f"{{{{ {name}.text }}}}")
                self.conditions.append(f"{name}.text != 'none'")
            case "python":
                self.nodes[name] = {"python": {"call": f"{HERE}:measure", "args": {"text": text}}}
                if draw(st.booleans()):
                    self.nodes[name]["share"] = True
                self.texts.append(f"T {{{{ {name}.text }}}}")
                self.conditions.append(f"{name}.size > 1")
            case "refuse":
                self.nodes[name] = {"python": {"call": f"{HERE}:refuse", "args": {"value": "{{ row.a }}"}}}
                self.texts.append(f"T {{{{ {name} }}}}")
            case "effect":
                args = {"step": name, "text": f"{{{{ row.id }}}} {text}"}
                self.nodes[name] = {"python": {"call": f"{HERE}:emit", "args": args, "effect": True}}
            case "filter":
                condition = draw(st.sampled_from([*CONDITIONS, *self.conditions]))
                self.nodes[name] = {"filter": f"{{{{ {condition} }}}}"}

    def outputs(self, draw: Draw) -> dict[str, str]:
        extra = draw(st.lists(st.sampled_from(self.texts), max_size=2))
        found = {"id": "{{ row.id }}", "a": "{{ row.a }}", "b": draw(st.sampled_from(self.texts))}
        return found | {f"x{number}": one for number, one in enumerate(extra)}


@st.composite
def flows(draw: Draw) -> Flow:
    """The document of a flow over the inputs `rows` and `others`."""
    relations = ["rows", "others"]
    tables: dict[str, Any] = {}
    for number in range(draw(st.integers(1, 4))):
        table = _Table(f"t{number}")
        for _ in range(draw(st.integers(0, 3))):
            table.add(draw)
        if number == 0 and draw(st.booleans()):
            section: dict[str, Any] = {"from": "rows", "outputs": table.outputs(draw)}
        else:
            kind = draw(st.sampled_from(list(QUERIES)))
            # Mostly the table before, so that chains are long.
            source = relations[-1] if draw(st.integers(0, 3)) else draw(st.sampled_from(relations))
            other = draw(st.sampled_from([one for one in relations if one != source]))
            section = {"query": draw(st.sampled_from(QUERIES[kind])).format(s=source, o=other)}
            # Of a table whose reader needs every row, only those that this takes are needed.
            if draw(st.integers(0, 1 if kind == "limit" else 9)):
                section["failed_rows"] = "leave_out"
            if table.nodes or draw(st.booleans()):
                section["outputs"] = table.outputs(draw)
        if table.nodes:
            section["nodes"] = table.nodes
        tables[table.name] = section
        relations.append(table.name)
    flow: dict[str, Any] = {
        "name": "generated",
        "engines": {"local": {"kind": "null"}},
        "constants": {"bound": 1},
        "inputs": {"rows": {"path": "rows.jsonl"}, "others": {"path": "others.jsonl"}},
        "tables": tables,
    }
    if draw(st.booleans()):
        flow["results"] = [relations[-1]]
    return flow


_ROW = st.fixed_dictionaries(
    {"id": st.integers(0, 4), "a": st.integers(0, 2), "b": st.sampled_from(["x", "y", "y", "xy"])}
)
# The first row gives every column its type.
rows = st.lists(_ROW, min_size=0, max_size=6).map(lambda found: [{"id": 0, "a": 1, "b": "x"}, *found])
