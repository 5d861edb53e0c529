"""Every policy set runs a flow to its end and gives the same rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import sundog as sd
from sundog.sched.policy import POLICIES
from tests.cli.flows import working_directory
from tests.sched.sets import REGISTERED


def review() -> sd.Flow:
    """Twelve rows of four documents, two steps, more rows than slots and less memory than prompts."""
    flow = sd.Flow("review")
    engine = flow.engine("local", kind="null", replicas=2, max_concurrency=2, max_tokens_in_flight=400)
    row = flow.input("rows", rows=[{"id": number, "body": f"document {number % 4} " * 40} for number in range(12)])
    facts = flow.llm("facts", engine=engine, prompt=f"{row.body}\n\nFacts about {row.id}", max_tokens=20)
    answer = flow.llm("answer", engine=engine, prompt=f"{row.body}\n\n{facts.text}\n\nAnswer", max_tokens=20)
    flow.output(id=row.id, answer=answer.text)
    return flow


def answers(policy: str, folder: Path) -> list[Any]:
    POLICIES.add(policy, REGISTERED[policy])
    with working_directory(folder):
        return review().run(policy=policy, state=folder / policy).to_list()


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    return answers("fcfs", tmp_path_factory.mktemp("expected"))


@pytest.mark.parametrize("name", REGISTERED)
def test_a_flow_gives_the_same_rows(name: str, expected: list[Any], tmp_path: Path) -> None:
    assert len(expected) == 12
    assert answers(name, tmp_path) == expected
