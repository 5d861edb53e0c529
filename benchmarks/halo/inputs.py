"""The rows of a case: parameters sampled with a stated share of repetition. Equal seeds give equal rows everywhere."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from functools import cache
from itertools import product
from typing import Any, Literal, get_args

from halo.data import documents, films

Repetition = Literal["none", "halo", "zipf"]
REPETITIONS: tuple[Repetition, ...] = get_args(Repetition)
# Halo's batches repeat their parameters: of four instances one is new.
DISTINCT_SHARE = 0.25
ZIPF_EXPONENT = 1.1
EARLY = "early_"
"""A workload of this prefix has an earlier graph, and the rows of the workload without it."""

QUESTIONS = (
    "Which film about '{}' is the best one to begin with?",
    "Who made the films that are called something with '{}'?",
    "What do the critics think of films named '{}'?",
)
REGIONS = ("AFRICA", "AMERICA", "ASIA", "EUROPE", "MIDDLE EAST")
SEGMENTS = ("AUTOMOBILE", "BUILDING", "FURNITURE", "HOUSEHOLD", "MACHINERY")
YEARS, MONTHS, SIZES = range(1993, 1998), range(1, 13), range(5, 50, 5)

Parameters = dict[str, Any]


def make_rows(workload: str, num_rows: int, repetition: Repetition, seed: int) -> list[dict[str, Any]]:
    """`num_rows` rows, each with an `id` of its own that no prompt shows; ValueError where there are too few
    parameters for rows that never repeat."""
    workload = workload.removeprefix(EARLY)
    chance = random.Random(f"{workload}/{seed}")
    pool = list(parameters(workload))
    chance.shuffle(pool)
    num_distinct = max(1, round(num_rows * DISTINCT_SHARE)) if repetition == "halo" else num_rows
    if num_distinct > len(pool):
        raise ValueError(f"{workload} has {len(pool)} sets of parameters, not {num_distinct}")
    pool = pool[:num_distinct]
    if repetition == "zipf":
        weights = [rank**-ZIPF_EXPONENT for rank in range(1, num_distinct + 1)]
        chosen = chance.choices(pool, weights, k=num_rows)
    else:
        # Each set at least once, so that the share is the one stated.
        chosen = pool + chance.choices(pool, k=num_rows - num_distinct)
        chance.shuffle(chosen)
    return [{"id": number, **one} for number, one in enumerate(chosen)]


def parameters(workload: str) -> tuple[Parameters, ...]:
    """All sets of parameters that a workload can be asked for, in a fixed order."""
    return _ALL[workload.removeprefix(EARLY)]()


@cache
def _films() -> tuple[Parameters, ...]:
    return tuple(
        {"keyword": keyword, "question": QUESTIONS[number % len(QUESTIONS)].format(keyword)}
        for number, keyword in enumerate(films.keywords())
    )


@cache
def _documents() -> tuple[Parameters, ...]:
    words = (
        (title, part) for title in documents.titles() for part in {title.partition(".")[0], title.rpartition(".")[2]}
    )
    return tuple({"title": title, "word": re.findall("[a-z]+", part.lower())[-1]} for title, part in sorted(words))


@cache
def _sales() -> tuple[Parameters, ...]:
    return tuple(
        {"request": f"Report on region {region}, segment {segment}, from {year}-{month:02}, size {size}."}
        for region, segment, year, month, size in product(REGIONS, SEGMENTS, YEARS, MONTHS, SIZES)
    )


_ALL: dict[str, Callable[[], tuple[Parameters, ...]]] = {
    "w1": _films,
    "w2": _films,
    "w3": _documents,
    "w4": _documents,
    "w5": _sales,
    "w6": _sales,
}
