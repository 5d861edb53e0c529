"""Writes of a connection: a head leaves with what follows it in the same turn of the loop; nothing is late or lost."""

from __future__ import annotations

import asyncio
from typing import Any, cast

from sundog.serve.connections.joined_writes import JoinedWrites

HEAD = b"HTTP/1.1 200 OK\r\n\r\n"


class Sent:
    """A transport that keeps what is written."""

    def __init__(self) -> None:
        self.told: list[bytes] = []

    def write(self, data: bytes) -> None:
        self.told.append(data)

    def close(self) -> None:
        self.told.append(b"closed")

    def is_closing(self) -> bool:
        return b"closed" in self.told


def test_a_head_leaves_with_its_body_and_pieces_leave_at_once() -> None:
    async def write() -> list[list[bytes]]:
        sent = Sent()
        joined = JoinedWrites(cast(Any, sent), asyncio.get_running_loop())
        joined.write(HEAD)
        seen = [list(sent.told)]
        for piece in (b"one", b"two"):
            joined.write(piece)
            seen.append(list(sent.told))
        await asyncio.sleep(0)
        return [*seen, sent.told]

    assert asyncio.run(write()) == [[], [HEAD + b"one"], *[[HEAD + b"one", b"two"]] * 2]


def test_a_head_alone_leaves_at_the_end_of_the_turn() -> None:
    async def write() -> list[bytes]:
        sent = Sent()
        joined = JoinedWrites(cast(Any, sent), asyncio.get_running_loop())
        joined.write(HEAD)
        await asyncio.sleep(0)
        joined.write(b"later")
        return sent.told

    assert asyncio.run(write()) == [HEAD, b"later"]


def test_closing_sends_the_head_first_and_the_rest_is_the_transports_own() -> None:
    async def write() -> list[bytes]:
        sent = Sent()
        joined = JoinedWrites(cast(Any, sent), asyncio.get_running_loop())
        joined.write(HEAD)
        joined.close()
        assert joined.is_closing()
        await asyncio.sleep(0)
        return sent.told

    assert asyncio.run(write()) == [HEAD, b"closed"]
