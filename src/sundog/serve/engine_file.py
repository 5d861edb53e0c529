"""The file of engines that a server serves as models, beside those of its flows.

Owns its form: `engines`, as in a flow, and nothing else. Never opens one.
"""

from __future__ import annotations

from pathlib import Path

from sundog.errors import FlowError
from sundog.flow.bind import bind
from sundog.flow.files.flow_file import read_flow_file
from sundog.ir.logical import EngineBlock

DEFAULT_ENGINE = EngineBlock("local", "openvino", {"model": "smollm2-135m"})
"""The engine of a server that is told of no other: the embedded one."""
_NO_ROWS = {"name": "engines", "inputs": {"rows": {"path": "rows.jsonl"}}, "nodes": {}, "outputs": {"row": "{{ row }}"}}


def load_engines(path: Path) -> tuple[EngineBlock, ...]:
    """Return the engines of a file; FlowError, with its place, for what is wrong in it."""
    document = read_flow_file(path)
    data = document.data
    if not isinstance(data, dict) or set(data) != {"engines"}:
        what = "a file of engines has the key `engines`, and no other"
        raise FlowError(what, where=str(path), hint="as in: engines: {local: {kind: openvino, model: smollm2-135m}}")
    return bind({**_NO_ROWS, **data}, document.positions, base_dir=path.parent).engines
