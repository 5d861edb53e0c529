"""A pipeline of DocETL over a few reviews, what is imported of it, and its rows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import sundog as sd
from sundog.migrate.docetl.pipeline import import_docetl
from sundog.migrate.written import ImportedFlow

REVIEWS = [
    {"id": 1, "review": "It boils fast. The handle is hot."},
    {"id": 2, "review": "Loud."},
    {"id": 3, "review": "It boils fast. Loud."},
]


def imported(folder: Path, *operations: dict[str, Any], **config: Any) -> ImportedFlow:
    pipeline = {"steps": [{"name": "all", "input": "reviews", "operations": [one["name"] for one in operations]}]}
    written = {
        "datasets": {"reviews": {"type": "file", "path": "reviews.json"}},
        "operations": list(operations),
        "pipeline": pipeline,
        **config,
    }
    (folder / "pipeline.yaml").write_text(json.dumps(written))
    made = import_docetl(folder / "pipeline.yaml", folder)
    made.text(folder, "pipeline.yaml")
    return made


def rows_of(made: ImportedFlow, folder: Path) -> list[dict[str, Any]]:
    """The rows of the flow on the engine without a model."""
    for engine in made.flow["engines"].values():
        engine.clear()
        engine["kind"] = "null"
    (folder / "flow.yaml").write_text(made.text(folder, "pipeline.yaml"))
    return list(sd.run(folder / "flow.yaml", state=folder / "state", progress=False))
