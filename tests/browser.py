"""A headless Chromium that a test drives through its debugging protocol; tests are skipped where there is none."""

from __future__ import annotations

import asyncio
import base64
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import aiohttp
import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome")
START_S, TURN_S = 60.0, 0.05
FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-extensions",
    "--disable-background-networking",
    "--disable-component-update",
    "--no-first-run",
    "--no-proxy-server",
    "--remote-debugging-port=0",
)
DESKTOP, PHONE = (1280, 900), (360, 740)


def chromium() -> str:
    """Return the browser's program; the test is skipped where there is none."""
    found = next((path for name in NAMES if (path := shutil.which(name))), None)
    if found is None:
        pytest.skip(f"none of {', '.join(NAMES)} is installed")
    return found


class Tab:
    """This class drives one tab."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._numbers = count(1)
        #: What the page complained of: errors of scripts, and what its security policy has refused.
        self.complaints: list[str] = []

    async def send(self, method: str, **params: Any) -> dict[str, Any]:
        """Return what the browser answers to a command."""
        number = next(self._numbers)
        await self._socket.send_json({"id": number, "method": method, "params": params})
        while True:
            told = await self._socket.receive_json(timeout=START_S)
            if told.get("id") == number:
                assert "error" not in told, told
                return dict(told["result"])
            self._heard(told)

    def _heard(self, told: dict[str, Any]) -> None:
        match told:
            case {"method": "Runtime.exceptionThrown", "params": params}:
                self.complaints.append(str(params["exceptionDetails"]))
            case {"method": "Log.entryAdded", "params": {"entry": {"level": "error", "text": text}}}:
                self.complaints.append(text)

    async def open(self, address: str, size: tuple[int, int] = DESKTOP, *, is_dark: bool = False) -> None:
        """Load a page and wait until it is there."""
        for domain in ("Page", "Runtime", "Log", "Accessibility"):
            await self.send(f"{domain}.enable")
        width, height = size
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        await self.send("Emulation.setDeviceMetricsOverride", **metrics)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if is_dark else "light"}
        await self.send("Emulation.setEmulatedMedia", features=[scheme])
        await self.send("Page.navigate", url=address)
        await self.until("document.readyState === 'complete'")

    async def value(self, script: str) -> Any:
        """Return the value of an expression in the page."""
        told = await self.send("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in told, told
        return told["result"].get("value")

    async def until(self, script: str) -> None:
        """Return once an expression is true."""
        for _ in range(int(START_S / TURN_S)):
            if await self.value(script):
                return
            await asyncio.sleep(TURN_S)
        raise TimeoutError(f"{script} is not true after {START_S:g} s")

    async def press(self, key: str) -> None:
        """Press a key, as Tab or Enter."""
        text = {"text": "\r"} if key == "Enter" else {}
        code = {"Tab": 9, "Enter": 13}[key]
        for kind in ("keyDown", "keyUp"):
            more = text if kind == "keyDown" else {}
            await self.send("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code, **more)

    async def picture(self) -> bytes:
        """Return a picture of the whole page."""
        return base64.b64decode((await self.send("Page.captureScreenshot", captureBeyondViewport=True))["data"])

    async def accessible(self) -> list[tuple[str, str]]:
        """Return the role and name of each node that assistive technology is shown, in order."""
        nodes = (await self.send("Accessibility.getFullAXTree"))["nodes"]
        shown = [node for node in nodes if not node["ignored"]]
        return [(node["role"]["value"], node.get("name", {}).get("value", "")) for node in shown]


@asynccontextmanager
async def browser_tab(*, has_script: bool = True) -> AsyncIterator[Tab]:
    """Yield a tab of a browser of its own."""
    with _browser() as port:
        async with aiohttp.ClientSession() as session:
            async with session.get(f"http://127.0.0.1:{port}/json/list") as answer:
                tabs = await answer.json(content_type=None)
            address = next(one["webSocketDebuggerUrl"] for one in tabs if one["type"] == "page")
            async with session.ws_connect(address, max_msg_size=0) as socket:
                tab = Tab(socket)
                await tab.send("Emulation.setScriptExecutionDisabled", value=not has_script)
                yield tab


@contextmanager
def _browser() -> Iterator[int]:
    """The port of a browser that runs until the context ends."""
    program = chromium()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        environment = {**os.environ, "HOME": folder}
        command = [program, *FLAGS, f"--user-data-dir={folder}", "about:blank"]
        quiet = subprocess.DEVNULL
        with subprocess.Popen(command, env=environment, stdout=quiet, stderr=quiet) as process:
            try:
                yield _port(Path(folder) / "DevToolsActivePort")
            finally:
                process.terminate()


def _port(path: Path) -> int:
    """Return the port that the browser writes down once it listens."""
    for _ in range(int(START_S / TURN_S)):
        if path.exists() and (text := path.read_text().split()):
            return int(text[0])
        time.sleep(TURN_S)
    raise TimeoutError(f"the browser does not listen after {START_S:g} s")
