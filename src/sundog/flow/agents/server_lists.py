"""The question to a server for the tools that a flow uses all at once.

Owns the asking. Which list a run goes on with is the session's affair.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

from sundog.ir.logical import OperatorSpec
from sundog.ir.server_tools import ServerTools
from sundog.operators.base import ListingOperator
from sundog.secrets import Secrets


class ServerLists(Protocol):
    """This class gives the lists of servers' tools that flows are made of."""

    def tools_of(
        self, name: str, operator: ListingOperator, spec: OperatorSpec, flow: Mapping[str, Any]
    ) -> ServerTools:
        """Return the tools of the server that `spec` names and the set `name` is made of, for a flow that says `flow`
        of its steps; OperatorError where there is no list."""
        ...

    def left_out(self, name: str, tools: Sequence[str], reason: str) -> None:
        """Hear that the set `name` goes without tools of its server, all for one reason. `reason`: a phrase."""
        ...


class AskedLists:
    """These lists are those that the servers give now."""

    def tools_of(
        self, name: str, operator: ListingOperator, spec: OperatorSpec, flow: Mapping[str, Any]
    ) -> ServerTools:
        return ask_for_tools(operator, spec, Secrets(os.environ))

    def left_out(self, name: str, tools: Sequence[str], reason: str) -> None:
        """Nobody is there to be told."""


ASKED_LISTS = AskedLists()


def ask_for_tools(operator: ListingOperator, spec: OperatorSpec, secrets: Secrets) -> ServerTools:
    """Return the list that a server gives now, asked for in a thread of its own: the caller may be on an event loop."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(lambda: asyncio.run(operator.list_tools(spec, secrets))).result()
