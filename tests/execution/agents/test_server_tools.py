"""The tools of an MCP server, used by an agent: which it gets, what their uses are, and what holds when the list or the
server is not what it was."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

import sundog as sd
from sundog.engines.base import ENGINES
from sundog.errors import FlowError, RunStopped
from sundog.ir.agents import Agent
from sundog.ir.logical import Step
from sundog.ir.server_tools import ServerTool, ServerTools, difference
from sundog.operators.mcp.operator import MCPSpec
from tests.execution.agents.scripted_agent import STAGE, Answer, ScriptedKind, Stage, one_by_one
from tests.operators import plain_mcp_server
from tests.operators.mcp_server import WebServer

PROGRAM = Path(plain_mcp_server.__file__)
ONE_ROW = ({"city": "Rome"},)


@pytest.fixture
def stage(monkeypatch: pytest.MonkeyPatch) -> Stage:
    monkeypatch.setitem(ENGINES._loaded, "scripted", ScriptedKind)
    monkeypatch.setattr(STAGE, "requests", [])
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    return STAGE


def program(folder: Path, how: str = "well") -> dict[str, Any]:
    return {"command": [sys.executable, "-S", str(PROGRAM), how, str(folder / "seen.txt")]}


def seen(folder: Path) -> list[str]:
    return [line.partition(" ")[0] for line in (folder / "seen.txt").read_text().splitlines()]


def flow_with(folder: Path, mcp: Any, rows: Any = ONE_ROW, tools: Any = ("files",), **words: Any) -> sd.Flow:
    flow = sd.Flow("tools", base_dir=folder)
    model = flow.engine("model", kind="scripted", model="m")
    flow.input("rows", rows=list(rows))
    flow.tool("files", mcp=mcp, **words)
    asked = flow.agent("help", engine=model, prompt="{{ row.city }}", tools=tools, max_turns=9)
    flow.output(text=asked.text, said=asked.messages)
    return flow


def run(flow: sd.Flow, *answers: Answer, **options: Any) -> list[Any]:
    STAGE.script = one_by_one(*answers)
    return list(flow.run(state=flow.base_dir / "state", progress=False, **options))


def told(row: Any) -> list[str]:
    return [message["content"] for message in row["said"] if message["role"] == "tool"]


def offered(stage: Stage) -> list[str]:
    return [tool.name for tool in stage.requests[0].tools]


def tools_with_effects(flow: sd.Flow) -> list[str]:
    agent = flow.plan().nodes[0]
    assert isinstance(agent, Agent)
    specs = [step.spec for step in agent.body if isinstance(step, Step)]
    mcp = [spec for spec in specs if isinstance(spec, MCPSpec)]
    return [tool.name for tool, spec in zip(agent.tools, mcp, strict=True) if spec.effect]


def test_a_set_gives_each_tool_of_the_server(stage: Stage, tmp_path: Path) -> None:
    with WebServer(tmp_path) as web:
        flow = flow_with(tmp_path, {"url": web.url}, trust=True, effects={"echo": False})
        (row,) = run(flow, [("files__weather", {"city": "Oslo"}), ("files__echo", {"text": "a"})], "four")
        effects = tools_with_effects(flow)
    names = ["echo", "hang", "large", "order", "picture", "refuse", "weather"]
    assert offered(stage) == [f"files__{name}" for name in names]
    assert told(row) == ['{"city":"Oslo","degrees":4}', '{"result":"a"}']
    # The server is trusted: it says that the weather is only read. Of the others it says nothing, or that they change.
    assert effects == [f"files__{name}" for name in names if name not in {"echo", "weather"}]


def test_a_model_hears_of_pictures_that_it_is_not_shown(stage: Stage, tmp_path: Path) -> None:
    with WebServer(tmp_path) as web:
        (row,) = run(flow_with(tmp_path, {"url": web.url}, only=["picture"]), [("files__picture", {})], "nice")
    assert told(row) == ["a dot\n(not shown here: image/png)"]


def test_nothing_is_trusted_unless_the_flow_says_so(stage: Stage, tmp_path: Path) -> None:
    with WebServer(tmp_path) as web:
        flow = flow_with(tmp_path, {"url": web.url}, only=["weather"])
        assert tools_with_effects(flow) == ["files__weather"]
        (row,) = run(flow, [("files__weather", {"town": "Oslo"})], "no")
    assert offered(stage) == ["files__weather"]
    assert "the arguments do not fit the tool's parameters" in told(row)[0]


def test_equal_reads_of_many_rows_are_one_over_one_connection(stage: Stage, tmp_path: Path) -> None:
    rows = [{"city": f"city {number}"} for number in range(6)]
    flow = flow_with(tmp_path, program(tmp_path), rows, only=["echo"], effects={"echo": False})
    found = run(flow, [("files__echo", {"a": 1})], "done")
    assert [told(row) for row in found] == [['{"a":1}']] * 6
    # Asked for its tools, looked at before the run, and used.
    assert seen(tmp_path) == ["start", "start", "start", "echo"]


@pytest.mark.parametrize(
    ("tool", "message"),
    [
        ("die", "failed while it was at the call"),
        ("flood", "a message of more than"),
        ("broken", "what is no result of a tool"),
    ],
)
def test_a_tool_that_breaks_its_server_is_told_and_the_server_started_again(
    stage: Stage, tmp_path: Path, tool: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plain_mcp_server, "ANYTHING", plain_mcp_server.ANYTHING)
    flow = flow_with(tmp_path, program(tmp_path, f"has {tool}"), retries=0, effects={tool: False, "echo": False})
    (row,) = run(flow, [(f"files__{tool}", {})], [("files__echo", {"still": "there"})], "done")
    first, second = told(row)
    assert first.startswith("error: ")
    assert message in first
    assert second == '{"still":"there"}'


def test_a_tool_that_hangs_ends_with_its_timeout(stage: Stage, tmp_path: Path) -> None:
    with WebServer(tmp_path) as web:
        words: dict[str, Any] = {"only": ["hang"], "effects": {"hang": False}, "timeout": 0.05, "retries": 0}
        (row,) = run(flow_with(tmp_path, {"url": web.url}, **words), [("files__hang", {})], "done")
    assert told(row) == ["error: no result within 0.05 s"]


def test_an_effect_that_hangs_fails_the_row(stage: Stage, tmp_path: Path) -> None:
    with WebServer(tmp_path) as web:
        flow = flow_with(tmp_path, {"url": web.url}, only=["hang"], timeout=2)
        assert run(flow, [("files__hang", {})], "done") == []


def test_a_result_that_breaks_the_servers_own_schema_is_told_as_it_is(stage: Stage, tmp_path: Path) -> None:
    flow = flow_with(tmp_path, program(tmp_path), only=["lie"])
    (row,) = run(flow, [("files__lie", {"a": 1})], "done")
    assert told(row) == ['{"degrees":"warm"}']
    assert seen(tmp_path).count("lie") == 1


def test_a_tool_with_a_schema_that_is_too_large_is_left_out_and_told(stage: Stage, tmp_path: Path) -> None:
    flow = flow_with(tmp_path, program(tmp_path, "large schema"))
    run(flow, "done", output=tmp_path / "out.jsonl")
    assert offered(stage) == ["files__small"]
    assert "the tool 'large' of the server is left out: the schema of its result" in flow.explain(state=tmp_path / "s")


def test_a_list_that_names_tools_oddly_is_used_without_them(stage: Stage, tmp_path: Path) -> None:
    flow = flow_with(tmp_path, program(tmp_path, "odd list"))
    run(flow, "done", output=tmp_path / "out.jsonl")
    assert offered(stage) == ["files__echo", "files__same"]
    explained = flow.explain(state=tmp_path / "s")
    assert "the tool 'twice' of the server is left out: the server lists it twice, and not alike" in explained
    assert "the tool '' of the server is left out: it has no name" in explained


def test_tools_left_out_for_one_reason_are_told_once(stage: Stage, tmp_path: Path) -> None:
    explained = flow_with(tmp_path, program(tmp_path, "long list")).explain(state=tmp_path / "s")
    assert "the tools 't200', 't201', 't202' and 47 others of the server are left out" in explained
    assert explained.count("left out") == 1


def test_a_list_that_breaks_the_protocol_is_told_with_its_place(stage: Stage, tmp_path: Path) -> None:
    what = "lists its tools in a form that breaks the protocol: tools.0.inputSchema.type: Field required"
    with pytest.raises(FlowError, match=what) as caught:
        flow_with(tmp_path, program(tmp_path, "no schema")).plan()
    assert "pydantic" not in str(caught.value)


@pytest.mark.parametrize(
    ("tool", "message"),
    [
        ("failure", 'error: the tool failed: {"why": "the shop is closed"}'),
        ("paper", "(not shown here: application/pdf)"),
    ],
)
def test_a_model_is_told_what_a_result_without_words_is(stage: Stage, tmp_path: Path, tool: str, message: str) -> None:
    (row,) = run(flow_with(tmp_path, program(tmp_path, f"has {tool}")), [(f"files__{tool}", {})], "done")
    assert told(row) == [message]


@pytest.mark.parametrize(
    ("words", "what", "hint"),
    [
        ({"only": ["ecko"]}, "the server has no tool 'ecko'", "did you mean 'echo'?"),
        ({"effects": {"ecko": True}}, "the server has no tool 'ecko'", "did you mean 'echo'?"),
        ({"onyl": ["echo"]}, "unknown key 'onyl' beside the server of a set of tools", "did you mean 'only'?"),
        ({"tools": ["files__ecko"]}, "there is no tool 'files__ecko'", "did you mean 'files__echo'?"),
        ({"tools": ["files", "files__echo"]}, "the tool 'files__echo' is named twice", ""),
    ],
)
def test_a_wrong_set_is_told(stage: Stage, tmp_path: Path, words: Any, what: str, hint: str) -> None:
    with pytest.raises(FlowError) as caught:
        flow_with(tmp_path, program(tmp_path), **words).plan()
    assert what in str(caught.value)
    assert hint in str(caught.value)


def test_a_tool_that_cannot_be_used_and_that_the_flow_names_is_wrong(stage: Stage, tmp_path: Path) -> None:
    with pytest.raises(FlowError, match="the tool 'large' of the server cannot be used: the schema of its result"):
        flow_with(tmp_path, program(tmp_path, "large schema"), only=["large"]).plan()


def test_a_server_that_does_not_come_up_is_told_before_anything(stage: Stage, tmp_path: Path) -> None:
    with pytest.raises(FlowError, match="the program 'no-such-program' cannot be started"):
        flow_with(tmp_path, {"command": ["no-such-program"]}).plan()


def test_a_run_goes_on_with_the_list_that_it_began_with(
    stage: Stage, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    how = tmp_path / "how.txt"
    how.write_text("well")
    mcp = program(tmp_path, f"as {how} says")
    options: dict[str, Any] = {"output": tmp_path / "out.jsonl", "max_errors": 0}
    with pytest.raises(RunStopped):
        run(flow_with(tmp_path, mcp), ValueError("the engine stands"), **options)
    how.write_text("long list")
    stage.requests.clear()
    STAGE.script = one_by_one("done")
    flow_with(tmp_path, mcp).run(state=tmp_path / "state", progress=True, retry_failed=True, **options)
    assert offered(stage) == ["files__echo", "files__keep", "files__lie"]
    assert "the server lists others now (new: t000" in capsys.readouterr().err
    stage.requests.clear()
    run(flow_with(tmp_path, mcp), "done", **options)
    assert not stage.requests, "that run is finished, whatever the server lists"
    run(flow_with(tmp_path, mcp), "done", fresh=True, **options)
    assert len(offered(stage)) == 200


def test_lists_are_kept_as_they_are(tmp_path: Path) -> None:
    before = ServerTools((ServerTool("a", "x", "{}", True), ServerTool("b", "y", "{}")), (("c", "too long"),))
    assert ServerTools.of(json.loads(json.dumps(before.to_dict()))) == before
    now = ServerTools((ServerTool("b", "z", "{}"), ServerTool("d", "", "{}")))
    assert difference(before, now) == "new: d; gone: a; changed: b"
