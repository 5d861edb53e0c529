"""A plan that is bound to one machine is refused before anything starts; all that is wrong is told at once."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from sundog.errors import ConfigError
from sundog.flow.bind import bind
from sundog.functions import refer_to
from sundog.ir.logical import steps_of
from sundog.operators.base import OPERATORS
from sundog.optimizer.planner import plan_physical
from sundog.runtime.preflight.many_machines import ManyMachinesCheck, check_many_machines
from tests.optimizer.bench import Nowhere

SERVED = {"kind": "openai", "model": "m", "base_url": "http://models:8000/v1"}
ASK = {"llm": {"engine": "e", "prompt": "{{ row.a }}"}}
STATE = "s3://bucket/state"


def check(
    folder: Path, step: dict[str, Any], engine: dict[str, Any] = SERVED, state: str | Path | None = STATE, **more: Any
) -> ManyMachinesCheck:
    flow = {
        "name": "f",
        "engines": {"e": engine},
        "inputs": {"rows": {"path": "rows.csv"}},
        "nodes": {"a": step},
        "outputs": {"a": "{{ row.a }}"},
        **more,
    }
    plan = bind(flow, Nowhere(), base_dir=folder)
    operators = {one.operator: OPERATORS.get(one.operator)(folder) for one in steps_of(plan.nodes)}
    return check_many_machines(plan_physical(plan, operators), operators, state)


def refused(found: ManyMachinesCheck) -> str:
    (refusal,) = found.refusals
    assert refusal.hint
    assert refusal.where
    assert not found.notes
    return refusal.what


def sql(database: str, query: str = "select 1") -> dict[str, Any]:
    return {"sql": {"database": database, "query": query}}


def python(call: str) -> dict[str, Any]:
    return {"python": {"call": call, "args": {}}}


@pytest.mark.parametrize("state", [".sundog", Path("/shared/state"), "state"])
def test_a_state_in_a_folder(state: str | Path, tmp_path: Path) -> None:
    (refusal,) = check(tmp_path, ASK, state=state).refusals
    assert refusal.what.startswith(f"the state {state} is a folder of this machine")
    assert "--state s3://bucket/folder" in (refusal.hint or "")


@pytest.mark.parametrize("state", [STATE, "file:///shared/state", "gs://b/s", None])
def test_a_state_that_all_may_reach(state: str | None, tmp_path: Path) -> None:
    assert check(tmp_path, ASK, state=state) == ManyMachinesCheck((), ())


@pytest.mark.parametrize(
    ("engine", "what"),
    [
        ({"kind": "openvino", "model": "m"}, "the engine 'e' loads its model into the process that asks it"),
        ({"kind": "vllm_local", "model": "m"}, "the engine 'e' loads its model into the process that asks it"),
        ({"kind": "vllm", "model": "m"}, "the engine 'e' has servers that are started on this machine"),
        ({"kind": "vllm", "model": "m", "start": True}, "the engine 'e' has servers that are started on this machine"),
    ],
)
def test_engines_of_this_machine(engine: dict[str, Any], what: str, tmp_path: Path) -> None:
    assert refused(check(tmp_path, ASK, engine)).startswith(what)


def test_engines_on_workers(tmp_path: Path) -> None:
    engine = {"kind": "openvino", "model": "m", "workers": "boxes"}
    found = check(tmp_path, ASK, engine, workers={"boxes": {"count": 2}})
    assert "is loaded on workers" in refused(found)
    assert "take `workers: boxes` away" in (found.refusals[0].hint or "")


@pytest.mark.parametrize(
    "engine",
    [
        SERVED,
        {"kind": "vllm", "model": "m", "pool": {"kubernetes": "models/vllm"}},
        {"kind": "vllm", "model": "m", "base_url": "http://v/v1"},
        {"kind": "null"},
    ],
)
def test_engines_that_all_reach(engine: dict[str, Any], tmp_path: Path) -> None:
    assert check(tmp_path, ASK, engine) == ManyMachinesCheck((), ())


def test_an_engine_that_no_step_uses(tmp_path: Path) -> None:
    engines = {"e": {"kind": "openvino", "model": "m"}, "served": SERVED}
    step = {"llm": {"engine": "served", "prompt": "{{ row.a }}"}}
    assert check(tmp_path, step, engines=engines) == ManyMachinesCheck((), ())


@pytest.mark.parametrize("kind", ["sqlite", "duckdb"])
def test_a_file_that_the_flow_writes_to(kind: str, tmp_path: Path) -> None:
    found = check(tmp_path, sql(f"{kind}:///d.db", "insert into t values (1)"))
    assert refused(found) == (
        f"step 'a': it writes to {kind}:d.db, a file: processes on several machines would damage it"
    )
    assert "a database that is a server" in (found.refusals[0].hint or "")


@pytest.mark.parametrize("path", ["/elsewhere/d.db", "../d.db", "${env:PLACE}"])
def test_a_file_that_other_machines_may_lack(path: str, tmp_path: Path) -> None:
    assert "a file that is not in the flow's folder" in refused(check(tmp_path, sql(f"sqlite:///{path}")))


def test_a_file_of_the_folder_that_is_only_read_is_told(tmp_path: Path) -> None:
    found = check(tmp_path, sql("sqlite:///data/d.db"))
    assert found.refusals == ()
    assert found.notes == (
        "step 'a': each machine reads sqlite:data/d.db for itself: nobody may write to it meanwhile",
    )


def test_a_database_that_is_a_server(tmp_path: Path) -> None:
    step = sql("postgresql+psycopg://h/d", "insert into t values (1)")
    assert check(tmp_path, step) == ManyMachinesCheck((), ())


def test_functions_of_the_folder_and_of_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "many_machines_own.py").write_text("def one(): return 1\n")
    assert check(tmp_path, python("many_machines_own:one")) == ManyMachinesCheck((), ())
    assert check(tmp_path, python("time:time")) == ManyMachinesCheck((), ())


def test_a_function_of_an_installed_package_is_told(tmp_path: Path) -> None:
    found = check(tmp_path, python("pytest:console_main"))
    assert found.refusals == ()
    assert found.notes == ("step 'a': the package 'pytest' must be installed on every machine",)


def test_a_function_of_a_module_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    elsewhere, folder = tmp_path / "elsewhere", tmp_path / "flow"
    elsewhere.mkdir()
    folder.mkdir()
    (elsewhere / "many_machines_lost.py").write_text("def one(): return 1\n")
    monkeypatch.syspath_prepend(str(elsewhere))
    what = refused(check(folder, python("many_machines_lost:one")))
    assert what == (
        f"step 'a': its module 'many_machines_lost' ({elsewhere / 'many_machines_lost.py'}) is neither in the flow's "
        "folder nor of an installed package"
    )
    monkeypatch.delitem(sys.modules, "many_machines_lost")


def test_a_function_of_this_process(tmp_path: Path) -> None:
    assert "is known in this process alone" in refused(check(tmp_path, python(refer_to(lambda: 1))))


def test_a_program_is_started_by_each_process(tmp_path: Path) -> None:
    pytest.importorskip("mcp", reason="the extra mcp is not installed")
    found = check(tmp_path, {"mcp": {"command": ["server"], "tool": "t", "arguments": {}}})
    assert found.notes == ("step 'a': each process starts the program 'server' for itself: what it keeps is its own",)
    assert check(tmp_path, {"mcp": {"url": "http://h/mcp", "tool": "t", "arguments": {}}}).notes == ()


def test_people_and_inputs_are_no_matter(tmp_path: Path) -> None:
    inputs = {"rows": {"query": "select 1 as a"}}
    assert check(tmp_path, {"human": {"question": "{{ row.a }}?"}}, inputs=inputs) == ManyMachinesCheck((), ())


def test_steps_inside_loops_and_agents_count(tmp_path: Path) -> None:
    tools = {"note": {"description": "Notes.", "parameters": {}, **sql("sqlite:///d.db", "insert into t values (1)")}}
    step = {"agent": {"engine": "e", "prompt": "{{ row.a }}", "tools": ["note"]}}
    assert "it writes to sqlite:d.db" in refused(check(tmp_path, step, tools=tools))


def test_all_refusals_are_one_error(tmp_path: Path) -> None:
    found = check(tmp_path, ASK, {"kind": "openvino", "model": "m"}, ".sundog")
    with pytest.raises(ConfigError) as caught:
        found.raise_if_refused()
    text = str(caught.value)
    assert text.index("the state .sundog") < text.index("--state s3://") < text.index("the engine 'e' loads its model")
    check(tmp_path, ASK).raise_if_refused()
