"""The table of rooms in docs/design.md says what the import contracts say."""

from __future__ import annotations

import re
import tomllib

from tests.source_tree import ROOT

ROW = re.compile(r"^\| `(\w+)` \| [^|]+ \| ([^|]+) \|$", re.MULTILINE)


def table() -> tuple[dict[str, set[str]], set[str]]:
    """Return what each room of the table may import, and the rooms that the text below it names beside them."""
    page = (ROOT / "docs" / "design.md").read_text(encoding="utf-8")
    section = page.partition("\n## Rooms and what they may import\n")[2].partition("\n## ")[0]
    rows = {room: {name.partition(".")[0] for name in names.split(", ")} for room, names in ROW.findall(section)}
    return rows, set(re.findall(r"`(\w+)`", section.rpartition("|\n")[2])) - rows.keys()


def contracts() -> dict[str, set[str]]:
    """Return the rooms of which each room may import something."""
    config = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    return {
        room_of(one["source_modules"][0]): {room_of(pair.split(" -> ")[1]) for pair in one.get("ignore_imports", ())}
        for one in config["tool"]["importlinter"]["contracts"]
        if one["forbidden_modules"] == ["sundog.*"]
    }


def room_of(module: str) -> str:
    return module.split(".")[1]


def test_the_table_has_every_room_and_what_it_may_import() -> None:
    rows, below = table()
    assert rows.pop("cli") == {"all"}
    kept = contracts()
    assert below <= kept.keys()
    assert {room: imports - below for room, imports in rows.items()} == {
        room: imports - below - {room} for room, imports in kept.items() if room not in below
    }
