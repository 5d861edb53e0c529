"""This module holds what one server serves: the live host, and the flow files that it has loaded.

Owns loading and reloading: a bad file leaves the flow that was served before. Never speaks HTTP.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from sundog.access.principal import Principal
from sundog.config import Config
from sundog.errors import FlowError, SundogError
from sundog.ir.logical import EngineBlock
from sundog.live.host import LiveHost, open_live_host
from sundog.live.tracing import LiveTracing
from sundog.serve.batches.figures import BatchFigures
from sundog.serve.engine_file import DEFAULT_ENGINE
from sundog.serve.loading import LoadedFlow, check_flow_names, load_served, replanned

log = logging.getLogger("sundog.serve")
LOOK_S = 1.0
RENEW_S = 60.0
"""Plans are made anew so often, where rows have shown anything since."""


class Serving:
    """This class holds what is served now."""

    def __init__(self, host: LiveHost, config: Config) -> None:
        self.host = host
        self.config = config
        #: By name.
        self.loaded: dict[str, LoadedFlow] = {}
        self.is_stopping = False
        self.batch_figures = BatchFigures()
        #: By file, why its last reload failed; none for a file that is served as it is.
        self.reload_errors: dict[str, str] = {}
        self._changed_at: dict[Path, float] = {}

    async def load(self, paths: Sequence[Path]) -> None:
        """Serve the flows of some files. The first error is raised, and nothing of that file is served."""
        flows = [await asyncio.to_thread(load_served, path, self.config) for path in paths]
        check_flow_names(flows)
        for flow in flows:
            await self._serve(flow)

    async def reload(self) -> None:
        """Read all files again. What cannot be served leaves the old flow in its place."""
        for flow in list(self.loaded.values()):
            await self._reload(flow)

    async def look_for_changes(self) -> None:
        """Reload flows whose files change, for as long as nobody cancels this."""
        while True:
            await asyncio.sleep(LOOK_S)
            for flow in list(self.loaded.values()):
                if _changed_at(flow.path) != self._changed_at[flow.path]:
                    await self._reload(flow)

    async def keep_plans_fresh(self) -> None:
        """Renew plans now and then, for as long as nobody cancels this."""
        while True:
            await asyncio.sleep(RENEW_S)
            await self.renew_plans()

    async def renew_plans(self) -> None:
        """Keep what rows have shown, and plan those flows by it of which they have shown something. Rows end with the
        plan that they began with. A flow that cannot be planned is served on as it was."""
        shown, failures = await self.host.keep_history()
        for failure in failures:
            log.error("what rows have shown is not kept now: %s", failure)
        for name in shown:
            flow = self.loaded[name]
            try:
                renewed = await asyncio.to_thread(replanned, flow, self.config)
                if self.loaded[name] is flow:
                    await self.host.serve(renewed.served)
                    self.loaded[name] = renewed
            except SundogError as error:
                log.error("the plan of the flow '%s' is not renewed: %s", name, error)

    def reload_errors_for(self, principal: Principal | None) -> dict[str, str]:
        """Return, by file, why reloads failed, of those flows that `principal` may use; None may use all."""
        flows = [one for one in self.loaded.values() if principal is None or principal.allows_flow(one.name)]
        paths = [str(flow.path) for flow in flows]
        return {path: self.reload_errors[path] for path in paths if path in self.reload_errors}

    async def drain(self, within_s: float) -> None:
        """Take nothing more, and return when what was accepted has ended, or after `within_s`."""
        self.is_stopping = True
        await self.host.drain(within_s)

    async def _reload(self, old: LoadedFlow) -> None:
        path = old.path
        self._changed_at[path] = _changed_at(path)
        try:
            flow = await asyncio.to_thread(load_served, path, self.config)
            if flow.name != old.name:
                what = f"the flow was named '{old.name}' and is now named '{flow.name}'"
                raise FlowError(what, where=str(path), hint="start the server again to serve it under another name")
            await self._serve(flow)
        except SundogError as error:
            self.reload_errors[str(path)] = str(error)
            log.error("%s is not reloaded, the flow '%s' goes on as it was: %s", path, old.name, error)
            return
        self.reload_errors.pop(str(path), None)
        log.info("reloaded the flow '%s' of %s", flow.name, path)

    async def _serve(self, flow: LoadedFlow) -> None:
        await self.host.serve(flow.served)
        self.loaded[flow.name] = flow
        self._changed_at[flow.path] = _changed_at(flow.path)


def _changed_at(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


@asynccontextmanager
async def open_serving(
    config: Config,
    paths: Sequence[Path],
    engines: Sequence[EngineBlock] = (),
    tracing: LiveTracing | None = None,
) -> AsyncIterator[Serving]:
    """Yield a live host that serves the flows of some files and the models of all engines, of the embedded one where
    there is no other; SundogError where one of them cannot be served."""
    async with open_live_host(config.state_dir, config.secrets, tracing=tracing) as host:
        serving = Serving(host, config)
        await host.engines.open(engines, host.driver)
        await serving.load(paths)
        if not host.engines.engines and not paths:
            await host.engines.open([DEFAULT_ENGINE], host.driver)
        yield serving
