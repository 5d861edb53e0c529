"""When the head of a cluster is taken for lost. No cluster is started here: a head is a port that takes connections."""

from __future__ import annotations

import asyncio
import socket

import pytest

from sundog.errors import RunError
from sundog.ray.head import HeadWatch


def listening(port: int = 0) -> socket.socket:
    return socket.create_server(("127.0.0.1", port))


def watch_of(head: socket.socket) -> HeadWatch:
    return HeadWatch(f"127.0.0.1:{head.getsockname()[1]}", lost_after_s=0.3, look_every_s=0.02)


def test_a_head_that_is_gone_ends_what_waits_for_it() -> None:
    async def wait() -> None:
        with listening() as head:
            watch = watch_of(head)
            work = asyncio.ensure_future(watch.unless_lost(asyncio.Event().wait()))
            await asyncio.sleep(0.5)
            assert not work.done()
        await asyncio.wait_for(work, 5)

    with pytest.raises(RunError, match=r"head of the Ray cluster at 127.*has not answered.*\n.*repeat the command"):
        asyncio.run(wait())


def test_a_head_that_comes_back_in_time_was_not_lost() -> None:
    async def wait() -> bool:
        with listening() as head:
            watch, port = watch_of(head), head.getsockname()[1]
            work = asyncio.ensure_future(watch.unless_lost(asyncio.sleep(1.0, result=True)))
            await asyncio.sleep(0.05)
        await asyncio.sleep(0.1)
        with listening(port):
            await asyncio.sleep(0.4)
        # It is away a second time: that counts from here.
        await asyncio.sleep(0.1)
        with listening(port):
            return await work

    assert asyncio.run(wait())


def test_work_that_fails_fails_as_itself() -> None:
    async def fail() -> None:
        raise ValueError("its own")

    with listening() as head, pytest.raises(ValueError, match="its own"):
        asyncio.run(watch_of(head).unless_lost(fail()))
