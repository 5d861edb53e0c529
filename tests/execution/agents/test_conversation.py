"""Conversations of agents with a scripted model: what ends them, what the model is told, and what is sent."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

import sundog as sd
from sundog.engines.base import ENGINES, FinishReason
from sundog.errors import BadResponse, PromptTooLong
from sundog.execution.calls import attempt, dispatch
from tests.execution.agents.scripted_agent import STAGE, Answer, ScriptedKind, Stage, found_steps, one_by_one, told

FLOW = """
name: support
engines:
  model: {kind: scripted, model: m, price: {input_usd_per_mtok: 1000, output_usd_per_mtok: 1000}}
inputs: {mails: mails.csv}
constants: {shop: Dawn}
tools:
  order:
    description: Look up an order of this customer.
    parameters: {id: int}
    sql:
      database: "sqlite:///shop.db"
      query: "select item, cents from orders where id = :id and customer = :customer"
      params: {id: "{{ args.id }}", customer: "{{ row.customer }}"}
  refund:
    description: Pay money back.
    parameters: {order: int, cents: int}
    sql:
      database: "sqlite:///log.db"
      query: "insert into refunds values (:order, :cents)"
      params: {order: "{{ args.order }}", cents: "{{ args.cents }}"}
  now: {description: The time., python: {call: "watch:now", args: {log: LOG}}}
nodes:
  help:
    agent:
      engine: model
      system: "You help customers of {{ shop }}."
      prompt: "{{ row.mail }}"
      tools: [order, refund, now]
      max_turns: 5
OPTIONS
outputs:
  text: "{{ help.text }}"
  stopped: "{{ help.stopped }}"
  turns: "{{ help.turns }}"
  said: "{{ help.messages }}"
"""


WATCH = """
def now(log):
    with open(log, "a") as file:
        file.write(".")
    raise ValueError("the clock stands")
"""


@pytest.fixture
def stage(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Stage:
    monkeypatch.setitem(ENGINES._loaded, "scripted", ScriptedKind)
    monkeypatch.setattr(STAGE, "requests", [])
    monkeypatch.setattr(STAGE, "finish_reason", "stop")
    (tmp_path / "mails.csv").write_text("customer,mail\nann,Where is order 7?\n")
    (tmp_path / "watch.py").write_text(WATCH)
    with closing(sqlite3.connect(tmp_path / "shop.db")) as shop, shop:
        shop.execute("create table orders (id integer, customer text, item text, cents integer)")
        shop.execute("insert into orders values (7, 'ann', 'lamp', 1999), (8, 'bob', 'rug', 500)")
    with closing(sqlite3.connect(tmp_path / "log.db")) as log, log:
        log.execute("create table refunds (id integer, cents integer)")
    return STAGE


def flow_of(folder: Path) -> str:
    return FLOW.replace("LOG", str(folder / "watch.log"))


def run(folder: Path, *answers: Answer, options: str = "", **more: Any) -> Any:
    """Return the only row of the flow, answered so."""
    STAGE.script = one_by_one(*answers)
    path = folder / "flow.yaml"
    path.write_text(
        flow_of(folder).replace("OPTIONS", "".join(f"      {line}\n" for line in dedent(options).splitlines()))
    )
    return sd.run(path, state=folder / "state", **more)


def refunds(folder: Path) -> list[tuple[int, int]]:
    with closing(sqlite3.connect(folder / "log.db")) as log:
        return log.execute("select * from refunds").fetchall()


def test_an_answer_ends_it(stage: Stage, tmp_path: Path) -> None:
    (row,) = run(tmp_path, [("order", {"id": 7})], [("refund", {"order": 7, "cents": 1999})], "Your money is back.")
    assert (row["text"], row["stopped"], row["turns"]) == ("Your money is back.", "answer", 3)
    assert refunds(tmp_path) == [(7, 1999)]
    assert [(one["role"], one["content"]) for one in row["said"]] == [
        ("system", "You help customers of Dawn."),
        ("user", "Where is order 7?"),
        ("assistant", ""),
        ("tool", '[{"item":"lamp","cents":1999}]'),
        ("assistant", ""),
        ("tool", '[{"num_rows":1}]'),
        ("assistant", "Your money is back."),
    ]
    call = {"id": "call_2_0", "name": "refund", "arguments": '{"order": 7, "cents": 1999}'}
    assert row["said"][4]["tool_calls"] == [call], "and no id of the server's"
    assert row["said"][5]["tool_call_id"] == "call_2_0"
    assert [tool.name for tool in stage.requests[0].tools] == ["order", "refund", "now"]


def test_sql_that_the_model_writes_only_reads(stage: Stage, tmp_path: Path) -> None:
    tool = """  ask:
    description: Ask the shop's database.
    parameters: {sql: str}
    sql: {database: "sqlite:///shop.db", generated: "{{ args.sql }}", max_rows: 5}
nodes:"""
    flow = tmp_path / "asks.yaml"
    text = flow_of(tmp_path).replace("nodes:", tool, 1).replace("[order, refund, now]", "[ask]").replace("OPTIONS", "")
    flow.write_text(text)
    asked = ["delete from orders", "select itm from orders", "select item from orders order by id"]
    stage.script = one_by_one(*([("ask", {"sql": sql})] for sql in asked), "a lamp and a rug")
    (row,) = sd.run(flow, state=tmp_path / "state")
    refused, failed, answered = told(row)
    assert refused == "error: the generated statement is refused: delete is no query"
    assert "no such column: itm" in failed
    assert answered == '[{"item":"lamp"},{"item":"rug"}]'


def test_it_goes_on_with_the_conversation_of_a_row(stage: Stage, tmp_path: Path) -> None:
    (before,) = run(tmp_path, [("order", {"id": 7})], "It is on its way.")
    chat = json.dumps([*before["said"], {"role": "user", "content": "And order 8?"}])
    (tmp_path / "flow.yaml").write_text(
        (tmp_path / "flow.yaml")
        .read_text()
        .replace('prompt: "{{ row.mail }}"', 'messages: "{{ chat }}"')
        .replace('      system: "You help customers of {{ shop }}."\n', "")
        .replace("constants: {shop: Dawn}", f"constants: {{shop: Dawn, chat: {chat}}}")
    )
    stage.requests.clear()
    STAGE.script = lambda messages: "It is not yours." if messages[-1].role == "tool" else [("order", {"id": 8})]
    (row,) = sd.run(tmp_path / "flow.yaml", state=tmp_path / "state")
    assert (row["text"], row["turns"]) == ("It is not yours.", 2)
    assert row["said"][: len(before["said"])] == before["said"]
    first = stage.requests[0].messages
    assert [message.role for message in first] == ["system", "user", "assistant", "tool", "assistant", "user"]
    assert first[2].tool_calls[0].name == "order"


def test_a_wrong_conversation_of_a_row_fails_the_row(stage: Stage, tmp_path: Path) -> None:
    run(tmp_path, "hello")
    (tmp_path / "mails.csv").write_text("customer,mail\nann,Hello\nbob,Hello\n")
    chat = "{{ [{'role': 'user', 'content': row.mail}] if row.customer == 'ann' else row.mail }}"
    text = (tmp_path / "flow.yaml").read_text().replace('prompt: "{{ row.mail }}"', f'messages: "{chat}"')
    (tmp_path / "flow.yaml").write_text(text)
    stage.requests.clear()
    result = sd.run(tmp_path / "flow.yaml", state=tmp_path / "state")
    assert [row["text"] for row in result] == ["hello"]
    (failed,) = result.errors
    assert "must give a list of messages, and gives text" in str(failed)
    assert len(stage.requests) == 1


def test_a_tool_sees_the_row(stage: Stage, tmp_path: Path) -> None:
    (row,) = run(tmp_path, [("order", {"id": 8})], "It is not yours.")
    assert told(row) == ["[]"], "the order is bob's"


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (("refnd", {}), "error: there is no tool 'refnd'; there are: order, refund, now"),
        (("order", '{"id": 7'), "error: the arguments are not JSON"),
        (("order", "[7]"), "error: the arguments are no JSON object"),
        (("order", {"id": "seven"}), "$.id: 'seven' is not of type 'integer'"),
        (("refund", {"order": "x", "cents": "y", "why": 1}), "$.cents: 'y' is not of type 'integer'; $.order: 'x'"),
        (("now", {}), "error: ValueError: the clock stands"),
    ],
)
def test_what_is_wrong_is_told_to_the_model(stage: Stage, tmp_path: Path, call: tuple[str, Any], says: str) -> None:
    (row,) = run(tmp_path, [call], "I see.")
    assert says in told(row)[0]
    assert row["stopped"] == "answer"
    assert refunds(tmp_path) == []


@pytest.mark.parametrize(
    ("options", "stopped", "turns"),
    [
        ("", "max_turns", 5),
        ("limits: {tokens: 40}", "tokens", 3),
        ("limits: {usd: 0.02}", "usd", 2),
        ("stop_when: \"{{ turns > 1 and row.customer == 'ann' }}\"", "stop_when", 2),
        ("stop_when: \"{{ (messages | last).content == '[]' }}\"", "stop_when", 1),
    ],
)
def test_a_limit_ends_it(stage: Stage, tmp_path: Path, options: str, stopped: str, turns: int) -> None:
    calls: list[Answer] = [[("order", {"id": 100 + number})] for number in range(9)]
    (row,) = run(tmp_path, *calls, options=options)
    assert (row["stopped"], row["turns"], row["text"]) == (stopped, turns, "")
    assert len(stage.requests) == turns


class Clock:
    """Ten seconds pass with each turn, five with each use of the tool `now`."""

    def __init__(self, stage: Stage, log: Path) -> None:
        self._stage = stage
        self._log = log

    def __call__(self) -> float:
        num_uses = len(self._log.read_text()) if self._log.exists() else 0
        return 10.0 * len(self._stage.requests) + 5.0 * num_uses


@pytest.mark.parametrize(("seconds", "turns"), [(10, 1), (15, 1), (15.5, 2), (40, 3), (41, 3), (46, 4), (1000, 5)])
def test_seconds_are_those_of_turns_and_uses(
    stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seconds: float, turns: int
) -> None:
    clock = Clock(stage, tmp_path / "watch.log")
    monkeypatch.setattr(attempt, "monotonic", clock)
    monkeypatch.setattr(dispatch, "monotonic", clock)
    # Uses that fail count too.
    options = f"limits: {{seconds: {seconds}}}\nmax_repeats: 9"
    (row,) = run(tmp_path, [("now", {})], options=options)
    assert (row["turns"], row["stopped"]) == (turns, "max_turns" if turns == 5 else "seconds")


def test_seconds_end_a_run_that_goes_on_alike(stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attempt, "monotonic", Clock(stage, tmp_path / "watch.log"))
    calls: list[Answer] = [[("order", {"id": 1})], [("order", {"id": 2})], [("order", {"id": 3})]]
    options = "limits: {seconds: 30}"
    result = run(tmp_path, *calls[:2], BadResponse("no answer"), options=options)
    assert result.report.num_failed == 1
    (row,) = run(tmp_path, *calls, "Done.", options=options, retry_failed=True)
    assert (row["turns"], row["stopped"], len(stage.requests)) == (3, "seconds", 4), "the first turns' are kept"


def test_the_same_use_again_and_again_ends_it(stage: Stage, tmp_path: Path) -> None:
    again: list[Answer] = [[("order", '{"id": 7}')], [("order", '{ "id":7 }')]]
    (row,) = run(tmp_path, *again, options="max_repeats: 3")
    assert (row["stopped"], row["turns"]) == ("repeats", 3)


def test_the_same_turn_again_and_again_ends_it(stage: Stage, tmp_path: Path) -> None:
    both: list[Answer] = [[("order", {"id": 7}), ("order", {"id": 8})]]
    (row,) = run(tmp_path, *both, options="max_repeats: 3")
    assert (row["stopped"], row["turns"]) == ("repeats", 3)
    (row,) = run(tmp_path, *both, options="max_repeats: 6")
    assert (row["stopped"], row["turns"]) == ("max_turns", 5)


@pytest.mark.parametrize("arguments", ['{"order": 7, "ce', ""])
def test_a_call_that_was_cut_off_is_not_made(stage: Stage, tmp_path: Path, arguments: str) -> None:
    stage.finish_reason = "length"
    cut: list[tuple[str, Any]] = [("order", {"id": 7}), ("refund", arguments)]
    (row,) = run(tmp_path, cut, [("order", {"id": 7})], "Done.")
    assert refunds(tmp_path) == []
    whole, part, after = told(row)
    assert "lamp" in whole
    assert "was cut off in the arguments of this call" in part
    assert "lamp" in after, "an answer that is cut off behind its calls has whole ones"


def test_what_the_model_was_told_of_is_counted(stage: Stage, tmp_path: Path) -> None:
    wrong: list[tuple[str, Any]] = [("ordr", {"id": 7}), ("order", {"id": "x"}), ("now", {})]
    result = run(tmp_path, wrong, [("order", "{")], "Done.")
    assert (result.report.num_wrong_uses, result.report.num_failed_uses) == ({"help": 3}, {"help": 1})
    assert "told     the model of help: 3 wrong uses of tools, 1 that failed" in str(result.report)


def test_one_wrong_use_is_one(stage: Stage, tmp_path: Path) -> None:
    result = run(tmp_path, [("ordr", {"id": 7})], "Done.")
    assert "told     the model of help: 1 wrong use of a tool, 0 that failed" in str(result.report)


def test_an_effect_in_doubt_is_told_with_its_tool(stage: Stage, tmp_path: Path) -> None:
    tool = """  ring:
    description: Ring the bell.
    parameters: {times: int}
    python: {call: "watch:now", args: {log: LOG}, effect: true}
nodes:"""
    flow = FLOW.replace("nodes:", tool, 1).replace("refund, now]", "ring]").replace("OPTIONS", "")
    (tmp_path / "rings.yaml").write_text(flow.replace("LOG", str(tmp_path / "watch.log")))
    stage.script = one_by_one([("ring", {"times": 2})], "Done.")
    result = sd.run(tmp_path / "rings.yaml", state=tmp_path / "state")
    cause = "OperatorError: the tool 'ring' with {\"times\": 2}: ValueError: the clock stands"
    assert [error["cause"] for error in result.errors] == [cause]


def test_a_conversation_longer_than_the_context_ends(stage: Stage, tmp_path: Path) -> None:
    long = PromptTooLong("4,097 tokens, and the engine takes 4,096")
    (row,) = run(tmp_path, [("order", {"id": 7})], long, options="output: {is_paid: bool}")
    assert (row["stopped"], row["turns"]) == ("context", 1)
    result = run(tmp_path, long, options="max_repeats: 4")
    assert (result.report.num_failed, len(list(result))) == (1, 0), "the first prompt is the row's own"


def test_output_is_asked_for_where_a_limit_ends_it(stage: Stage, tmp_path: Path) -> None:
    calls: list[Answer] = [[("order", {"id": 1})], [("order", {"id": 2})], '{"is_paid": false}']
    (row,) = run(tmp_path, *calls, options="output: {is_paid: bool}\nlimits: {tokens: 30}")
    assert (row["stopped"], row["turns"], row["text"]) == ("tokens", 3, '{"is_paid": false}')
    last = stage.requests[-1]
    assert last.tools == ()
    assert '"is_paid"' in (last.json_schema or "")


def test_free_words_are_asked_for_their_fields(stage: Stage, tmp_path: Path) -> None:
    (row,) = run(tmp_path, "Paid, I think.", '{"is_paid": true}', options="output: {is_paid: bool}")
    assert (row["stopped"], row["turns"], row["text"]) == ("answer", 2, '{"is_paid": true}')
    fresh = run(tmp_path, '{"is_paid": true}', options="output: {is_paid: bool}", fresh=True)
    assert [row["turns"] for row in fresh] == [1]


def test_a_turn_that_fails_fails_the_row(stage: Stage, tmp_path: Path) -> None:
    result = run(tmp_path, [("order", {"id": 7})], BadResponse("no answer"))
    assert result.report.num_failed == 1
    assert result.errors[0]["node"] == "help"
    mended = run(tmp_path, [("order", {"id": 7})], "There.", retry_failed=True)
    assert [row["text"] for row in mended] == ["There."]
    assert len(stage.requests) == 3, "the first turn is kept"


def test_a_failure_that_the_model_was_told_stays(stage: Stage, tmp_path: Path) -> None:
    run(tmp_path, [("now", {})], BadResponse("no answer"))
    log = (tmp_path / "watch.log").read_text()
    (row,) = run(tmp_path, [("now", {})], "Some day.", retry_failed=True)
    assert told(row) == ["error: ValueError: the clock stands"]
    assert (tmp_path / "watch.log").read_text() == log, "what comes after it rests on it"


def test_uses_of_one_turn_come_in_their_order(stage: Stage, tmp_path: Path) -> None:
    both = [("refund", {"order": 1, "cents": 1}), ("order", {"id": 7}), ("refund", {"order": 2, "cents": 2})]
    (row,) = run(tmp_path, [*both, ("nothing", {})], "Done.")
    assert refunds(tmp_path) == [(1, 1), (2, 2)]
    assert [one[:12] for one in told(row)] == ['[{"num_rows"', '[{"item":"la', '[{"num_rows"', "error: there"]


def test_columns_of_agents_have_their_types(stage: Stage, tmp_path: Path) -> None:
    stage.script = one_by_one('{"reply": "A lamp.", "sure": true}')
    (tmp_path / "rows.csv").write_text("id\n1\n")
    (tmp_path / "flow.yaml").write_text(
        """
name: desk
engines: {model: {kind: scripted, model: m}}
inputs: {rows: rows.csv}
tools: {now: {description: Tell the system., python: {call: "platform:system", args: {}}}}
tables:
  helped:
    from: rows
    nodes: {help: {agent: {engine: model, prompt: Hi, tools: [now], output: {reply: str, sure: bool}}}}
    outputs:
      said: "{{ help.messages }}"
      stopped: "{{ help.stopped }}"
      turns: "{{ help.turns }}"
      reply: "{{ help.reply }}"
      sure: "{{ help.sure }}"
  told:
    query: >
      select turns + 1 as next, reply || '!' as reply, not sure as sure, json_array_length(said) as n from helped
      where stopped = 'answer'
"""
    )
    (row,) = sd.run(tmp_path / "flow.yaml", state=tmp_path / "state")
    assert dict(row) == {"next": 2, "reply": "A lamp.!", "sure": False, "n": 2}


def test_a_finished_run_asks_nothing_again(stage: Stage, tmp_path: Path) -> None:
    answers: list[Answer] = [[("now", {}), ("refund", {"order": 7, "cents": 1})], "Done."]
    first = list(run(tmp_path, *answers))
    assert list(run(tmp_path, *answers)) == first
    assert len(stage.requests) == 2
    assert refunds(tmp_path) == [(7, 1)]


def test_the_constrained_form_is_the_same_conversation(stage: Stage, tmp_path: Path) -> None:
    flow = flow_of(tmp_path).replace("model: m,", "model: m, tool_calls: constrained,")
    STAGE.script = one_by_one('{"tool":"order","args":{"id":7}}', '{"tool":"final","answer":"A lamp."}')
    (tmp_path / "flow.yaml").write_text(flow.replace("OPTIONS", ""))
    (row,) = sd.run(tmp_path / "flow.yaml", state=tmp_path / "state")
    assert (row["text"], row["stopped"], row["turns"]) == ("A lamp.", "answer", 2)
    assert [one["content"] for one in row["said"]][2:] == ["", '[{"item":"lamp","cents":1999}]', "A lamp."]
    second = stage.requests[1]
    assert second.messages[-2].content == '{"tool":"order","args":{"id":7}}'
    assert second.messages[: len(stage.requests[0].messages)] == stage.requests[0].messages


@pytest.mark.parametrize("answer", ['{"tool":"final","answer":"A la', '{"tool":"order","args":{"id":'])
@pytest.mark.parametrize(
    ("options", "finish_reason", "cause", "hint"),
    [
        ("      max_tokens: 5\n", "length", "the answer was cut off", "raise max_tokens"),
        ("", "length", "the answer was cut off", "context"),
        ("      stop: [mp]\n", "stop", "the answer is not whole JSON", "`stop`"),
    ],
)
def test_half_of_a_constrained_answer_fails_the_row(
    stage: Stage, tmp_path: Path, answer: str, options: str, finish_reason: FinishReason, cause: str, hint: str
) -> None:
    flow = flow_of(tmp_path).replace("model: m,", "model: m, tool_calls: constrained,")
    STAGE.script = one_by_one(answer)
    (tmp_path / "flow.yaml").write_text(flow.replace("OPTIONS", options))
    stage.finish_reason = finish_reason
    result = sd.run(tmp_path / "flow.yaml", state=tmp_path / "state")
    assert result.errors[0]["cause"] == f"BadResponse: {cause}"
    assert hint in result.errors[0]["hint"]
    assert len(stage.requests) == 1, "a greedy model would say the same again"


def test_explain_shows_the_agent(stage: Stage, tmp_path: Path) -> None:
    run(tmp_path, "Done.")
    shown = str(sd.explain(tmp_path / "flow.yaml", state=tmp_path / "state"))
    assert "help: agent, at most 5 turns" in shown
    assert "help__refund" in shown
    assert "effect: claimed" in shown


def test_turns_of_one_conversation_are_not_taken_for_equal_calls(stage: Stage, tmp_path: Path) -> None:
    run(tmp_path, [("order", {"id": 7})], [("order", {"id": 8})], "Done.")
    shown = json.loads(str(sd.explain(tmp_path / "flow.yaml", format="json", state=tmp_path / "other")))
    (turn,) = [step for step in found_steps(shown) if step["name"] == "help__turn"]
    estimate = turn["estimate"]
    assert estimate["num_executed"]["expected"] == pytest.approx(estimate["num_asked"]["expected"]) != 1


def test_a_use_of_a_tool_that_fails_was_asked_for(stage: Stage, tmp_path: Path) -> None:
    result = run(tmp_path, [("now", {})], "It is late.")
    (node,) = (node for node in result.report.nodes if node.node == "help__now")
    assert (node.num_asked, node.num_executed) == (1, 1)


def test_rows_of_a_table_may_use_nothing_but_tools_that_fail(stage: Stage, tmp_path: Path) -> None:
    columns = '{customer: "{{ row.customer }}", mail: "{{ row.mail }}"}'
    tables = f"tables:\n  mailed: {{from: mails, outputs: {columns}}}\n  helped:\n    query: select * from mailed\n"
    text = flow_of(tmp_path).replace("OPTIONS\n", "").replace("tools: [order, refund, now]", "tools: [now]")
    head, nodes = text.split("nodes:\n")
    nodes, outputs = nodes.split("outputs:\n")
    path = tmp_path / "flow.yaml"
    path.write_text(f"{head}{tables}    nodes:\n{_deeper(nodes)}    outputs:\n{_deeper(outputs)}")
    STAGE.script = one_by_one([("now", {})], "It is late.")
    (row,) = sd.run(path, state=tmp_path / "state").table("helped")
    assert row["text"] == "It is late."


def _deeper(text: str) -> str:
    return "".join(f"    {line}\n" for line in text.splitlines())
