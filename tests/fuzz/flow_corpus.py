"""Real flows to begin from, and the rows they read.

Owns the choice: every example, the page on the flow language, and the flow that uses every feature.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from tests.docs.pages import ROOT, blocks

LANGUAGE = ROOT / "docs" / "flow-language.md"


def page_files() -> dict[str, str]:
    """The files that the page on the flow language shows: rows, and the flow that its parts complete."""
    marked = ((block.mark.partition(":"), block.text) for block in blocks(LANGUAGE))
    return {rest.strip(): text for (kind, _, rest), text in marked if kind == "file"}


def flows() -> tuple[str, ...]:
    """YAML texts of whole flows."""
    written = [path.read_text(encoding="utf-8") for path in sorted(ROOT.glob("examples/*/flow.yaml"))]
    everything = (ROOT / "tests" / "flow" / "everything.yaml").read_text(encoding="utf-8")
    return (everything, *written, *_completed_parts())


def runnable_flows() -> tuple[str, ...]:
    """Return the flows of the page that need nothing but its rows and the engine without a model."""
    base = page_files()["example.yaml"]
    return (base, *(text for text in _completed_parts() if _is_runnable(text)))


def _is_runnable(text: str) -> bool:
    flow = json.loads(text)
    nodes = json.dumps(flow.get("nodes", {}))
    calls = any(f'"{operator}":' in nodes for operator in ("python", "sql", "http", "mcp"))
    paths = all(isinstance(source, str) or "path" in source for source in flow["inputs"].values())
    kinds = all(engine["kind"] in (None, "null") for engine in flow["engines"].values())
    return not calls and paths and kinds


def _completed_parts() -> list[str]:
    yaml = YAML(typ="safe", pure=True)
    base = yaml.load(page_files()["example.yaml"])
    found: list[str] = []
    for block in blocks(LANGUAGE):
        if block.language == "yaml" and not block.mark.startswith(("file", "not run")):
            found.append(json.dumps(_completed(base, yaml.load(block.text)), indent=1))
    return found


def _completed(base: dict[str, Any], part: dict[str, Any]) -> dict[str, Any]:
    flow = {**base, **part}
    if "outputs" not in part:
        flow["outputs"] = {"row": "{{ row }}"}
    return flow if "nodes" in part else {**flow, "nodes": {}, "outputs": {"row": "{{ row }}"}}


def write_rows(folder: Path) -> None:
    """The files that the flows of the page read."""
    for name, text in page_files().items():
        (folder / name).write_text(text, encoding="utf-8")
