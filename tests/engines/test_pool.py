"""The key `pool` of an engine's block: what it means, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import sundog as sd
from sundog.cells.engine_shares import cell_plan, shared_limits
from sundog.config import read_config
from sundog.deployment import num_replicas, opened, pool_of
from sundog.engines.base import EngineOptions
from sundog.engines.served import ServedKind
from sundog.errors import ConfigError, FlowError
from sundog.execution.coming_replicas import watch_of_source
from sundog.live.engines import LiveEngines
from sundog.secrets import Secrets
from sundog.servers.servers import Servers
from sundog.session.session import Session, plan_session

KUBERNETES = {"kubernetes": "llms/llama"}
RAY = {"ray": {"min": 1, "max": 8, "gpus": 2}}


def session_of(kind: str = "vllm", **options: Any) -> Session:
    flow = sd.Flow("f")
    row = flow.input("rows", rows=[{"id": 1}])
    flow.output(
        text=flow.llm("said", engine=flow.engine("e", kind=kind, model="m", **options), prompt=f"{row.id}").text
    )
    return plan_session(flow.plan(), flow.base_dir, read_config(None))


@pytest.mark.parametrize(
    ("kind", "options", "what"),
    [
        ("openai", {}, "'base_url' or 'pool' says where the servers are"),
        ("openai", {"pool": {}}, "a pool is 'kubernetes' or 'ray', one of them"),
        ("vllm", {"pool": {**KUBERNETES, **RAY}}, "a pool is 'kubernetes' or 'ray', one of them"),
        ("openai", {"pool": KUBERNETES, "base_url": "http://x/v1"}, "'pool' and 'base_url' both say where"),
        ("openai", {"pool": RAY}, "only engines of kind 'vllm' are"),
        ("openai", {"pool": {"kubernetes": "llama"}}, "names a service: namespace/service"),
        ("openai", {"pool": {"kubernetes": "llms/llama/x"}}, "names a service: namespace/service"),
        ("vllm", {"pool": {"ray": {"min": 3, "max": 2}}}, "'min' is greater than 'max'"),
        ("vllm", {"pool": {"ray": {"max": 2}, "port": 8000}}, "are of the endpoints of a Kubernetes service"),
        ("vllm", {"pool": RAY, "replicas": 3}, "the pool's 'max' says how many replicas there are"),
        ("vllm", {"pool": RAY, "start": True}, "'start' is for servers that sundog starts on this machine"),
        (
            "vllm",
            {"pool": KUBERNETES, "arguments": {"max_model_len": 9}},
            "'arguments' is for servers that sundog starts",
        ),
        ("openai", {"pool": {**KUBERNETES, "max_empty_s": 0}}, "max_empty_s"),
    ],
)
def test_what_is_no_pool_is_refused(kind: str, options: dict[str, Any], what: str) -> None:
    with pytest.raises(FlowError) as caught:
        session_of(kind, **options)
    assert what in str(caught.value)


@pytest.mark.parametrize(
    ("kind", "options", "number"),
    [
        ("openai", {"pool": KUBERNETES}, 1),
        ("openai", {"pool": KUBERNETES, "replicas": 6}, 6),
        ("vllm", {"pool": KUBERNETES, "replicas": 6}, 6),
        ("vllm", {"pool": RAY, "arguments": {"max_model_len": 9}}, 8),
    ],
)
def test_estimates_count_with_the_replicas_that_are_expected(kind: str, options: dict[str, Any], number: int) -> None:
    (block,) = session_of(kind, **options).plan.logical.engines
    assert num_replicas(block) == number
    found_kind, found = opened(block)
    again: EngineOptions = found_kind.Options.model_validate(found.model_dump(mode="json"))
    assert again == found, "options read from a plan equal the written ones"
    assert not isinstance(found_kind, ServedKind) or not found_kind.needs_server(found)
    assert not found_kind.outline(found).is_attached, "nothing is asked before the run"


def test_explain_says_that_nobody_knows_how_many_there_are() -> None:
    text = str(sd_explained("openai", pool=KUBERNETES, replicas=3))
    assert "engine:e: as many replicas as there are (Kubernetes service llms/llama; figures count with 3), of" in text
    text = str(sd_explained("vllm", pool=RAY))
    assert "engine:e: as many replicas as there are (1 to 8 servers on Ray; figures count with 8), of" in text


def sd_explained(kind: str, **options: Any) -> Any:
    flow = sd.Flow("f")
    row = flow.input("rows", rows=[{"id": 1}])
    flow.output(
        text=flow.llm("said", engine=flow.engine("e", kind=kind, model="m", **options), prompt=f"{row.id}").text
    )
    return flow.explain()


def test_the_answers_are_those_of_any_other_server() -> None:
    (pooled,) = session_of("openai", pool=KUBERNETES).plan.logical.engines
    (attached,) = session_of("openai", base_url="http://x/v1").plan.logical.engines
    (kind, options), (_, others) = opened(pooled), opened(attached)
    assert kind.identity(options) == kind.identity(others)


def test_the_servers_of_a_pool_are_nobodys_share() -> None:
    session = session_of("vllm", pool=KUBERNETES, max_concurrency=2)
    assert shared_limits(session.plan, session.flow.operators, 40) == {}
    part = cell_plan(session.plan, session.flow.operators, 3, 40)
    assert part.logical.engines == session.plan.logical.engines


def test_servers_on_ray_are_for_runs_on_ray(tmp_path: Path) -> None:
    (block,) = session_of("vllm", pool=RAY).plan.logical.engines
    with pytest.raises(ConfigError, match="are started on a Ray cluster"):
        watch_of_source(block)
    pool = pool_of(block)
    assert pool is not None
    assert pool.most_replicas == 8
    secrets = Secrets({})
    with pytest.raises(ConfigError, match="come and go, which a live host does not follow"):
        LiveEngines(Servers(tmp_path, secrets), secrets).check([block])
