"""The lists of servers' tools that a flow is planned with: those that the latest run of it began with, else those that
the servers give now. With another list the flow would be another one, and a repeated command would make effects again.

Owns that choice, the file beside the run, and what is told of a list that has changed.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sundog.config import Config
from sundog.errors import OperatorError
from sundog.flow.agents.server_lists import ask_for_tools
from sundog.ir.logical import OperatorSpec
from sundog.ir.server_tools import ServerTools, difference
from sundog.ir.values.canonical import describe_value, fingerprint
from sundog.operators.base import ListingOperator
from sundog.private_files import open_private

if TYPE_CHECKING:
    from sundog.runtime.preflight.inspection import PlanFinding

FILE = "tool_lists.json"
_NUM_SHOWN = 3


class KeptLists:
    """This class gives lists to one planning of a flow and remembers them. `is_fresh`: no earlier run counts."""

    def __init__(self, config: Config, *, is_fresh: bool = False) -> None:
        self._config = config
        self._is_fresh = is_fresh
        self._given: dict[str, ServerTools] = {}
        #: The sentences about the lists for a reader.
        self.findings: list[PlanFinding] = []

    def tools_of(
        self, name: str, operator: ListingOperator, spec: OperatorSpec, flow: Mapping[str, Any]
    ) -> ServerTools:
        key = fingerprint([describe_value(flow), name]).hex()
        run_id, kept = self._kept(key)
        try:
            now = ask_for_tools(operator, spec, self._config.secrets)
        except OperatorError as error:
            if kept is None:
                raise
            what = f"the tools are those with which run {run_id} began, as the server lists none now: {error.what}"
            self._note(name, what, error.hint)
            now = kept
        if kept is not None and (changes := difference(kept, now)):
            what = f"the tools are those with which run {run_id} began; the server lists others now ({changes})"
            self._note(name, what, "--fresh begins anew with those of now")
        self._given[key] = now if kept is None else kept
        return self._given[key]

    def left_out(self, name: str, tools: Sequence[str], reason: str) -> None:
        shown = ", ".join(f"'{tool}'" for tool in tools[:_NUM_SHOWN])
        others = f" and {len(tools) - _NUM_SHOWN:,} others" if len(tools) > _NUM_SHOWN else ""
        what = (
            f"the tool {shown} of the server is" if len(tools) == 1 else f"the tools {shown}{others} of the server are"
        )
        self._note(name, f"{what} left out: {reason}", None)

    def keep(self, folder: Path) -> None:
        """Write the lists beside a run that has begun with them."""
        if not self._given:
            return
        text = json.dumps({key: listed.to_dict() for key, listed in self._given.items()})
        staging = folder / f"{FILE}.part"
        with os.fdopen(open_private(staging, os.O_WRONLY | os.O_TRUNC), "w", encoding="utf-8") as file:
            file.write(text)
        staging.rename(folder / FILE)

    def _kept(self, key: str) -> tuple[str, ServerTools | None]:
        """Return the list with which the latest run of this flow began, and the run."""
        from sundog.runtime.kept_runs import run_folders  # few flows ask servers

        for run_id, folder in [] if self._is_fresh else run_folders(self._config.state_dir):
            path = folder / FILE
            if path.exists():
                written = json.loads(path.read_text("utf-8"))
                if key in written:
                    return run_id, ServerTools.of(written[key])
        return "", None

    def _note(self, name: str, what: str, hint: str | None) -> None:
        from sundog.runtime.preflight.inspection import PlanFinding  # as above

        self.findings.append(PlanFinding(f"tools '{name}'", what, hint, is_fatal=False))
