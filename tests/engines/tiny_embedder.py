"""A tiny embedding model in OpenVINO's form, written by the tests, so that nothing is downloaded.

Its words are letters. The vector of a token is that of its letter, with a part of the mean over the whole text, so that
padding which counts changes all of them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]")
LETTERS = "abcdefghijklmnopqrstuvwxyz"
VOCABULARY = [*SPECIAL, *LETTERS, *(f"##{letter}" for letter in LETTERS)]
NUM_DIMENSIONS = 6
MAX_TOKENS = 64
TABLE = np.random.default_rng(16).normal(size=(len(VOCABULARY), NUM_DIMENSIONS)).astype(np.float32)

MODULES = ("Transformer", "Pooling", "Normalize")
MEAN: Mapping[str, Any] = {"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": False}


def token_ids(text: str) -> list[int]:
    """Return the tokens of a text of small letters."""
    words = ((word[:1], *(f"##{letter}" for letter in word[1:])) for word in text.split())
    pieces = [piece for word in words for piece in (word if set(word) <= set(VOCABULARY) else ("[UNK]",))]
    return [VOCABULARY.index(piece) for piece in ("[CLS]", *pieces, "[SEP]")]


def token_vectors(text: str) -> np.ndarray[Any, Any]:
    """Return what the model gives for a text alone."""
    vectors = TABLE[token_ids(text)]
    found: np.ndarray[Any, Any] = vectors + 2 * vectors.mean(axis=0)
    return found


def write_embedder(
    folder: Path,
    *,
    output: str = "last_hidden_state",
    modules: Sequence[str] | None = MODULES,
    pooling: Mapping[str, Any] = MEAN,
    cut_tokens: int | None = None,
    config: Mapping[str, Any] = MappingProxyType({}),
) -> Path:
    """Write a model and its tokenizer, which cuts texts to `cut_tokens`. Without `modules` nothing of
    sentence-transformers is there; `config` is what sentence_bert_config.json says."""
    folder.mkdir(parents=True, exist_ok=True)
    _write_json(folder / "config.json", {"model_type": "bert", "max_position_embeddings": MAX_TOKENS})
    if modules is not None:
        types = [
            {"type": f"sentence_transformers.models.{name}", "path": f"{i}_{name}"} for i, name in enumerate(modules)
        ]
        _write_json(folder / "modules.json", types)
        _write_json(folder / "1_Pooling" / "config.json", dict(pooling))
    if config:
        _write_json(folder / "sentence_bert_config.json", dict(config))
    _save_model(folder, output)
    _save_tokenizer(folder, cut_tokens)
    return folder


def _write_json(file: Path, value: Any) -> None:
    file.parent.mkdir(exist_ok=True)
    file.write_text(json.dumps(value), encoding="utf-8")


def _save_model(folder: Path, output: str) -> None:
    openvino, op = import_module("openvino"), import_module("openvino.opset13")
    ids, mask = (op.parameter([-1, -1], np.int64) for _ in range(2))
    for parameter, name in ((ids, "input_ids"), (mask, "attention_mask")):
        parameter.output(0).get_tensor().set_names({name})
    vectors = op.gather(op.constant(TABLE), ids, op.constant(0))
    weights = op.unsqueeze(op.convert(mask, "f32"), op.constant(2))
    total = op.reduce_sum(op.multiply(vectors, weights), op.constant([1]), keep_dims=True)
    mean = op.divide(total, op.reduce_sum(weights, op.constant([1]), keep_dims=True))
    found = op.add(vectors, op.multiply(mean, op.constant(np.float32(2))))
    if output == "sentence_embedding":
        found = op.squeeze(mean, op.constant(1))
    found.output(0).get_tensor().set_names({output})
    openvino.save_model(openvino.Model([found], [ids, mask]), folder / "openvino_model.xml", compress_to_fp16=False)


def _save_tokenizer(folder: Path, cut_tokens: int | None) -> None:
    openvino, steps = import_module("openvino"), import_module("openvino_tokenizers.tokenizer_pipeline")
    start, end = (steps.AddToken(token=token, _token_id=SPECIAL.index(token)) for token in ("[CLS]", "[SEP]"))
    cut = [] if cut_tokens is None else [steps.TruncationStep(max_length=cut_tokens - 2, truncation=True)]
    pipeline = steps.TokenizerPipeline(vocab=VOCABULARY)
    pipeline.add_steps(
        [
            steps.SpecialTokensSplit([steps.SpecialToken("[MASK]")]),
            steps.RegexSplitStep.bert_whitespace_splitter(),
            steps.WordPieceTokenizationStep(vocab=VOCABULARY),
            *cut,
            steps.CombineSegmentsStep(inputs=[start, steps.Sequence(), end]),
            steps.PaddingStep(token="[PAD]", _token_id=0),
        ]
    )
    openvino.save_model(pipeline.get_tokenizer_ov_subgraph(), folder / "openvino_tokenizer.xml")
