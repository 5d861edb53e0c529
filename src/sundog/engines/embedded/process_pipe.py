"""Messages between an engine and its process: Python objects of any size over a pair of pipes.

Owns their form on the pipe (a length, then a pickle) and both ways of reading it. Never knows what they mean.
"""

from __future__ import annotations

import asyncio
import os
import pickle
import select
import struct
from typing import Any

MESSAGE_HEADER = struct.Struct("!Q")
READ_BYTES = 1 << 16


def pack(message: Any) -> bytes:
    body = pickle.dumps(message, protocol=pickle.HIGHEST_PROTOCOL)
    return MESSAGE_HEADER.pack(len(body)) + body


async def receive(reader: asyncio.StreamReader) -> Any:
    """Return the next message; asyncio.IncompleteReadError when the other side is gone."""
    (size,) = MESSAGE_HEADER.unpack(await reader.readexactly(MESSAGE_HEADER.size))
    return pickle.loads(await reader.readexactly(size))


def send(pipe: int, message: Any) -> None:
    """Send a message. It waits while the pipe is full; BrokenPipeError when the other side is gone."""
    left = memoryview(pack(message))
    while left:
        left = left[os.write(pipe, left) :]


class Inbox:
    """Messages that arrive on `pipe`, a file descriptor."""

    def __init__(self, pipe: int) -> None:
        self._pipe = pipe
        self._bytes = bytearray()

    def receive(self, *, is_blocking: bool) -> list[Any]:
        """Return all that have arrived whole, at least one if `is_blocking`; EOFError when the other side is gone."""
        messages: list[Any] = []
        while True:
            if (message := self._next()) is not None:
                messages.append(pickle.loads(message))
            elif (is_blocking and not messages) or select.select([self._pipe], [], [], 0)[0]:
                data = os.read(self._pipe, READ_BYTES)
                if not data:
                    raise EOFError
                self._bytes += data
            else:
                return messages

    def _next(self) -> bytes | None:
        if len(self._bytes) < MESSAGE_HEADER.size:
            return None
        (size,) = MESSAGE_HEADER.unpack_from(self._bytes)
        end = MESSAGE_HEADER.size + size
        if len(self._bytes) < end:
            return None
        message = bytes(self._bytes[MESSAGE_HEADER.size : end])
        del self._bytes[:end]
        return message
