"""The reference is complete and true: every key, default, option and variable is in it, and nothing else."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel
from typer import Context
from typer.main import get_command

from sundog.cli.main import app
from sundog.engines.base import ENGINES, EngineOptions
from sundog.flow.agents.agent_spec import MADE_KEYS, AgentSpec, ToolSpec
from sundog.flow.expansions.cascade import CascadeSpec
from sundog.flow.expansions.join import JoinSpec
from sundog.flow.expansions.rank import RankSpec
from sundog.flow.expansions.reduce import ReduceSpec
from sundog.flow.expansions.resolve import ResolveSpec
from sundog.flow.expansions.short_forms import SHORT_FORMS
from sundog.flow.spec import EngineSpec, FlowSpec, InputSpec, LimitSpec, LoopSpec, NodeSpec, WorkersSpec
from sundog.flow.tables.table_spec import CollectSpec, ComponentsSpec, TableSpec
from sundog.ir.agent_turn import AgentTurnSpec
from sundog.operators.base import OPERATORS
from sundog.vllm_plugin.envelope import Envelope
from sundog.vllm_plugin.options import PluginOptions
from tests.docs.pages import PAGES, ROOT, headings, inline_codes, tables

LANGUAGE, ENGINE_PAGE, VLLM_PAGE, CLI, GUARANTEES = (
    ROOT / "docs" / f"{name}.md" for name in ("flow-language", "engines", "vllm", "cli", "guarantees")
)
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
Models = tuple[type[BaseModel], ...]


def described() -> dict[tuple[Path, str], Models]:
    """Return the models that the table under a heading describes."""
    found: dict[tuple[Path, str], Models] = {
        (LANGUAGE, "The sections of a flow"): (FlowSpec,),
        (LANGUAGE, "Engines"): (EngineSpec, EngineOptions),
        (LANGUAGE, "Workers"): (WorkersSpec,),
        (LANGUAGE, "Limits"): (LimitSpec,),
        (LANGUAGE, "Inputs"): (InputSpec,),
        (LANGUAGE, "Tables"): (TableSpec,),
        (LANGUAGE, "Groups"): (CollectSpec,),
        (LANGUAGE, "Components"): (ComponentsSpec,),
        (LANGUAGE, "Resolve"): (ResolveSpec,),
        (LANGUAGE, "Join"): (JoinSpec,),
        (LANGUAGE, "Cascade"): (CascadeSpec,),
        (LANGUAGE, "Rank"): (RankSpec,),
        (LANGUAGE, "Reduce"): (ReduceSpec,),
        (LANGUAGE, "Nodes"): (NodeSpec,),
        (LANGUAGE, "loop"): (LoopSpec,),
        (VLLM_PAGE, "Install and start"): (PluginOptions,),
        (VLLM_PAGE, "The envelope"): (Envelope,),
    }
    found |= {(LANGUAGE, name): (OPERATORS.get(name).Spec,) for name in OPERATORS.names()}
    found |= {(LANGUAGE, name): (spec,) for name, spec in SHORT_FORMS.items()}
    found |= {(LANGUAGE, "agent"): (AgentSpec, AgentTurnSpec), (LANGUAGE, "Tools"): (ToolSpec,)}
    return found | {(ENGINE_PAGE, name): (ENGINES.get(name).Options,) for name in ENGINES.names()}


def keys_of(models: Models) -> dict[str, str]:
    """Each key and its default as the tables write it."""
    return {field.alias or name: default_of(field) for model in models for name, field in model.model_fields.items()}


def default_of(field: Any) -> str:
    if field.is_required():
        return "required"
    match field.get_default(call_default_factory=True):
        case None:
            return "-"
        case {} | () as default if not default:
            return "empty"
        case default:
            return f"`{json.dumps(default)}`"


@pytest.mark.parametrize(("page", "heading"), described(), ids=lambda value: getattr(value, "stem", value))
def test_every_key_and_its_default_is_in_its_table(page: Path, heading: str) -> None:
    expected = keys_of(described()[page, heading])
    if page == ENGINE_PAGE:
        # The options that all engines have are on the other page, where a kind does not change them.
        common = keys_of((EngineOptions,))
        expected = {key: default for key, default in expected.items() if key == "model" or default != common.get(key)}
    if heading == "agent":
        expected = {key: default for key, default in expected.items() if key not in MADE_KEYS}
    found = {row[0].strip("`"): row[2] for row in tables(page)[heading] if row[0].startswith("`")}
    assert found == expected


def commands() -> dict[str, Any]:
    """The options of every command by its name, as in "model pull"."""
    root: Any = get_command(app)
    found: dict[str, Any] = {}
    for name, command in root.commands.items():
        below = getattr(command, "commands", {"": command})
        found |= {f"{name} {inner}".strip(): each for inner, each in below.items()}
    return found


def options_of(command: Any) -> set[str]:
    return {option for parameter in command.params for option in parameter.opts if option.startswith("-")}


@pytest.mark.parametrize("name", commands())
def test_every_option_is_in_its_section(name: str) -> None:
    text = CLI.read_text(encoding="utf-8")
    section = text.partition(f"## sundog {name.partition(' ')[0]}\n")[2].partition("\n## ")[0]
    assert f"sundog {name}" in text
    for option in options_of(commands()[name]):
        assert re.search(rf"`[^`\n]*{option}\b", section), f"{option} of {name}"


@pytest.mark.parametrize("name", commands())
def test_the_help_of_every_command_has_an_example_that_is_right(name: str) -> None:
    """The words of the example are parsed as the command would; nothing is run."""
    example = (commands()[name].epilog or "").removeprefix("Example: ")
    words = shlex.split(example)
    assert words[: 1 + len(name.split())] == ["sundog", *name.split()]
    if name != "bench":
        # Below the root's context: a command keeps what it has read there of its help.
        root: Any = get_command(app)
        commands()[name].make_context(name, words[1 + len(name.split()) :], Context(root, **root.context_settings))


def test_only_options_that_exist_are_mentioned() -> None:
    known = {option for command in commands().values() for option in options_of(command)} | {
        "--version",
        "--help",
        "--install-completion",
        "--show-completion",
    }
    of_others = {
        "--additional-config",
        "--scheduling-policy",
        "--enable-prompt-tokens-details",
        "--prefix-caching-hash-algo",
        "--kv-transfer-config",
        "--save-result",
        "--append-result",
        "--max-num-batched-tokens",
        "--max-concurrency",
        "--metadata",
    }
    for page in PAGES:
        for code in inline_codes(page):
            assert set(re.findall(r"(?<![\w-])--[a-z-]+", code)) <= known | of_others, f"{page.name}: {code}"


def test_commands_in_the_prose_exist() -> None:
    for page in PAGES:
        for code in inline_codes(page):
            if match := re.match(r"sundog (\w+)(?: (\w+))?", code):
                names = {match[1], f"{match[1]} {match[2]}"}
                assert names & set(commands()) or match[1] == "model", f"{page.name}: {code}"
                for option in re.findall(r"(?<!\S)--[a-z-]+", code):
                    (command,) = (commands()[name] for name in names if name in commands())
                    assert option in options_of(command), f"{page.name}: {code}"


def test_make_targets_in_the_prose_exist() -> None:
    targets = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M))
    named = {match[1] for page in PAGES for code in inline_codes(page) if (match := re.fullmatch(r"make (\w+)", code))}
    assert {"demo", "test"} <= named <= targets


def test_every_variable_of_the_environment_is_there() -> None:
    source = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "src").rglob("*.py"))
    names = set(re.findall(r"\bSUNDOG_[A-Z_]+\b", source))
    rows = {row[0].strip("`") for row in tables(CLI)["Environment"]}
    assert names
    assert names <= rows


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_anchors_lead_to_headings(page: Path) -> None:
    for target in LINK.findall(page.read_text(encoding="utf-8")):
        name, _, anchor = target.partition("#")
        if not anchor or "://" in target:
            continue
        file = (page.parent / name).resolve() if name else page
        known = {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings(file)}
        assert anchor in known, f"{page.name}: {target}"


def test_the_tests_that_guarantees_name_are_there() -> None:
    num_named = 0
    file = ROOT
    for link, name in re.findall(r"\]\(([^)\s]+)\)|`(test_\w+)`", GUARANTEES.read_text(encoding="utf-8")):
        if link:
            file = GUARANTEES.parent / link
            continue
        source = file.read_text(encoding="utf-8")
        assert re.search(rf"^ *(?:async )?def {name}\(", source, re.M), f"{file.name}: {name}"
        num_named += 1
    assert num_named > 40


def test_every_page_is_in_the_index() -> None:
    listed = LINK.findall((ROOT / "docs" / "index.md").read_text(encoding="utf-8"))
    assert {path.name for path in (ROOT / "docs").glob("*.md")} - {"index.md"} <= set(listed)
