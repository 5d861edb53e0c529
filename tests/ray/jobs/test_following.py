"""The log of a job is followed over breaks of the connection; only its end, or silence, ends that."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, cast

import pytest

from sundog.errors import RunError
from sundog.ray.jobs import following
from sundog.ray.jobs.following import follow_job

pytest.importorskip("ray", reason="ray is not installed: pip install 'sundog[ray]'")


@dataclass
class Details:
    status: Any
    driver_exit_code: int | None = None
    message: str = ""


class FakeJobs:
    """Each connection gets the next of `logs`, from the beginning, then breaks; an exception is raised in its place.
    The job has ended after the last one."""

    def __init__(self, *logs: str | Exception, end: Details | None = None) -> None:
        from ray.job_submission import JobStatus

        self._logs = list(logs)
        self._end = end or Details(JobStatus.SUCCEEDED, 0)
        self._running = Details(JobStatus.RUNNING)

    async def tail_job_logs(self, job: str) -> AsyncIterator[str]:
        log = self._logs.pop(0)
        if isinstance(log, Exception):
            raise log
        for start in range(0, len(log), 7):
            yield log[start : start + 7]

    def get_job_info(self, job: str) -> Details:
        return self._running if self._logs else self._end


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following, "POLL_S", 0.0)


def followed(jobs: FakeJobs) -> tuple[int, list[str]]:
    said: list[str] = []
    code = follow_job(cast(Any, jobs), "job-1", "http://head:8265", said.append)
    return code, said


def test_each_line_is_said_once_over_breaks() -> None:
    log = "run begins\n12 of 40 rows\nfinished\nlast line"
    jobs = FakeJobs(log[:14], ConnectionError("broken"), log[:30], log)
    assert followed(jobs) == (0, log.split("\n"))


def test_a_job_that_failed_has_its_exit_code() -> None:
    from ray.job_submission import JobStatus

    assert followed(FakeJobs("error: bad flow\n", end=Details(JobStatus.FAILED, 2))) == (2, ["error: bad flow"])


def test_a_job_that_has_not_begun_tells_why() -> None:
    from ray.job_submission import JobStatus

    code, said = followed(FakeJobs("", end=Details(JobStatus.FAILED, None, "no room for it")))
    assert (code, said) == (1, ["job job-1 has failed: no room for it"])


def test_a_job_that_was_stopped_says_how_to_go_on() -> None:
    from ray.job_submission import JobStatus

    code, said = followed(FakeJobs("begun\n", end=Details(JobStatus.STOPPED)))
    assert (code, said) == (1, ["begun", "job job-1 was stopped; the same command continues the run"])


def test_an_interruption_ends_the_following_alone() -> None:
    class Interrupted(FakeJobs):
        def get_job_info(self, job: str) -> Details:
            raise AssertionError("nobody asks any more")

        async def tail_job_logs(self, job: str) -> AsyncIterator[str]:
            yield "begun\n"
            raise KeyboardInterrupt

    code, said = followed(Interrupted())
    assert code == 130
    assert said[0] == "begun"
    assert "ray job stop job-1 --address http://head:8265" in said[-1]


def test_silence_ends_the_following(monkeypatch: pytest.MonkeyPatch) -> None:
    class Silent(FakeJobs):
        def get_job_info(self, job: str) -> Details:
            raise ConnectionError("refused")

    monkeypatch.setattr(following, "SILENCE_S", 0.0)
    with pytest.raises(RunError, match=r"refused\n.*the same command follows it again"):
        followed(Silent(*[ConnectionError("refused")] * 20))
