"""The questions of kept runs that a person has to answer, and the answers.

Owns which question is meant, and the value that an answer becomes. Never runs anything: the run's own command goes on.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from sundog.errors import ConfigError, suggest
from sundog.ir.values.normal_form import encode, whole_text
from sundog.runtime.kept_runs import opened_run
from sundog.store.runs import RunList
from sundog.store.store import Awaited, Store

MAX_ANSWER_CHARACTERS = 1_000_000


@dataclass(frozen=True, slots=True)
class OpenQuestion:
    """A question that has no answer."""

    #: The row's number, behind its table where the run has several.
    row: str
    #: The call's place in its row.
    path: str
    question: str
    #: The other rows that wait for the same answer.
    shared_by: tuple[str, ...] = ()


class OpenQuestions:
    """The questions of one run that have no answers, by row."""

    def __init__(self, store: Store, runs: RunList, run_id: str, answered_by: str = "") -> None:
        """`answered_by`: who answers, for those who read the conversations."""
        self._store = store
        self._runs = runs
        self._answered_by = whole_text(answered_by)
        self.run_id = run_id
        self._awaited = store.awaited(run_id)

    def __iter__(self) -> Iterator[OpenQuestion]:
        by_key: dict[bytes, list[Awaited]] = {}
        for one in self._awaited:
            by_key.setdefault(one.key, []).append(one)
        for first, *others in by_key.values():
            rows = tuple(dict.fromkeys(str(one.row) for one in others if one.row != first.row))
            yield OpenQuestion(str(first.row), first.path, first.question, rows)

    def __len__(self) -> int:
        return len({one.key for one in self._awaited})

    @property
    def num_rows(self) -> int:
        """Return how many rows wait."""
        return len({one.row for one in self._awaited})

    def answer(self, row: str, text: str, path: str | None = None) -> None:
        """Commit the answer to the question of a row, and so of all that share it; `path` names one of several.
        ConfigError where there is no such question, or the answer is empty; UserError where a process works on the run
        and its state lies at a URL."""
        if not text.strip():
            raise ConfigError("the answer is empty", hint="give a text; without an answer the row goes on waiting")
        if len(text) > MAX_ANSWER_CHARACTERS:
            raise ConfigError(
                f"the answer has {len(text):,} characters, and at most {MAX_ANSWER_CHARACTERS:,} are kept"
            )
        meant = self._meant(row, path)
        with self._runs.changing(self.run_id):
            self._store.answer(self.run_id, meant, encode({"text": whole_text(text)}), self._answered_by)
        self._awaited = [one for one in self._awaited if one.key != meant.key]

    def _meant(self, row: str, path: str | None) -> Awaited:
        found = [one for one in self._awaited if str(one.row) == row]
        if not found:
            rows = list(dict.fromkeys(str(one.row) for one in self._awaited))
            raise ConfigError(f"row '{row}' of run {self.run_id} waits for no answer", hint=_known(row, rows))
        if path is not None:
            found = [one for one in found if one.path == path]
            if not found:
                raise ConfigError(f"row '{row}' has no question at '{path}'")
        if len({one.key for one in found}) > 1:
            places = ", ".join(one.path for one in found)
            raise ConfigError(f"row '{row}' has {len(found)} questions", hint=f"name one by --path: {places}")
        return found[0]


def _known(row: str, rows: Sequence[str]) -> str:
    return suggest(row, rows) if rows else "none does"


@contextmanager
def open_questions(state_dir: Path, run_id: str, answered_by: str = "") -> Iterator[OpenQuestions]:
    """The questions of the run that `run_id` means, as `run_id_of` says; ConfigError where there is none."""
    with opened_run(state_dir, run_id) as (store, meant):
        yield OpenQuestions(store, RunList(store, state_dir), meant, answered_by)
