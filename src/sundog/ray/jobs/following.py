"""The log of a job, followed from another machine until the job ends.

Owns what happens when the connection breaks, and what is said at an interruption. Never stops a job.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from sundog.errors import RunError, error_text

if TYPE_CHECKING:
    from ray.dashboard.modules.job.pydantic_models import JobDetails
    from ray.job_submission import JobSubmissionClient

POLL_S = 1.0
SILENCE_S = 60.0
"""A job server that answers nothing for so long is given up; the job goes on."""
INTERRUPTED = 130


def follow_job(client: JobSubmissionClient, job: str, address: str, say: Callable[[str], None]) -> int:
    """Say the lines of a job's log until it ends; returns its exit code, 130 where Ctrl-C ends the following. RunError
    where the job server does not answer any more."""
    try:
        details = asyncio.run(_follow(client, job, say))
    except KeyboardInterrupt:
        say(f"no longer following: job {job} goes on")
        say("  follow it again: the same command")
        say(f"  stop it: ray job stop {job} --address {address}")
        return INTERRUPTED
    if details.status == "SUCCEEDED":
        return 0
    if details.status == "STOPPED":
        say(f"job {job} was stopped; the same command continues the run")
    elif details.driver_exit_code is None:  # it has not begun, and its log tells nothing
        say(f"job {job} has failed: {details.message}")
    return details.driver_exit_code or 1


async def _follow(client: JobSubmissionClient, job: str, say: Callable[[str], None]) -> JobDetails:
    """Each connection gets the log from its beginning: what has been said is left out."""
    lines = _Lines(say)
    last_heard = time.monotonic()
    while True:
        failure: Exception | None = None
        try:
            lines.begin()
            async for text in client.tail_job_logs(job):
                lines.take(text)
                last_heard = time.monotonic()
        except Exception as error:  # of three libraries' connections: it is made anew, and told where that fails too
            failure = error
        try:
            details = await asyncio.to_thread(client.get_job_info, job)
        except (OSError, RuntimeError) as error:
            failure = error
        else:
            last_heard = time.monotonic()
            if details.status.is_terminal():
                lines.end()
                return details
        if time.monotonic() - last_heard > SILENCE_S:
            raise RunError(
                f"the job server does not answer any more: {error_text(failure) if failure else 'no answer'}",
                hint=f"job {job} goes on if its head does; the same command follows it again",
            )
        await asyncio.sleep(POLL_S)


class _Lines:
    """The lines of a log that is read again from its beginning after each break."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._num_said = 0
        self._num_passed = 0
        self._rest = ""

    def begin(self) -> None:
        self._num_passed, self._rest = 0, ""

    def take(self, text: str) -> None:
        *whole, self._rest = (self._rest + text).split("\n")
        for line in whole:
            self._pass(line)

    def end(self) -> None:
        if self._rest:
            self._pass(self._rest)

    def _pass(self, line: str) -> None:
        self._num_passed += 1
        if self._num_passed > self._num_said:
            self._num_said += 1
            self._say(line)
