"""This script runs the command of its arguments until its standard input ends, and then ends all processes of that.

Owns the end of a server whose keeper's master was killed: a process that is killed can do nothing more, and its end of
the pipe is closed all the same. Written with the standard library alone, so that it takes little memory. It leaves its
parent at once, for Ray kills the children of an actor's process together with it. What the command says goes to
standard error, its exit code to standard output, which stays open until then.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from contextlib import suppress

POLL_S = 0.2
TERM_S = 10.0
"""A server that was asked to end has so long for it."""


def keep_server() -> None:
    """Do what the module says."""
    if os.fork():
        os._exit(0)
    server = subprocess.Popen(sys.argv[1:], stdin=subprocess.DEVNULL, stdout=sys.stderr, start_new_session=True)
    while server.poll() is None:
        readable, _, _ = select.select([sys.stdin], [], [], POLL_S)
        if readable:
            # Nobody writes there: this is the end.
            _end(server, signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                server.wait(TERM_S)
            break
    _end(server, signal.SIGKILL)
    sys.stdout.write(str(server.wait()))
    sys.stdout.flush()


def _end(server: subprocess.Popen[bytes], number: signal.Signals) -> None:
    """Send a signal to all processes of the server's group."""
    with suppress(ProcessLookupError):
        os.killpg(server.pid, number)


if __name__ == "__main__":
    keep_server()
