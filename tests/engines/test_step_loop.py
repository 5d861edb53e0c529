from __future__ import annotations

from sundog.engines.base import Chunk
from sundog.engines.embedded.prefix_mirror import PrefixMirror
from sundog.engines.embedded.step_loop import JobResult, PipelineJob, StepLoop
from sundog.errors import BadResponse, EngineError, EngineOverloaded
from tests.engines.echo_pipeline import EchoPipeline


def job_of(text: str, *stops: str) -> PipelineJob:
    tokens = list(text.encode())
    return PipelineJob(tokens, None, len(tokens), stops)


def run_dry(steps: StepLoop) -> list[JobResult]:
    results: list[JobResult] = []
    while steps.has_work():
        results += steps.step()
    return results


def chunks(results: list[JobResult], number: int = 0) -> list[Chunk]:
    return [result for of, result in results if of == number and isinstance(result, Chunk)]


def errors(results: list[JobResult]) -> list[tuple[int, type[EngineError]]]:
    return [(number, type(result)) for number, result in results if isinstance(result, EngineError)]


def test_chunks_come_step_by_step_with_usage_at_the_end() -> None:
    steps = StepLoop(EchoPipeline())
    steps.add(0, job_of("hü"))
    first = chunks(run_dry(steps))
    assert [chunk.text for chunk in first] == ["h", "", "ü"]
    usage = first[-1].usage
    assert usage is not None
    assert (usage.num_prompt_tokens, usage.num_output_tokens, usage.num_cached_tokens) == (3, 3, 0)
    steps.add(1, job_of("hü"))
    again = chunks(run_dry(steps), 1)[-1].usage
    assert again is not None
    assert again.num_cached_tokens == 2


def test_a_stop_string_cancels_what_is_left() -> None:
    pipeline = EchoPipeline()
    steps = StepLoop(pipeline)
    steps.add(0, job_of("one two three", "tw"))
    found = chunks(run_dry(steps))
    assert "".join(chunk.text for chunk in found) == "one "
    assert found[-1].finish_reason == "stop"
    assert pipeline.handles[0].is_cancelled
    assert pipeline.num_steps == 6


def test_jobs_share_their_steps() -> None:
    pipeline = EchoPipeline()
    steps = StepLoop(pipeline)
    for number in range(10):
        steps.add(number, job_of(f"text {number}"))
    results = run_dry(steps)
    assert pipeline.num_steps == 6
    assert [number for number, _ in results] == [*range(10)] * 6


def test_an_aborted_job_is_cancelled_once_and_silent() -> None:
    pipeline = EchoPipeline()
    steps = StepLoop(pipeline)
    steps.add(0, job_of("x" * 100))
    steps.add(1, job_of("next"))
    steps.step()
    steps.abort(0)
    steps.abort(0)
    steps.abort(7)
    assert pipeline.handles[0].is_cancelled
    results = run_dry(steps)
    assert {number for number, _ in results} == {1}
    assert pipeline.num_steps == 4


def test_a_job_that_the_pipeline_does_not_take_fails_alone() -> None:
    steps = StepLoop(EchoPipeline())
    steps.add(0, PipelineJob([1], "refuse", 1))
    assert steps.has_work()
    steps.add(1, job_of("two"))
    results = run_dry(steps)
    assert errors(results) == [(0, BadResponse)]
    assert chunks(results, 1)[-1].finish_reason == "stop"


def test_a_job_dropped_for_room_fails_alone() -> None:
    pipeline = EchoPipeline()
    steps = StepLoop(pipeline)
    steps.add(0, job_of("one"))
    steps.add(1, job_of("two"))
    results = steps.step()
    pipeline.handles[0].is_dropped = True
    results += run_dry(steps)
    assert errors(results) == [(0, EngineOverloaded)]
    assert "".join(chunk.text for chunk in chunks(results, 1)) == "two"


def small_pipeline(num_blocks: int) -> EchoPipeline:
    pipeline = EchoPipeline()
    pipeline.prefix_cache = PrefixMirror(block_tokens=2, num_blocks=num_blocks)
    return pipeline


def test_jobs_wait_for_room_in_their_order() -> None:
    pipeline = small_pipeline(num_blocks=8)
    steps = StepLoop(pipeline)
    for number, text in enumerate(("abcd", "efgh", "ijklmnop", "qr")):
        steps.add(number, job_of(text))
    assert [number for number, _ in steps.step()] == [0, 1], "8 blocks for prompts and answers of the first two"
    assert len(pipeline.handles) == 2
    ended = [number for number, result in run_dry(steps) if isinstance(result, Chunk) and result.finish_reason]
    assert ended == [0, 1, 2, 3], "the small one at the end does not overtake"


def test_a_waiting_job_can_be_aborted_and_the_largest_runs_alone() -> None:
    pipeline = small_pipeline(num_blocks=2)
    steps = StepLoop(pipeline)
    for number in range(3):
        steps.add(number, job_of("larger than all blocks"))
    steps.abort(1)
    assert {number for number, _ in run_dry(steps)} == {0, 2}
    assert len(pipeline.handles) == 2
    assert not steps.has_work()
