"""A run submitted to a cluster through Ray's job API, and followed from here.

Owns what is sent, and that one command is one job at a time. The job is the same command without `--address`.
"""

from __future__ import annotations

import hashlib
import logging
import os
import shlex
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

from sundog.errors import ConfigError, RunError, error_text
from sundog.ray.connection import require_ray
from sundog.ray.jobs.following import follow_job
from sundog.ray.jobs.package import write_package
from sundog.ray.jobs.secret_values import drop_values, put_values

if TYPE_CHECKING:
    from ray.job_submission import JobSubmissionClient

_COMMAND = "sundog_command"
"""The key in a job's metadata by which a command knows its job."""
_OVERRIDES = ("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS")
"""The variables that Ray's client takes before the address that it is given."""

_TALKATIVE = ("ray.dashboard.modules.dashboard_sdk", "ray.dashboard.modules.job.sdk")
"""The loggers that tell of uploads and connections, which is done here."""


@dataclass(frozen=True, slots=True)
class JobRequest:
    """The run that a job does."""

    #: The URL of a head's job server, as http://HOST:8265.
    address: str
    #: The folder of the flow, which goes along.
    folder: Path
    #: The words after `sundog`, as they mean the same in that folder on another machine.
    words: Sequence[str]
    #: The URL of the state.
    state: str
    #: The values of the environment that the flow names.
    secrets: Mapping[str, str]


def run_as_job(request: JobRequest, say: Callable[[str], None]) -> int:
    """Submit a run, unless a job of the same command is at work, and follow its log until it ends; returns the exit
    code. Ctrl-C ends the following alone. `say`: takes the lines of the log. ConfigError where the job server is not
    there or takes no such job, RunError where it does not answer any more."""
    client = _client(request.address)
    with tempfile.TemporaryDirectory(prefix="sundog-job-") as folder:
        package = Path(folder) / "flow.zip"
        write_package(request.folder, package)
        command = _command_key(request, package)
        job = _at_work(client, command)
        if job is not None:
            say(f"job {job} runs this command already: following its log")
        else:
            job = _submit(client, request, package, command)
            say(f"job {job} is submitted to {request.address}")
    say("  it goes on without this machine; Ctrl-C stops following, and the same command follows again")
    return follow_job(client, job, request.address, say)


def _client(address: str) -> JobSubmissionClient:
    require_ray()
    from ray.job_submission import JobSubmissionClient

    for name in _TALKATIVE:
        logging.getLogger(name).setLevel(logging.WARNING)
    with _without_overrides():
        try:
            return JobSubmissionClient(address.rstrip("/"))
        except (ConnectionError, RuntimeError) as error:
            raise ConfigError(
                f"no job server of Ray answers at {address}: {error_text(error)}",
                hint="it is that of the head's dashboard, at port 8265 by default; the head needs ray[default]",
            ) from error


@contextmanager
def _without_overrides() -> Iterator[None]:
    """The address of the command is the one that counts."""
    kept = {name: os.environ.pop(name) for name in _OVERRIDES if name in os.environ}
    try:
        yield
    finally:
        os.environ |= kept


def _command_key(request: JobRequest, package: Path) -> str:
    sent = hashlib.sha256(package.read_bytes()).hexdigest()
    return hashlib.sha256(repr((list(request.words), request.state, sent)).encode()).hexdigest()[:32]


def _at_work(client: JobSubmissionClient, command: str) -> str | None:
    """Return the job of a command that has not ended."""
    found = [
        one.submission_id
        for one in client.list_jobs()
        if (one.metadata or {}).get(_COMMAND) == command and not one.status.is_terminal()
    ]
    return found[0] if found else None


def _submit(client: JobSubmissionClient, request: JobRequest, package: Path, command: str) -> str:
    job = f"sundog-{uuid4().hex[:12]}"
    variables = put_values(request.secrets, request.state, job)
    try:
        return client.submit_job(
            entrypoint=shlex.join(["python", "-m", "sundog", *request.words]),
            submission_id=job,
            runtime_env={"working_dir": str(package), "env_vars": {**variables, "PYTHONUNBUFFERED": "1"}},
            metadata={_COMMAND: command, "state": request.state},
        )
    except (ConnectionError, RuntimeError, ValueError) as error:
        drop_values(request.state, job)
        kind = ConfigError if isinstance(error, ValueError) else RunError
        raise kind(f"the job was not taken: {error_text(error)}", where=request.address) from error
