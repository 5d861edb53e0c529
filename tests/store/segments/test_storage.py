"""The storage of a state: who may read it, and how long it is asked."""

from __future__ import annotations

from pathlib import Path

import pytest

from sundog.errors import ConfigError
from sundog.store.segments import storage
from sundog.store.segments.storage import MAX_RETRY_TIME, ObjectStorage


def test_a_folder_of_a_state_is_readable_by_its_owner_only(tmp_path: Path) -> None:
    ObjectStorage(f"file://{tmp_path}/a%20folder/state").create("log/a/0", b"answers")
    assert (tmp_path / "a folder" / "state" / "log" / "a" / "0").read_bytes() == b"answers"
    assert (tmp_path / "a folder").stat().st_mode & 0o777 == 0o700


def test_a_folder_that_was_there_keeps_its_mode(tmp_path: Path) -> None:
    tmp_path.chmod(0o770)
    ObjectStorage(f"file://{tmp_path}").create("id", b"1")
    assert tmp_path.stat().st_mode & 0o777 == 0o770


@pytest.mark.parametrize("url", ["https://host/state", "memory://state", "file://folder/state"])
def test_what_is_no_storage_is_told(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Path] = []
    monkeypatch.setattr(storage, "make_private_folder", made.append)
    with pytest.raises(ConfigError, match="nothing can be kept at"):
        ObjectStorage(url)
    assert not made


def test_a_request_that_hangs_is_given_up_in_time(s3: str) -> None:
    config = ObjectStorage(s3)._store.retry_config  # type: ignore[union-attr]  # of S3
    assert config is not None
    assert config["retry_timeout"] == MAX_RETRY_TIME


@pytest.fixture
def s3(monkeypatch: pytest.MonkeyPatch) -> str:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION"):
        monkeypatch.setenv(name, "any")
    return "s3://bucket/state"
