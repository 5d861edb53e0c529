"""A machine that submits jobs needs Ray's core alone; what `ray[default]` adds is for the head."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytest.importorskip("ray", reason="ray is not installed: pip install 'sundog[ray]'")
OF_THE_HEAD = (
    "aiohttp_cors",
    "colorful",
    "grpc",
    "opencensus",
    "prometheus_client",
    "py_spy",
    "smart_open",
    "virtualenv",
)
PROGRAM = f"""
import sys
sys.modules.update(dict.fromkeys({OF_THE_HEAD!r}))
from pathlib import Path
from sundog.errors import ConfigError
from sundog.ray.jobs.submission import JobRequest, run_as_job
try:
    run_as_job(JobRequest("http://127.0.0.1:1", Path(sys.argv[1]), ["run"], "s3://bucket/state", {{}}), print)
except ConfigError as error:
    print(error)
"""


def test_a_job_server_is_asked_without_what_the_head_needs(tmp_path: object) -> None:
    ran = subprocess.run([sys.executable, "-c", PROGRAM, str(tmp_path)], capture_output=True, text=True, timeout=120)
    assert "no job server of Ray answers at http://127.0.0.1:1: ConnectionError" in ran.stdout, ran.stderr
