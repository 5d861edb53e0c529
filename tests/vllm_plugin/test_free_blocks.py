"""The order in which free blocks are given away; every one can be."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from sundog.vllm_plugin.free_blocks import Hold, TwoTierQueue
from tests.vllm_plugin.fakes import FakeBlock, FakeFreeBlocks


class Pool:
    """Blocks and their references, as vLLM's pool keeps them; holds are ranked by the number in their owner's name."""

    def __init__(self, num_blocks: int) -> None:
        self.blocks = [FakeBlock(number) for number in range(num_blocks)]
        self.queue = TwoTierQueue(FakeFreeBlocks(self.blocks), lambda hold: (float(hold.owner[1:]),))

    def take(self, num_blocks: int) -> list[FakeBlock]:
        """Get blocks and fill them."""
        taken = [self.blocks[block.block_id] for block in self.queue.popleft_n(num_blocks)]
        for block in taken:
            assert block.ref_cnt == 0
            block.ref_cnt, block.block_hash = 1, b"full"
        return taken

    def give(self, blocks: list[FakeBlock]) -> None:
        """Give blocks back in the order of a prompt; vLLM frees its end first."""
        for block in blocks:
            block.ref_cnt -= 1
        self.queue.append_n([block for block in reversed(blocks) if block.ref_cnt == 0])

    def touch(self, blocks: list[FakeBlock]) -> None:
        for block in blocks:
            if block.ref_cnt == 0:
                self.queue.remove(block)
            block.ref_cnt += 1

    def keep(self, owner: str, blocks: list[FakeBlock], *, until_s: float = 100.0, is_pin: bool = False) -> None:
        self.queue.keep(Hold(owner, until_s, 0.0, is_pin=is_pin), blocks)

    def order(self) -> list[int]:
        """All free blocks in the order in which they would be given away."""
        return [self.queue.popleft().block_id for _ in range(self.queue.num_free_blocks)]


def test_without_holds_the_order_is_that_of_the_queue_below() -> None:
    pool = Pool(6)
    pool.give(pool.take(3))
    assert pool.order() == [3, 4, 5, 2, 1, 0]


def test_kept_blocks_go_last_the_end_of_the_prompt_first() -> None:
    pool = Pool(6)
    prompt = pool.take(3)
    pool.keep("w1", prompt)
    pool.give(prompt)
    pool.give(pool.take(2))
    assert pool.queue.num_kept_blocks == 3
    assert pool.order() == [5, 4, 3, 2, 1, 0]
    assert pool.queue.num_given_up == 3


def test_the_smallest_rank_is_given_up_first_and_pins_after_all_others() -> None:
    pool = Pool(6)
    prompts = {owner: pool.take(2) for owner in ("w2", "w1", "w0")}
    for owner, prompt in prompts.items():
        pool.keep(owner, prompt, is_pin=owner == "w0")
        pool.give(prompt)
    assert pool.order() == [3, 2, 1, 0, 5, 4]


def test_a_block_is_as_safe_as_its_best_holder() -> None:
    pool = Pool(4)
    shared, tail = pool.take(1), pool.take(1)
    pool.touch(shared)
    pool.keep("w1", [*shared, *tail])
    pool.keep("w2", shared)
    pool.give([*shared, *tail])
    pool.give(shared)
    assert pool.order() == [2, 3, 1, 0]


def test_a_hold_that_ends_gives_back_its_blocks() -> None:
    pool = Pool(4)
    prompt = pool.take(2)
    pool.keep("w1", prompt, until_s=5.0)
    pool.give(prompt)
    assert pool.queue.release_expired(4.9) == []
    assert pool.queue.release_expired(5.0) == ["w1"]
    assert (pool.queue.num_kept_blocks, pool.queue.num_free_blocks) == (0, 4)
    assert pool.order() == [2, 3, 1, 0]


def test_a_new_hold_replaces_the_old_one() -> None:
    pool = Pool(4)
    prompt = pool.take(3)
    pool.keep("w1", prompt)
    pool.give(prompt)
    pool.keep("w1", prompt[:1])
    assert pool.order() == [3, 2, 1, 0]


def test_blocks_that_are_free_already_can_be_kept() -> None:
    pool = Pool(3)
    prompt = pool.take(2)
    pool.give(prompt)
    pool.keep("w1", prompt)
    assert (pool.queue.num_kept_blocks, pool.queue.num_free_blocks) == (2, 3)
    pool.touch(prompt)
    assert (pool.queue.num_kept_blocks, pool.queue.num_free_blocks) == (0, 1)
    pool.give(prompt)
    assert pool.queue.num_kept_blocks == 2


def test_what_was_given_up_is_not_kept_when_it_comes_back() -> None:
    pool = Pool(2)
    prompt = pool.take(2)
    pool.keep("w1", prompt)
    pool.give(prompt)
    pool.give(pool.take(2))
    assert pool.queue.num_kept_blocks == 0


def test_blocks_without_content_are_not_kept() -> None:
    pool = Pool(3)
    prompt = pool.take(2)
    pool.keep("w1", prompt)
    prompt[1].block_hash, prompt[1].ref_cnt = None, 0
    pool.queue.prepend_n([prompt[1]])
    pool.give(prompt[:1])
    assert pool.order() == [1, 2, 0]


OWNERS = [f"w{number}" for number in range(3)]


@given(st.lists(st.tuples(st.sampled_from(["take", "give", "touch", "keep", "pin", "release", "expire"]),
                          st.integers(0, 7), st.sampled_from(OWNERS)), max_size=40))  # fmt: skip
def test_every_block_that_is_not_in_use_can_be_had(moves: list[tuple[str, int, str]]) -> None:
    """Whatever is kept, as many blocks are free as are not in use, and all of them are given when asked for, once."""
    pool = Pool(8)
    in_use: list[list[FakeBlock]] = []
    free = list(range(8))
    for move, number, owner in moves:
        if move == "take" and number <= pool.queue.num_free_blocks:
            in_use.append(pool.take(number))
        elif move == "give" and in_use:
            pool.give(in_use.pop(number % len(in_use)))
        elif move == "touch" and in_use:
            pool.touch(in_use[-1])
            in_use.append(in_use[-1])
        elif move in ("keep", "pin"):
            pool.keep(owner, pool.blocks[number:], until_s=float(number), is_pin=move == "pin")
        elif move == "release":
            pool.queue.release(owner)
        elif move == "expire":
            pool.queue.release_expired(float(number))
        free = sorted(block.block_id for block in pool.blocks if block.ref_cnt == 0)
        assert sorted(block.block_id for block in pool.queue.get_all_free_blocks()) == free
        assert pool.queue.num_free_blocks == len(free)
    assert sorted(pool.order()) == free
