"""openvino-genai's continuous batching pipeline, as step_loop drives it.

Owns loading it, its settings and its handles. Runs in the engine's process, but for the tokenizer, which the engine
has too. openvino-genai is imported when something is loaded, not before.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from hashlib import blake2b
from importlib import import_module
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from sundog.engines.base import FinishReason
from sundog.engines.embedded.models import cache_folder
from sundog.engines.embedded.prefix_mirror import PrefixMirror
from sundog.engines.embedded.step_loop import StepLoop
from sundog.errors import BadResponse, ConfigError, EngineOverloaded, EngineUnavailable

# The block size of the CPU plugin; a prefix is shared in whole blocks of it.
KV_BLOCK_TOKENS = 32
TOKENIZER_NAMES = ("openvino_tokenizer", "openvino_detokenizer")

# By file name; empty where the model is a folder, which has them.
TokenizerFiles = Mapping[str, bytes]


@dataclass(frozen=True, slots=True)
class PipelineSettings:
    """Settings of one pipeline."""

    path: Path
    #: OpenVINO's own properties.
    properties: Mapping[str, str]
    #: The limit of all requests together.
    max_kv_tokens: int
    #: In one step.
    max_num_batched_tokens: int
    #: In one step.
    max_num_seqs: int


@dataclass(frozen=True, slots=True)
class Sampling:
    """The sampling of one request."""

    max_new_tokens: int
    #: 0 is greedy.
    temperature: float
    seed: int
    #: The grammar that the answer must follow, as xgrammar reads EBNF.
    grammar: str | None


def load_pipeline(settings: PipelineSettings) -> tuple[StepLoop, TokenizerFiles]:
    """Read the weights, 3 to 8 s for a small model; EngineUnavailable or ConfigError with what to do."""
    genai = import_openvino("openvino_genai")
    scheduler = genai.SchedulerConfig()
    scheduler.cache_size = 0
    scheduler.num_kv_blocks = -(-settings.max_kv_tokens // KV_BLOCK_TOKENS)
    scheduler.max_num_batched_tokens = settings.max_num_batched_tokens
    scheduler.max_num_seqs = settings.max_num_seqs
    scheduler.enable_prefix_caching = True
    try:
        tokenizer, files = load_tokenizer(settings.path)
        pipeline = genai.ContinuousBatchingPipeline(
            str(settings.path), tokenizer, scheduler, "CPU", **settings.properties
        )
    except Exception as error:  # the library raises whatever its C++ parts throw
        raise EngineUnavailable(
            f"openvino-genai cannot load {settings.path}: {last_line(error)}",
            hint="it reads GGUF files of llama, qwen2 and qwen3 models, and folders exported by optimum-intel",
        ) from error
    if not tokenizer.chat_template:
        raise ConfigError(f"the model {settings.path} has no chat template", hint="use an instruction-tuned model")
    return StepLoop(OpenVINOPipeline(pipeline, PrefixMirror(KV_BLOCK_TOKENS, scheduler.num_kv_blocks))), files


def open_tokenizer(path: Path, files: TokenizerFiles) -> Any:
    """Return the tokenizer of a pipeline that another process has loaded, without the weights."""
    genai, openvino, numpy = map(import_openvino, ("openvino_genai", "openvino", "numpy"))
    if not files:
        return genai.Tokenizer(str(path))
    weights = [openvino.Tensor(numpy.frombuffer(files[f"{name}.bin"], numpy.uint8)) for name in TOKENIZER_NAMES]
    texts = [files[f"{name}.xml"].decode() for name in TOKENIZER_NAMES]
    return genai.Tokenizer(texts[0], weights[0], texts[1], weights[1])


def load_tokenizer(path: Path) -> tuple[Any, TokenizerFiles]:
    """Return the tokenizer, and what it is made of. Making it from a GGUF file takes 1.5 s, so it is kept in the cache
    folder; EngineUnavailable where it cannot be made."""
    if path.is_dir():
        return open_tokenizer(path, {}), {}
    stat, version = path.stat(), import_openvino("openvino_genai").__version__
    key = blake2b(f"{path.absolute()} {stat.st_size} {stat.st_mtime_ns} {version}".encode(), digest_size=8).hexdigest()
    kept = cache_folder() / "tokenizers" / key
    try:
        if not kept.is_dir():
            _keep_tokenizer(path, kept)
        files = {file.name: file.read_bytes() for file in kept.iterdir()}
    except OSError as error:
        raise EngineUnavailable(
            f"the tokenizer cannot be kept in {kept}: {error.strerror or error}", hint="set SUNDOG_CACHE"
        ) from error
    return open_tokenizer(path, files), files


def _keep_tokenizer(path: Path, kept: Path) -> None:
    kept.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=kept.parent) as name:
        # It saves beside the model's file.
        link, made = Path(name) / path.name, Path(name) / "made"
        link.symlink_to(path.absolute())
        import_openvino("openvino_genai").Tokenizer(str(link), enable_save_ov_model=True)
        made.mkdir()
        for file in Path(name).glob("openvino_*"):
            file.rename(made / file.name)
        with suppress(OSError):
            # Not where another process has been quicker; whatever else went wrong, the reader will say.
            made.rename(kept)


class OpenVINOPipeline:
    """This class is openvino-genai's continuous batching as a `Pipeline`: it translates requests, samplings and
    results, and hides the library's types."""

    def __init__(self, pipeline: Any, prefix_cache: PrefixMirror) -> None:
        self.prefix_cache = prefix_cache
        self._genai, self._openvino, self._numpy = map(import_openvino, ("openvino_genai", "openvino", "numpy"))
        self._pipeline = pipeline
        self._tokenizer = pipeline.get_tokenizer()
        self._defaults = pipeline.get_config()
        self._ids = count()

    def add(self, prompt: Sequence[int], settings: Sampling) -> _Handle:
        tensor = self._openvino.Tensor(self._numpy.array([prompt], dtype=self._numpy.int64))
        try:
            return _Handle(self._pipeline.add_request(next(self._ids), tensor, self._config(settings)))
        except Exception as error:  # the library raises whatever its C++ parts throw
            raise BadResponse(f"openvino-genai does not take this request: {last_line(error)}") from error

    def step(self) -> None:
        self._pipeline.step()

    def has_work(self) -> bool:
        return bool(self._pipeline.has_non_finished_requests())

    def decode_batch(self, sequences: Sequence[Sequence[int]]) -> Sequence[str]:
        texts: list[str] = self._tokenizer.decode(sequences)
        return texts

    def _config(self, settings: Sampling) -> Any:
        config = self._genai.GenerationConfig(
            eos_token_id=self._defaults.eos_token_id, stop_token_ids=self._defaults.stop_token_ids
        )
        config.max_new_tokens = settings.max_new_tokens
        if settings.temperature > 0:
            config.do_sample = True
            config.temperature = settings.temperature
            config.rng_seed = settings.seed
        if settings.grammar is not None:
            config.structured_output_config = self._genai.StructuredOutputConfig(grammar=settings.grammar)
        return config


class _Handle:
    FINISH_REASONS: Mapping[str, FinishReason] = {"STOP": "stop", "LENGTH": "length"}

    def __init__(self, handle: Any) -> None:
        self._handle = handle

    def read(self) -> tuple[list[int], FinishReason | None]:
        tokens: list[int] = []
        finish_reason: FinishReason | None = None
        while self._handle.can_read():
            for output in self._handle.read().values():
                tokens += output.generated_ids
                finish_reason = self.FINISH_REASONS.get(output.finish_reason.name)
        if self._handle.get_status().name == "IGNORED":
            raise EngineOverloaded("the KV blocks ran out", retryable=True, hint="raise max_kv_tokens")
        return tokens, finish_reason

    def cancel(self) -> None:
        self._handle.cancel()


def import_openvino(name: str) -> Any:
    """Import openvino_genai or one of the modules that come with it."""
    try:
        return import_module(name)
    except ImportError as error:
        raise ConfigError(
            f"the embedded engine needs openvino-genai: {error}", hint='pip install "sundog[local]"'
        ) from error


def last_line(error: Exception) -> str:
    """Return the sentence in a C++ exception; the lines before it are places in its source."""
    return str(error).strip().rpartition("\n")[2]
