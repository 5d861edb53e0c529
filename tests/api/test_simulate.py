"""`simulate` in Python: the same document as the command's, typed, and in a notebook."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import sundog as sd
from sundog.errors import ConfigError
from sundog.result.notebook import Page
from tests.cli.flows import sundog, working_directory


@pytest.fixture(autouse=True)
def folder(tmp_path: Path) -> Iterator[Path]:
    with working_directory(tmp_path):
        (tmp_path / "flow.yaml").write_text(FLOW)
        yield tmp_path


FLOW = """
name: study
workers: {gpu: {count: 1, usd_per_hour: 3.6}}
engines:
  local: {kind: "null", max_concurrency: 4}
  turns: {kind: "null", max_concurrency: 4, workers: gpu}
inputs:
  rows: {query: "select range as id from range(64)"}
nodes:
  ask:
    llm: {engine: local, prompt: "About {{ row.id }}.", max_tokens: 8}
  check:
    llm: {engine: turns, prompt: "{{ ask.text }}?", max_tokens: 8}
outputs: {id: "{{ row.id }}", text: "{{ check.text }}"}
"""


def printed(*options: str) -> dict[str, Any]:
    ran = sundog(Path.cwd(), "simulate", "flow.yaml", "--format", "json", *options)
    assert ran.exit_code == 0, ran.stderr
    found: dict[str, Any] = json.loads(ran.stdout)
    return found


def test_all_options_are_those_of_the_command() -> None:
    found = sd.simulate(
        "flow.yaml",
        rows=32,
        replicas={"local": 2},
        workers={"gpu": 2},
        policy="fcfs",
        max_rows_in_flight=8,
        engine_profile={"local": "llama-3-8b-h100"},
        fail=["local#0@1s+1s"],
        compare=[
            {"replicas": {"local": 4}, "policy": "prefix_grouped"},
            {"rows": 8, "autoscale": {"local": "1..4:queue"}},
        ],
        placement="round_robin",
        objective="makespan",
    )
    assert json.loads(json.dumps(found.to_dict())) == printed(
        *("--rows", "32", "--replicas", "local=2", "--workers", "gpu=2", "--policy", "fcfs"),
        *("--max-rows-in-flight", "8", "--engine-profile", "local=llama-3-8b-h100", "--fail", "local#0@1s+1s"),
        *(
            "--compare",
            "--replicas local=4 --policy prefix_grouped",
            "--compare",
            "--rows 8 --autoscale local=1..4:queue",
        ),
        *("--placement", "round_robin", "--objective", "makespan"),
    )
    assert [one.title for one in found.variants] == [
        "as planned",
        "--replicas local=4 --policy prefix_grouped",
        "--rows 8 --autoscale local=1..4:queue",
    ]


@pytest.mark.parametrize("deadline", ["60s", 60, 60.0])
def test_a_deadline_is_text_or_seconds(deadline: Any) -> None:
    found = sd.simulate("flow.yaml", deadline=deadline)
    assert json.loads(json.dumps(found.to_dict())) == printed("--deadline", "1m")
    assert found.machines == {"local": 1, "gpu": 1}


def test_a_live_load_and_a_replay() -> None:
    sd.run("flow.yaml", limit=4, progress=False)
    flow = sd.load("flow.yaml")
    assert json.loads(json.dumps(flow.simulate(arrivals="even:2/s").to_dict())) == printed("--arrivals", "even:2/s")
    again = flow.simulate(log="last")
    assert json.loads(json.dumps(again.to_dict())) == printed("--log", "last")
    assert again.answer.num_rows == 4


def test_the_figures_are_typed() -> None:
    found = sd.simulate("flow.yaml", engine_profile={"local": "llama-3-8b-h100"})
    assert found.makespan_s.low <= found.makespan_s.expected <= found.makespan_s.high
    assert found.pools["engine:local"].num_calls == 64
    assert found.usd == pytest.approx(3.6 / 3600 * found.makespan_s.expected)
    assert found.energy is not None
    assert found.energy.joules > 0
    assert "turns: a load is assumed to take 10 s (1-100 s)" in found.assumptions


def test_a_notebook_shows_the_page_and_a_terminal_the_text() -> None:
    found = sd.simulate("flow.yaml")
    assert repr(found) + "\n" == sundog(Path.cwd(), "simulate", "flow.yaml").stdout
    page = found.to_html()
    assert isinstance(page, Page)
    assert page + "\n" == sundog(Path.cwd(), "simulate", "flow.yaml", "--format", "html").stdout
    assert found._repr_html_().startswith('<iframe srcdoc="&lt;!doctype html')


def test_a_flow_built_in_python_is_simulated_beside_a_running_loop() -> None:
    flow = sd.Flow("built")
    local = flow.engine("local", kind="null", max_concurrency=4)
    row = flow.input("rows", rows=[{"id": number} for number in range(8)])
    flow.output(text=flow.llm("ask", engine=local, prompt=f"About {row.id}.").text)

    async def notebook() -> float:
        return flow.simulate(replicas={"local": 2}).makespan_s.expected

    assert asyncio.run(notebook()) == flow.simulate(replicas={"local": 2}).makespan_s.expected > 0


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"replica": {"local": 2}}, "unknown option 'replica': did you mean 'replicas'"),
        ({"compare": [{"replica": {"local": 2}}]}, "unknown option 'replica' of a variant: did you mean 'replicas'"),
        ({"compare": {"policy": "fcfs"}}, "a variant must be a mapping of options"),
        ({"replicas": 2}, "replicas must be a mapping, as in replicas={'local': 4}; not 2"),
        ({"workers": "gpu=2"}, "workers must be a mapping"),
    ],
)
def test_what_is_no_option_is_a_type_error(options: dict[str, Any], what: str) -> None:
    with pytest.raises(TypeError) as caught:
        sd.simulate("flow.yaml", **options)
    assert what in str(caught.value)


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"replicas": {"loca": 2}}, "no engine 'loca'"),
        ({"replicas": {"local": 0}}, "not of the form NAME=N"),
        ({"replicas": {"local": 1.5}}, "not of the form NAME=N"),
        ({"rows": 0}, "0 is too few"),
        ({"rows": "many"}, "invalid int value: 'many'"),
        ({"fail": "local#3@1s"}, "no replica 3"),
        ({"deadline": 0}, "0 s is no time to end in"),
        ({"deadline": "1h", "compare": [{}]}, "--deadline looks for one answer"),
        ({"log": "last"}, "there are no runs"),
    ],
)
def test_mistakes_are_those_of_the_command(options: dict[str, Any], what: str) -> None:
    with pytest.raises(ConfigError) as caught:
        sd.simulate("flow.yaml", **options)
    assert what in str(caught.value)
