"""The progress of a request on its way, as its connector sees it.

Owns the record alone. The connectors write it, the client and its callers read it.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class SendProgress:
    """The course of one request."""

    #: Its first byte may have left this machine.
    is_sending: bool = False
    #: The connection has served another request before.
    is_kept: bool = False
    #: It may not take such a connection.
    must_be_new: bool = False
