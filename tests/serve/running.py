"""A server of the live host on loopback, in a thread of the test."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import uvicorn

from sundog.config import Config
from sundog.ir.logical import EngineBlock
from sundog.secrets import Secrets
from sundog.serve.app import make_app
from sundog.serve.server import listening
from sundog.serve.serving import Serving, open_serving


class Running:
    """One server that runs. `serving` belongs to its loop."""

    def __init__(self, address: str, serving: Serving, loop: asyncio.AbstractEventLoop) -> None:
        self.address = address
        self.serving = serving
        self.loop = loop


@contextmanager
def running(state_dir: Path, flows: Sequence[Path] = (), engines: Sequence[EngineBlock] = ()) -> Iterator[Running]:
    """Run a server until the context ends."""
    begun: list[Running] = []
    is_up, stop = threading.Event(), threading.Event()
    failures: list[BaseException] = []

    async def serve() -> None:
        with listening("127.0.0.1", 0) as listener:
            async with open_serving(Config(state_dir, Secrets({})), flows, engines) as serving:
                options = uvicorn.Config(
                    make_app(serving), log_config=None, lifespan="off", timeout_graceful_shutdown=1
                )
                server = uvicorn.Server(options)
                task = asyncio.ensure_future(server.serve(sockets=[listener]))
                begun.append(
                    Running(f"http://127.0.0.1:{listener.getsockname()[1]}", serving, asyncio.get_running_loop())
                )
                is_up.set()
                await asyncio.to_thread(stop.wait)
                server.should_exit = True
                await task

    def work() -> None:
        try:
            asyncio.run(serve())
        except BaseException as error:  # told to the test
            failures.append(error)
        finally:
            is_up.set()

    thread = threading.Thread(target=work)
    thread.start()
    try:
        is_up.wait()
        if failures:
            raise failures[0]
        yield begun[0]
    finally:
        stop.set()
        thread.join()
    if failures:
        raise failures[0]
