"""Processes of the benchmark: each is started, waited for until it answers, and ended with all that it started.

Owns their life and their processor time, which the kernel tells in /proc. Never sends a load.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

BENCHMARKS = Path(__file__).parent.parent
START_S = 90.0
TICK_S = 1 / os.sysconf("SC_CLK_TCK")


def pinned(command: Sequence[str], cores: str) -> list[str]:
    """Return a command that runs on some cores only; '' leaves it as it is."""
    return ["taskset", "-c", cores, *command] if cores else list(command)


@contextmanager
def started(command: Sequence[str], log: Path, environment: Mapping[str, str]) -> Iterator[subprocess.Popen[str]]:
    """Run a process in a group of its own while the context is open. What it prints as errors goes to `log`."""
    with log.open("w") as errors:
        process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env={**os.environ, **environment},
            start_new_session=True,
        )
    try:
        yield process
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def wait_until_it_answers(url: str, process: subprocess.Popen[str]) -> None:
    """Return when the address answers with any status; RuntimeError where the process ends, or needs too long."""
    until_s = time.monotonic() + START_S
    while process.poll() is None and time.monotonic() < until_s:
        try:
            urllib.request.urlopen(url, timeout=2).close()
        except urllib.error.HTTPError:
            return
        except OSError:
            time.sleep(0.1)
        else:
            return
    raise RuntimeError(f"nothing answers at {url}")


def cpu_s(pid: int) -> float:
    """Return the processor time, of the user and of the system, of a process and of all below it."""
    return sum(_own_cpu_s(one) for one in _family(pid))


def free_port() -> int:
    """Return a port on which nothing listens now."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


def _own_cpu_s(pid: int) -> float:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return 0.0
    # The name of the process stands in brackets and may hold blanks; utime and stime are the 14th and 15th value.
    values = stat.rpartition(")")[2].split()
    return (int(values[11]) + int(values[12])) * TICK_S


def _family(pid: int) -> Iterator[int]:
    yield pid
    try:
        below = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return
    for child in below:
        yield from _family(int(child))
