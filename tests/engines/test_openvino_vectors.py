"""Embedding models in the embedded engine: what their folder says, and the vectors that a tiny one gives."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from sundog.engines.base import GenerateRequest, Message
from sundog.engines.embedded.openvino import OpenVINOKind
from sundog.engines.embedded.openvino_options import OpenVINOOptions
from sundog.engines.embedded.vectors.model_folder import ModelFolder, gives_vectors, read_model_folder
from sundog.engines.embedded.vectors.text_tokens import TextTokens
from sundog.engines.embedded.vectors.vector_loop import VectorJob, VectorLoop, VectorSettings
from sundog.errors import BadResponse, ConfigError, EngineError, EngineUnavailable, PromptTooLong
from sundog.secrets import Secrets
from tests.engines.conformance import Started, collect
from tests.engines.embedding_conformance import EmbeddingConformance, embed
from tests.engines.tiny_embedder import MAX_TOKENS, MEAN, token_vectors, write_embedder

HAS_OPENVINO = importlib.util.find_spec("openvino_genai") is not None
needs_openvino = [
    pytest.mark.local,
    pytest.mark.skipif(not HAS_OPENVINO, reason='openvino-genai is not installed: pip install "sundog[local]"'),
]
CLS = {"pooling_mode_cls_token": True}
LAST = {"pooling_mode_lasttoken": True}


def started_with(folder: Path, **fields: Any) -> Started:
    return Started(OpenVINOKind().open(OpenVINOOptions(model=str(folder), **fields), 0, Secrets({})))


def vectors_of(folder: Path, *texts: str, **fields: Any) -> Sequence[Sequence[float]]:
    started = started_with(folder, **fields)
    try:
        return started.run(embed(started.engine, *texts)).vectors
    finally:
        started.close()


def normalized(vector: Any) -> Any:
    return vector / np.linalg.norm(vector)


class TestConformance(EmbeddingConformance):
    pytestmark = needs_openvino
    kind = OpenVINOKind()
    has_other_lengths = False
    folder: ClassVar[Path]

    @pytest.fixture(scope="class", autouse=True)
    @classmethod
    def write(cls, tmp_path_factory: pytest.TempPathFactory) -> None:
        cls.folder = write_embedder(tmp_path_factory.mktemp("model"))

    @classmethod
    def options(cls) -> OpenVINOOptions:
        return OpenVINOOptions(model=str(cls.folder))

    def test_tokens_of_each_text_are_exact(self, started: Started) -> None:
        texts = ("a b", "abc", "", "a b c d e f g")
        assert started.run(embed(started.engine, *texts)).num_tokens == (4, 5, 2, 9)

    def test_a_text_as_long_as_the_context_is_taken(self, started: Started) -> None:
        whole = "a " * (MAX_TOKENS - 2)
        (vector,) = started.run(embed(started.engine, whole)).vectors
        assert vector == pytest.approx(normalized(token_vectors(whole).mean(axis=0)), abs=1e-5)
        with pytest.raises(PromptTooLong, match="the text has 65 tokens, and the model takes 64"):
            started.run(embed(started.engine, whole + "a"))

    def test_it_answers_nothing(self, started: Started) -> None:
        with pytest.raises(BadResponse, match="gives vectors, and no answers"):
            started.run(collect(started.engine, GenerateRequest("r", (Message("user", "a"),))))


@pytest.mark.parametrize(
    ("pooling", "modules", "expected"),
    [
        (MEAN, ("Transformer", "Pooling", "Normalize"), lambda tokens: normalized(tokens.mean(axis=0))),
        (MEAN, ("Transformer", "Pooling"), lambda tokens: tokens.mean(axis=0)),
        (CLS, ("Transformer", "Pooling"), lambda tokens: tokens[0]),
        (LAST, ("Transformer", "Pooling"), lambda tokens: tokens[-1]),
        ({"pooling_mode": "cls"}, ("Transformer", "Pooling"), lambda tokens: tokens[0]),
    ],
)
@pytest.mark.local
@pytest.mark.skipif(not HAS_OPENVINO, reason="openvino is not installed")
def test_vectors_are_those_of_the_model_pooled_as_its_folder_says(
    tmp_path: Path, pooling: Mapping[str, Any], modules: Sequence[str], expected: Any
) -> None:
    """Short texts stand beside long ones, so that padding which counts would show."""
    texts = ("a b c", "x", "q w e r t y u i o p", "z z")
    found = vectors_of(write_embedder(tmp_path / "m", pooling=pooling, modules=modules), *texts)
    for text, vector in zip(texts, found, strict=True):
        assert vector == pytest.approx(expected(token_vectors(text)), abs=1e-5)


@pytest.mark.local
@pytest.mark.skipif(not HAS_OPENVINO, reason="openvino is not installed")
class TestOneFolder:
    def test_the_block_says_what_the_folder_does_not(self, tmp_path: Path) -> None:
        folder = write_embedder(tmp_path / "m", modules=None)
        expected = token_vectors("a b")
        assert vectors_of(folder, "a b", pooling="cls")[0] == pytest.approx(normalized(expected[0]), abs=1e-5)
        (vector,) = vectors_of(folder, "a b", pooling="last_token", normalize=False)
        assert vector == pytest.approx(expected[-1], abs=1e-5)

    def test_a_model_with_its_pooling_inside_is_taken_as_it_is(self, tmp_path: Path) -> None:
        folder = write_embedder(tmp_path / "m", output="sentence_embedding", modules=("Transformer", "Dense"))
        (vector, _) = vectors_of(folder, "a b", "a b c d")
        assert vector == pytest.approx((token_vectors("a b").mean(axis=0)) / 3, abs=1e-5)

    def test_batch_invariant_vectors_are_equal_to_the_last_bit(self, tmp_path: Path) -> None:
        folder = write_embedder(tmp_path / "m")
        texts = ["a b c", "x", "q w e r t y", "z z"]
        together = vectors_of(folder, *texts, precision="batch_invariant")
        assert together == tuple(vectors_of(folder, text, precision="batch_invariant")[0] for text in texts)

    def test_lower_case_is_part_of_the_model(self, tmp_path: Path) -> None:
        folder = write_embedder(tmp_path / "m", config={"do_lower_case": True})
        one, other = vectors_of(folder, "A B", "a b")
        assert one == other

    def test_a_tokenizer_that_cuts_hides_nothing(self, tmp_path: Path) -> None:
        folder = write_embedder(tmp_path / "m", cut_tokens=8)
        started = started_with(folder)
        assert started.run(embed(started.engine, "a " * 6)).num_tokens == (8,)
        with pytest.raises(PromptTooLong, match="the text has 42 tokens, and the model takes 8"):
            started.run(embed(started.engine, "a " * 40))
        started.close()

    def test_the_outline_needs_no_process(self, tmp_path: Path) -> None:
        folder = write_embedder(tmp_path / "m", config={"max_seq_length": 16})
        outline = OpenVINOKind().outline(OpenVINOOptions(model=str(folder)))
        assert (outline.count([Message("user", "a b")]), outline.count_error, outline.max_context_tokens) == (
            4,
            0.0,
            16,
        )

    def test_a_broken_model_is_told(self, tmp_path: Path) -> None:
        folder = write_embedder(tmp_path / "m")
        (folder / "openvino_model.bin").write_bytes(b"")
        with pytest.raises(EngineUnavailable, match="openvino cannot load"):
            started_with(folder)


class Model:
    """Stands for a compiled model: the vector of a token is its number twice; 7 is one that it cannot compute."""

    def __init__(self) -> None:
        self.shapes: list[tuple[int, int]] = []

    def __call__(self, given: Mapping[str, Any]) -> Mapping[str, Any]:
        ids = given["input_ids"]
        self.shapes.append(ids.shape)
        if (ids == 7).any():
            raise RuntimeError("somewhere in C++\nno kernel")
        return {"last_hidden_state": np.stack([ids, ids], axis=2).astype(np.float32)}


def loop_of(model: Model, *, is_alone: bool = False) -> VectorLoop:
    folder = ModelFolder(Path("m"), Path("m"), "last_hidden_state", "mean", False, False, 64)
    return VectorLoop(VectorSettings(folder, {}, 12, is_alone), model, ["input_ids", "attention_mask"])


def run_dry(loop: VectorLoop) -> dict[int, Any]:
    found: dict[int, Any] = {}
    while loop.has_work():
        found |= dict(loop.step())
    return found


@pytest.mark.skipif(not HAS_OPENVINO, reason="numpy comes with openvino")
class TestLoop:
    def test_texts_of_one_length_share_a_step_and_vectors_are_in_place(self) -> None:
        loop, model = loop_of(Model()), Model()
        loop = loop_of(model)
        loop.add(1, VectorJob([[1], [2, 4, 6], [3], [5, 5, 5], [8, 8, 8]]))
        loop.add(2, VectorJob([[9]]))
        assert run_dry(loop) == {
            1: ((1.0, 1.0), (4.0, 4.0), (3.0, 3.0), (5.0, 5.0), (8.0, 8.0)),
            2: ((9.0, 9.0),),
        }
        assert model.shapes == [(4, 3), (2, 1)]

    def test_a_longer_text_than_a_step_goes_alone(self) -> None:
        model = Model()
        loop = loop_of(model)
        loop.add(1, VectorJob([[1], [2] * 20]))
        assert run_dry(loop) == {1: ((1.0, 1.0), (2.0, 2.0))}
        assert model.shapes == [(1, 20), (1, 1)]

    def test_alone_is_alone(self) -> None:
        model = Model()
        loop = loop_of(model, is_alone=True)
        loop.add(1, VectorJob([[1], [2]]))
        run_dry(loop)
        assert model.shapes == [(1, 1), (1, 1)]

    def test_an_aborted_request_is_not_computed(self) -> None:
        model = Model()
        loop = loop_of(model)
        loop.add(1, VectorJob([[1] * 12, [2] * 12]))
        loop.add(2, VectorJob([[3]]))
        assert loop.step() == []
        loop.abort(1)
        loop.abort(1)
        assert run_dry(loop) == {2: ((3.0, 3.0),)}
        assert model.shapes == [(1, 12), (1, 1)]

    def test_a_failure_ends_the_requests_of_its_step(self) -> None:
        loop = loop_of(Model())
        loop.add(1, VectorJob([[7] * 3, [1] * 12]))
        loop.add(2, VectorJob([[1] * 12]))
        found = run_dry(loop)
        assert isinstance(found[1], EngineError)
        assert found[1].what == "openvino cannot compute this text: no kernel"
        assert found[2] == ((1.0, 1.0),)


class Cutting:
    """Stands for a tokenizer of characters that cuts to `most` and adds two tokens around."""

    def __init__(self, most: int) -> None:
        self.most = most

    def encode(self, text: str) -> Any:
        data = np.array([[1, *map(ord, text[: self.most - 2]), 2]])
        return type("Encoded", (), {"input_ids": type("Tensor", (), {"data": data})})


@pytest.mark.skipif(not HAS_OPENVINO, reason="numpy comes with openvino")
@pytest.mark.parametrize(("most", "context", "taken"), [(10**9, 8, 8), (8, 8, 8), (6, 8, 6)])
def test_a_cut_is_found_whatever_the_folder_says(most: int, context: int, taken: int) -> None:
    tokens = TextTokens(Cutting(most), context, is_lower_case=False)
    assert tokens.max_tokens == taken
    assert len(tokens.encode("x" * (taken - 2))) == taken
    with pytest.raises(PromptTooLong, match=f"the model takes {taken}"):
        tokens.encode("x" * 600)


def written(folder: Path, **files: Any) -> Path:
    """Write the files of a folder by their paths, with __ for a slash."""
    for name, value in {"openvino_model.xml": "", "openvino_tokenizer.xml": "", **files}.items():
        file = folder / name.replace("__", "/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(value if isinstance(value, str) else json.dumps(value))
    return folder


def model_with(*outputs: str) -> str:
    return "".join(f'<layer type="Result" output_names="{output}">' for output in outputs)


HIDDEN = {"openvino_model.xml": model_with("last_hidden_state")}
TYPES = [{"type": "a.Transformer", "path": ""}, {"type": "a.Pooling", "path": "1_Pooling"}]


@pytest.mark.parametrize(
    ("model", "is_one"),
    [
        (model_with("last_hidden_state"), True),
        (model_with("token_embeddings", "sentence_embedding"), True),
        ('<port names="last_hidden_state,12">', True),
        (model_with("logits"), False),
        ('<port names="last_hidden_state"><port names="logits">', False),
        ("<net/>", False),
    ],
)
def test_the_outputs_of_a_model_say_whether_it_gives_vectors(tmp_path: Path, model: str, is_one: bool) -> None:
    """A causal model is none, even where the folder has a configuration of sentence-transformers."""
    assert gives_vectors(written(tmp_path / "m", **{"openvino_model.xml": model, "modules.json": TYPES})) == is_one
    assert OpenVINOKind().has_embeddings(OpenVINOOptions(model=str(tmp_path / "m"))) == is_one


def test_what_is_no_folder_with_a_model_gives_no_vectors(tmp_path: Path) -> None:
    for model in ("smollm2-135m", str(tmp_path), str(tmp_path / "nothing")):
        assert not OpenVINOKind().has_embeddings(OpenVINOOptions(model=model))


@pytest.mark.parametrize(
    ("files", "context"),
    [
        ({"config.json": {"max_position_embeddings": 512}}, 512),
        ({"config.json": {"max_position_embeddings": 512}, "sentence_bert_config.json": {"max_seq_length": 256}}, 256),
        ({"config.json": {}, "sentence_mpnet_config.json": {"max_seq_length": 384}}, 384),
        ({"config.json": {"max_position_embeddings": 514, "model_type": "xlm-roberta", "pad_token_id": 1}}, 512),
        (
            {"config.json": {"max_position_embeddings": 512}, "tokenizer_config.json": {"model_max_length": 128}},
            128,
        ),
        ({"config.json": {"max_position_embeddings": 512}, "tokenizer_config.json": {"model_max_length": 1e30}}, 512),
    ],
)
def test_the_context_is_the_least_that_the_folder_tells(tmp_path: Path, files: Any, context: int) -> None:
    folder = written(tmp_path / "m", **HIDDEN, **files)
    assert read_model_folder(folder, "mean", None).max_context_tokens == context


def test_a_folder_of_sentence_transformers_has_its_model_below(tmp_path: Path) -> None:
    files = {"modules.json": TYPES, "1_Pooling__config.json": CLS, "config.json": {"max_position_embeddings": 9}}
    folder = written(tmp_path / "m", **files, **{"openvino__openvino_model.xml": model_with("last_hidden_state")})
    (folder / "openvino_model.xml").unlink()
    found = read_model_folder(folder, None, None)
    assert (found.model_file, found.tokenizer_folder) == (folder / "openvino" / "openvino_model.xml", folder)
    assert (found.pooling, found.is_normalized) == ("cls", False)


@pytest.mark.parametrize(
    ("files", "what", "hint"),
    [
        ({}, "does not say how one vector comes", "pooling: mean, cls or last_token"),
        ({"modules.json": [*TYPES, {"type": "a.Dense"}], "1_Pooling__config.json": MEAN}, "Dense", "all modules"),
        ({"modules.json": TYPES, "1_Pooling__config.json": {"pooling_mode_max_tokens": True}}, "max_tokens", "cls"),
        ({"modules.json": TYPES, "1_Pooling__config.json": {**MEAN, **CLS}}, "mean_tokens and cls_token", "cls"),
        ({"modules.json": TYPES}, "pooling .* nothing", "cls"),
        ({"modules.json": "{"}, "modules.json cannot be read", "again"),
        ({"modules.json": {}}, "modules.json holds no list", "again"),
        (
            {"modules.json": TYPES, "1_Pooling__config.json": MEAN, "config.json": {}},
            "how long a text may be",
            "max_seq_length",
        ),
    ],
)
def test_what_a_folder_must_say(tmp_path: Path, files: Any, what: str, hint: str) -> None:
    all_files = {**HIDDEN, "config.json": {"max_position_embeddings": 9}, **files}
    with pytest.raises(ConfigError, match=what) as caught:
        read_model_folder(written(tmp_path / "m", **all_files), None, None)
    assert hint in str(caught.value)


def test_a_folder_without_a_tokenizer_says_how_to_make_it(tmp_path: Path) -> None:
    folder = written(tmp_path / "m", **HIDDEN, **{"config.json": {"max_position_embeddings": 9}})
    (folder / "openvino_tokenizer.xml").unlink()
    with pytest.raises(ConfigError, match=r"no openvino_tokenizer\.xml") as caught:
        read_model_folder(folder, "mean", None)
    assert "convert_tokenizer" in str(caught.value)


def test_pooling_is_of_models_that_give_vectors(tmp_path: Path) -> None:
    folder = written(tmp_path / "m", **{"openvino_model.xml": model_with("logits")})
    with pytest.raises(ConfigError, match="'pooling' is for models that give vectors"):
        OpenVINOKind().open(OpenVINOOptions(model=str(folder), pooling="mean"), 0, Secrets({}))


def test_identity_follows_pooling_and_files_below(tmp_path: Path) -> None:
    folder = written(tmp_path / "m", **HIDDEN, **{"1_Pooling__config.json": MEAN})
    kind, options = OpenVINOKind(), OpenVINOOptions(model=str(folder))
    before = kind.identity(options)
    assert before != kind.identity(options.model_copy(update={"pooling": "cls"}))
    assert before != kind.identity(options.model_copy(update={"normalize": False}))
    (folder / "1_Pooling" / "config.json").write_text(json.dumps({**MEAN, "more": 1}))
    assert before != kind.identity(options)
