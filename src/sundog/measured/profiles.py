"""This module keeps the profiles of engines: one JSON file for each engine, model and machine.

Owns the key and the files. Never measures and never looks inside a profile.
"""

from __future__ import annotations

import json
import os
import platform
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sundog.deployment import opened
from sundog.engines.base import EngineOptions
from sundog.errors import RunError
from sundog.ir.logical import EngineBlock
from sundog.ir.values.canonical import fingerprint

if TYPE_CHECKING:
    from sundog.cost.profile import Profile

FORM = 2


def machine() -> dict[str, Any]:
    """Return what of this machine decides how fast an engine is."""
    return {"processor": _processor(), "num_cores": os.cpu_count()}


def profile_path(folder: Path, block: EngineBlock) -> Path:
    """Return the file of an engine block's profile on this machine, whether or not it is there.

    Its name depends on the engine's identity, the options of its kind and the machine; not on the limits, prices and
    replicas that every kind has, on the size of the KV cache, and on no secret.
    """
    kind, options = opened(block)
    own = options.model_dump(mode="json", exclude={*EngineOptions.model_fields, "api_key", "max_kv_tokens"})
    key = {"identity": kind.identity(options), "options": own, "machine": machine(), "form": FORM}
    slug = re.sub(r"[^a-z0-9.]+", "-", f"{block.kind}-{options.model}".lower()).strip("-")[-60:]
    return folder / "profiles" / f"{slug}-{fingerprint(key, size_bytes=6).hex()}.json"


def load_profile(folder: Path, block: EngineBlock) -> Profile | None:
    """Return the profile; None when this engine was not calibrated here, RunError for a damaged file."""
    path = profile_path(folder, block)
    if not path.exists():
        return None
    from sundog.cost.profile import Profile

    try:
        return Profile.from_json(json.loads(path.read_bytes()))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunError(
            f"the profile cannot be read: {error!r}", where=str(path), hint="delete it and calibrate again"
        ) from error


def save_profile(folder: Path, block: EngineBlock, profile: Profile) -> Path:
    """Write the file, whole or not at all; its path."""
    path = profile_path(folder, block)
    write_profile(path, {"kind": block.kind, "model": block.options["model"], **profile.to_json()})
    return path


def write_profile(path: Path, content: Mapping[str, Any]) -> None:
    """Write a profile's JSON, whole or not at all; RunError where the folder cannot be written."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=path.parent, suffix=".part", delete=False) as file:
            file.write(json.dumps(content, indent=2) + "\n")
        Path(file.name).replace(path)
    except OSError as error:
        raise RunError(
            f"the profile cannot be written: {error.strerror or error}", where=str(path), hint="set SUNDOG_CACHE"
        ) from error


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.processor() or platform.machine())
