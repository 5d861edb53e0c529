"""Measurement files: published or own times of batches, from which a profile is fitted.

Owns the form of the file (docs/cost.md). Never measures; the fit is cost's.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from sundog.cost.batch_times import COEFFICIENTS, REMEDIES, SHARED, BatchTimes, fit_batches, undetermined
from sundog.cost.energy import Power
from sundog.cost.optimum import Compute
from sundog.cost.profile import Profile
from sundog.errors import ConfigError, suggest

COUNTS = ("num_requests", "prompt_tokens", "output_tokens")
TIMES = ("ttft_s", "ttft_ms", "tpot_s", "tpot_ms", "latency_s", "output_tokens_per_s")

#: Within what the fit can square.
Positive = Annotated[float, Field(ge=1e-9, le=1e12, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1, le=10**12)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class BatchTable(_Part):
    """Measured batches, one a row. `columns`: the three counts, and at least one time."""

    columns: tuple[str, ...]
    rows: Annotated[tuple[tuple[Positive, ...], ...], Field(min_length=1)]
    #: Where in the source they stand.
    source: str = Field(default="", alias="from")
    #: The reason why a table is kept and not fitted.
    why: str = ""

    @model_validator(mode="after")
    def _check(self) -> BatchTable:
        for name in self.columns:
            if name not in (*COUNTS, *TIMES):
                raise ValueError(f"no column is called '{name}': {suggest(name, (*COUNTS, *TIMES))}")
        if missing := [name for name in COUNTS if name not in self.columns]:
            raise ValueError(f"there is no column {missing[0]}")
        if not set(self.columns) & set(TIMES):
            raise ValueError(f"there is no time: one of {', '.join(TIMES)}")
        if len(set(self.columns)) < len(self.columns):
            raise ValueError("a column is there twice")
        for number, row in enumerate(self.rows, 1):
            if len(row) != len(self.columns):
                raise ValueError(f"row {number} has {len(row)} values for {len(self.columns)} columns")
            if min(row[self.columns.index(name)] for name in COUNTS) < 1:
                raise ValueError(f"row {number}: a count is less than 1")
        return self

    def batches(self) -> Iterator[BatchTimes]:
        """Return the rows, their times in seconds."""
        for row in self.rows:
            given = dict(zip(self.columns, row, strict=True))
            number, num_output = round(given["num_requests"]), given["output_tokens"]
            latency_s = given.get("latency_s")
            if latency_s is None and "output_tokens_per_s" in given:
                latency_s = number * num_output / given["output_tokens_per_s"]
            seconds = (_seconds(given, "ttft"), _seconds(given, "tpot"), latency_s)
            yield BatchTimes(number, given["prompt_tokens"], num_output, *seconds)


def _seconds(given: dict[str, float], name: str) -> float | None:
    milliseconds = given.get(f"{name}_ms")
    return given.get(f"{name}_s") if milliseconds is None else milliseconds / 1e3


class Source(_Part):
    """This class says who published the measurements, and what a reader of the fit must know."""

    title: str
    url: str = ""
    commit: str = ""
    note: str = ""


class Measurements(_Part):
    """A measurement file."""

    model: str
    gpu: str
    precision: str = ""
    engine: str = ""
    source: Source
    #: The most tokens that the engine computes in one step.
    max_step_tokens: Count
    #: Requests that decode at once; None takes the largest batch.
    max_decode_requests: Count | None = None
    max_kv_tokens: Count | None = None
    #: Bytes of the KV cache that a token takes on the replica.
    kv_bytes_per_token: Count | None = None
    measurements: Annotated[tuple[BatchTable, ...], Field(min_length=1)]
    #: Kept for the reader, and not fitted.
    left_out: tuple[BatchTable, ...] = ()
    #: Coefficients that these measurements cannot tell, with the reason; they are taken as 0.
    assumed_zero: dict[str, str] = {}
    power: Power | None = None
    compute: Compute | None = None

    @model_validator(mode="after")
    def _check(self) -> Measurements:
        for name in self.assumed_zero:
            if name not in COEFFICIENTS:
                raise ValueError(f"assumed_zero: no coefficient is called '{name}': {suggest(name, COEFFICIENTS)}")
        return self


def read_measurements(content: object, where: str) -> Measurements:
    """Return the checked content of a measurement file; ConfigError for every mistake in it."""
    try:
        return Measurements.model_validate(content)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        what = first["msg"].removeprefix("Value error, ")
        raise ConfigError(
            f"the measurements cannot be used: {place}{': ' if place else ''}{what}",
            where=where,
            hint="docs/cost.md says what such a file holds",
        ) from error


def profile_of_measurements(given: Measurements, where: str) -> Profile:
    """Return the fitted profile; ConfigError where the measurements cannot tell a coefficient, with what to measure."""
    batches = [batch for table in given.measurements for batch in table.batches()]
    steps = [step for batch in batches for step in batch.steps(given.max_step_tokens)]
    if untold := undetermined(steps, given.assumed_zero):
        raise _cannot_tell(untold, where)
    found = fit_batches(batches, given.max_step_tokens, given.max_decode_requests, given.assumed_zero)
    return Profile(
        found.step_time,
        found.limits,
        found.fitted,
        found.held_out,
        _facts(given),
        given.max_kv_tokens,
        given.power,
        given.compute,
        given.kv_bytes_per_token,
    )


def _cannot_tell(untold: tuple[str, ...], where: str) -> ConfigError:
    remedies = dict.fromkeys(REMEDIES[name] for name in untold if name != SHARED)
    return ConfigError(
        f"the measurements cannot tell {' and '.join(untold)}{' apart' if len(untold) > 1 else ''}",
        where=where,
        hint=f"measure also {'; '.join(remedies)}; or write one of them under assumed_zero with the reason",
    )


def _facts(given: Measurements) -> dict[str, Any]:
    """Return what the reader of a profile is told."""
    facts: dict[str, Any] = {"model": given.model, "gpu": given.gpu}
    facts |= {name: value for name in ("precision", "engine") if (value := getattr(given, name))}
    facts["source"] = {name: value for name, value in given.source.model_dump().items() if value}
    facts["tables"] = [table.source for table in given.measurements if table.source]
    facts["assumed_zero"] = dict(given.assumed_zero)
    facts["shared_context"] = "costs as much as other context: no batch has any"
    return facts


def read_content(path: Path) -> object:
    """Return what a YAML or JSON file holds; ConfigError where it cannot be read."""
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError

    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is no UTF-8 text"
        raise ConfigError(f"the file cannot be read: {why or error}", where=str(path)) from error
    try:
        content: object = YAML(typ="safe", pure=True).load(text)
    except (YAMLError, ValueError) as error:
        raise ConfigError(f"the file is neither YAML nor JSON: {error}", where=str(path)) from error
    return content
