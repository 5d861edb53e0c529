"""The server under test in a process: started, looked at, killed and started again at the same address.

Owns that process. Never sends a load.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from gateway.processes import free_port, wait_until_it_answers
from machine import sundog

NICENESS = 10


class ServedProcess:
    """`sundog serve` in a folder, with a state folder of its own."""

    def __init__(self, folder: Path, arguments: Sequence[str]) -> None:
        self.port = free_port()
        self.address = f"http://127.0.0.1:{self.port}"
        self.num_starts = 0
        #: Seconds of the last start, until it answered.
        self.start_s = 0.0
        self._folder = folder
        self._command = [*sundog("serve"), *arguments, "--port", str(self.port), "--state", str(folder / "state")]
        self._command += ["--log-level", "warning"]
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        """Return when it answers; RuntimeError where it does not."""
        began_s = time.monotonic()
        with (self._folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                ["nice", "-n", str(NICENESS), *self._command],
                cwd=self._folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                text=True,
                start_new_session=True,
            )
        self.num_starts += 1
        wait_until_it_answers(f"{self.address}/health", self._process)
        self.start_s = time.monotonic() - began_s

    def kill(self) -> None:
        """End it as a crash does."""
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None

    @property
    def rss_mib(self) -> float:
        """The memory that it holds."""
        for line in Path(f"/proc/{self._pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return round(int(line.split()[1]) / 1024, 1)
        raise RuntimeError("the server is gone")

    @property
    def num_fds(self) -> int:
        """The number of its open file descriptors."""
        return sum(1 for _ in Path(f"/proc/{self._pid}/fd").iterdir())

    @property
    def _pid(self) -> int:
        assert self._process is not None, "it does not run"
        return self._process.pid
