"""Values of numpy and pandas have a normal form where nothing is lost, and say what to do where they have none."""

from __future__ import annotations

from typing import Any

import pytest

from sundog.ir.values.normal_form import NoNormalForm, decode, encode, normal_form

np = pytest.importorskip("numpy", reason="no dependency of sundog")
pd = pytest.importorskip("pandas", reason="no dependency of sundog")


@pytest.mark.parametrize(
    ("value", "form"),
    [
        (np.int64(3), 3),
        (np.uint64(2**64 - 1), 2**64 - 1),
        (np.float32(0.5), 0.5),
        (np.longdouble(0.5), 0.5),
        (np.bool_(True), True),
        (np.str_("x"), "x"),
        (np.datetime64("2024-01-02T03:04:05.123456789"), "2024-01-02T03:04:05.123456789"),
        (np.datetime64("2024-01-02"), "2024-01-02"),
        (np.datetime64("NaT"), None),
        (np.timedelta64(5, "s"), "PT5S"),
        (np.timedelta64(5000, "ns"), "PT0.000005S"),
        (np.timedelta64("NaT"), None),
        (np.array(5), 5),
        (np.arange(4).reshape(2, 2), [[0, 1], [2, 3]]),
        (np.array(["2024-01-02T00:00:00.000000001", "NaT"], "datetime64[ns]"), ["2024-01-02T00:00:00.000000001", None]),
        (np.array([1, "a", None, np.int8(2)], dtype=object), [1, "a", None, 2]),
        (np.array([(1, 0.5)], dtype=[("n", "i4"), ("x", "f8")]), [{"n": 1, "x": 0.5}]),
        (np.ma.masked_array([1, 2], mask=[0, 1]), [1, None]),
        (np.ma.masked, None),
        ({"a": [np.int32(1), {"b": np.arange(2)}]}, {"a": [1, {"b": [0, 1]}]}),
        (pd.NA, None),
        (pd.NaT, None),
        (pd.Timestamp("2024-01-02 03:04", tz="Europe/Berlin"), "2024-01-02T03:04:00+01:00"),
        (pd.Timestamp("2024-01-02 03:04:05.123456789"), "2024-01-02T03:04:05.123456789"),
        (pd.Timedelta("1s"), "PT1S"),
        (pd.Timedelta("5ns"), "P0DT0H0M0.000000005S"),
        (range(3), [0, 1, 2]),
        ({"a": 1}.items(), [["a", 1]]),
    ],
)
def test_what_loses_nothing_becomes_json(value: Any, form: Any) -> None:
    found = normal_form(value)
    assert found == form
    assert type(found) is type(form)
    assert decode(encode(found)) == form


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (np.array([1.5, np.nan]), "the value[1] is NaN, which is no JSON number"),
        (np.longdouble(1) / 3, "the value is of type longdouble"),
        (np.timedelta64(5, "ns"), "the value is of type timedelta64"),
        (np.timedelta64(5, "Y"), "the value is of type timedelta64"),
        (np.void(b"ab"), "the value is of type void"),
        ({np.int64(1): 2}, "the value has the key np.int64(1), which is no text but of type int64"),
        (pd.Period("2024-01"), "the value is of type Period"),
        (pd.Series([1]), "the value is of type Series: give to_list() of it"),
        (pd.DataFrame({"a": [1]}), 'the value is of type DataFrame: give to_dict("records") of it'),
        (range(10**12), "the value holds more than 16,777,216 values"),
    ],
)
def test_what_would_lose_something_is_told(value: Any, told: str) -> None:
    with pytest.raises(NoNormalForm) as caught:
        normal_form(value)
    assert str(caught.value) == told
