"""`sundog keys`: who may ask the server of a state folder, for what, and how much."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from sundog.cli.options import JSON, Debug, State
from sundog.cli.terminal.completion import key_names, tenants
from sundog.cli.terminal.console import print_note, print_result
from sundog.config import read_config

if TYPE_CHECKING:
    from pathlib import Path

    from sundog.access.api_keys import APIKeys, KeyRecord

keys = typer.Typer(
    no_args_is_help=True,
    help="Make, list and revoke the API keys of a server.",
    epilog="Example: sundog keys add alice --max-usd 20",
)
MaxUSD = Annotated[float | None, typer.Option(min=0, metavar="USD", help="Dollars to spend.", show_default=False)]
MaxTokens = Annotated[
    int | None, typer.Option(min=0, metavar="N", help="Tokens of prompts and answers to spend.", show_default=False)
]
COLUMNS = ("name", "key", "tenant", "state", "spent", "of", "tokens", "of tokens", "may use")


@keys.command(epilog="Example: sundog keys add alice --tenant research --max-usd 20 --model 'gpt-*' --expires 30d")
def add(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Whose key it is, or what it is for.")],
    tenant: Annotated[
        str | None,
        typer.Option(help="Who is charged. [default: the name]", show_default=False, autocompletion=tenants),
    ] = None,
    weight: Annotated[float, typer.Option(help="Share of its tenant among those that wait.")] = 1.0,
    max_usd: MaxUSD = None,
    max_tokens: MaxTokens = None,
    max_at_once: Annotated[int | None, typer.Option(min=1, help="Requests at once.", show_default=False)] = None,
    max_per_minute: Annotated[int | None, typer.Option(min=1, help="Requests a minute.", show_default=False)] = None,
    model: Annotated[
        list[str] | None, typer.Option(metavar="GLOB", help="Models it may use; repeatable. [default: all]")
    ] = None,
    flow: Annotated[
        list[str] | None, typer.Option(metavar="GLOB", help="Flows it may use; repeatable. [default: all]")
    ] = None,
    expires: Annotated[
        str | None, typer.Option(metavar="TIME", help="How long it is valid, as 30d or 12h.", show_default=False)
    ] = None,
    state: State = None,
    as_json: JSON = False,
    debug: Debug = False,
) -> None:
    """Make a key and print it.

    It is shown this once: only its hash is kept.
    """
    from sundog.access.principal import EVERYTHING, KeyTerms
    from sundog.whatif.duration import read_duration

    expires_at = None if expires is None else time.time() + read_duration("--expires", expires)
    allowed = (tuple(model) if model else EVERYTHING, tuple(flow) if flow else EVERYTHING)
    terms = KeyTerms(weight, max_usd, max_tokens, max_at_once, max_per_minute, *allowed)
    with _opened(state) as kept:
        key, record = kept.add(name, tenant or name, terms, expires_at)
    if as_json:
        print_result(json.dumps({**_facts(record), "key": key}))
        return
    print_result(key)
    print_note(f"{record.key_id} of the tenant '{record.tenant}': keep it now, it is not shown again")


@keys.command("list", epilog="Example: sundog keys list")
def list_keys(state: State = None, as_json: JSON = False, debug: Debug = False) -> None:
    """List the keys, also those that have ended.

    Of a key its first characters are shown, and what was spent with it; below them the tenants that have limits.
    """
    with _opened(state) as kept:
        found = [_listed(kept, record) for record in kept.all()]
        limited = [_listed_tenant(kept, tenant) for tenant in kept.tenant_limits()]
        if as_json:
            print_result(json.dumps({"keys": found, "tenants": limited}))
        elif found or limited:
            print_result("\n".join(_lines([*map(_cells, found), *map(_cells, limited)])))
        else:
            print_result(f"no keys in {_folder(state)}")


@keys.command(epilog="Example: sundog keys revoke alice")
def revoke(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Its name or id.", autocompletion=key_names)],
    state: State = None,
    debug: Debug = False,
) -> None:
    """End a key.

    A server that runs refuses it within a second; what it has begun goes on.
    """
    with _opened(state) as kept:
        record = kept.revoke(name)
    print_result(f"{record.key_id}, {record.shown}, of '{record.name}' is revoked")


@keys.command(epilog="Example: sundog keys limit research --max-usd 100")
def limit(
    tenant: Annotated[
        str, typer.Argument(metavar="TENANT", help="Whose keys are limited together.", autocompletion=tenants)
    ],
    max_usd: MaxUSD = None,
    max_tokens: MaxTokens = None,
    state: State = None,
    debug: Debug = False,
) -> None:
    """Set what all keys of a tenant may spend together.

    It takes the place of what was set before; without options there is no limit any more.
    """
    from sundog.ledger.ledger import SpendingLimits

    with _opened(state) as kept:
        kept.limit_tenant(tenant, SpendingLimits(max_usd, max_tokens))
        shown = _cells(_listed_tenant(kept, tenant))
    print_result(f"the tenant '{tenant}' may spend {shown[5]} dollars and {shown[7]} tokens".replace(" - ", " any "))


@contextmanager
def _opened(state: str | None) -> Iterator[APIKeys]:
    from sundog.access.api_keys import APIKeys
    from sundog.store.store import Store

    store = Store(_folder(state))
    try:
        yield APIKeys(store)
    finally:
        store.close()


def _folder(state: str | None) -> Path:
    return read_config(state).state_dir


def _listed(kept: APIKeys, record: KeyRecord) -> dict[str, Any]:
    from sundog.ledger.ledger import SpendingScope

    spent = kept.spent(SpendingScope("key", record.key_id))
    return {**_facts(record), "spent_usd": spent.usd, "spent_tokens": spent.num_tokens}


def _listed_tenant(kept: APIKeys, tenant: str) -> dict[str, Any]:
    from sundog.ledger.ledger import SpendingScope

    limits, spent = kept.tenant_limits()[tenant], kept.spent(SpendingScope("tenant", tenant))
    facts = {"tenant": tenant, "max_usd": limits.max_usd, "max_tokens": limits.max_tokens}
    return {**facts, "spent_usd": spent.usd, "spent_tokens": spent.num_tokens}


def _facts(record: KeyRecord) -> dict[str, Any]:
    """Return what may be told of a key."""
    expires_at = None if record.expires_at is None else datetime.fromtimestamp(record.expires_at, UTC)
    return {
        "key_id": record.key_id,
        "name": record.name,
        "shown": record.shown,
        "tenant": record.tenant,
        "state": _state(record),
        **asdict(record.terms),
        "created_at": record.created_at,
        "expires_at": None if expires_at is None else expires_at.isoformat(timespec="seconds"),
        "revoked_at": record.revoked_at,
    }


def _state(record: KeyRecord) -> str:
    if record.revoked_at is not None:
        return "revoked"
    if record.expires_at is not None and record.expires_at <= time.time():
        return "expired"
    return "valid"


def _cells(one: dict[str, Any]) -> tuple[str, ...]:
    uses = [*one.get("models", ()), *(f"flow {pattern}" for pattern in one.get("flows", ()))]
    return (
        one.get("name", "-"),
        one.get("shown", "-"),
        one["tenant"],
        one.get("state", "-"),
        f"{one['spent_usd']:.2f}",
        "-" if one["max_usd"] is None else f"{one['max_usd']:.2f}",
        f"{one['spent_tokens']:,}",
        "-" if one["max_tokens"] is None else f"{one['max_tokens']:,}",
        ", ".join(uses) or "-",
    )


def _lines(rows: list[tuple[str, ...]]) -> list[str]:
    table = [COLUMNS, *rows]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    return ["  ".join(map(str.ljust, row, widths)).rstrip() for row in table]
