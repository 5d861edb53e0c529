"""Flows of one to four tables made by hypothesis: inputs, queries of every class, groups, graphs and expansions, with
steps, loops, agents, filters, failures and effects.

Every table gives `id`, `a` and `b`, so that any query may read any table; some give more, which may be read or not.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from hypothesis import strategies as st

EFFECTS: dict[str, list[str]] = defaultdict(list)
"""The texts that `emit` was told, by the step's name."""
HERE = "tests.tables.generated"
INPUTS = ("rows", "others")
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
    "star": ["select * from {s}", "from {s}", "select s.* from {s} s"],
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
#: The kinds through which rows flow.
FLOWING = ["projection", "star", "where", "unnest", "union all"]
CONDITIONS = [
    "row.a == 1",
    "row.a != 1",
    "row.b != 'x'",
    "row.b == 'y' or row.a == 0",
    "row.a is none",
    "row.a < 2",
    "row.id != 3 and row.a != bound",
]


# Tables of other kinds than queries, and what a row of them has in place of `id`, `a` and `b`.
_OWN = ("row.id", "row.a", "row.b")
_JUDGED = {"engine": "local", "prompt": "Is {{ row.left }} like {{ row.right }}?"}
SOURCES: Mapping[str, tuple[Any, tuple[str, str, str]]] = {
    "collect": (
        {"query": "select id, a, b from {s}", "by": "a", "as": "found"},
        ("row.a", "row.a", "row.found | tojson"),
    ),
    "components": (
        {
            "nodes": "select distinct id from {s} where id is not null",
            "edges": "select id, a from {s} where id is not null and a in (select id from {s})",
        },
        ("row.id", "row.component", "row.component"),
    ),
    "resolve": ({"source": "{s}", "column": "b", **_JUDGED, "as": "as_{t}"}, _OWN),
    "rank": ({"source": "{s}", "engine": "local", "prompt": "How good is {{ row.b }}?", "k": 2, "as": "as_{t}"}, _OWN),
    "join": (
        {"left": "{s}", "right": "{o}", **_JUDGED, "block": "l.a = r.id"},
        ("row.left.id", "row.right.a", "row.left.b"),
    ),
    "reduce": (
        {"source": "{s}", "by": "a", "text": "b", "engine": "local", "prompt": "Of {{ row.a }}:", "max_levels": 1},
        ("row.a", "row.a", "row.text"),
    ),
}
KINDS = [
    "llm",
    "llm",
    "llm",
    "python",
    "refuse",
    "escalated",
    "effect",
    "filter",
    "filter",
    "filter",
    "loop",
    "agent",
    "classify",
    "extract",
]


class _Table:
    """The sections of one table as they are drawn. `columns`: what stands for `id`, `a` and `b`."""

    def __init__(self, name: str, columns: tuple[str, str, str]) -> None:
        self.name = name
        self.nodes: dict[str, Any] = {}
        self.tools: dict[str, Any] = {}
        self.id, self.a, self.b = (f"{{{{ {one} }}}}" for one in columns)
        #: Templates that give text.
        self.texts = [self.b, self.b, self.a + self.b]
        if columns != _OWN:
            # A value that is no text is none beside a word.
            self.texts = [f"B {text}" for text in self.texts]
        self.conditions = [
            condition.replace("row.id", columns[0]).replace("row.a", columns[1]).replace("row.b", columns[2])
            for condition in CONDITIONS
            if columns[2] in _OWN or "row.b" not in condition
        ]
        #: Conditions over steps.
        self.of_steps: list[str] = []

    def add(self, draw: Draw) -> None:
        kind = draw(st.sampled_from(KINDS))
        name = f"{self.name}_n{len(self.nodes)}"
        text = draw(st.sampled_from(self.texts))
        match kind:
            case "llm":
                prompt = draw(st.sampled_from(["P " + text, "P " + self.b, "P " + self.a]))
                self.nodes[name] = {"llm": {"engine": "local", "prompt": prompt}}
                if not draw(st.integers(0, 5)):
                    self.nodes[name]["when"] = f"{{{{ {draw(st.sampled_from(self.conditions))} }}}}"
                self.texts.append(f"{{{{ {name}.text }}}}")
                self.of_steps.append(f"{name}.text != 'none'")
            case "python":
                self.nodes[name] = {"python": {"call": f"{HERE}:measure", "args": {"text": text}}}
                if draw(st.booleans()):
                    self.nodes[name]["share"] = True
                self.texts.append(f"T {{{{ {name}.text }}}}")
                self.of_steps.append(f"{name}.size > 1")
            case "refuse":
                self.nodes[name] = {"python": {"call": f"{HERE}:refuse", "args": {"value": self.a}}}
                if draw(st.booleans()):
                    self.nodes[name]["on_error"] = {"value": f"for {self.b}"}
                self.texts.append(f"T {{{{ {name} }}}}")
            case "escalated":
                llm = {"engine": ["local", "second"], "prompt": f"E {text}", "output": {"sure": "bool"}}
                self.nodes[name] = {"llm": llm, "escalate_when": f"{{{{ not {name}.sure }}}}"}
                self.texts.append(f"{{{{ {name}.text }}}}")
                self.of_steps.append(f"{name}.sure")
            case "effect":
                self.nodes[name] = self._emit(name, text)
            case "filter":
                condition = draw(st.sampled_from([*self.conditions, *self.of_steps]))
                self.nodes[name] = {"filter": f"{{{{ {condition} }}}}"}
            case "classify":
                self.nodes[name] = {"classify": {"engine": "local", "text": text, "labels": ["odd", "even"]}}
                self.texts.append(f"{{{{ {name}.label }}}}")
                self.of_steps.append(f"{name}.label == 'odd'")
            case "extract":
                fields = {"word": "str", "many": "int"}
                self.nodes[name] = {"extract": {"engine": "local", "text": text, "fields": fields}}
                self.texts.append(f"{{{{ {name}.word }}}}")
                self.of_steps.append(f"{name}.many % 2 == 0")
            case "loop":
                self._add_loop(draw, name, text)
            case "agent":
                self._add_agent(draw, name, text)

    def _emit(self, step: str, text: str) -> dict[str, Any]:
        args = {"step": step, "text": f"{self.id} {text}"}
        return {"python": {"call": f"{HERE}:emit", "args": args, "effect": True}}

    def _add_loop(self, draw: Draw, name: str, text: str) -> None:
        """A loop of two turns, or of as many as `a` says, of which none is a failure; maybe with an effect in it."""
        body = f"{name}_in"
        seen = draw(st.sampled_from([f"loop.last.{body}.text", f"loop.history.{body} | tojson", "loop.turn"]))
        nodes = {body: {"llm": {"engine": "local", "prompt": f"L {text} {{{{ {seen} }}}}"}}}
        if not draw(st.integers(0, 3)):
            nodes[f"{name}_out"] = self._emit(name, f"{{{{ {body}.text }}}}")
        loop: dict[str, Any] = {"max_turns": draw(st.sampled_from([2, 3, self.a])), "nodes": nodes}
        if draw(st.booleans()):
            loop["until"] = draw(st.sampled_from([f"{{{{ {body}.text < 'answer 8' }}}}", "{{ loop.turn == 2 }}"]))
        self.nodes[name] = {"loop": loop}
        self.texts.append(f"{{{{ {name}.{body}.text }}}}")
        self.of_steps.append(f"{name}.turns > 1")

    def _add_agent(self, draw: Draw, name: str, text: str) -> None:
        """An agent whose tools read, fail for some rows, or have an effect; the null engine uses them by hazard."""
        tools = {
            f"{name}_look": {"python": {"call": f"{HERE}:measure", "args": {"text": self.b}}},
            f"{name}_try": {"python": {"call": f"{HERE}:refuse", "args": {"value": self.a}}},
            f"{name}_tell": self._emit(name, "told"),
        }
        used = draw(st.lists(st.sampled_from(list(tools)), min_size=1, max_size=3, unique=True))
        self.tools |= {one: {"description": "Do it.", "parameters": {}, **tools[one]} for one in used}
        agent = {"engine": "local", "prompt": f"A {text}", "tools": used, "max_turns": draw(st.integers(1, 3))}
        self.nodes[name] = {"agent": agent}
        self.texts.append(f"T {{{{ {name}.text }}}} {{{{ {name}.stopped }}}}")
        self.of_steps.append(f"{name}.turns > 1")

    def outputs(self, draw: Draw) -> dict[str, str]:
        extra = draw(st.lists(st.sampled_from(self.texts), max_size=2))
        found = {"id": self.id, "a": self.a, "b": draw(st.sampled_from(self.texts))}
        return found | {f"x{number}": one for number, one in enumerate(extra)}


def _filled(value: Any, **names: str) -> Any:
    """Put names of relations into the texts of a section."""
    if isinstance(value, dict):
        return {key: _filled(one, **names) for key, one in value.items()}
    for name, relation in names.items():
        value = value.replace(f"{{{name}}}", relation) if isinstance(value, str) else value
    return value


def _section(draw: Draw, table: str, tables: Mapping[str, Any]) -> tuple[dict[str, Any], tuple[str, str, str]]:
    """The source of a table, and what stands for `id`, `a` and `b` in its rows. `tables`: those before it."""
    relations = [*INPUTS, *tables]
    if relations == ["rows", "others"] and draw(st.booleans()):
        return {"from": "rows"}, _OWN
    # Mostly the table before, so that chains are long.
    source = relations[-1] if draw(st.integers(0, 3)) else draw(st.sampled_from(relations))
    other = draw(st.sampled_from([one for one in relations if one != source]))
    if not draw(st.integers(0, 6)):
        kind = draw(st.sampled_from(list(SOURCES)))
        written, columns = SOURCES[kind]
        section: dict[str, Any] = {kind: _filled(written, s=source, o=other, t=table)}
        # A failed row of a join has no `a`, by which the rows are collected.
        is_markable = kind == "collect" and source not in INPUTS and "join" not in tables[source]
        choices = ["leave_out", "mark"] if is_markable else ["leave_out"]
    else:
        kind = draw(st.sampled_from([*QUERIES, *3 * FLOWING]))
        section = {"query": _filled(draw(st.sampled_from(QUERIES[kind])), s=source, o=other)}
        columns, choices = _OWN, ["leave_out"]
    # Without this, a table whose reader needs every row runs only the rows that the reader takes.
    if draw(st.integers(0, 1 if kind == "limit" else 9)):
        section["failed_rows"] = draw(st.sampled_from(choices))
    return section, columns


def _add_twin(name: str, twin: str, tables: dict[str, Any], tools: dict[str, Any]) -> None:
    """Add a table that is equal to the one called `name` but for the names of its nodes and tools."""

    def renamed(value: Any) -> Any:
        return json.loads(json.dumps(value).replace(f"{name}_n", f"{twin}_n"))

    tables[twin] = renamed(tables[name])
    tools |= {renamed(one): renamed(tool) for one, tool in tools.items() if one.startswith(f"{name}_n")}


@st.composite
def flows(draw: Draw) -> Flow:
    """The document of a flow over the inputs `rows` and `others`."""
    tables: dict[str, Any] = {}
    tools: dict[str, Any] = {}
    for number in range(draw(st.sampled_from([1, 2, 3, 3, *4 * [4]]))):
        if tables and not draw(st.integers(0, 7)):
            _add_twin(f"t{number - 1}", f"t{number}", tables, tools)
            continue
        section, columns = _section(draw, f"t{number}", tables)
        table = _Table(f"t{number}", columns)
        for _ in range(draw(st.integers(0, 3))):
            table.add(draw)
        if table.nodes:
            section["nodes"] = table.nodes
        if table.nodes or columns != _OWN or "from" in section or draw(st.booleans()):
            section["outputs"] = table.outputs(draw)
        tables[table.name] = section
        tools |= table.tools
    flow: dict[str, Any] = {
        "name": "generated",
        "engines": {"local": {"kind": "null"}, "second": {"kind": "null", "model": "second"}},
        "constants": {"bound": 1},
        "inputs": {name: {"path": f"{name}.jsonl"} for name in INPUTS},
        "tools": tools,
        "tables": tables,
    }
    if draw(st.booleans()):
        flow["results"] = [list(tables)[-1]]
    return flow


_ROW = st.fixed_dictionaries(
    {"id": st.integers(0, 4), "a": st.integers(0, 2), "b": st.sampled_from(["x", "y", "y", "xy"])}
)
# The first row gives every column its type.
rows = st.lists(_ROW, min_size=0, max_size=6).map(lambda found: [{"id": 0, "a": 1, "b": "x"}, *found])
