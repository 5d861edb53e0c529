"""MCP steps against servers that answer, die, hang, flood and lie: of the protocol's own library, and plain ones."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sundog.errors import FlowError, OperatorError
from sundog.ir.physical import Sharing
from sundog.ir.templates.render import Scope
from sundog.operators.base import BoundCall, Inspection
from sundog.operators.mcp.address import ServerAddress
from sundog.operators.mcp.annotations import ToolAnnotationsTold, ToolReach, reach_of
from sundog.operators.mcp.operator import MCPOperator, MCPSpec
from sundog.operators.mcp.sessions import listed_tools
from sundog.secrets import Secrets
from tests.operators import plain_mcp_server
from tests.operators.conformance import SECRET, SECRET_VALUE, Case, Context, OperatorConformance, Subject, until
from tests.operators.mcp_server import WebServer
from tests.operators.plain_web_server import ForgetfulServer

PROGRAM = Path(plain_mcp_server.__file__)


@pytest.fixture(scope="module")
def web(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebServer]:
    with WebServer(tmp_path_factory.mktemp("seen")) as started:
        yield started


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr("sundog.operators.mcp.program.GRACE_S", 0.1)


@pytest.fixture
def seen(tmp_path: Path) -> Path:
    return tmp_path / "seen.txt"


def spec(tool: str, arguments: dict[str, Any] | None = None, **fields: Any) -> MCPSpec:
    return MCPSpec.model_validate({"tool": tool, "arguments": arguments or {}, **fields})


def program(seen: Path, how: str = "well") -> dict[str, Any]:
    return {"command": (sys.executable, "-S", str(PROGRAM), how, str(seen))}


def told(seen: Path) -> list[str]:
    return [line.partition(" ")[0] for line in seen.read_text().splitlines()] if seen.exists() else []


def processes(seen: Path) -> list[int]:
    lines = seen.read_text().splitlines() if seen.exists() else []
    return [int(line.split()[1]) for line in lines if line.startswith("start")]


def is_running(pid: int) -> bool:
    """Return whether a process runs; one that has ended and that nobody reaps does not."""
    try:
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except ProcessLookupError:
        return False
    except FileNotFoundError:  # not every system has /proc
        return not Path("/proc/1").exists()


async def use(operator: MCPOperator, one: MCPSpec, context: Context | None = None, scope: Scope | None = None) -> Any:
    operator.check(one, {})
    return (await operator.run(operator.bind(one, scope or {}, {}), context or Context())).value


def run(*specs: MCPSpec, context: Context | None = None) -> list[Any]:
    """The values of steps that follow each other on one operator."""

    async def all_of_them() -> list[Any]:
        operator = MCPOperator(Path())
        try:
            return [await use(operator, one, context) for one in specs]
        finally:
            await operator.close()

    return asyncio.run(all_of_them())


def fault(*specs: MCPSpec, context: Context | None = None) -> OperatorError:
    """The failure of the last of them."""

    async def last_fault() -> OperatorError:
        operator = MCPOperator(Path())
        try:
            for one in specs[:-1]:
                await use(operator, one, context)
            with pytest.raises(OperatorError) as caught:
                await use(operator, specs[-1], context)
            return caught.value
        finally:
            await operator.close()

    return asyncio.run(last_fault())


class TestConformance(OperatorConformance):
    @pytest.fixture
    def subject(self, web: WebServer, tmp_path: Path) -> Subject:
        row = {"row": {"city": "Rome"}}
        server: dict[str, Any] = {"url": web.url}
        return Subject(
            operator=MCPOperator(tmp_path),
            good=Case(spec("weather", {"city": "{{ row.city }}"}, effect=False, **server), row),
            other=Case(spec("weather", {"city": "Paris"}, effect=False, **server)),
            unbound=(Case(spec("weather", {"city": "{{ row.nix }}"}, **server), row),),
            faulty=(
                Case(spec("refuse", {"why": SECRET}, **server)),
                Case(spec("weather", {"town": "Rome"}, **server)),
                Case(spec("nix", **server)),
                Case(spec("large", {"num_bytes": 2_000_000}, **server)),
                Case(spec("weather", url="http://127.0.0.1:9/mcp")),
                Case(spec("weather", command=["no-such-program"])),
                Case(spec("weather", command=["true"])),
                Case(spec("weather", url=web.url, headers={"X-A": "${env:SUNDOG_UNSET}"})),
            ),
            endless=Case(spec("hang", effect=False, **server)),
            num_running=lambda: web.num_hanging,
            secret=Case(spec("echo", {"text": f"key {SECRET}"}, headers={"X-Key": SECRET}, effect=False, **server)),
            effects=(Case(spec("order", {"item": "tea"}, **server)),),
        )


def test_the_value_of_a_use(web: WebServer, seen: Path) -> None:
    values = run(
        spec("weather", {"city": "Rome"}, url=web.url),
        spec("picture", url=web.url),
        spec("echo", {"n": 1, "all": ["{{ [1, 2] }}"]}, **program(seen)),
    )
    assert values[0]["json"] == {"city": "Rome", "degrees": 4}
    assert json.loads(values[0]["text"]) == values[0]["json"]
    assert values[0]["misfit"] is None
    assert values[1]["text"] == "a dot"
    assert values[1]["parts"] == [{"type": "image", "data": "AAAA", "mimeType": "image/png"}]
    # Without data of its own, the JSON of its text is the data; arguments keep their types.
    assert values[2]["json"] == {"n": 1, "all": [[1, 2]]}


def test_a_tool_that_fails_says_so(web: WebServer) -> None:
    failed = fault(spec("weather", {"town": "Rome"}, url=web.url))
    assert "the tool failed" in failed.what
    assert "city" in failed.what
    assert not failed.retryable
    assert not failed.is_outcome_unknown
    refused = fault(spec("nix", url=web.url, effect=False))
    assert not refused.retryable


def test_a_refusal_of_the_protocol_is_known_not_to_have_acted(seen: Path) -> None:
    failed = fault(spec("refuse", **program(seen)))
    assert "refuses the call: there is no such tool" in failed.what
    assert not failed.is_outcome_unknown
    assert not failed.retryable


def test_rows_share_one_session_and_a_stateful_step_has_one_for_each_call(seen: Path) -> None:
    async def at_once(**fields: Any) -> None:
        operator = MCPOperator(Path())
        one = spec("echo", **program(seen), **fields)
        await asyncio.gather(*(use(operator, one) for _ in range(3)))
        assert all(map(is_running, processes(seen))) is not one.stateful
        await operator.close()
        assert not any(map(is_running, processes(seen)))

    asyncio.run(at_once())
    assert told(seen) == ["start", "echo", "echo", "echo"]
    seen.unlink()
    asyncio.run(at_once(stateful=True))
    assert sorted(told(seen)) == ["echo"] * 3 + ["start"] * 3


@pytest.mark.parametrize("effect", [True, False])
def test_a_server_that_dies_in_mid_call(seen: Path, effect: bool) -> None:
    """The call is never sent again by the operator: an effect may have happened, a read the core may repeat."""
    server = {**program(seen), "env": {"KEY": SECRET}}

    async def die_and_go_on() -> OperatorError:
        operator = MCPOperator(Path())
        try:
            with pytest.raises(OperatorError) as caught:
                await use(operator, spec("die", effect=effect, **server))
            await use(operator, spec("echo", **server))
            return caught.value
        finally:
            await operator.close()

    failed = asyncio.run(die_and_go_on())
    assert "failed while it was at the call: it ended" in failed.what
    assert SECRET_VALUE not in str(failed)
    assert failed.is_outcome_unknown is effect
    assert failed.retryable is not effect
    assert told(seen) == ["start", "die", "start", "echo"]


def test_what_a_dead_server_said_is_told_without_secrets() -> None:
    code = f"import sys; sys.exit('no rights for {SECRET_VALUE}')"
    failed = fault(spec("a", command=[sys.executable, "-S", "-c", code], env={"KEY": SECRET}))
    assert "cannot be used: it ended" in failed.what
    assert failed.hint == f"it says: no rights for {SECRET}"
    assert SECRET_VALUE not in str(failed)


def test_a_server_that_has_died_between_calls_is_started_again(seen: Path) -> None:
    async def kill_between() -> None:
        operator, one = MCPOperator(Path()), spec("echo", **program(seen))
        await use(operator, one)
        server = operator._sessions.shared(one.address, Secrets({}))
        assert server.is_usable
        os.kill(processes(seen)[0], signal.SIGKILL)
        await until(lambda: not server.is_usable)
        value = await use(operator, spec("echo", {"again": True}, **program(seen)))
        assert value["json"] == {"again": True}
        await operator.close()

    asyncio.run(kill_between())
    assert told(seen) == ["start", "echo", "start", "echo"]


@pytest.mark.parametrize("effect", [True, False])
def test_a_tool_that_hangs_ends_with_the_time_limit(seen: Path, effect: bool) -> None:
    async def hang() -> OperatorError:
        operator = MCPOperator(Path())
        await use(operator, spec("echo", **program(seen)))
        with pytest.raises(OperatorError) as caught:
            await use(operator, spec("silent", effect=effect, **program(seen)), Context(timeout_s=0.1))
        await operator.close()
        return caught.value

    failed = asyncio.run(hang())
    assert failed.what == "no result within 0.1 s"
    assert failed.is_outcome_unknown is effect
    assert failed.retryable is not effect


def test_a_server_that_never_comes_up_has_done_nothing(seen: Path) -> None:
    failed = fault(spec("a", **program(seen, "stubborn")), context=Context(timeout_s=0.2))
    assert failed.what == "no result within 0.2 s"
    assert not failed.is_outcome_unknown
    assert not any(map(is_running, processes(seen)))


def test_a_flood_is_cut(seen: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sundog.operators.mcp.program.MAX_MESSAGE_BYTES", 200_000)
    failed = fault(spec("flood", **program(seen)))
    assert "it sent a message of more than 200,000 bytes" in failed.what
    assert failed.is_outcome_unknown


def test_an_answer_over_http_is_cut(web: WebServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sundog.operators.mcp.web.MAX_MESSAGE_BYTES", 50_000)
    failed = fault(spec("large", {"num_bytes": 100_000}, url=web.url))
    assert "the answer has more than 50,000 bytes" in failed.what
    assert failed.is_outcome_unknown


def test_a_result_has_a_largest_size(web: WebServer) -> None:
    (value,) = run(spec("large", {"num_bytes": 1_000_000}, url=web.url))
    assert len(value["text"]) == 1_000_000
    failed = fault(spec("large", {"num_bytes": 1_048_576}, url=web.url))
    assert "more than 1,048,576" in failed.what
    assert failed.is_outcome_unknown


def test_a_result_that_breaks_its_schema_is_kept_and_told(seen: Path) -> None:
    lie, keep = run(spec("lie", {"a": 1}, **program(seen)), spec("keep", **program(seen)))
    assert lie["json"] == {"degrees": "warm"}
    assert lie["misfit"] == "$.degrees: 'warm' is not of type 'integer'"
    assert keep["misfit"] is None


def test_what_is_no_result_fails_the_call(seen: Path) -> None:
    failed = fault(spec("broken", **program(seen)))
    assert "answered with what is no result of a tool" in failed.what
    assert failed.is_outcome_unknown


def test_what_a_program_prints_beside_its_messages_harms_nothing(seen: Path) -> None:
    (value,) = run(spec("noise", {"a": 1}, **program(seen)))
    assert value["json"] == {"a": 1}


def test_the_list_of_tools_is_bounded(seen: Path) -> None:
    def listed(how: str) -> Any:
        return asyncio.run(listed_tools(ServerAddress(**program(seen, how)), Path(), Secrets({})))

    assert [tool.name for tool in listed("endless list").tools] == sorted(f"t{number}" for number in range(20))
    long = listed("long list")
    assert [tool.name for tool in long.tools] == [f"t{number:03}" for number in range(200)]
    assert long.left_out[0] == ("t200", "the server lists more than 200 tools")
    assert len(long.left_out) == 50
    large = listed("large schema")
    assert [tool.name for tool in large.tools] == ["small"]
    assert large.left_out == (("large", "the schema of its result has more than 65,536 bytes"),)


def test_no_program_is_left_when_the_run_is_cancelled(seen: Path) -> None:
    async def cancelled() -> None:
        operator = MCPOperator(Path())
        call = asyncio.create_task(use(operator, spec("silent", **program(seen))))
        await until(lambda: "silent" in told(seen))
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        await operator.close()
        assert not is_running(processes(seen)[0])

    asyncio.run(cancelled())


def test_no_program_outlives_the_event_loop(seen: Path) -> None:
    """Nobody closed the operator: the loop's end cancels whatever is left in it."""

    async def left_behind() -> None:
        await use(MCPOperator(Path()), spec("echo", **program(seen)))

    asyncio.run(left_behind())
    assert not is_running(processes(seen)[0])


def test_a_child_that_has_left_holds_nothing_up(seen: Path) -> None:
    """It holds the pipes of its parent open; that a program takes it away is nothing that sundog may do."""

    async def left() -> int:
        operator = MCPOperator(Path())
        value = await use(operator, spec("daemon", **program(seen)))
        await operator.close()
        return int(value["json"]["process"])

    daemon = asyncio.run(left())
    assert is_running(daemon)
    assert not is_running(processes(seen)[0])
    os.kill(daemon, signal.SIGKILL)


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel of Linux ends a child with its parent")
def test_no_program_outlives_a_killed_parent(seen: Path) -> None:
    code = f"""
import asyncio
from pathlib import Path
from sundog.operators.mcp.address import ServerAddress
from sundog.operators.mcp.server import MCPServer
from sundog.secrets import Secrets

async def main():
    await MCPServer(ServerAddress({program(seen, "deaf")["command"]!r}), Path(), Secrets({{}})).open()
    print("up", flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == b"up\n"
        assert is_running(processes(seen)[0])
        parent.kill()
    asyncio.run(until(lambda: not is_running(processes(seen)[0])))


@pytest.mark.parametrize(
    ("told", "effect", "trust", "reach"),
    [
        (ToolAnnotationsTold(), None, True, (True, False)),
        (ToolAnnotationsTold(is_read_only=True), None, False, (True, False)),
        (ToolAnnotationsTold(is_read_only=True), None, True, (False, True)),
        (ToolAnnotationsTold(is_idempotent=True), None, False, (True, False)),
        (ToolAnnotationsTold(is_idempotent=True), None, True, (False, False)),
        (ToolAnnotationsTold(is_read_only=True), True, True, (True, False)),
        (ToolAnnotationsTold(is_read_only=False), False, False, (False, True)),
    ],
)
def test_what_annotations_mean(
    told: ToolAnnotationsTold, effect: bool | None, trust: bool, reach: tuple[bool, bool]
) -> None:
    found = reach_of(told, effect=effect, trust=trust)
    assert found == ToolReach(*reach, found.reason)


def test_reads_are_shared_and_effects_are_not() -> None:
    operator = MCPOperator(Path())
    read = operator.traits(spec("a", command=["x", "a b"], effect=False))
    effect = operator.traits(spec("a", command=["x", "a b"]))
    assert (read.sharing, read.is_effect, read.retries) == (Sharing.RUN, False, 2)
    assert (effect.sharing, effect.is_effect, effect.retries, effect.writes) == (Sharing.NEVER, True, 0, True)
    assert read.pool == effect.pool == "mcp:x 'a b'"
    assert operator.pool_at(read.pool) == read.pool
    assert operator.pool_at("https://a.example") is None
    assert operator.traits(spec("a", url="https://me:word@a.example/mcp?key=x")).pool == "mcp:https://a.example"
    assert operator.traits(spec("a", command=["x"], stateful=True, max_sessions=3)).max_concurrency == 3


@pytest.mark.parametrize(
    ("fields", "what"),
    [
        ({}, "a server is a command or a url"),
        ({"command": ["x"], "url": "http://x/"}, "a server is a command or a url"),
        ({"command": ["x"], "headers": {"A": "b"}}, "headers go with a url"),
        ({"url": "http://x/", "env": {"A": "b"}}, "env goes with a command"),
        ({"url": "ftp://x/"}, "'ftp://x/' is no URL"),
        ({"url": "http:///mcp"}, "'http:///mcp' is no URL"),
        ({"command": ["x", "{{ row.a }}"]}, "the address of a server is no template"),
        ({"url": "http://x/{{ row.a }}"}, "the address of a server is no template"),
        ({"command": ["x"], "tool": "{{ row.a }}"}, "the name of a tool is no template"),
        ({"command": ["x"], "max_sessions": 3}, "max_sessions goes with stateful: true"),
        ({"command": ["x"], "arguments": {"a": "{{ '${env:KEY}' }}"}}, "a secret stands inside an expression"),
    ],
)
def test_mistakes_are_found_in_the_file(fields: dict[str, Any], what: str) -> None:
    with pytest.raises(FlowError) as caught:
        MCPOperator(Path()).check(spec(**{"tool": "a", **fields}), {})
    assert what in caught.value.what


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sundog.operators.mcp.operator.find_spec", lambda name: None)
    with pytest.raises(FlowError) as caught:
        MCPOperator(Path()).check(spec("a", command=["x"]), {})
    assert caught.value.hint == "pip install 'sundog[mcp]'"


def findings(one: MCPSpec, *rows: Any) -> list[str]:
    operator = MCPOperator(Path())
    calls: dict[int, tuple[BoundCall, ...]] = {
        number: (operator.bind(one, {"row": row}, {}),) for number, row in enumerate(rows)
    }
    given = Inspection(calls, Secrets({}), 7.0, len(rows), len(rows))
    found = asyncio.run(operator.inspect(one, given))
    return [f"{'fatal: ' if one.is_fatal else ''}{one.what}; {one.hint}" for one in found]


def test_what_is_seen_before_the_first_call(web: WebServer, seen: Path) -> None:
    known: dict[str, Any] = {"effect": False, "url": web.url}
    assert findings(spec("weather", {"city": "{{ row.c }}"}, **known), {"c": "Rome"}) == []
    assert findings(spec("wether", **known)) == ["fatal: the server has no tool 'wether'; did you mean 'weather'?"]
    some = findings(spec("weather", {"city": "{{ row.c }}"}, **known), {"c": "Rome"}, {"c": 7})
    assert some == [
        "1 of 2 rows have arguments that the tool 'weather' does not take (row 1: $.city: 7 is not of type 'string'); "
        "its server names their schema"
    ]
    (every,) = findings(spec("weather", {"town": "Rome"}, **known), {}, {})
    assert every.startswith("fatal: 2 of 2 rows have arguments that the tool 'weather' does not take")
    (advice,) = findings(spec("weather", {"city": "Rome"}, url=web.url))
    assert advice == (
        "the server says that it only reads, and the step takes it for an effect; write effect: false, or effect: true"
    )
    (doubt,) = findings(spec("order", {"item": "tea"}, **known))
    assert doubt.startswith("the server says that 'order' changes something, and the step says effect: false")
    (unread,) = findings(spec("large", **program(seen, "large schema")))
    assert unread.startswith("its arguments and results are not checked: the schema of its result has more than")
    assert not is_running(processes(seen)[0])


def test_a_session_that_the_server_has_forgotten_is_opened_again() -> None:
    """The call that it was found by is not sent again: nobody knows whether the server has acted."""

    async def forgotten(server: ForgetfulServer) -> OperatorError:
        operator, one = MCPOperator(Path()), spec("echo", {"a": 1}, url=server.url)
        await use(operator, one)
        server.sessions.clear()
        with pytest.raises(OperatorError) as caught:
            await use(operator, one)
        assert (await use(operator, one))["json"] == {"a": 1}
        await operator.close()
        return caught.value

    with ForgetfulServer() as server:
        failed = asyncio.run(forgotten(server))
        assert (server.num_opened, server.num_uses) == (2, 2)
    assert "Session terminated" in failed.what
    assert failed.is_outcome_unknown


def test_a_status_that_is_a_failure_is_told() -> None:
    with ForgetfulServer() as server:
        server.status = 503
        failed = fault(spec("echo", url=server.url, effect=False))
        assert failed.hint == "it has answered 503 Service Unavailable"
        assert failed.retryable
        assert server.num_uses == 1


def test_a_program_that_cannot_be_started_stops_the_run() -> None:
    (found,) = findings(spec("a", command=["no-such-program"]), {})
    assert found.startswith("fatal: the program 'no-such-program' cannot be started: No such file or directory")
