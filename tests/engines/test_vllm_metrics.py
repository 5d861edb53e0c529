from __future__ import annotations

import pytest

from sundog.engines.vllm.metrics import kv_capacity_tokens, metrics_url, replica_load

PAGE = """# TYPE vllm:cache_config_info gauge
vllm:cache_config_info{block_size="32",cache_dtype="auto",engine="0",num_gpu_blocks="401",user_specified="True"} 1.0
vllm:num_requests_running{engine="0"} 0.0
"""


@pytest.mark.parametrize(
    ("page", "expected"),
    [(PAGE, 12_832), (PAGE.replace("401", "None"), None), ("# nothing of vllm\n", None), ("", None)],
)
def test_capacity(page: str, expected: int | None) -> None:
    assert kv_capacity_tokens(page) == expected


def test_a_sample_that_is_no_load_counts_for_nothing() -> None:
    odd = "\n".join(f"vllm:num_requests_waiting {value}" for value in ("NaN", "+Inf", "-1", "none", "2.5e1"))
    load = replica_load(f"{PAGE}{odd}\nvllm:kv_cache_usage_perc NaN\n")
    assert (load.num_running, load.num_waiting, load.kv_usage) == (0, 25, 0.0)


def test_the_page_is_beside_the_protocol() -> None:
    assert metrics_url("http://host:8000/v1") == "http://host:8000/metrics"
    assert metrics_url("http://host:8000/v1/?a=1#b ") == "http://host:8000/metrics"
    assert metrics_url("http://host:8000/v1?key=1") == "http://host:8000/metrics"
