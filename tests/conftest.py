"""Golden files for the whole suite: texts that users see, kept in tests/golden and reviewed in diffs. No deadlines.
Temporary folders are in memory where there is such a folder. What a test registers ends with it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from sundog.engines.base import ENGINES
from sundog.operators.base import OPERATORS
from sundog.sched.policy import POLICIES
from tests.fuzz.budget import DEFAULT_EXAMPLES, set_examples

# How long an example takes depends on what else the machine does.
settings.register_profile("without_deadline", deadline=None)
settings.load_profile("without_deadline")

GOLDEN = Path(__file__).parent / "golden"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="write the golden files instead of comparing")
    parser.addoption(
        "--fuzz-examples",
        type=int,
        default=DEFAULT_EXAMPLES,
        metavar="N",
        help="how many examples each property of tests/fuzz tries; more than the default are random ones",
    )


def pytest_configure(config: pytest.Config) -> None:
    set_examples(config.getoption("--fuzz-examples"))
    # Half of a small run is waiting for the disk. A killed process leaves the same files in memory.
    if os.access("/dev/shm", os.W_OK):
        os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", "/dev/shm")


@pytest.fixture(autouse=True)
def the_same_names_are_registered_after_each_test() -> Iterator[None]:
    """Messages of later tests name what is registered, in whatever order the tests are run."""
    before = {registry: registry.names() for registry in (ENGINES, OPERATORS, POLICIES)}
    yield
    for registry, names in before.items():
        for name in {*registry.names()} - {*names}:
            registry.remove(name)


@pytest.fixture
def check_golden(request: pytest.FixtureRequest) -> Callable[[str, str], None]:
    """`check_golden(name, text)`: `text` equals the file `name` below tests/golden."""

    def check(name: str, text: str) -> None:
        path = GOLDEN / name
        if request.config.getoption("--update-golden"):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        assert path.exists(), f"{path} is missing: run pytest with --update-golden and review it"
        assert text == path.read_text(encoding="utf-8")

    return check
