"""Prompts about a group of rows, divided into the words and the text of each row.

Owns what a prompt must be for that: one loop over the rows, and outside of it nothing of them but their keys. Never
renames the columns of a row.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from typing import NamedTuple

from jinja2 import Environment, TemplateSyntaxError, meta

from sundog.errors import FlowError
from sundog.ir.templates.template import column_of_row
from sundog.migrate.prompts import JinjaToken, with_names

AT_THE_END = "(the texts at the end)"
SO_FAR = "(the answer so far, at the end)"
_JOINED = r"""\{{\{{-?\s*{0}\s*\|\s*map\(attribute\s*=\s*['"](\w+)['"]\)\s*\|\s*join(?:\([^)]*\))?\s*-?\}}\}}"""
_OF_FIRST = re.compile(r"""\binputs\[0\]""")
_ANSWER = re.compile(r"""\{\{-?\s*output\b[^}]*\}\}""")
_NUMBER = re.compile(r"^[\w #]*\{\{-?\s*loop\.index\s*-?\}\}")
_BEFORE, _BEHIND = " \n\t-*.:)", " \n\t-;,"


class GroupPrompt(NamedTuple):
    """A prompt whose texts stand behind its words."""

    #: A template of a flow, which reads columns of the group.
    words: str
    #: The template of what each row gives, as the pipeline has it.
    text: str
    #: The name of the row in `text`.
    element: str
    #: The texts had numbers, which `text` lacks.
    had_numbers: bool


def read_group_prompt(template: str, listed: str, by: Collection[str]) -> GroupPrompt:
    """Return the parts of a prompt about the rows that it calls `listed`, grouped by some columns. FlowError where it
    cannot be divided: the message is the reason, as a sentence about the prompt."""
    normal = re.sub(_JOINED.format(listed), rf"{{% for item in {listed} %}}{{{{ item.\1 }}}}{{% endfor %}}", template)
    tokens = _tokens(normal)
    begin, body, end = _loop(tokens, listed)
    element = _words(tokens[begin:])[2]
    after = _text(tokens[end:])
    words = f"{_text(tokens[:begin])}{AT_THE_END if after.strip() else ''}{after}"
    text, had_numbers = _one_text(_text(body))
    return GroupPrompt(_of_group(_ANSWER.sub(SO_FAR, words), by).strip(), text, element, had_numbers)


def _tokens(template: str) -> Sequence[JinjaToken]:
    try:
        return list(Environment(keep_trailing_newline=True).lex(template))
    except TemplateSyntaxError as error:
        raise FlowError(f"a prompt is no template: {error.message}") from error


def _loop(tokens: Sequence[JinjaToken], listed: str) -> tuple[int, Sequence[JinjaToken], int]:
    """Return where the loop over the rows begins, its body, and where it has ended."""
    begins = [at for at, token in enumerate(tokens) if token[1] == "block_begin"]
    for begin in begins:
        match _words(tokens[begin:])[1:6]:
            case ["for", _, "in", name, end] if name == listed and end.endswith("%}"):
                return begin, *_body(tokens, begins, begin)
    raise FlowError(f"it has no loop over `{listed}`")


def _body(tokens: Sequence[JinjaToken], begins: Sequence[int], begin: int) -> tuple[Sequence[JinjaToken], int]:
    depth = 0
    for at in (at for at in begins if at >= begin):
        word = _words(tokens[at:])[1]
        depth += (word == "for") - (word == "endfor")
        if depth == 0:
            return tokens[_behind(tokens, begin) : at], _behind(tokens, at)
    raise FlowError("a loop of it does not end")


def _behind(tokens: Sequence[JinjaToken], begin: int) -> int:
    """Return the place behind the end of the block that begins at `begin`."""
    return next(at for at in range(begin, len(tokens)) if tokens[at][1] == "block_end") + 1


def _words(tokens: Sequence[JinjaToken]) -> list[str]:
    """Return the first words of a block."""
    return [text.strip() for _, kind, text in tokens[:16] if kind != "whitespace"]


def _text(tokens: Sequence[JinjaToken]) -> str:
    return "".join(text for _, _, text in tokens)


def _one_text(body: str) -> tuple[str, bool]:
    """Return a loop's body without what divides and numbers its turns, and whether it had numbers."""
    bare = body.strip(_BEHIND)
    unnumbered = _NUMBER.sub("", bare)
    if "loop" in meta.find_undeclared_variables(Environment().parse(unnumbered)):
        raise FlowError("its loop reads `loop`")
    return unnumbered.lstrip(_BEFORE), unnumbered != bare


def _of_group(words: str, by: Collection[str]) -> str:
    """Return the words as a flow's template. FlowError where they read more of the rows than the columns of `by`."""
    renamed = with_names(
        _OF_FIRST.sub("reduce_key", words), {"reduce_key": {key: column_of_row(key) for key in by}}, {}
    )
    environment = Environment()
    known = {column_of_row(key) for key in by}
    for name in meta.find_undeclared_variables(environment.parse(renamed)) - {"row"}:
        raise FlowError(f"it reads `{name}` outside of its loop")
    for read in re.findall(r"\brow(?:\.\w+|\[[^]]*\])?", " ".join(re.findall(r"\{[{%].*?[%}]\}", renamed, re.DOTALL))):
        if read not in known:
            raise FlowError("it reads more of the rows than their keys outside of its loop")
    return renamed
