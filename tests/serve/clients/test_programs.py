"""Programs of other libraries, unchanged, that ask a model through the gateway; each in the environment of
`make clients`, since these libraries and sundog's own tests want other packages."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sundog.ir.logical import EngineBlock
from tests.serve.clients.sensible import CITY, SensibleModel
from tests.serve.running import running

PROGRAMS = Path(__file__).parent / "programs"
PYTHON = Path(__file__).parents[3] / ".venv-clients" / "bin" / "python"
SUNNY = f"sunny in {CITY}"
Run = Callable[[str], Any]
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not PYTHON.exists(), reason="the clients are not installed: make clients"),
]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """Run a program, and return what it prints."""
    folder = tmp_path_factory.mktemp("programs")
    with SensibleModel() as model:
        block = EngineBlock("front", "openai", {"model": "m", "base_url": f"{model.origin}/v1"})
        with running(folder / "state", engines=[block]) as server:

            def run(name: str) -> Any:
                # The folder of benchmarks, which is on the path of tests, would hide packages of the same names.
                environment = {**os.environ, "PYTHONPATH": "", "HOME": str(folder)}
                command = [str(PYTHON), str(PROGRAMS / name), f"{server.address}/s/{name}/v1", "m"]
                done = subprocess.run(
                    command, env=environment, cwd=folder, capture_output=True, text=True, timeout=180, check=False
                )
                assert done.returncode == 0, done.stderr[-4000:]
                return json.loads(done.stdout)

            yield run
            assert server.serving.host.models.num_in_flight == 0


def test_agents_of_the_agents_sdk(run: Run) -> None:
    told = run("agents_sdk.py")
    assert set(told) == {"OpenAIResponsesModel", "OpenAIChatCompletionsModel"}
    for one in told.values():
        assert (one["answer"], one["streamed"], one["uses"]) == (SUNNY, SUNNY, [SUNNY])
        assert "".join(one["pieces"]) == SUNNY
        assert (one["requests"], one["tokens"]) == (2, 30)


def test_agents_of_pydantic_ai(run: Run) -> None:
    told = run("pydantic_agents.py")
    assert set(told) == {"OpenAIResponsesModel", "OpenAIChatModel"}
    for one in told.values():
        assert (one["answer"], one["streamed"], one["city"]) == (SUNNY, SUNNY, CITY)


def test_modules_of_dspy(run: Run) -> None:
    told = run("dspy_modules.py")
    assert (told["predicted"], told["reasoned"], told["used"]) == (SUNNY, SUNNY, SUNNY)
    assert told["observed"] == SUNNY
