"""A run's results in Python, in the forms that notebooks and data frames want; and how a run is shown."""

from __future__ import annotations

import json
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

import sundog as sd
from sundog.display import QuietDisplay
from sundog.errors import ConfigError, StoreError
from sundog.result import run_result as results
from sundog.result.notebook import Page
from tests.cli.flows import sundog, working_directory, write_review


@pytest.fixture(autouse=True)
def folder(tmp_path: Path) -> Iterator[Path]:
    with working_directory(tmp_path):
        yield tmp_path


def copied(num_rows: int) -> sd.Flow:
    flow = sd.Flow("copied")
    row = flow.input("rows", rows=[{"id": number, "text": f"<b>{number}</b>"} for number in range(num_rows)])
    flow.output(id=row.id, text=row.text, both=f"{row.id} {row.text}")
    return flow


def test_a_notebook_shows_the_first_rows_and_the_report() -> None:
    result = copied(30).run()
    page = result._repr_html_()
    assert page.count("<tr>") == 1 + results.NUM_NOTEBOOK_ROWS
    assert "<td>&lt;b&gt;19&lt;/b&gt;</td>" in page
    assert "<p>10 more rows</p>" in page
    assert "30 done, 0 failed" in page
    assert "more rows" not in copied(3).run()._repr_html_()


def test_long_values_are_cut_in_a_notebook() -> None:
    assert results._cell("x" * 1000) == "x" * 200 + "…"
    assert results._cell(None) == ""
    assert results._cell(["é", 1]) == '["é", 1]'


def test_rows_become_a_pandas_frame() -> None:
    pytest.importorskip("pandas", reason="no dependency of sundog")
    frame = copied(3).run().to_pandas()
    assert list(frame.columns) == ["id", "text", "both"]
    assert frame["id"].tolist() == [0, 1, 2]


def test_rows_become_a_polars_frame() -> None:
    assert copied(3).run().to_polars()["id"].to_list() == [0, 1, 2]


@pytest.mark.parametrize("package", ["pandas", "polars"])
def test_a_missing_package_is_named_with_the_command(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ConfigError) as caught:
        getattr(copied(1).run(), f"to_{package}")()
    assert str(caught.value) == f"to_{package} needs {package}, which is not installed\n  pip install {package}"


def test_explain_has_the_forms_of_the_command(folder: Path) -> None:
    write_review(folder)
    flow = sd.load("flow.yaml")
    for form in ("text", "json", "html"):
        assert flow.explain(form) + "\n" == sundog(folder, "explain", "flow.yaml", "--format", form).stdout
    assert json.loads(sd.explain("flow.yaml", format="json"))["form"] == 1
    page = flow.explain("html")
    assert isinstance(page, Page)
    assert page._repr_html_().startswith('<iframe srcdoc="&lt;!doctype html')
    with pytest.raises(TypeError, match="format must be one of: text, json, html; not 'pdf'"):
        flow.explain("pdf")  # type: ignore[arg-type]  # what a user may write


class Recording(QuietDisplay):
    num_closed = 0

    def close(self) -> None:
        self.num_closed += 1


@pytest.mark.parametrize("options", [{"objective": "speed"}, {"progres": False}, {"output": "out.xlsx"}])
def test_a_display_is_closed_where_nothing_is_run(options: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    display = Recording()
    monkeypatch.setattr("sundog.display.open_live_display", lambda is_wanted: display)
    with pytest.raises((ConfigError, TypeError)):
        copied(1).run(**options)
    assert display.num_closed == 1
    copied(1).run()
    assert display.num_closed == 2


def test_rows_of_a_damaged_store_are_told_as_such(folder: Path) -> None:
    result = copied(1).run()
    with closing(sqlite3.connect(folder / ".sundog" / "store.sqlite")) as store:
        store.execute("update rows set body = cast('{' as blob)")
        store.commit()
    with pytest.raises(StoreError, match="damaged"):
        list(result)


def test_progress_is_shown_when_it_is_wanted(capsys: pytest.CaptureFixture[str]) -> None:
    copied(2).run(fresh=True)
    copied(2).run(progress=False, fresh=True)
    assert capsys.readouterr().err == ""
    with pytest.raises(TypeError, match="unknown option 'progres'"):
        copied(2).run(progres=False)  # type: ignore[call-arg]  # what a user may write
