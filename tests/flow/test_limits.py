"""Limits of hosts and databases: which pool an address means, and what of it is never told."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sundog.errors import FlowError
from sundog.flow.bind import bind, load_flow
from sundog.flow.limits import shown
from sundog.flow.python.builder import FlowBuilder
from sundog.flow.python.call_sites import CallSites
from sundog.ir.logical import LogicalPlan
from sundog.ir.values.canonical import describe_value
from tests.operators.conformance import SECRET

STEPS: dict[str, Any] = {
    "page": {"http": {"url": "https://Example.com/pages/{{ row.id }}"}},
    "inner": {"http": {"url": "http://127.0.0.1:8731/x"}},
    "any": {"http": {"url": "{{ row.url }}"}},
    "named": {"http": {"url": "https://${env:HOST}/x"}},
    "film": {"sql": {"database": "sqlite:///films.db", "query": "select 1"}},
    "log": {"sql": {"database": "sqlite:///log.db", "query": "insert into log values (1)"}},
    "sale": {
        "sql": {"database": f"postgresql+psycopg://me:{SECRET}@db:5432/sales?sslmode=require", "query": "select 1"}
    },
    "clean": {"python": {"call": "json:loads", "args": {"s": "{}"}}},
}


def plan_of(limits: dict[str, Any], steps: dict[str, Any] = STEPS) -> LogicalPlan:
    flow = {"name": "f", "inputs": {"rows": "rows.jsonl"}, "nodes": steps, "outputs": {"id": "{{ row.id }}"}}
    return bind({**flow, "limits": limits}, CallSites(), base_dir=Path())


def complaint(limits: dict[str, Any], steps: dict[str, Any] = STEPS) -> str:
    with pytest.raises(FlowError) as caught:
        plan_of(limits, steps)
    return str(caught.value)


@pytest.mark.parametrize(
    ("address", "pool"),
    [
        ("https://example.com", "http:https://example.com"),
        ("https://example.com/", "http:https://example.com"),
        ("HTTPS://EXAMPLE.com:443", "http:https://example.com"),
        ("http://127.0.0.1:8731", "http:http://127.0.0.1:8731"),
        ("http://*", "http:*"),
        ("https://${env:HOST}", "http:https://${env:HOST}"),
        ("sqlite:///films.db", "sqlite:films.db"),
        ("sqlite:///./films.db", "sqlite:films.db"),
        ("postgresql://db:5432/sales", "postgresql:db:5432/sales"),
        (f"postgresql+psycopg2://you:{SECRET}@db:5432/sales", "postgresql:db:5432/sales"),
        ("python", "python"),
    ],
)
def test_an_address_means_the_pool_of_its_steps(address: str, pool: str) -> None:
    assert plan_of({address: {"max_concurrency": 5}}).limits == {pool: 5}


@pytest.mark.parametrize(
    ("address", "told"),
    [
        ("https://exampel.com", ["no step uses 'https://exampel.com'", "did you mean 'https://example.com'?"]),
        ("http://example.com", ["did you mean 'https://example.com'?"]),
        ("example.com", ["did you mean 'https://example.com'?"]),
        ("https://*", ["did you mean 'http://*'?"]),
        ("https://example.com/pages", ["has neither user nor path"]),
        ("https://me@example.com", ["has neither user nor path"]),
        ("https://{{ row.host }}", ["write http://* for the hosts that only the rows tell"]),
        ("sqlite:///film.db", ["did you mean 'sqlite:///films.db'?"]),
        ("sqlite:///log.db", ["no step reads 'sqlite:///log.db', and it takes one write at a time"]),
        ("postgresql://db/sales", ["did you mean 'postgresql://db:5432/sales'?"]),
        ("postgresql://db:5432/sales?sslmode=require", ["an address has no options"]),
        ("postgresql://me:word@db:5432/sales", ["a password stands in the flow"]),
        ("postgresql://db:x/sales", ["this is no database URL"]),
        ("nonsense", ["no step uses 'nonsense'", "known here: "]),
    ],
)
def test_what_no_step_uses_is_an_error(address: str, told: list[str]) -> None:
    text = complaint({address: {"max_concurrency": 5}})
    assert all(part in text for part in told), text


def test_one_host_has_one_limit() -> None:
    both = {name: {"max_concurrency": 5} for name in ("https://example.com", "https://example.com:443")}
    assert "'https://example.com:443' has two limits" in complaint(both)


def test_the_limit_of_an_engine_stands_in_its_block() -> None:
    flow = {"name": "f", "engines": {"local": {"kind": "null"}}, "inputs": {"rows": "rows.jsonl"}, "nodes": STEPS}
    data = {**flow, "outputs": {"id": "{{ row.id }}"}, "limits": {"local": {"max_concurrency": 5}}}
    with pytest.raises(FlowError, match=r"`max_concurrency` in its block, engines\.local"):
        bind(data, CallSites(), base_dir=Path())


def test_a_wrong_step_makes_no_address_unknown() -> None:
    """It may be the one that the limit is for."""
    text = complaint({"https://a.example": {"max_concurrency": 5}}, {"a": {"http": {"url": "ftp://a.example/"}}})
    assert "no URL" in text
    assert "no step uses" not in text


@pytest.mark.parametrize(
    "address",
    [
        "postgresql://me:w0rd@db/sales",
        "postgresql://me:w0/rd@db/sales",
        "postgresql://db/sales?password=w0rd",
        "postgresql://db:w0rd/sales",
        "https://me:w0rd@example.com",
        "https://other.example/?token=w0rd",
        "mysql://db/sales#w0rd",
        "me:w0rd@db",
        "nothing?w0rd",
    ],
)
@pytest.mark.parametrize("steps", [STEPS, {"clean": STEPS["clean"]}], ids=["databases", "none"])
def test_a_secret_in_an_address_is_never_told(address: str, steps: dict[str, Any]) -> None:
    text = complaint({address: {"max_concurrency": 0}}, steps)
    assert "w0" not in text


def test_what_is_shown_of_an_address() -> None:
    assert shown("postgresql+psycopg://me:a@b@db/sales?x=1#y") == "postgresql+psycopg://db/sales"
    assert shown("sqlite:///a.db") == "sqlite:///a.db"


def test_the_builder_hides_it_too() -> None:
    flow = FlowBuilder("f")
    flow.limit("postgresql://me:w0rd@db/sales", max_concurrency=3)
    with pytest.raises(FlowError, match="'postgresql://db/sales' is already in limits") as caught:
        flow.limit("postgresql://me:w0rd@db/sales", max_concurrency=3)
    assert "w0rd" not in str(caught.value)


def test_limits_are_no_part_of_what_a_plan_is() -> None:
    limited, free = plan_of({"python": {"max_concurrency": 5}}), plan_of({})
    assert describe_value(limited) == describe_value(free)
    assert limited == free


@pytest.mark.parametrize(
    ("written", "told"),
    [
        ("{}", "'max_concurrency' is missing in 'https://example.com'"),
        ("4", "'https://example.com' must be a mapping, not 4"),
        ("{max_concurrency: 0}", "greater than or equal to 1"),
        ("{max_concurency: 4}", "unknown key 'max_concurency' in 'https://example.com'"),
        ("{max_concurrency: 99999999999999999999}", "must be a number below"),
    ],
)
def test_a_wrong_limit_has_its_place(tmp_path: Path, written: str, told: str) -> None:
    path = tmp_path / "flow.yaml"
    path.write_text(f"""name: f
limits:
  https://example.com: {written}
inputs: {{rows: rows.jsonl}}
nodes:
  page: {{http: {{url: "https://example.com/a"}}}}
outputs: {{id: "{{{{ row.id }}}}"}}
""")
    with pytest.raises(FlowError, match=r"flow\.yaml:3:") as caught:
        load_flow(path)
    assert told in str(caught.value)
