from __future__ import annotations

from sundog.engines.embedded.prefix_mirror import PrefixMirror

PROMPT = list(range(100))


def test_whole_blocks_of_a_known_prefix_are_cached() -> None:
    mirror = PrefixMirror(block_tokens=32, num_blocks=100)
    assert mirror.num_cached_tokens(PROMPT) == 0
    mirror.add(PROMPT)
    assert mirror.num_cached_tokens(PROMPT) == 96
    assert mirror.num_cached_tokens(PROMPT[:90]) == 64
    assert mirror.num_cached_tokens([*PROMPT[:40], 7, *PROMPT[41:]]) == 32
    assert mirror.num_cached_tokens([7, *PROMPT[1:]]) == 0


def test_the_last_token_is_always_computed() -> None:
    mirror = PrefixMirror(block_tokens=32, num_blocks=100)
    mirror.add(PROMPT[:64])
    assert mirror.num_cached_tokens(PROMPT[:64]) == 63


def test_the_least_recently_used_blocks_go_first() -> None:
    mirror = PrefixMirror(block_tokens=1, num_blocks=4)
    mirror.add([1, 2])
    mirror.add([3, 4])
    assert mirror.num_cached_tokens([1, 2, 9]) == 2
    mirror.add([5, 6])
    assert mirror.num_cached_tokens([1, 2, 9]) == 2
    assert mirror.num_cached_tokens([3, 4, 9]) == 0
    assert mirror.num_cached_tokens([5, 6, 9]) == 2
