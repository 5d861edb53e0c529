"""The options of the KV connector, as they stand in `kv_connector_extra_config`.

Owns their check and the prefill cost they name. Never touches the folder's content.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from sundog.errors import ConfigError, suggest
from sundog.vllm_plugin.kv.decision import PrefillCost

OPTIONS_WHERE = "kv_connector_extra_config"


class KVOptions(BaseModel):
    """The prefill cost is what `prefill_s_per_token` or the profile of `sundog calibrate` says. With neither, every
    prefix that is found is loaded."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    #: An absolute path, the same for all replicas of a host.
    folder: Annotated[str, StringConstraints(pattern="^/")]
    #: Bytes of all files in it, of every model.
    max_bytes: int = Field(gt=0)
    prefill_s_per_token: float | None = Field(default=None, gt=0)
    profile: str | None = None


def read_kv_options(given: Mapping[str, Any]) -> KVOptions:
    """Return the options of the connector; ConfigError for an unknown, missing or impossible one."""
    try:
        options = KVOptions.model_validate(dict(given))
    except ValidationError as error:
        raise _complaint(error) from None
    if options.profile is not None and options.prefill_s_per_token is not None:
        raise ConfigError(
            "'profile' and 'prefill_s_per_token' both say what prefill costs",
            where=OPTIONS_WHERE,
            hint="give one of them",
        )
    return options


def open_folder(options: KVOptions) -> Path:
    """Return the folder, created where it is missing; ConfigError when it cannot be used or is too small for
    `max_bytes`."""
    folder = Path(options.folder)
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        capacity_bytes = shutil.disk_usage(folder).total
    except OSError as error:
        raise ConfigError(
            f"the folder cannot be used: {error}", where=OPTIONS_WHERE, hint="choose another 'folder'"
        ) from error
    if not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
        raise ConfigError(
            f"the folder {folder} cannot be written", where=OPTIONS_WHERE, hint="let the server's user write there"
        )
    _check_private(folder)
    if options.max_bytes > capacity_bytes:
        raise ConfigError(
            f"max_bytes is {options.max_bytes:,}, but the file system of {folder} has {capacity_bytes:,} in all",
            where=OPTIONS_WHERE,
            hint="lower it, or choose a folder on a larger file system (containers often have a small /dev/shm)",
        )
    return folder


def _check_private(folder: Path) -> None:
    """Whoever writes there decides what the model has read; whoever reads there sees what it was asked."""
    status = folder.stat()
    if status.st_uid != os.geteuid() or status.st_mode & 0o077:
        raise ConfigError(
            f"other users can read or change the folder {folder}",
            where=OPTIONS_WHERE,
            hint="it must belong to the server's user, with mode 700: let the server make it, or chmod 700",
        )


def read_prefill_cost(options: KVOptions) -> PrefillCost | None:
    """Return the cost; None when the options name none, ConfigError for a profile that cannot be read."""
    if options.prefill_s_per_token is not None:
        return PrefillCost(options.prefill_s_per_token)
    if options.profile is None:
        return None
    try:
        step_time = json.loads(Path(options.profile).read_bytes())["step_time"]
        return PrefillCost(float(step_time["prefill_token_s"]), float(step_time["attention_pair_s"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(
            f"the profile {options.profile} cannot be read: {error!r}",
            where=OPTIONS_WHERE,
            hint="name a file that sundog calibrate wrote",
        ) from error


def _complaint(error: ValidationError) -> ConfigError:
    first = error.errors()[0]
    name = ".".join(map(str, first["loc"]))
    match first["type"]:
        case "extra_forbidden":
            return ConfigError(
                f"unknown option '{name}'", where=OPTIONS_WHERE, hint=suggest(name, KVOptions.model_fields)
            )
        case "missing":
            return ConfigError(
                f"'{name}' is missing",
                where=OPTIONS_WHERE,
                hint='for example {"folder": "/dev/shm/kv", "max_bytes": 8000000000}',
            )
        case "string_pattern_mismatch":
            return ConfigError(
                f"'{name}' is not an absolute path: {first['input']!r}",
                where=OPTIONS_WHERE,
                hint="all replicas must mean one place",
            )
    return ConfigError(f"'{name}' is {first['input']!r}: {first['msg'].lower()}", where=OPTIONS_WHERE)
