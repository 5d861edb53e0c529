"""A folder of buckets counts from its index on, and not before."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from sundog.errors import StoreError
from sundog.execution.input_row import IdentifiedRows
from sundog.runtime.buckets.kept import BucketMaker, KeptBuckets, kept_buckets

ROWS: IdentifiedRows = [((number,), {"id": number}) for number in range(10)]
ORDER = (("row", "id"),)


def made(folder: Path, rows: IdentifiedRows = ROWS) -> KeptBuckets:
    with BucketMaker(folder, 4, ORDER) as maker:
        maker.add(rows[:3])
        maker.add(rows[3:])
        return maker.finish()


async def read(buckets: KeptBuckets) -> list[IdentifiedRows]:
    return [batch async for batch in buckets.batches(lambda row_ids: False)]


def test_the_rows_are_read_as_they_were_written(tmp_path: Path) -> None:
    buckets = made(tmp_path / "rows")
    assert buckets == kept_buckets(tmp_path / "rows")
    assert (buckets.order, buckets.num_rows) == (ORDER, 10)
    assert asyncio.run(read(buckets)) == [ROWS[:4], ROWS[4:8], ROWS[8:]]


def test_no_rows_are_buckets_too(tmp_path: Path) -> None:
    assert asyncio.run(read(made(tmp_path / "rows", []))) == []
    assert kept_buckets(tmp_path / "rows") is not None


def test_a_folder_that_is_written_anew_does_not_count_until_it_is_whole(tmp_path: Path) -> None:
    made(tmp_path / "rows")
    with BucketMaker(tmp_path / "rows", 4, ORDER) as maker:
        assert kept_buckets(tmp_path / "rows") is None
        maker.add(ROWS)
        assert kept_buckets(tmp_path / "rows") is None
        maker.finish()
    assert kept_buckets(tmp_path / "rows") is not None


@pytest.mark.parametrize("name", ["00001.parquet", "index.json"])
def test_a_folder_that_lacks_a_file_does_not_count(tmp_path: Path, name: str) -> None:
    made(tmp_path / "rows")
    (tmp_path / "rows" / name).unlink()
    assert kept_buckets(tmp_path / "rows") is None


def test_an_index_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    made(tmp_path / "rows")
    (tmp_path / "rows" / "index.json").write_text("{")
    with pytest.raises(StoreError, match=r"the rows in .*index\.json cannot be read"):
        kept_buckets(tmp_path / "rows")
