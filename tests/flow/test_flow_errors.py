"""The messages that a user reads when a flow is wrong: one golden file per mistake."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from sundog.errors import FlowError, Location
from sundog.flow.bind import load_flow

CASES = Path(__file__).parents[1] / "golden" / "flow_errors"
NAMES = sorted(path.stem for path in CASES.glob("*.yaml"))


@pytest.mark.parametrize("name", NAMES)
def test_a_wrong_flow_says_what_where_and_what_to_do(
    name: str, check_golden: Callable[[str, str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(CASES)
    with pytest.raises(FlowError) as caught:
        load_flow(Path(f"{name}.yaml"))
    assert isinstance(caught.value.where, Location)
    assert caught.value.exit_code == 2
    assert "pydantic" not in str(caught.value)
    check_golden(f"flow_errors/{name}.txt", f"{caught.value}\n")


def test_every_expected_text_has_its_flow() -> None:
    assert len(NAMES) >= 25
    assert sorted(path.stem for path in CASES.glob("*.txt")) == NAMES
