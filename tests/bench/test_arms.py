"""Every arm gives the rows that sundog gives, and says what failed."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from halo.arms.baselines import Memo
from halo.arms.catalog import BASELINES, NEEDS, FlowArm, flow_arm
from halo.arms.sundog import engines_of
from halo.case import MODELS, Case
from halo.graph import Calls, Graph, Row
from halo.inputs import EARLY
from halo.measure import measure
from halo.modelled import PUBLISHED_MODELS
from halo.workloads.catalog import FLOWS, PUBLISHED, WORKLOADS, open_data
from placed.graphs import Graph as PublishedGraph
from placed.graphs import published_graphs

from sundog.errors import ConfigError
from sundog.ir.graph import dependencies
from sundog.ir.logical import steps_of
from sundog.secrets import Secrets
from sundog.session.flow_file import load_plan
from tests.bench.conftest import TPCH_SCALE

NUM_ROWS = 5
# These are steps of Halo's benchmarks, version 2: LLM steps, SQL, HTTP, rules.
SHAPES = {"w1": (8, 7, 2, 0), "w2": (10, 2, 1, 0), "w3": (9, 4, 2, 0), "w4": (9, 2, 1, 0), "w5": (7, 7, 2, 1)}
SHAPES["w6"] = (9, 10, 2, 1)
EARLY_MODELS_USED = {
    "w1": (3, 3, 2),
    "w2": (4, 3, 3),
    "w3": (4, 3, 2),
    "w4": (4, 3, 2),
    "w5": (2, 3, 2),
    "w6": (2, 2, 5),
}
GRAPHS = published_graphs()


def null_case(workload: str, database: str, num_rows: int = NUM_ROWS) -> Case:
    blocks = {model: {"kind": "null", "model": model} for model in MODELS}
    return Case(workload, num_rows, "zipf", 1, "null", "large", blocks, database, 0.0)


@pytest.mark.parametrize("workload", WORKLOADS)
def test_every_arm_gives_the_same_rows(workload: str, database_of: Callable[[str], str]) -> None:
    case = null_case(workload, database_of(workload))
    expected = measure(case, "sundog")["answers"]
    assert len(expected) == NUM_ROWS
    assert None not in expected
    assert len(set(expected)) > 1
    for arm in ["sundog-naive", *(name for name in BASELINES if name not in NEEDS)]:
        assert measure(case, arm)["answers"] == expected, arm


@pytest.mark.parametrize("arm", NEEDS)
def test_a_library_gives_the_same_rows(arm: str, database_of: Callable[[str], str]) -> None:
    pytest.importorskip(NEEDS[arm], reason=f"the arm {arm} needs it: extra bench or bench-others")
    case = null_case("w4", database_of("w4"))
    found = measure(case, arm)
    assert found["answers"] == measure(case, "sundog")["answers"]
    # None of them joins calls that are in flight.
    assert found["num_llm"] == NUM_ROWS * 9


@pytest.mark.parametrize("workload", ["w1", "w3", "w5"])
def test_postgres_gives_every_arm_the_same_rows(workload: str) -> None:
    url = os.environ.get("SUNDOG_TEST_POSTGRES_URL")
    if not url:
        pytest.skip("SUNDOG_TEST_POSTGRES_URL names no PostgreSQL server")
    data = WORKLOADS[workload].data
    other = open_data(data, 2 * TPCH_SCALE, url, Secrets({}))
    assert open_data(data, TPCH_SCALE, url, Secrets({})) == other == url
    case = null_case(workload, url)
    found = measure(case, "sundog")
    assert found["num_failed"] == 0
    assert measure(case, "asyncio")["answers"] == found["answers"]


def test_what_is_executed_is_counted(database_of: Callable[[str], str]) -> None:
    case = null_case("w6", database_of("w6"))
    naive, plain, careful_, own = (measure(case, arm) for arm in ("sundog-naive", "asyncio", "careful", "sundog"))
    num_llm, num_sql, num_http, _ = SHAPES["w6"]
    for result in (naive, plain):
        executed = [result[f"num_{name}"] for name in ("llm", "sql", "http_requests")]
        assert executed == [NUM_ROWS * number for number in (num_llm, num_sql, num_http)]
    share = plain["batch"]["distinct_signature_ratio"]
    assert share < 1
    assert own["num_llm"] == careful_["num_llm"] == round(share * NUM_ROWS * num_llm)
    # The second five queries are the first five under other names.
    assert own["num_sql"] == careful_["num_sql"] <= NUM_ROWS * num_sql / 2
    assert own["num_prompt_tokens"] == careful_["num_prompt_tokens"] < plain["num_prompt_tokens"]


@pytest.mark.parametrize("workload", WORKLOADS)
def test_the_flows_have_the_numbers_of_steps_of_halo(workload: str) -> None:
    steps = list(steps_of(load_plan(FLOWS / f"{workload}.yaml", {}).nodes))
    operators = [step.operator for step in steps]
    shape = SHAPES[workload.removeprefix(EARLY)]
    assert tuple(operators.count(name) for name in ("llm", "sql", "http", "python")) == shape


@pytest.mark.parametrize("workload", EARLY_MODELS_USED)
def test_the_earlier_graphs_keep_their_models(workload: str) -> None:
    used = list(models_of(f"{EARLY}{workload}").values())
    assert tuple(used.count(model) for model in MODELS) == EARLY_MODELS_USED[workload]


def models_of(workload: str) -> dict[str, str]:
    """The model of each LLM step of a flow."""
    steps = steps_of(load_plan(FLOWS / f"{workload}.yaml", {}).nodes)
    return {step.name: json.loads(step.spec.model_dump_json())["engine"] for step in steps if step.operator == "llm"}


def parents_in(graph: PublishedGraph) -> dict[str, set[str]]:
    return {step.name: set(step.parents) for step in graph.steps}


@pytest.mark.parametrize("workload", PUBLISHED)
def test_the_flows_have_the_published_dependencies_and_models(workload: str) -> None:
    published = GRAPHS[workload]
    waits_for = dependencies(load_plan(FLOWS / f"{workload}.yaml", {}).nodes)
    assert {name: set(parents) for name, parents in waits_for.items()} == parents_in(published)
    found = {name: PUBLISHED_MODELS[model] for name, model in models_of(workload).items()}
    assert found == {step.name: step.kind for step in published.steps if step.is_llm}


@pytest.mark.parametrize("workload", PUBLISHED)
def test_the_twins_have_the_published_dependencies(workload: str) -> None:
    twin = WORKLOADS[workload].graph
    assert {name: set(reads) for name, reads in twin.reads.items()} == parents_in(GRAPHS[workload])


async def double(calls: Calls, row: Row) -> int:
    if row["number"] == 1:
        raise ValueError("one is not doubled")
    return 2 * int(row["number"])


async def text(calls: Calls, double: int) -> str:
    return f"{double}: {await calls.http('/x', number=double)}"


class Echo:
    """Calls that answer themselves."""

    def __init__(self) -> None:
        self.asked: list[Any] = []

    async def llm(self, model: str, system: str, prompt: str, max_tokens: int) -> str:
        self.asked.append((model, prompt))
        return prompt

    async def sql(self, query: str, **params: Any) -> list[dict[str, Any]]:
        self.asked.append((query, params))
        return [params]

    async def http(self, path: str, **params: Any) -> Any:
        self.asked.append((path, params))
        await asyncio.sleep(0)
        return params


@pytest.mark.parametrize("arm", [name for name in BASELINES if name != "langgraph"])
def test_a_failed_row_is_a_value_and_the_others_go_on(arm: str) -> None:
    if arm in NEEDS:
        pytest.importorskip(NEEDS[arm], reason=f"the arm {arm} needs it: extra bench or bench-others")
    rows = [{"id": index, "number": number} for index, number in enumerate((2, 1, 0, 2))]
    graph = Graph(double, text, output="text")

    async def run() -> list[Any]:
        return await BASELINES[arm](graph, Echo(), rows)

    values = asyncio.run(run())
    assert [value for value in values if isinstance(value, str)] == [
        "4: {'number': 4}",
        "0: {'number': 0}",
        "4: {'number': 4}",
    ]
    assert [index for index, value in enumerate(values) if isinstance(value, BaseException)] == [1]
    assert "one is not doubled" in str(getattr(values[1], "exceptions", [values[1]])[0])


def test_a_memo_makes_equal_calls_once() -> None:
    async def ask() -> Echo:
        echo = Echo()
        memo = Memo(echo)
        await asyncio.gather(*(memo.http("/x", number=number) for number in (1, 2, 1)))
        await asyncio.gather(*(memo.llm("a", "", prompt, 8) for prompt in ("p", "q", "p")), memo.llm("b", "", "p", 8))
        await asyncio.gather(memo.sql("q", x=1), memo.sql("q", x=1), memo.sql("q", x=2))
        return echo

    assert len(asyncio.run(ask()).asked) == 2 + 3 + 2


def test_a_step_waits_for_what_its_parameters_name() -> None:
    graph = WORKLOADS["w4"].graph
    assert graph.reads["b1"] == ("a1", "http_category")
    assert graph.reads["sql_a0"] == ()
    places = [graph.order.index(name) for name in ("a0", "a1", "b1", "final_answer_bridge")]
    assert places == sorted(places)


def test_sundog_places_engines_where_there_are_workers() -> None:
    block = {"kind": "null", "model": "a", "replicas": 3, "shared_device": "cpu"}
    case = Case("w4", 1, "none", 1, "modelled3", "large", {"a": block}, "", 0.0, True, num_workers=3)
    placed = {"kind": "null", "model": "a", "shared_device": "cpu", "workers": "gpu"}
    assert engines_of(case, FlowArm()) == {"engines": {"a": placed}, "workers": {"gpu": {"count": 3}}}
    assert engines_of(case, FlowArm(has_placement=False)) == {"engines": {"a": block}}
    unaware = {"kind": "null", "model": "a", "replicas": 3}
    assert engines_of(replace(case, num_workers=0), FlowArm(has_slices=False)) == {"engines": {"a": unaware}}


def test_arms_that_are_not_there_are_refused() -> None:
    assert flow_arm("asyncio") is None
    switched_off = flow_arm("sundog-without-merge_calls")
    assert switched_off is not None
    assert switched_off.without_rules == ("merge_calls",)
    other_order = flow_arm("sundog-policy-fcfs")
    assert other_order is not None
    assert other_order.policy == "fcfs"
    unaware = flow_arm("sundog-without-time_slices")
    assert unaware is not None
    assert not unaware.has_slices
    fixed = flow_arm("sundog-without-placement")
    assert fixed is not None
    assert not fixed.has_placement
    with pytest.raises(ConfigError, match="there is no arm 'sundog-without-luck'"):
        flow_arm("sundog-without-luck")
