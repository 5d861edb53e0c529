"""`rows_per_prompt`: several pairs are judged by one answer, which names each of them by its number.

Owns the tables that this stands for, and the sample of pairs that are judged alone as well, so that the run can tell
what it cost. Fewer prompts and other answers are a trade, which nobody makes but who asks for it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from sundog.flow.positions import DataPath
from sundog.ir.agreement import NUM_ALONE, TOGETHER, counted_agreement

MAX_ROWS_PER_PROMPT = 100
_TEXT, _ROWS = "together__text", "together__rows"
_EACH = f"{{% for one in row.{_ROWS} %}}{{{{ one.id }}}}. {{{{ one.text }}}}\n\n{{% endfor %}}"
_QUESTION = (
    f"Each of these {{{{ row.{_ROWS} | length }}}} questions begins with its number. Answer each by itself, and give"
    " its number with the answer.\n\n"
)


def check_trades(cascade: object, rows_per_prompt: int | None, prompt: object) -> None:
    """Raise ValueError for a block that trades in two ways at once, or whose prompt cannot stand beside others."""
    if rows_per_prompt is None:
        return
    if cascade is not None:
        raise ValueError("a block has either 'cascade' or 'rows_per_prompt'")
    if not isinstance(prompt, str):
        raise ValueError("with 'rows_per_prompt' the prompt is a text, and no file")


def together(
    name: str,
    num_rows: int,
    of_pairs: Mapping[str, Any],
    asked: Mapping[str, Any],
    columns: Sequence[str],
    field: str,
    *,
    only_yes: bool,
) -> dict[str, Mapping[str, Any]]:
    """Return the tables that judge the rows of `<name>__pairs`, which has `columns` and the other keys `of_pairs`;
    `<name>__judged` is as of `cascade.cascaded`."""
    pairs, texts, answers, alone, agreed, judged = (
        f"{name}__{part}" for part in ("pairs", "texts", "answers", "alone", "agreed", "judged")
    )
    verdict, is_one = f"row.{field}", "row.together__num == 1"
    said = (
        f"the answer to a prompt of several pairs has {{{{ row.together__num or 'no' }}}} entries for this one: see "
        f"'{name}__prompts', or let fewer pairs stand in a prompt"
    )
    every = ", ".join(f'p."{column}"' for column in columns)
    return {
        pairs: {
            **of_pairs,
            # Text in any case, also of a template that is one expression.
            "outputs": {**_bare(columns), _TEXT: f"{asked['prompt']}{{{{ '' }}}}"},
            "types": {_TEXT: "VARCHAR"},
        },
        **_answered(name, num_rows, asked, field),
        alone: {
            "query": f"select t.rowid as id, t.text from {texts} t order by md5('0:' || t.rowid), t.rowid"
            f" limit {NUM_ALONE}",
            "nodes": {f"{name}__alone_ask": {"llm": {**asked, "prompt": "{{ row.text }}"}}},
            "outputs": {"id": "{{ row.id }}", "alone": f"{{{{ {name}__alone_ask.{field} }}}}"},
        },
        agreed: {
            "query": f"select {counted_agreement('a.verdict', 's.alone')} as {TOGETHER} from {alone} s join {answers} a"
            " on a.id = s.id and a.num = 1",
            "failed_rows": "leave_out",
            "outputs": {TOGETHER: f"{{{{ row.{TOGETHER} }}}}", "together__num_rows": f"{num_rows}"},
        },
        judged: {
            # What a sample showed decides nothing here, and is told.
            "query": f"select {every}, a.num as together__num, a.verdict as {field} from {pairs} p"
            f" left join {answers} a on a.text = p.{_TEXT} cross join {agreed} g",
            "failed_rows": "leave_out",
            "nodes": {
                f"{name}__is_answered": {"require": {"that": f"{{{{ {is_one} }}}}", "else": said}},
                **({f"{name}__matching": {"filter": f"{{{{ {verdict} }}}}"}} if only_yes else {}),
            },
            "outputs": {**_bare(columns), field: f"{{{{ {verdict} }}}}"},
        },
    }


def _answered(name: str, num_rows: int, asked: Mapping[str, Any], field: str) -> dict[str, Mapping[str, Any]]:
    """Return the tables that give each different question its verdict, and the number of entries that it had."""
    texts, prompts, found = (f"{name}__{part}" for part in ("texts", "prompts", "found"))
    return {
        texts: {
            "query": f"select p.{_TEXT} as text, min(p.rowid) as first_pair from {name}__pairs p group by p.{_TEXT}"
            " order by min(p.rowid)"
        },
        prompts: {
            "collect": {
                "query": f"select t.rowid // {num_rows} as prompt, t.rowid % {num_rows} + 1 as id, t.text"
                f" from {texts} t order by t.rowid",
                "by": "prompt",
                "as": _ROWS,
            },
            "nodes": {f"{name}__together": {"llm": _asked_together(asked, field, num_rows)}},
            "outputs": {"prompt": "{{ row.prompt }}", "answers": f"{{{{ {name}__together.answers }}}}"},
        },
        found: {
            "query": f"select b.prompt, a.id, count(*) as num, bool_and(a.{field}) as verdict from {prompts} b,"
            " unnest(b.answers) as u(a) group by b.prompt, a.id",
            "failed_rows": "leave_out",
        },
        f"{name}__answers": {
            "query": f"select t.rowid as id, t.text, f.num, f.verdict from {texts} t left join {found} f"
            f" on f.prompt = t.rowid // {num_rows} and f.id = t.rowid % {num_rows} + 1",
        },
    }


def _asked_together(asked: Mapping[str, Any], field: str, num_rows: int) -> dict[str, Any]:
    answer = {
        "type": "object",
        "properties": {"id": {"type": "integer"}, field: {"type": "boolean"}},
        "required": ["id", field],
        "additionalProperties": False,
    }
    form = {
        "type": "object",
        # An entry too many spoils its own pair, and an answer without an end the whole prompt.
        "properties": {"answers": {"type": "array", "items": answer, "maxItems": 2 * num_rows}},
        "required": ["answers"],
        "additionalProperties": False,
    }
    return {**asked, "prompt": f"{_QUESTION}{_EACH}", "output": {"json_schema": form}}


def _bare(columns: Sequence[str]) -> dict[str, str]:
    return {column: f"{{{{ row[{column!r}] }}}}" for column in columns}


def places_of_together(name: str, written: DataPath) -> dict[DataPath, DataPath]:
    """Return where the parts were written that `together` makes of the block at `written`."""
    steps = {"prompts": "together", "alone": "alone_ask"}
    found: dict[DataPath, DataPath] = {
        ("tables", f"{name}__{table}", "nodes", f"{name}__{step}", "llm"): written for table, step in steps.items()
    }
    return {**found, ("tables", f"{name}__pairs", "outputs", _TEXT): (*written, "prompt")}
