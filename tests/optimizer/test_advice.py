"""Advice on prompts: given where a move would save, with what it saves, and nowhere else."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from sundog.cost.row_statistics import RowFields, RowStatistics
from sundog.flow.bind import bind
from sundog.operators.base import OPERATORS
from sundog.optimizer.advice import MAX_EFFORT, advise, fields_wanted, tried_moves
from sundog.optimizer.facts import PlanFacts
from sundog.optimizer.prefix import prefix_tree
from sundog.optimizer.prompt_parts import StepPrompt, Value, prompts_of
from tests.optimizer.bench import Nowhere

ROWS = [
    {
        "document": f"document {index // 6} ".ljust(800, "d"),
        "question": f"question {index} ".ljust(80, "q"),
        "id": index,
    }
    for index in range(60)
]
DOCUMENT, QUESTION = "{{ row.document }}", "{{ row.question }}"
LOOK_UP = {
    "sql": {"database": "sqlite:///b.db", "query": "select text from b where id = :id", "params": {"id": DOCUMENT}}
}


def prompts(**steps: str | tuple[str, str]) -> tuple[StepPrompt, ...]:
    """Return the prompts of steps given by their prompt or their system text and prompt."""
    nodes: dict[str, Any] = {"found": LOOK_UP}
    for name, texts in steps.items():
        system, prompt = texts if isinstance(texts, tuple) else (None, texts)
        nodes[name] = {"llm": {"engine": "local", "prompt": prompt} | ({"system": system} if system else {})}
    return prompts_of_steps(nodes)


def prompts_of_steps(nodes: dict[str, Any]) -> tuple[StepPrompt, ...]:
    flow = {
        "name": "flow",
        "engines": {"local": {"kind": "null"}},
        "inputs": {"rows": {"path": "rows.csv"}},
        "nodes": nodes,
        "outputs": {"id": "{{ row.id }}"},
    }
    plan = bind(flow, Nowhere(), base_dir=Path())
    operators = {name: OPERATORS.get(name)(Path()) for name in ("llm", "sql")}
    (of_pool,) = prompts_of(plan.tables[0], plan.constants, PlanFacts(plan, operators)).values()
    return of_pool


def statistics_of(rows: Sequence[dict[str, Any]], sets: frozenset[RowFields]) -> RowStatistics:
    def text(row: dict[str, Any], path: tuple[str, ...]) -> str:
        return str(row[path[1]])

    paths = {path for one in sets for path in one}
    return RowStatistics(
        len(rows),
        {one: float(len({tuple(text(row, path) for path in sorted(one)) for row in rows})) for one in sets},
        {path: sum(len(text(row, path)) for row in rows) / len(rows) for path in paths},
    )


def advice(**steps: str | tuple[str, str]) -> list[str]:
    return advice_on(ROWS, **steps)


def advice_on(rows: Sequence[dict[str, Any]], **steps: str | tuple[str, str]) -> list[str]:
    of_pool = prompts(**steps)
    wanted = fields_wanted(of_pool)
    return [str(one) for one in advise(of_pool, statistics_of(rows, wanted))] if wanted else []


def test_a_question_stands_before_a_shared_document() -> None:
    found = advice(answer=f"Question: {QUESTION}\n\nDocument: {DOCUMENT}\n\nAnswer:")
    # 60 documents of 200 tokens are computed; 10 would do.
    assert found == ["answer: put row.document before row.question to save about 10,000 of 14,000 prompt tokens"]


def test_a_document_after_different_texts() -> None:
    found = advice(facts=f"List the figures in:\n{DOCUMENT}", check=f"Is this in order?\n{DOCUMENT}\n{QUESTION}")
    expected = "facts and check: put row.document first in its message to save about 1,900 of 5,200 prompt tokens"
    assert found == [expected]


def test_a_document_after_the_same_text_in_another_step() -> None:
    found = advice(facts=f"{DOCUMENT}\nList the figures.", check=f"Check.\n{DOCUMENT}\n{QUESTION}")
    assert found == ["check: put row.document first in its message to save about 2,000 of 5,300 prompt tokens"]


def test_a_document_after_different_system_texts() -> None:
    found = advice(facts=("You list.", DOCUMENT), check=("You check.", f"{DOCUMENT}\n{QUESTION}"))
    assert found == [
        "facts and check: put row.document at the beginning of the prompt to save about 1,900 of 5,200 prompt tokens"
    ]


def test_what_a_tool_finds_is_as_good_as_a_column() -> None:
    found = advice(answer=f"{QUESTION} {{{{ found[0].text }}}}")
    assert found == [
        "answer: put found[0].text before row.question to save 77% of the prompt tokens, if results have 256"
    ]


@pytest.mark.parametrize(
    "steps",
    [
        {"answer": f"{DOCUMENT}\n\n{QUESTION}"},  # as it should be
        {"answer": f"Read this and answer.\n{DOCUMENT}\n\n{QUESTION}"},  # the same words for all
        {"a": ("You read.", f"{DOCUMENT}\nList."), "b": ("You read.", f"{DOCUMENT}\n{QUESTION}")},
        {"answer": f"{QUESTION} {{{{ row.id }}}}"},  # nothing repeats
        {"answer": "Hello"},
        {"a": f"{DOCUMENT}{QUESTION}", "b": "{{ a.text }}"},
        {"a": DOCUMENT, "b": f"{QUESTION} {{{{ a.text }}}}"},  # an answer is short
        {"a": f"List: {QUESTION}", "b": f"Check: {QUESTION}"},  # shorter than a block of the cache
    ],
)
def test_no_advice_where_nothing_is_gained(steps: dict[str, Any]) -> None:
    assert advice(**steps) == []


def test_no_advice_where_documents_do_not_repeat() -> None:
    rows = [{**row, "document": f"{row['id']}".ljust(800, "d")} for row in ROWS]
    assert advice_on(rows, answer=f"{QUESTION}\n{DOCUMENT}") == []
    assert advice_on(rows, a=f"{QUESTION}\n{DOCUMENT}", b=f"{DOCUMENT} {QUESTION}") != [], (
        "two steps share it all the same"
    )


def test_no_advice_that_costs_more_than_it_saves() -> None:
    """A long text that all rows share must not end up behind what they do not share."""
    long = "Rules. " * 1000
    assert advice(facts=f"{long}\nList:\n{DOCUMENT}", check=f"{long}\nCheck:\n{DOCUMENT}") == []
    assert advice(facts=f"{long}\n{QUESTION}\n{DOCUMENT}") == [
        "facts: put row.document before row.question to save about 10,000 of 15,000 prompt tokens"
    ]


@pytest.mark.parametrize("num_values", [5, 20, 40, 100, 400])
def test_moves_in_wide_prompts_are_bounded_by_their_effort(num_values: int) -> None:
    of_pool = prompts(wide=" ".join(f"{{{{ row.c{number} }}}}" for number in range(num_values)))
    moves, is_cut = tried_moves(of_pool)
    assert is_cut == (num_values > 20)
    assert len(moves) * num_values**2 <= MAX_EFFORT
    assert len(fields_wanted(of_pool)) <= 2500


def test_a_list_of_messages_stays_where_it_is_and_begins_prompts_alike() -> None:
    given = {"from": "{{ row.document }}"}
    one, two = (
        {"engine": "local", "messages": [given, {"role": "user", "content": f"{text}: {QUESTION}"}]}
        for text in ("first", "second")
    )
    found = prompts_of_steps({"one": {"llm": one}, "two": {"llm": two}})
    assert all(move.value.label == "row.question" for move in tried_moves(found)[0])
    assert not any(move.where == "at the beginning of the prompt" for move in tried_moves(found)[0])
    (line,) = prefix_tree(found)
    assert line.steps == ("one", "two"), "what both have in common is computed once"
    (shared,) = line.children
    assert isinstance(shared.part, Value)
    assert (shared.part.label, shared.steps) == ("row.document", ("one", "two"))
