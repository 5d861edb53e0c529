"""A gateway in this process, on a loop and in a thread of its own: the agents' code may block its own loop.

Owns the start and the end of the thread. What is served is serve's affair.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from starlette.applications import Starlette

from sundog.config import Config
from sundog.ir.logical import EngineBlock
from sundog.serve.app import open_app
from sundog.serve.connections.limits import ConnectionLimits
from sundog.serve.server import DEFAULT_LIMITS, running_server
from sundog.serve.serving import Serving, open_serving


class GatewayThread:
    """One gateway that runs."""

    def __init__(
        self,
        config: Config,
        engines: Sequence[EngineBlock],
        flows: Sequence[Path] = (),
        limits: ConnectionLimits = DEFAULT_LIMITS,
        *,
        has_batches: bool = False,
    ) -> None:
        self._config = config
        self._flows = flows
        self._engines = engines
        self._limits = limits
        self._has_batches = has_batches
        self._is_up = threading.Event()
        self._stop: tuple[asyncio.AbstractEventLoop, asyncio.Event] | None = None
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._work, name="sundog-gateway", daemon=True)
        #: The address, once it is up.
        self.address = ""
        self._up: tuple[Serving, asyncio.AbstractEventLoop] | None = None
        self._app: Starlette | None = None

    def start(self) -> None:
        """Return when it answers; raises why it does not."""
        self._thread.start()
        self._is_up.wait()
        self._raise_failure()

    @property
    def serving(self) -> Serving:
        """Return what is served; it belongs to `loop`."""
        assert self._up is not None, "start first"
        return self._up[0]

    @property
    def app(self) -> Starlette:
        """Return the application that answers."""
        assert self._app is not None, "start first"
        return self._app

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """Return the loop of its thread."""
        assert self._up is not None, "start first"
        return self._up[1]

    def stop(self) -> None:
        """Return when it has ended; raises what it failed with."""
        if self._stop is not None:
            loop, stop = self._stop
            loop.call_soon_threadsafe(stop.set)
        self._thread.join()
        self._raise_failure()

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise self._failure

    def _work(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as error:  # the thread that started this one raises it
            self._failure = error
        finally:
            self._is_up.set()

    async def _serve(self) -> None:
        stop = asyncio.Event()
        async with (
            open_serving(self._config, self._flows, self._engines) as serving,
            open_app(serving, has_batches=self._has_batches) as app,
            running_server(app, self._limits) as self.address,
        ):
            self._app = app
            self._up = serving, asyncio.get_running_loop()
            self._stop = asyncio.get_running_loop(), stop
            self._is_up.set()
            await stop.wait()


@contextmanager
def gateway_thread(
    config: Config,
    engines: Sequence[EngineBlock],
    flows: Sequence[Path] = (),
    limits: ConnectionLimits = DEFAULT_LIMITS,
    *,
    has_batches: bool = False,
) -> Iterator[GatewayThread]:
    """A gateway, which serves some flows too, and batches where it is to, while the context lasts."""
    gateway = GatewayThread(config, engines, flows, limits, has_batches=has_batches)
    gateway.start()
    try:
        yield gateway
    finally:
        gateway.stop()
