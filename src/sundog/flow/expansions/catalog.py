"""The short words of tables, and their place in a flow.

Owns which words there are. What a word stands for is the affair of its own module.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from pydantic import BaseModel

from sundog.flow.complaints import Complaints
from sundog.flow.expansions.base import Expanded, ExpandedTables, MadePositions
from sundog.flow.expansions.join import JoinSpec, join
from sundog.flow.expansions.rank import RankSpec, rank
from sundog.flow.expansions.reduce import ReduceSpec, reduce
from sundog.flow.expansions.resolve import ResolveSpec, resolve
from sundog.flow.validation import read
from sundog.ir.tables import Candidates

SOURCES = ("from", "query", "collect", "components")
EXPANSIONS: Mapping[str, tuple[type[BaseModel], Callable[[str, Any, Mapping[str, Any]], Expanded]]] = {
    "resolve": (ResolveSpec, resolve),
    "join": (JoinSpec, join),
    "rank": (RankSpec, rank),
    "reduce": (ReduceSpec, reduce),
}
"""By word, its keys and what makes the tables: of the table's name, the block, and the table's other keys."""


def expand(tables: Mapping[str, Any], positions: MadePositions, complaints: Complaints) -> ExpandedTables:
    """Return the tables as plain ones. `positions` knows the made ones afterwards; what is wrong goes to
    `complaints`."""
    found: dict[str, Any] = {}
    made_by: dict[str, str] = {}
    candidates: dict[str, Candidates] = {}
    for name, data in tables.items():
        words = [word for word in EXPANSIONS if isinstance(data, Mapping) and word in data]
        if not words:
            found[name] = data
            continue
        word, place = words[0], ("tables", name)
        others = {key: value for key, value in data.items() if key != word}
        for other in (*words[1:], *(key for key in SOURCES if key in others)):
            complaints.add(f"a table has either '{word}' or '{other}'", positions.key((*place, other)))
        if others.get("failed_rows", "stop") not in ("stop", "leave_out"):
            del others["failed_rows"]  # told here once, and not of each made table
            complaints.add(
                f"'failed_rows' of a '{word}' is stop or leave_out", positions.value((*place, "failed_rows"))
            )
        model, make = EXPANSIONS[word]
        spec = read(model, data[word], (*place, word), positions, complaints)
        if spec is None:
            continue
        made = make(name, spec, others)
        positions.add({("tables", table): (*place, word) for table in made.tables if table != name})
        positions.add(made.places)
        found |= made.tables
        made_by |= dict.fromkeys(made.tables, word)
        candidates |= made.candidates
    return ExpandedTables(found, made_by, candidates)
