"""The folder of an embedding model: where its parts are, and how one vector comes of those of its tokens.

Owns the reading of what optimum-intel and sentence-transformers write there. Never loads a model.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from sundog.errors import ConfigError

Pooling = Literal["cls", "mean", "last_token"]

MODEL_FILES = ("openvino_model.xml", "openvino/openvino_model.xml")
TOKENIZER_FILE = "openvino_tokenizer.xml"
WHOLE_VECTOR = "sentence_embedding"
"""The output of a model that was exported together with its pooling."""
TOKEN_VECTORS = ("last_hidden_state", "token_embeddings")
ANSWERS = "logits"
_POOLINGS: Mapping[str, Pooling] = {
    "cls": "cls",
    "cls_token": "cls",
    "mean": "mean",
    "mean_tokens": "mean",
    "lasttoken": "last_token",
}
# These number the positions of tokens from behind that of the padding token.
_POSITIONS_BEHIND_PADDING = frozenset({"roberta", "xlm-roberta", "xlm-roberta-xl", "camembert", "mpnet", "longformer"})
_NO_LENGTH = 1_000_000_000
"""A larger length in a tokenizer's configuration says that it has none."""


@dataclass(frozen=True, slots=True)
class ModelFolder:
    """An embedding model, as its folder and the engine's block describe it."""

    model_file: Path
    tokenizer_folder: Path
    #: The model's output that is read.
    output: str
    #: The way from the vectors of tokens to one, None where the output is one.
    pooling: Pooling | None
    #: Vectors get the length 1.
    is_normalized: bool
    is_lower_case: bool
    #: The most tokens of a text.
    max_context_tokens: int


def gives_vectors(path: Path) -> bool:
    """Return whether a folder holds a model whose outputs are vectors. A causal model, whose outputs are scores of
    next tokens, is none, whatever its configuration says."""
    file = _model_file(path)
    return file is not None and bool(_outputs(file) & {WHOLE_VECTOR, *TOKEN_VECTORS})


def read_model_folder(path: Path, pooling: Pooling | None, normalize: bool | None) -> ModelFolder:
    """Return what a folder that gives vectors says; `pooling` and `normalize` come before that. ConfigError where
    something is missing, or is what this engine does not do."""
    file = _model_file(path)
    assert file is not None
    outputs = _outputs(file)
    is_whole = WHOLE_VECTOR in outputs and pooling is None
    output = WHOLE_VECTOR if is_whole else next((name for name in TOKEN_VECTORS if name in outputs), None)
    if output is None:
        raise ConfigError(f"the model {file} gives vectors of whole texts only", hint="leave out pooling")
    modules = {} if is_whole else _modules(path)
    if pooling is None and not is_whole:
        pooling = _pooling(path, modules)
    if normalize is None:
        normalize = not is_whole and (not modules or "Normalize" in modules)
    sentence = _sentence_config(path)
    is_lower_case = sentence.get("do_lower_case") is True
    context = _max_context_tokens(path, sentence)
    return ModelFolder(file, _tokenizer_folder(path, file), output, pooling, normalize, is_lower_case, context)


def _model_file(path: Path) -> Path | None:
    return next((path / name for name in MODEL_FILES if (path / name).is_file()), None)


def _outputs(file: Path) -> frozenset[str]:
    """Return the names of a model's outputs; of files that do not tell them apart, those of all its tensors."""
    text = file.read_text(encoding="utf-8", errors="replace")
    found = re.findall(r'\boutput_names="([^"]*)"', text) or re.findall(r'\bnames="([^"]*)"', text)
    names = frozenset(name.strip() for one in found for name in one.split(","))
    return frozenset() if ANSWERS in names else names


def _tokenizer_folder(path: Path, model_file: Path) -> Path:
    for folder in (model_file.parent, path):
        if (folder / TOKENIZER_FILE).is_file():
            return folder
    raise ConfigError(
        f"the folder {path} has no {TOKENIZER_FILE}",
        hint=f"make it: pip install openvino-tokenizers[transformers], then convert_tokenizer {path} -o {path}",
    )


def _modules(path: Path) -> dict[str, Path]:
    """Return the folders of the modules of sentence-transformers by their types."""
    listed = _read_json(path / "modules.json", [])
    found = {str(module.get("type")).rpartition(".")[2]: path / str(module.get("path") or "") for module in listed}
    for other in found.keys() - {"Transformer", "Pooling", "Normalize"}:
        raise ConfigError(
            f"the model {path} has a module that is not done here: {other}",
            hint="export it with all modules: optimum-cli export openvino --library sentence_transformers"
            f" --task feature-extraction --model {path} <new folder>",
        )
    return found


def _pooling(path: Path, modules: Mapping[str, Path]) -> Pooling:
    if "Pooling" not in modules:
        raise ConfigError(
            f"the folder {path} does not say how one vector comes of those of its tokens",
            hint="write pooling: mean, cls or last_token, as the model's page says",
        )
    told = _read_json(modules["Pooling"] / "config.json", {})
    prefix = "pooling_mode_"
    modes = told.get("pooling_mode", [key.removeprefix(prefix) for key in told if key[:13] == prefix and told[key]])
    modes = [modes] if isinstance(modes, str) else list(modes)
    if len(modes) != 1 or modes[0] not in _POOLINGS:
        named = " and ".join(map(str, modes)) or "nothing"
        raise ConfigError(
            f"the pooling of the model {path} is not done here: {named}", hint="this engine does cls, mean, last_token"
        )
    return _POOLINGS[modes[0]]


def _sentence_config(path: Path) -> Mapping[str, Any]:
    # Older ones have the name of the architecture in theirs.
    files = sorted(path.glob("sentence_*_config.json"))
    found: Mapping[str, Any] = _read_json(files[0], {}) if files else {}
    return found


def _max_context_tokens(path: Path, sentence: Mapping[str, Any]) -> int:
    config = _read_json(path / "config.json", {})
    positions = config.get("max_position_embeddings")
    if isinstance(positions, int) and config.get("model_type") in _POSITIONS_BEHIND_PADDING:
        positions -= int(config.get("pad_token_id") or 0) + 1
    length = _read_json(path / "tokenizer_config.json", {}).get("model_max_length")
    told = [sentence.get("max_seq_length"), positions, length]
    lengths = [int(number) for number in told if isinstance(number, int | float) and 0 < number < _NO_LENGTH]
    if not lengths:
        raise ConfigError(
            f"the folder {path} does not tell how long a text may be",
            hint="write max_seq_length in sentence_bert_config.json, as the model's page says",
        )
    return min(lengths)


def _read_json(file: Path, absent: Any) -> Any:
    if not file.is_file():
        return absent
    try:
        found = json.loads(file.read_bytes())
    except (OSError, ValueError) as error:
        raise ConfigError(f"{file} cannot be read: {error}", hint="copy or export the model again") from error
    if not isinstance(found, type(absent)):
        raise ConfigError(f"{file} holds no {'list' if absent == [] else 'object'}", hint="export the model again")
    return found
