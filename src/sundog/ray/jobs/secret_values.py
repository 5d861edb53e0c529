"""The secrets of a job: how their values come to its process, and to no place where others read them.

Ray prints the environment of a job to whoever lists jobs. So the environment has a pad of random bytes, the state has
the values under that pad, and neither tells anything without the other. What lies in the state goes as the job begins.
"""

from __future__ import annotations

import json
import os
from base64 import b64decode, b64encode
from collections.abc import Mapping
from secrets import token_bytes

from sundog.errors import ConfigError
from sundog.store.segments.storage import ObjectStorage

JOB, PAD = "SUNDOG_JOB", "SUNDOG_JOB_PAD"
"""The variables of a job: the name of what lies in the state, and its pad."""
_FOLDER = "jobs"


def put_values(values: Mapping[str, str], state: str, job: str) -> dict[str, str]:
    """Leave the values of secrets for a job, in the state at a URL; returns the variables that its environment needs.
    StoreError where the state cannot be written."""
    if not values:
        return {}
    plain = json.dumps(dict(values)).encode()
    pad = token_bytes(len(plain))
    ObjectStorage(state).replace(f"{_FOLDER}/{job}", _under(plain, pad))
    return {JOB: job, PAD: b64encode(pad).decode()}


def drop_values(state: str, job: str) -> None:
    """Drop what was left for a job that is not to be."""
    ObjectStorage(state).drop(f"{_FOLDER}/{job}")


def take_values(state: str) -> None:
    """Put the values that were left for this job into the environment, and drop them; nothing happens in a process that
    is no job. ConfigError where they are gone."""
    job, pad = os.environ.pop(JOB, None), os.environ.pop(PAD, None)
    if job is None or pad is None:
        return
    storage = ObjectStorage(state)
    left = storage.read(f"{_FOLDER}/{job}")
    if left is None:
        raise ConfigError(
            f"the secrets of job {job} are not in the state any more: it has begun before",
            hint="submit the run again: nothing finished is lost",
        )
    os.environ |= json.loads(_under(left, b64decode(pad)))
    storage.drop(f"{_FOLDER}/{job}")


def _under(text: bytes, pad: bytes) -> bytes:
    return bytes(one ^ other for one, other in zip(text, pad, strict=True))
