"""A flow file as a plan, with inputs read from where the user says.

Owns the replacement of paths. Never opens an input.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from sundog.errors import ConfigError, suggest
from sundog.flow.agents.server_lists import ASKED_LISTS, ServerLists
from sundog.flow.bind import load_flow
from sundog.ir.logical import InputSource, LogicalPlan


def load_plan(path: Path, inputs: Mapping[str, str | Path], lists: ServerLists = ASKED_LISTS) -> LogicalPlan:
    """Return the plan of a flow file. `inputs`: other paths for inputs, from the working directory; globs as in a flow.
    In the flow's folder they are counted from that, so that they are the same wherever it lies.
    `lists`: gives the tools of servers.
    FlowError for what is wrong in the flow, ConfigError for an input that it does not have."""
    plan = load_flow(path, lists=lists)
    known = [source.name for source in plan.inputs]
    for name in inputs:
        if name not in known:
            raise ConfigError(f"the flow has no input '{name}'", where=str(path), hint=suggest(name, known))
    return replace(
        plan, inputs=tuple(_read_from(source, inputs.get(source.name), path.parent) for source in plan.inputs)
    )


def _read_from(source: InputSource, path: str | Path | None, folder: Path) -> InputSource:
    if path is None:
        return source
    types = source.types if source.path is not None else {}
    absolute = Path(path).absolute()
    in_folder = absolute.is_relative_to(folder.absolute())
    found = absolute.relative_to(folder.absolute()) if in_folder else absolute
    return InputSource(source.name, path=str(found), key=source.key, types=types, at=source.at)
