"""The inside of an engine's process: loads a model, then takes jobs and gives results until its parent is gone.

Owns the process: its signals, its pipes and its end. Never prints: what native code prints goes to standard error,
which the parent keeps for the message when this process dies. The other end is `engine_process`.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import traceback
from collections.abc import Callable
from typing import Any, cast

from sundog.engines.embedded.job_loop import JobCommand, JobLoop
from sundog.engines.embedded.process_pipe import Inbox, send
from sundog.errors import SundogError

# The first message: a function that gives the loop and what the parent is to know of it, and its argument. Each later
# one is a list of JobCommand.
LoopLoad = tuple[Callable[[Any], tuple[JobLoop[Any, Any], Any]], Any]

PR_SET_PDEATHSIG = 1


def main() -> None:
    """Serve the parent until it is gone, and leave the process. What libraries print goes to stderr, as stdout carries
    the answers."""
    _live_as_long_as_the_parent()
    inbox, out = Inbox(0), os.dup(1)
    os.dup2(2, 1)
    exit_code = 0
    try:
        serve_jobs(inbox, out)
    except (EOFError, BrokenPipeError):
        pass  # the parent is gone, and with it everybody who could wait for an answer
    except Exception:
        traceback.print_exc()
        exit_code = 1
    sys.stderr.flush()
    # There is nothing to save, and taking native code down in order takes time.
    os._exit(exit_code)


def serve_jobs(inbox: Inbox, out: int) -> None:
    """Send what loading gave, or its SundogError; then the results of each step in one message."""
    load, argument = cast(LoopLoad, inbox.receive(is_blocking=True)[0])
    try:
        steps, facts = load(argument)
    except SundogError as error:
        send(out, error)
        return
    send(out, facts)
    while True:
        for commands in inbox.receive(is_blocking=not steps.has_work()):
            _apply(steps, commands)
        if results := steps.step():
            send(out, results)


def _apply(steps: JobLoop[Any, Any], commands: list[JobCommand]) -> None:
    for number, job in commands:
        if job is None:
            steps.abort(number)
        else:
            steps.add(number, job)


def _live_as_long_as_the_parent() -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    if sys.platform == "linux":
        # A closed pipe is seen between two steps; this ends a step too. It also follows the thread that started this
        # process: when that has ended, the event loop of the engine has.
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
