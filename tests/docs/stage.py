"""A folder in which a page is played: its files are written, its commands and Python run, on the null engine.

Owns the replacement of what a test does not have: models, servers, downloads. Engines' options are checked all the
same.
"""

from __future__ import annotations

import ast
import asyncio
import contextlib
import inspect
import io
import json
import os
import re
import shlex
import sqlite3
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML
from typer.testing import CliRunner

import sundog as sd
from sundog.cli.main import app
from sundog.engines.embedded import models
from sundog.engines.embedded.openvino import OpenVINOKind
from sundog.engines.modelled.null import NullEngine, NullKind, NullOptions
from sundog.engines.openai.engine import OpenAIKind
from sundog.engines.vllm.engine import VLLMKind
from sundog.engines.vllm.local import VLLMLocalKind
from sundog.secrets import PATTERN
from sundog.transport.answer import WholeAnswer
from sundog.transport.client import Client, Request
from tests.docs.curl import curl
from tests.docs.pages import ROOT, Block
from tests.serve.running import running

RUN_ID = re.compile(r"\b([a-z_]\w*)-[0-9a-f]{8}\b")
FLOW_KEYS = {
    "name",
    "workers",
    "engines",
    "limits",
    "inputs",
    "constants",
    "tools",
    "tables",
    "results",
    "nodes",
    "outputs",
}


class Stage:
    """`base`: the flow that blocks with a part of a flow complete."""

    def __init__(self, folder: Path, base: Mapping[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self._monkeypatch = monkeypatch
        self.printed = ""
        self._base = base
        self._names: dict[str, Any] = {"__name__": "__main__"}
        self._num_parts = 0
        self._open = contextlib.ExitStack()
        #: Where the server of the page answers, "" before it is started.
        self._address = ""
        #: The last run that a server told of.
        self._run_id = ""

    def __enter__(self) -> Stage:
        return self

    def __exit__(self, *failure: object) -> None:
        self._open.close()

    def play(self, block: Block) -> None:
        kind, _, rest = (part.strip() for part in block.mark.partition(":"))
        if kind == "not run":
            assert rest, "say why it is not run"
        elif kind == "file":
            (self.folder / rest).write_text(block.text, encoding="utf-8")
        elif kind == "served":
            self._address = self._open.enter_context(running(self.folder / "served", [self.folder / rest])).address
        elif kind.startswith("status "):
            self._curl(block.text, int(kind.removeprefix("status ")))
        elif kind.startswith("output"):
            self._compare(block.text, hides_numbers="other numbers" in kind, is_part="in part" in kind)
        elif block.language == "sh":
            self._run_commands(block.text, int(kind.removeprefix("exit ") or "0"))
        elif block.language == "python":
            self._run_python(block.text)
        elif block.language == "yaml":
            self._run_part(block.text)
        else:
            raise AssertionError(f"a block of {block.language or 'no language'} needs a comment that says what it is")

    def _compare(self, expected: str, *, hides_numbers: bool, is_part: bool) -> None:
        masks = [(RUN_ID, r"\1-ID"), (re.compile(r"in [\d.,]+ s\b"), "in TIME"), (re.compile(r" +$", re.M), "")]
        if hides_numbers:
            masks += [
                (re.compile(r"\b[\d,.]*\d\b"), "N"),
                (re.compile(r" +"), " "),
                (re.compile(r"  \(N% saved\)"), ""),
            ]
        texts = []
        for text in (self.printed, expected):
            for pattern, mask in masks:
                text = pattern.sub(mask, text)
            texts.append(text.strip("\n"))
        if is_part:
            assert f"\n{texts[1]}\n" in f"\n{texts[0]}\n", f"not in\n{texts[0]}"
        else:
            assert texts[0] == texts[1]

    def _run_commands(self, text: str, exit_code: int) -> None:
        for line in text.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            match words:
                case []:
                    continue
                case ["sundog", *arguments]:
                    self._run_sundog(arguments, exit_code)
                case ["export", assignment]:
                    name, _, value = assignment.partition("=")
                    self._monkeypatch.setenv(name, value)
                case ["curl", *_]:
                    self._curl(line, 200)
                case ["cat", name]:
                    self.printed = (self.folder / name).read_text(encoding="utf-8")
                case ["make", target]:
                    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.M), f"no target {target}"
                case ["pip", "install", package]:
                    extras = re.findall(r"^(\w+) = \[", (ROOT / "pyproject.toml").read_text(), re.M)
                    assert package == "." or package.removeprefix(".[").removesuffix("]") in extras, package
                case _:
                    raise AssertionError(f"the tests do not know how to run: {line}")

    def _run_sundog(self, arguments: list[str], exit_code: int) -> None:
        result = CliRunner().invoke(app, [self._known_run(argument) for argument in arguments])
        assert result.exit_code == exit_code, f"sundog {shlex.join(arguments)}\n{result.output}"
        self.printed = result.stdout or result.stderr

    def _curl(self, text: str, status: int) -> None:
        line = text.replace("\\\n", " ").replace("$ID", self._run_id)
        heard = curl(self._address, shlex.split(line, comments=True)[1:])
        assert heard.status == status, heard.body
        self.printed = heard.body
        if found := re.search(r'"id":\s*"(run-\w+)"', heard.body):
            self._run_id = found[1]

    def _known_run(self, argument: str) -> str:
        """A run id of the page as the id that the flow's run has here."""
        if not RUN_ID.fullmatch(argument):
            return argument
        state = Path(os.environ.get("SUNDOG_STATE", ".sundog"))
        with contextlib.closing(sqlite3.connect(state / "store.sqlite")) as connection:
            query = "select run_id from runs where run_id like ? order by started_at desc"
            found = connection.execute(query, (f"{argument[:-8]}%",)).fetchone()
        return str(found[0]) if found else argument

    def _run_python(self, source: str) -> None:
        if self._address:
            source = source.replace("http://127.0.0.1:8321", self._address)
        code = compile(source, "the page", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            result = eval(code, self._names)
            if inspect.iscoroutine(result):
                asyncio.run(result)
        self.printed = printed.getvalue()

    def _run_part(self, text: str) -> None:
        """Complete a part of a flow and run it: every row must end well."""
        part = YAML(typ="safe", pure=True).load(text)
        assert set(part) <= FLOW_KEYS, f"no section of a flow: {sorted(set(part) - FLOW_KEYS)}"
        flow = {**self._base, **part}
        if "tables" in part:
            flow |= {"nodes": {}, "outputs": {}}
        elif "nodes" in part and "outputs" not in part:
            flow["outputs"] = {
                name: f"{{{{ {name} }}}}" for name, node in part["nodes"].items() if "filter" not in node
            }
            flow["outputs"] = flow["outputs"] or {"row": "{{ row }}"}
        elif "inputs" in part and "outputs" not in part:
            flow |= {"nodes": {}, "outputs": {"row": "{{ row }}"}}
        for name in PATTERN.findall(text):
            self._monkeypatch.setenv(name, f"the value of {name}")
        self._num_parts += 1
        path = self.folder / f"part_{self._num_parts}.yaml"
        path.write_text(json.dumps(flow), encoding="utf-8")
        result = sd.run(path, state=self.folder / "parts")
        assert not result.errors, result.errors
        assert result.report.num_done + result.report.num_dropped > 0


def prepare(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make `folder` the working folder of a page: no model, no server and no network is needed in it."""
    monkeypatch.chdir(folder)
    monkeypatch.delenv("SUNDOG_STATE", raising=False)
    for kind in (OpenAIKind, OpenVINOKind, VLLMKind, VLLMLocalKind):
        monkeypatch.setattr(kind, "open", lambda self, options, replica, secrets: NullEngine(NullOptions()))
        monkeypatch.setattr(kind, "outline", lambda self, options: NullKind().outline(NullOptions()))
    monkeypatch.setattr(VLLMKind, "needs_server", lambda self, options: False)
    _put_weights(folder / "cache", monkeypatch)
    monkeypatch.setattr("sundog.operators.http.operator.exchange", _without_network)
    monkeypatch.setattr(sys, "path", [*sys.path])


def _put_weights(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SUNDOG_CACHE", str(cache))

    def pull(name: str, cache: Path, on_progress: object = None) -> Path:
        path = cache / "models" / name / models.CATALOG[name].file_name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        return path

    monkeypatch.setattr(models, "pull_model", pull)


async def _without_network(client: Client, request: Request, payload: object, progress: object) -> WholeAnswer:
    return WholeAnswer(200, "OK", {}, json.dumps({"url": request.url, "price": 3}).encode())
