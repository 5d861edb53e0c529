"""DocETL's reduce becomes a reduce where its prompts can be divided, with what they say of answers; near values are
asked about where a threshold says so; passages become a column."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.migrate.pipelines import imported, rows_of

EACH = "{% for item in inputs %}\n- {{ item.review }}\n{% endfor %}"
TOLD: dict[str, Any] = {
    "name": "told", "type": "reduce", "reduce_key": "id",
    "prompt": f"Sum up {{{{ reduce_key.id }}}}:\n{EACH}\nBriefly.",
    "output": {"schema": {"summary": "string"}},
}  # fmt: skip
FOLD = {"fold_prompt": f"So far: {{{{ output.summary }}}}\nMore:\n{EACH}", "fold_batch_size": 5}
MERGE = {"merge_prompt": "Merge: {% for one in outputs %}{{ one.summary }}{% endfor %}", "merge_batch_size": 2}


def test_a_reduce_takes_its_words_and_the_column_of_its_texts(folder: Path) -> None:
    made = imported(folder, TOLD)
    assert made.flow["tables"] == {
        "told": {
            "reduce": {
                "source": "reviews",
                "by": "id",
                "text": "review",
                "engine": "gpt_4o_mini",
                "prompt": "Sum up {{ row.id }}:\n(the texts at the end)\nBriefly.",
                "as": "summary",
            }
        }
    }
    assert made.not_taken_over == []
    assert [sorted(row) for row in rows_of(made, folder)] == [["id", "summary"]] * 3


def test_texts_of_several_columns_get_a_column(folder: Path) -> None:
    both = "{% for r in inputs %}{{ r.mood }}: {{ r.quotes }}{% endfor %}"
    quotes: dict[str, Any] = {"name": "quotes", "type": "map", "prompt": "{{ input.review }}"}
    quotes["output"] = {"schema": {"quotes": "list[string]", "mood": "string", "text": "string"}}
    answer = {"schema": {"verdict": "enum[good, bad]", "text": "string"}}
    made = imported(folder, quotes, {**TOLD, "prompt": both, "output": answer, "model": "gpt-4o"})
    tables = made.flow["tables"]
    assert tables["all"]["outputs"]["text_2"] == "{{ quotes.mood }}: {{ quotes.quotes }}"
    assert tables["told"]["reduce"]["text"] == "text_2"
    assert tables["told"]["reduce"]["output"] == {"verdict": ["good", "bad"], "text_": "str"}
    assert tables["told"]["outputs"]["text"] == "{{ row.text_ }}"
    assert sorted(rows_of(made, folder)[0]) == ["id", "text", "verdict"]


@pytest.mark.parametrize(
    ("more", "key", "words", "told"),
    [
        (
            FOLD,
            "fold",
            "So far: (the answer so far, at the end)\nMore:",
            ["told.fold_batch_size: a prompt has as many texts as fit (max_prompt_tokens)"],
        ),
        (
            {**FOLD, **MERGE},
            "merge",
            "Merge:",
            [
                "told.fold_batch_size: a prompt has as many texts as fit (max_prompt_tokens)",
                "told.fold_prompt: chunks of texts are read side by side, and their answers merged",
                "told.merge_batch_size: a prompt has as many answers as fit (max_prompt_tokens)",
            ],
        ),
        (
            {**FOLD, "merge_prompt": "{{ outputs | tojson }}"},
            "fold",
            "So far: (the answer so far, at the end)\nMore:",
            [
                "told.fold_batch_size: a prompt has as many texts as fit (max_prompt_tokens)",
                "told.merge_prompt: it has no loop over `outputs`",
            ],
        ),
    ],
)
def test_answers_are_folded_or_merged(
    folder: Path, more: dict[str, Any], key: str, words: str, told: list[str]
) -> None:
    made = imported(folder, {**TOLD, **more})
    reduce = made.flow["tables"]["told"]["reduce"]
    assert {one: reduce[one] for one in ("fold", "merge") if one in reduce} == {key: words}
    assert sorted(made.not_taken_over) == told
    assert all(row["summary"] for row in rows_of(made, folder))


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"prompt": "{{ inputs | tojson }}"}, "no loop over `inputs`"),
        ({"prompt": f"Of {{{{ inputs | length }}}}: {EACH}"}, "it reads `inputs` outside of its loop"),
        ({"prompt": f"{{{{ inputs[0].review }}}} {EACH}"}, "more of the rows than their keys"),
        ({"prompt": "{% for i in inputs %}{{ i.review }}{{ loop.last }}{% endfor %}"}, "its loop reads `loop`"),
        ({"litellm_completion_kwargs": {"temperature": 0.7}}, "its model is given temperature"),
        ({"output": {"schema": {"id": "string"}}}, "its answer has the column 'id' of reduce_key"),
    ],
)  # fmt: skip
def test_each_group_is_one_prompt_where_a_reduce_cannot_say_it(folder: Path, changed: dict[str, Any], why: str) -> None:
    made = imported(folder, {**TOLD, **FOLD, **changed})
    _, reason, fold = made.not_taken_over
    assert reason.startswith("told as a `reduce`, whose groups may be of any length: ")
    assert why in reason
    assert fold == "told.fold_prompt: each group is one prompt"
    assert made.flow["tables"]["told_rows"]["collect"]["by"] == ["by_id"]
    assert len(rows_of(made, folder)) == 3


def test_the_longest_answer_is_that_of_the_pipeline(folder: Path) -> None:
    made = imported(folder, {**TOLD, "litellm_completion_kwargs": {"max_tokens": 2000}, "timeout": 9})
    reduce = made.flow["tables"]["told"]["reduce"]
    assert (reduce["max_tokens"], reduce["max_prompt_tokens"]) == (2000, 8000)
    assert made.not_taken_over == ["told.timeout: a reduce has those of every llm step"]
    assert "reads 8,000 tokens" in made.remarks[0]


def test_a_key_as_a_whole_ends_the_way(folder: Path) -> None:
    made = imported(
        folder, {"name": "cut", "type": "unnest", "unnest_key": "review"}, {**TOLD, "prompt": "{{ reduce_key }}"}
    )
    assert made.not_taken_over == ["reduce 'told' and what comes after it: its prompt reads `reduce_key` as a whole"]


def test_near_values_are_asked_about(folder: Path) -> None:
    same: dict[str, Any] = {"name": "same", "type": "resolve", "output": {"schema": {"review": "str"}}}
    same["comparison_prompt"] = "Is {{ input1.review }} what {{ input2.review }} is?"
    made = imported(folder, {**same, "blocking_threshold": 0.5, "blocking_keys": ["review"]})
    tables = made.flow["tables"]
    assert tables["all"]["nodes"]["same_vectors"] == {
        "when": "{{ row.review }}",
        "embed": {"engine": "text_embedding_3_small", "text": "{{ row.review }}"},
    }
    assert tables["all"]["types"] == {"vector": "FLOAT[1536]"}
    assert tables["same"]["resolve"]["block"] == {"vector": {"column": "vector", "at_least": 0.5}}
    assert list(tables["same"]["outputs"]) == ["id", "review"]
    assert (made.not_taken_over, made.remarks) == ([], [])


def test_a_pair_has_one_column(folder: Path) -> None:
    same: dict[str, Any] = {"name": "same", "type": "resolve", "output": {"schema": {"review": "str"}}}
    same["comparison_prompt"] = "{{ input1.review }} of {{ input1.id }}, {{ input2.review }}?"
    made = imported(folder, TOLD | {"type": "map", "prompt": "{{ input.review }}"}, same)
    assert made.not_taken_over == [
        "resolve 'same' and what comes after it: its comparison_prompt reads 'id', and pairs are of values of 'review' "
        "alone"
    ]


@pytest.mark.parametrize(("formatted", "kind"), [(True, str), (False, list)])
def test_passages_are_a_column(folder: Path, formatted: bool, kind: type) -> None:
    found = {"name": "heat", "type": "extract", "prompt": "What is hot?", "document_keys": ["review"]}
    made = imported(folder, {**found, "format_extraction": formatted})
    assert made.flow["nodes"]["heat"]["extract"] == {
        "engine": "gpt_4o_mini",
        "text": "{{ row.review }}",
        "prompt": "What is hot?",
        "fields": {"passages": "list[str]"},
    }
    assert made.not_taken_over == ["heat: the model writes the passages out, and nothing cuts them from the text"]
    assert all(isinstance(row["review_extracted_heat"], kind) for row in rows_of(made, folder))
