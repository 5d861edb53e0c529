"""The server: the application on a socket, from its start to the end of what it has accepted.

Owns signals, the order of a stop, and the limits of connections. Never answers a request.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import socket
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import uvicorn
from starlette.applications import Starlette

from sundog.access.api_keys import APIKeys
from sundog.config import Config
from sundog.errors import ConfigError
from sundog.host.beside import beside
from sundog.ir.logical import EngineBlock
from sundog.serve.app import make_watch_app, open_app
from sundog.serve.batches.quota import MAX_KEPT_BYTES
from sundog.serve.connections.bounded import BoundedConfig, look_at_connections
from sundog.serve.connections.files import allowed_files
from sundog.serve.connections.limits import ConnectionLimits
from sundog.serve.seeing.watching import WatchedRun
from sundog.serve.serving import Serving, open_serving
from sundog.serve.sites import is_of_this_machine
from sundog.serve.tracing.exporting import open_traces
from sundog.store.store import Store

log = logging.getLogger("sundog.serve")
KEEP_ALIVE_S = 75
"""Longer than clients keep a connection that they do not use, so that none is closed under a request."""
BACKLOG = 2048
DEFAULT_LIMITS = ConnectionLimits()
MAX_HURRY_S = 2.0
"""A server that is to end at once has so long to let go of what it holds."""
GRACE_S = 2
"""Streams that are still open when all work has ended are given so long to be read."""


class StoppedAtOnce(Exception):
    """Raised where a second signal has ended a server that waited for accepted work; caught by the command."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        #: The number of the signal.
        self.number = number


@dataclass(frozen=True, slots=True)
class ListenOptions:
    """The choices of whoever starts a server."""

    host: str = "127.0.0.1"
    #: 0 takes a free one.
    port: int = 8321
    #: The engines that are served as models, beside those of flows.
    engines: tuple[EngineBlock, ...] = ()
    #: Seconds that accepted work has to end after the server was asked to stop; what is left goes on at the next start.
    drain_s: float = 30.0
    #: Spans of what it does go to a receiver.
    is_traced: bool = False
    #: The names that it answers to without keys, beside those of this machine.
    allowed_hosts: tuple[str, ...] = ()
    #: The files of one key have so many bytes together at most.
    max_kept_bytes: int = MAX_KEPT_BYTES
    #: The limits of its connections.
    limits: ConnectionLimits = DEFAULT_LIMITS


async def serve_flows(
    config: Config, paths: Sequence[Path], options: ListenOptions, on_ready: Callable[[str, Serving], None]
) -> None:
    """Serve until a signal asks for the end. `on_ready` hears of the address. Raises what the host failed with, and
    StoppedAtOnce where another signal has ended its wait for accepted work."""
    check_listen_address(options.host, has_keys=_has_keys(config.state_dir))
    with listening(options.host, options.port) as listener:
        limits = options.limits.within(allowed_files(options.limits.num_files))
        async with (
            open_traces(is_on=options.is_traced) as traces,
            open_serving(config, paths, options.engines, traces) as serving,
            beside(serving.look_for_changes()),
            beside(serving.keep_plans_fresh()),
            open_app(serving, allowed_hosts=options.allowed_hosts, max_kept_bytes=options.max_kept_bytes) as app,
        ):
            server = _Server(_configured(app, limits))
            stop = asyncio.Event()
            async with beside(look_at_connections(server, limits)):
                with _signals(stop, serving) as hurry:
                    running = asyncio.ensure_future(server.serve(sockets=[listener]))
                    on_ready(_address(listener), serving)
                    _leave_to_itself_what_stays()
                    await _until_stopped(stop, running, serving)
                    await _drained(serving, options.drain_s, hurry)
                    server.should_exit = True
                    server.force_exit = hurry.done()
                    await running
            if serving.host.failure.done():
                serving.host.failure.result()
    if hurry.done():
        raise StoppedAtOnce(hurry.result())


async def serve_watched(config: Config, run_id: str, options: ListenOptions, on_ready: Callable[[str], None]) -> None:
    """Show a run of the state folder until a signal asks for the end. `on_ready` hears of the address."""
    store = Store(config.state_dir)
    try:
        check_listen_address(options.host, has_keys=APIKeys(store).is_any())
        with listening(options.host, options.port) as listener:
            limits = options.limits.within(allowed_files(options.limits.num_files))
            app = make_watch_app(WatchedRun(config.state_dir, run_id), store, options.allowed_hosts)
            server = _Server(_configured(app, limits))
            async with beside(look_at_connections(server, limits)):
                with _ended_by_signals(server):
                    on_ready(_address(listener))
                    await server.serve(sockets=[listener])
    finally:
        store.close()


@asynccontextmanager
async def running_server(app: Starlette, limits: ConnectionLimits = DEFAULT_LIMITS) -> AsyncIterator[str]:
    """The address of a server of an application, for this machine alone, on a free port, while the context lasts."""
    with listening("127.0.0.1", 0) as listener:
        server = _Server(_configured(app, limits))
        running = asyncio.ensure_future(server.serve(sockets=[listener]))
        async with beside(look_at_connections(server, limits)):
            try:
                yield _address(listener)
            finally:
                server.should_exit = True
                await running


def check_listen_address(host: str, *, has_keys: bool) -> None:
    """Raise ConfigError for an address that others reach: without keys, everybody could use the engines."""
    if not has_keys and not is_of_this_machine(host):
        what = f"without keys the server listens on this machine alone, not on {host}"
        raise ConfigError(what, hint="make a key first: sundog keys add NAME")


def _has_keys(state_dir: Path) -> bool:
    store = Store(state_dir)
    try:
        return APIKeys(store).is_any()
    finally:
        store.close()


@contextmanager
def listening(host: str, port: int) -> Iterator[socket.socket]:
    """The socket of the server; ConfigError where the port is taken."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, port))
        except OSError as error:
            what = f"nothing can listen on {host}:{port}: {error.strerror}"
            raise ConfigError(what, hint="choose another --port, or 0 for a free one") from error
        listener.listen(BACKLOG)
        yield listener


class _Server(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals to this module: accepted work comes to its end before the socket is closed."""
        yield


def _configured(app: Starlette, limits: ConnectionLimits) -> uvicorn.Config:
    return BoundedConfig(
        app,
        limits,
        ws="none",
        proxy_headers=False,
        log_config=None,
        access_log=False,
        lifespan="off",
        server_header=False,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=GRACE_S,
    )


def _leave_to_itself_what_stays() -> None:
    """Take what is there now out of the collector's sight: it lasts as long as the server, and to look through it again
    and again would hold every answer up for tens of milliseconds."""
    gc.collect()
    gc.freeze()


async def _drained(serving: Serving, within_s: float, hurry: asyncio.Future[int]) -> None:
    """Wait for accepted work, for `within_s` at most, or until `hurry` is done."""
    draining = asyncio.ensure_future(serving.drain(within_s))
    any_of: list[asyncio.Future[Any]] = [draining, hurry]
    await asyncio.wait(any_of, return_when=asyncio.FIRST_COMPLETED)
    if not draining.done():
        draining.cancel()
        await asyncio.wait({draining})
        serving.host.driver.stop()
    else:
        draining.result()


async def _until_stopped(stop: asyncio.Event, running: asyncio.Future[None], serving: Serving) -> None:
    stopped = asyncio.ensure_future(stop.wait())
    any_of: list[asyncio.Future[Any]] = [stopped, running, serving.host.failure]
    await asyncio.wait(any_of, return_when=asyncio.FIRST_COMPLETED)
    stopped.cancel()


@contextmanager
def _ended_by_signals(server: uvicorn.Server) -> Iterator[None]:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, setattr, server, "should_exit", True)
    try:
        yield
    finally:
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(number)


@contextmanager
def _signals(stop: asyncio.Event, serving: Serving) -> Iterator[asyncio.Future[int]]:
    """SIGTERM and SIGINT end the server, SIGHUP has it read the files again. Yields what is done, with its number, when
    another one comes while the server ends; a third one has no handler, and ends the process."""
    loop = asyncio.get_running_loop()
    hurry: asyncio.Future[int] = loop.create_future()

    def end(number: int) -> None:
        if not stop.is_set():
            stop.set()
            return
        if hurry.done():
            # It came before its handler was gone.
            return
        log.warning("a second signal: the server ends at once, and what has not ended goes on at its next start")
        for one in (signal.SIGTERM, signal.SIGINT):
            loop.remove_signal_handler(one)
        # A thread of a step that never ends would keep the process.
        ending = threading.Timer(MAX_HURRY_S, os._exit, (128 + number,))
        ending.daemon = True
        ending.start()
        hurry.set_result(number)

    reloads: set[asyncio.Task[None]] = set()

    def reload() -> None:
        task = loop.create_task(serving.reload())
        reloads.add(task)
        task.add_done_callback(reloads.discard)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, end, number)
    loop.add_signal_handler(signal.SIGHUP, reload)
    try:
        yield hurry
    finally:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            loop.remove_signal_handler(number)


def _address(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
