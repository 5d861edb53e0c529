"""The client against servers that send any bytes: what fails, whether it had been sent, and what is kept."""

from __future__ import annotations

import asyncio
import gzip
import os
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from sundog.transport.answer import WholeAnswer
from sundog.transport.client import Client, Request
from sundog.transport.connection import WatchedConnection
from sundog.transport.faults import Broken, Damaged, Silent, TooLarge, TransportFault, Unreachable
from sundog.transport.send_progress import SendProgress
from tests.transport.raw_server import OK, Answering, RawServer, close_at_once, serving, then_close, then_wait

HEAD = b"HTTP/1.1 200 OK\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
WAIT_S = 10.0


@pytest.fixture(autouse=True)
def probe_briefly(monkeypatch: pytest.MonkeyPatch) -> None:
    """These servers wait for the end of a head, where others close on what is no HTTP."""
    monkeypatch.setattr("sundog.transport.client.PROBE_TIMEOUT_S", 0.05)


def use(*script: bytes | Answering, test: Callable[[Client, RawServer], Awaitable[None]]) -> None:
    async def run() -> None:
        async with serving(*script) as server, asyncio.timeout(WAIT_S):
            client = Client(proxy="")
            try:
                await test(client, server)
            finally:
                await client.close()

    asyncio.run(run())


async def get(client: Client, server: RawServer, *, max_bytes: int = 10**6, method: str = "GET") -> WholeAnswer:
    request = Request(method, server.origin + "/", is_repeatable=method in ("GET", "POST"))
    return await client.fetch(request, max_bytes=max_bytes, within_s=WAIT_S)


def test_one_connection_serves_one_request_after_the_other() -> None:
    async def test(client: Client, server: RawServer) -> None:
        answers = [await get(client, server) for _ in range(5)]
        assert [(one.status, one.body) for one in answers] == [(200, b"ok")] * 5
        assert server.num_connections == 1
        assert "cookie" not in "".join(server.heads).lower()

    use(HEAD + b"Set-Cookie: a=b\r\nContent-Length: 2\r\n\r\nok", OK, test=test)


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (close_at_once, Broken),
        (then_close(b"HTTP/1.1 200"), Broken),
        (then_close(HEAD + b"Content-Length: 9\r\n\r\nhalf"), Broken),
        (then_close(CHUNKED + b"4\r\nha"), Broken),
        (then_close(CHUNKED + b"zz\r\nhalf\r\n"), Damaged),
        (then_close(b"nonsense\r\n\r\n"), Damaged),
        (then_close(b"\x15\x03\x01\x00\x02\x02\x16"), Damaged),
        (then_close(HEAD + b"Content-Length: -4\r\n\r\n"), Damaged),
        (then_close(HEAD + b"Content-Length: x\r\n\r\n"), Damaged),
        (then_close(HEAD + b"A" * 10**6), Damaged),
        (then_close(HEAD + b"X: y\r\n" * 10**5 + b"\r\n"), Damaged),
        (then_close(HEAD + b"Content-Encoding: gzip\r\nContent-Length: 4\r\n\r\nhalf"), Damaged),
    ],
)
def test_an_answer_that_is_none(answer: Answering, kind: type[TransportFault]) -> None:
    async def test(client: Client, server: RawServer) -> None:
        with pytest.raises(kind) as caught:
            await get(client, server)
        assert caught.value.is_sent
        assert server.origin.rpartition(":")[2] not in str(caught.value)

    use(answer, test=test)


def test_nobody_there_means_nothing_was_sent() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]

        async def ask(url: str) -> None:
            client, progress = Client(proxy=""), SendProgress()
            try:
                with pytest.raises(Unreachable) as caught:
                    async with client.open(Request("POST", url), progress=progress):
                        pass
                assert not caught.value.is_sent
                assert not progress.is_sending
            finally:
                await client.close()

        asyncio.run(ask(f"http://127.0.0.1:{port}/"))
        asyncio.run(ask("http://nowhere.invalid/"))


@pytest.mark.parametrize("body", [b"a" * 5000, gzip.compress(b"a" * 10**7)])
def test_a_body_past_its_bound_is_not_read_on(body: bytes) -> None:
    encoding = b"Content-Encoding: gzip\r\n" if body[:1] == b"\x1f" else b""

    async def test(client: Client, server: RawServer) -> None:
        with pytest.raises(TooLarge):
            await get(client, server, max_bytes=1000)

    use(HEAD + encoding + b"Content-Length: %d\r\n\r\n" % len(body) + body, test=test)


def test_of_an_error_the_beginning_is_read_for_a_moment() -> None:
    is_gone = asyncio.Event()

    async def test(client: Client, server: RawServer) -> None:
        async with client.open(Request("GET", server.origin)) as answer:
            assert await answer.read_start(3, WAIT_S) == b"why"
        await is_gone.wait()

    use(then_wait(b"HTTP/1.1 500 No\r\nContent-Length: 99\r\n\r\nwhy not", is_gone), test=test)


def test_silence_ends_a_request() -> None:
    is_gone = asyncio.Event()

    async def test(client: Client, server: RawServer) -> None:
        with pytest.raises(Silent):
            async with client.open(Request("GET", server.origin), silence_s=0.05) as answer:
                await answer.read(100)
        await is_gone.wait()

    use(then_wait(HEAD + b"Content-Length: 99\r\n\r\nhalf", is_gone), test=test)


def test_silence_is_counted_from_the_last_piece_and_one_timer_watches_many(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stream lasts longer than its silence may, and its end is told that long after the last piece."""
    is_gone, num_timers = asyncio.Event(), 0

    async def pieces(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(CHUNKED)
        for _ in range(40):
            writer.write(b"1\r\na\r\n")
            await asyncio.sleep(0.01)
        await reader.read()
        is_gone.set()

    set_timer = WatchedConnection._look_at

    def counted(one: WatchedConnection, at_s: float) -> None:
        nonlocal num_timers
        num_timers += 1
        set_timer(one, at_s)

    async def test(client: Client, server: RawServer) -> None:
        last_s, num_pieces = 0.0, 0
        loop = asyncio.get_running_loop()

        async def read() -> None:
            nonlocal last_s, num_pieces
            async with client.open(Request("GET", server.origin), silence_s=0.2) as answer:
                async for piece in answer:
                    last_s, num_pieces = loop.time(), num_pieces + len(piece)

        with pytest.raises(Silent):
            await read()
        assert num_pieces == 40
        assert loop.time() - last_s > 0.15
        await is_gone.wait()

    monkeypatch.setattr(WatchedConnection, "_look_at", counted)
    use(pieces, test=test)
    assert num_timers < 10


def test_a_kept_connection_is_watched_for_as_long_as_each_request_says() -> None:
    async def test(client: Client, server: RawServer) -> None:
        request = Request("GET", server.origin)
        async with client.open(request, silence_s=60.0) as answer:
            assert await answer.read(9) == b"ok"
        await asyncio.sleep(0.06)
        with pytest.raises(Silent):
            async with client.open(request, silence_s=0.05) as answer:
                await answer.read(100)
        assert server.num_connections == 1

    use(OK, then_wait(HEAD + b"Content-Length: 99\r\n\r\nhalf", asyncio.Event()), test=test)


@pytest.mark.parametrize("sent", [b"", HEAD + b"Content-Length: 99\r\n\r\nhalf"])
def test_giving_up_closes_the_connection(sent: bytes) -> None:
    has_asked, is_gone = asyncio.Event(), asyncio.Event()

    async def test(client: Client, server: RawServer) -> None:
        asking = asyncio.create_task(get(client, server))
        await has_asked.wait()
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        await is_gone.wait()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        has_asked.set()
        await then_wait(sent, is_gone)(reader, writer)

    use(answer, test=test)


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_kept_connection_that_the_server_closed_fails_no_request(method: str) -> None:
    async def test(client: Client, server: RawServer) -> None:
        await get(client, server)
        assert (await get(client, server, method=method)).body == b"ok"
        assert len(server.heads) == 3

    use(OK, close_at_once, OK, test=test)


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH"])
def test_an_effect_is_sent_once(method: str) -> None:
    """aiohttp by itself sends PUT and DELETE again."""

    async def test(client: Client, server: RawServer) -> None:
        await get(client, server)
        with pytest.raises(Broken):
            await get(client, server, method=method)
        assert len(server.heads) == 2

    use(OK, close_at_once, OK, test=test)


def test_the_repetition_takes_no_kept_connection() -> None:
    async def test(client: Client, server: RawServer) -> None:
        num_there, all_there = 0, asyncio.Event()

        async def together(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal num_there
            num_there += 1
            if num_there == 5:
                all_there.set()
            await all_there.wait()
            writer.write(OK)

        server.script = [together, together, together, together, together, close_at_once, OK]
        await asyncio.gather(*(get(client, server) for _ in range(5)))
        assert server.num_connections == 5
        await get(client, server)
        assert server.num_connections == 6

    use(OK, test=test)


def test_a_request_in_clear_text_to_a_port_with_tls_is_told_as_such(tmp_path: Path) -> None:
    from tests.transport.certificates import make_authority

    async def run() -> None:
        async with serving(OK, tls=make_authority(tmp_path).server_context()) as server:
            server.origin = server.origin.replace("https", "http")
            client = Client(proxy="")
            with pytest.raises(Broken) as caught:
                await get(client, server)
            assert caught.value.hint == "there is TLS at this port: write https://"
            await client.close()

    asyncio.run(run())


def test_a_server_that_has_answered_is_not_asked_for_tls() -> None:
    async def test(client: Client, server: RawServer) -> None:
        await get(client, server)
        with pytest.raises(Broken):
            await client.fetch(Request("POST", server.origin, is_repeatable=False), max_bytes=100, within_s=WAIT_S)
        assert server.num_connections == 1

    use(OK, close_at_once, test=test)


def test_no_descriptor_is_left_behind() -> None:
    async def test(client: Client, server: RawServer) -> None:
        before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - of this process, not of a folder of files
        for _ in range(300):
            with pytest.raises(TransportFault):
                await get(client, server)
            with pytest.raises(TransportFault):
                await get(client, server, max_bytes=1)
        await client.close()
        await server.close()
        assert len(os.listdir("/proc/self/fd")) <= before + 3  # noqa: PTH208 - as above

    half, whole = then_close(HEAD + b"Content-Length: 9\r\n\r\nhalf"), then_close(OK)
    use(*[half, whole] * 300, half, test=test)
