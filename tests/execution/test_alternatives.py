"""Steps that another may stand in for: which engine is asked, what is kept, and what is told of it."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import pytest

import sundog as sd
from sundog.engines.base import ENGINES, Chunk, Engine, EngineOptions, GenerateRequest, Usage
from sundog.errors import EngineTimeout, SundogError
from sundog.secrets import Secrets
from tests.engines.plain_engine import PROMPT_TOKENS, PlainEngine, PlainKind

ASKED: list[tuple[str, str]] = []
FAILING: set[tuple[str, str]] = set()

FLOW = """
name: judge
engines:
  small: {kind: by_model, model: small}
  large: {kind: by_model, model: large}
inputs: {mails: mails.csv}
nodes:
  answer:
NODE
outputs: {mail: "{{ row.mail }}", kind: "{{ answer.kind }}", tokens: "{{ answer.usage.output_tokens }}"}
"""
ESCALATED = """
    llm: {engine: [small, large], prompt: "{{ row.mail }}", output: {kind: str, sure: bool}}
    escalate_when: "{{ not answer.sure }}"
"""
OTHER = """
    llm: {engine: small, prompt: "{{ row.mail }}", output: {kind: str, sure: bool}}
    on_error: {engine: large}
    retries: 1
"""
VALUE = """
    llm: {engine: small, prompt: "{{ row.mail }}", output: {kind: str, sure: bool}}
    on_error: {value: {text: "", kind: "unknown {{ row.mail }}", sure: false}}
"""


class ByModel(PlainEngine):
    """The small one is sure of mails without a question mark."""

    def __init__(self, model: str) -> None:
        self._model = model

    async def generate(self, request: GenerateRequest) -> AsyncGenerator[Chunk, None]:
        mail = request.messages[-1].text
        ASKED.append((self._model, mail))
        if (self._model, mail) in FAILING:
            raise EngineTimeout("no answer", retryable=True)
        answer = {"kind": f"{self._model} {mail}", "sure": self._model == "large" or "?" not in mail}
        yield Chunk(json.dumps(answer), "stop", Usage(PROMPT_TOKENS, 3 if self._model == "small" else 7, 0))


class ByModelKind(PlainKind):
    def open(self, options: EngineOptions, replica: int, secrets: Secrets) -> Engine:
        return ByModel(options.model)


@pytest.fixture
def folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setitem(ENGINES._loaded, "by_model", ByModelKind)
    ASKED.clear()
    FAILING.clear()
    (tmp_path / "mails.csv").write_text("mail\na\nb?\nc\n")
    return tmp_path


def run(folder: Path, node: str, **options: Any) -> Any:
    path = folder / "flow.yaml"
    path.write_text(FLOW.replace("NODE", node.strip("\n")))
    return sd.run(path, state=folder / "state", **options)


def kinds(result: Any) -> dict[str, Any]:
    return {row["mail"]: row["kind"] for row in result}


def totals(result: Any) -> dict[str, tuple[int, int]]:
    return {node.node: (node.num_asked, node.num_executed) for node in result.report.nodes}


def test_a_second_engine_is_asked_where_the_first_is_not_sure(folder: Path) -> None:
    result = run(folder, ESCALATED)
    assert kinds(result) == {"a": "small a", "b?": "large b?", "c": "small c"}
    assert sorted(ASKED) == [("large", "b?"), ("small", "a"), ("small", "b?"), ("small", "c")]
    assert totals(result) == {"answer__small": (3, 3), "answer__large": (1, 1)}
    assert result.report.num_stood_in == {"answer by large where escalated": 1}
    assert "instead  1 answer of answer by large where escalated" in str(result.report)
    assert [row["tokens"] for row in result] == [3, 7, 3], "those of the answer that counts"


def test_another_engine_answers_after_the_retries(folder: Path) -> None:
    FAILING.add(("small", "b?"))
    result = run(folder, OTHER)
    assert kinds(result) == {"a": "small a", "b?": "large b?", "c": "small c"}
    assert ASKED.count(("small", "b?")) == 2, "the retry comes first"
    assert totals(result)["answer__large"] == (1, 1)
    assert result.report.num_stood_in == {"answer by large on an error": 1}


def test_a_value_stands_in(folder: Path) -> None:
    FAILING.add(("small", "c"))
    path = folder / "flow.yaml"
    path.write_text(FLOW.replace("NODE", VALUE.strip("\n")).replace(".usage.output_tokens", ".sure"))
    result = sd.run(path, state=folder / "state")
    assert kinds(result) == {"a": "small a", "b?": "small b?", "c": "unknown c"}
    assert result.report.num_stood_in == {"answer by the value of on_error": 1}


def test_rows_that_run_again_are_counted_once(folder: Path) -> None:
    FAILING.add(("small", "c"))
    path = folder / "flow.yaml"
    failing = """outputs: {bad: "{{ [1][row.mail != 'a'] }}", """
    path.write_text(FLOW.replace("NODE", VALUE.strip("\n")).replace("outputs: {", failing))
    for retry in (False, True, True):
        report = sd.run(path, state=folder / "state", retry_failed=retry).report
        assert (report.num_failed, report.num_stood_in) == (2, {"answer by the value of on_error": 1})
        assert (report.num_asked, report.num_executed) == (3, 3)


def test_the_failure_is_kept_and_the_run_goes_on_from_it(folder: Path) -> None:
    FAILING.update({("small", "b?"), ("large", "b?")})
    result = run(folder, OTHER)
    assert result.report.num_failed == 1
    assert result.errors[0]["node"] == "answer.1/answer__large"
    FAILING.clear()
    ASKED.clear()
    mended = run(folder, OTHER, retry_failed=True)
    assert kinds(mended)["b?"] == "large b?"
    assert ASKED == [("large", "b?")], "the first one's failure is kept"


def test_each_element_has_its_own(folder: Path) -> None:
    node = ESCALATED.replace("row.mail", "item") + "    for_each: \"{{ [row.mail, 'x'] }}\"\n"
    path = folder / "flow.yaml"
    text = FLOW.replace("NODE", node.strip("\n")).replace("answer.kind", "answer | map(attribute='kind') | list")
    path.write_text(text.replace(', tokens: "{{ answer.usage.output_tokens }}"', ""))
    result = sd.run(path, state=folder / "state")
    assert kinds(result)["b?"] == ["large b?", "small x"]


def test_an_effect_of_unknown_outcome_gets_no_other_value(folder: Path) -> None:
    (folder / "acts.py").write_text("def act(mail):\n    raise ValueError('gone')\n")
    node = """
    python: {call: "acts:act", args: {mail: "{{ row.mail }}"}, effect: true}
    on_error: {value: {kind: none}}
"""
    result = run(folder, node)
    assert result.report.num_failed == 3
    reads = run(folder, node.replace(", effect: true", ""), fresh=True)
    assert reads.report.num_stood_in == {"answer by the value of on_error": 3}


def test_estimates_and_plans_tell_of_both(folder: Path) -> None:
    path = folder / "flow.yaml"
    path.write_text(FLOW.replace("NODE", ESCALATED.strip("\n")))
    explained = str(sd.explain(path, state=folder / "state"))
    assert "AlternativesExec answer: one step, or by large where escalated" in explained
    assert "CallExec answer__small: llm on engine:small" in explained
    run(folder, ESCALATED)
    (answer,) = json.loads(sd.explain(path, format="json", state=folder / "state"))["steps"]
    asked = {step["name"]: step["estimate"]["num_asked"]["expected"] for step in answer["body"]}
    assert asked == {"answer__small": 3, "answer__large": 1}


@pytest.mark.parametrize(
    ("node", "what"),
    [
        (ESCALATED.replace("    escalate_when: \"{{ not answer.sure }}\"\n", ""), "two engines need 'escalate_when'"),
        (ESCALATED.replace("[small, large]", "small"), "asks a second engine, and there is none"),
        (ESCALATED.replace("[small, large]", "[small]"), "one engine or two"),
        (ESCALATED.replace("[small, large]", "[small, small]"), "would be asked twice"),
        (ESCALATED.replace("[small, large]", "[small, lrge]"), "there is no engine 'lrge'"),
        (ESCALATED.replace("answer.sure", "answer.sur"), "'answer' has no field 'sur'"),
        (ESCALATED + "    on_error: {value: {}}\n", "has no 'on_error'"),
        (OTHER.replace("large", "lrge"), "there is no engine 'lrge'"),
        (OTHER.replace("{engine: large}", "{}"), "exactly one of 'value' and 'engine'"),
        (VALUE.replace("sure: false", "sur: false"), "'on_error' gives no 'sure'"),
        (VALUE.replace("row.mail }}\", sure", "row.mial }}\", sure"), "mial"),
        ('    python: {call: "platform:system"}\n    on_error: {engine: large}\n', "the step has none"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told_before_the_run(folder: Path, node: str, what: str) -> None:
    with pytest.raises(SundogError) as caught:
        run(folder, node)
    assert what in str(caught.value)
