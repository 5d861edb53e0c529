"""The facts of an engine that can be seen before a run: its secrets, its outline, and the server that it is attached
to.

Owns these looks. It starts nothing: of a server that is there it asks what a run would ask first.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from sundog.deployment import opened
from sundog.engines.base import EngineKind, EngineOutline
from sundog.errors import ConfigError, SundogError, error_text
from sundog.ir.logical import EngineBlock
from sundog.ir.values.canonical import canonical_json
from sundog.operators.base import Finding
from sundog.secrets import PATTERN, Secrets

SERVER_TIMEOUT_S = 4.0


@dataclass(frozen=True, slots=True)
class EngineLook:
    """The outcome of looking at one engine."""

    #: None where there is none.
    outline: EngineOutline | None
    #: The things that are wrong with the engine.
    findings: tuple[Finding, ...] = ()


async def look_at_engine(block: EngineBlock, secrets: Secrets) -> EngineLook:
    """Look at an engine. It takes SERVER_TIMEOUT_S at most, and the time of loading a tokenizer."""
    missing = tuple(missing_secrets(block.options, secrets))
    kind, options = opened(block)
    outline = await asyncio.to_thread(_outline, kind, options)
    if missing or outline is None or not outline.is_attached:
        return EngineLook(outline, missing)
    return await _look_at_servers(kind, options, outline, secrets)


def missing_secrets(value: Any, secrets: Secrets) -> Iterator[Finding]:
    """Yield a finding for environment variables that are named in `value` and cannot be used."""
    for name in dict.fromkeys(PATTERN.findall(canonical_json(value).decode("utf-8", "surrogatepass"))):
        try:
            secrets.reveal(f"${{env:{name}}}")
        except ConfigError as error:
            yield Finding(error.what, error.hint, is_fatal=True)


def _outline(kind: EngineKind, options: Any) -> EngineOutline | None:
    try:
        return kind.outline(options)
    except Exception:  # the engine will say why when it starts; one of others may have no outline
        return None


async def _look_at_servers(kind: EngineKind, options: Any, outline: EngineOutline, secrets: Secrets) -> EngineLook:
    """Ask each server, and return the outline with the context that they tell."""
    looks = await asyncio.gather(
        *(_look_at_server(kind, options, replica, outline, secrets) for replica in range(kind.num_replicas(options)))
    )
    told = (look.outline.max_context_tokens for look in looks if look.outline is not None)
    context = min((tokens for tokens in told if tokens is not None), default=None)
    findings = dict.fromkeys(finding for look in looks for finding in look.findings)
    return EngineLook(replace(outline, max_context_tokens=context), tuple(findings))


async def _look_at_server(
    kind: EngineKind, options: Any, replica: int, outline: EngineOutline, secrets: Secrets
) -> EngineLook:
    try:
        engine = kind.open(options, replica, secrets)
        try:
            async with asyncio.timeout(SERVER_TIMEOUT_S):
                await engine.start()
            told = engine.capabilities()
        finally:
            await engine.close()
    except TimeoutError:
        return EngineLook(outline, (Finding(f"no server has answered within {SERVER_TIMEOUT_S:g} s"),))
    except SundogError as error:
        return EngineLook(outline, (Finding(error.what, error.hint),))
    except Exception as error:  # an engine's mistake while it is looked at must not stop what may run well
        return EngineLook(outline, (Finding(f"not checked: {error_text(error)}"),))
    findings = () if told.doubt is None else (Finding(told.doubt.what, told.doubt.hint),)
    return EngineLook(
        replace(outline, max_context_tokens=outline.max_context_tokens or told.max_context_tokens), findings
    )
