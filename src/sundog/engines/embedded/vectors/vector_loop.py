"""An embedding model in the engine's process: tokens of texts in, vectors out.

Owns which texts are computed together, pooling and normalization. openvino is imported when a model is loaded.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sundog.engines.embedded.openvino_pipeline import import_openvino, last_line
from sundog.engines.embedded.vectors.model_folder import ModelFolder, Pooling
from sundog.errors import BadResponse, ConfigError, EngineError, EngineUnavailable

Vectors = tuple[tuple[float, ...], ...]

_LEAST_LENGTH = 1e-12


@dataclass(frozen=True, slots=True)
class VectorSettings:
    """Settings of one loop."""

    folder: ModelFolder
    #: OpenVINO's own properties.
    properties: Mapping[str, str]
    #: Tokens that are computed together, padding included; a longer text is computed alone.
    max_step_tokens: int
    #: Each text is computed alone, so that no other one changes the last digits of its vector.
    is_alone: bool


@dataclass(frozen=True, slots=True)
class VectorJob:
    """The tokens of each text of a request."""

    texts: Sequence[Sequence[int]]


@dataclass(slots=True, eq=False)
class _Running:
    texts: Sequence[Sequence[int]]
    vectors: dict[int, tuple[float, ...]] = field(default_factory=dict)


def load_vectors(settings: VectorSettings) -> tuple[VectorLoop, int | None]:
    """Return the loop and the length of its vectors, None where the model does not tell it. EngineUnavailable or
    ConfigError with what to do."""
    folder, core = settings.folder, import_openvino("openvino").Core()
    try:
        model = core.read_model(str(folder.model_file))
        names = [port.any_name for port in model.inputs]
        shape = model.output(folder.output).get_partial_shape()
        compiled = core.compile_model(model, "CPU", dict(settings.properties))
    except Exception as error:  # the library raises whatever its C++ parts throw
        raise EngineUnavailable(
            f"openvino cannot load {folder.model_file}: {last_line(error)}", hint="export the model again"
        ) from error
    for other in set(names) - {"input_ids", "attention_mask", "token_type_ids", "position_ids"}:
        raise ConfigError(
            f"the model {folder.model_file} asks for {other}, which no text alone gives",
            hint="export it for vectors: optimum-cli export openvino --task feature-extraction",
        )
    last = shape[len(shape) - 1] if shape.rank.is_static else None
    dimensions = last.get_length() if last is not None and last.is_static else None
    return VectorLoop(settings, compiled, names), dimensions


class VectorLoop:
    """Texts are computed in the order of their requests, in each the longer ones first, so that texts of about one
    length share a step."""

    def __init__(self, settings: VectorSettings, model: Any, inputs: Sequence[str]) -> None:
        self._settings = settings
        self._model = model
        self._inputs = inputs
        self._numpy = import_openvino("numpy")
        self._running: dict[int, _Running] = {}
        self._waiting: deque[tuple[int, int]] = deque()

    def add(self, number: int, job: VectorJob) -> None:
        self._running[number] = _Running(job.texts)
        order = sorted(range(len(job.texts)), key=lambda index: (-len(job.texts[index]), index))
        self._waiting.extend((number, index) for index in order)

    def abort(self, number: int) -> None:
        """Free what the job holds; nothing happens if it has ended."""
        if self._running.pop(number, None) is not None:
            self._waiting = deque(one for one in self._waiting if one[0] != number)

    def has_work(self) -> bool:
        return bool(self._waiting)

    def step(self) -> list[tuple[int, Vectors | EngineError]]:
        """Compute some texts, if any wait, and return the requests that this ends."""
        together = self._take()
        if not together:
            return []
        numbers = list(dict.fromkeys(number for number, _ in together))
        try:
            vectors = self._compute([self._running[number].texts[index] for number, index in together])
        except Exception as error:  # the library raises whatever its C++ parts throw
            failure = BadResponse(f"openvino cannot compute this text: {last_line(error)}")
            for number in numbers:
                self.abort(number)
            return [(number, failure) for number in numbers]
        for (number, index), vector in zip(together, vectors, strict=True):
            self._running[number].vectors[index] = vector
        return [(number, self._ended(number)) for number in numbers if self._is_done(number)]

    def _take(self) -> list[tuple[int, int]]:
        taken: list[tuple[int, int]] = []
        longest = 0
        while self._waiting:
            number, index = self._waiting[0]
            longest = max(longest, len(self._running[number].texts[index]))
            is_full = self._settings.is_alone or (len(taken) + 1) * longest > self._settings.max_step_tokens
            if taken and is_full:
                break
            taken.append(self._waiting.popleft())
        return taken

    def _is_done(self, number: int) -> bool:
        running = self._running[number]
        return len(running.vectors) == len(running.texts)

    def _ended(self, number: int) -> Vectors:
        running = self._running.pop(number)
        return tuple(running.vectors[index] for index in range(len(running.texts)))

    def _compute(self, texts: Sequence[Sequence[int]]) -> list[tuple[float, ...]]:
        numpy, folder = self._numpy, self._settings.folder
        shape = len(texts), max(map(len, texts))
        ids, mask = numpy.zeros(shape, numpy.int64), numpy.zeros(shape, numpy.int64)
        for row, tokens in enumerate(texts):
            ids[row, : len(tokens)], mask[row, : len(tokens)] = tokens, 1
        given = {
            "input_ids": ids,
            "attention_mask": mask,
            "token_type_ids": numpy.zeros(shape, numpy.int64),
            "position_ids": numpy.broadcast_to(numpy.arange(shape[1]), shape).copy(),
        }
        found = self._model({name: given[name] for name in self._inputs})[folder.output]
        vectors = found if folder.pooling is None else pooled(numpy, found, mask, folder.pooling)
        if folder.is_normalized:
            vectors = vectors / numpy.maximum(numpy.linalg.norm(vectors, axis=1, keepdims=True), _LEAST_LENGTH)
        return [tuple(vector) for vector in vectors.astype(numpy.float64).tolist()]


def pooled(numpy: Any, vectors: Any, mask: Any, pooling: Pooling) -> Any:
    """Return one vector of the vectors of each text's tokens; padding, where `mask` is 0, stands at the end."""
    if pooling == "cls":
        return vectors[:, 0]
    if pooling == "last_token":
        return vectors[numpy.arange(len(mask)), mask.sum(axis=1) - 1]
    weights = mask[:, :, None].astype(vectors.dtype)
    return (vectors * weights).sum(axis=1) / weights.sum(axis=1)
