"""The rules of a grammar's strings: equal ones are written once.

Owns how a string is bounded in a grammar (EBNF as xgrammar reads it). Never knows the rest of the answer.

Before the first token xgrammar compares the vocabulary with each place of a grammar that reads characters: 16 ms a
place where any character may stand, 2 ms where only letters and digits may. A place in a rule counts once, however
often the rule is named, and a rule that only names others has none. Hence two forms of a string.

One that only the budget bounds is counted in words: a word is a mark, which is any character that is neither letter
nor digit, and the letters and digits after it. English takes 1.3 tokens a word and German 3, so a word is counted at
three. The letters of all strings come out of the same blocks, so all of them together take 0.1 s. The same is done
with a `maxLength` that so many words cannot pass. Any other is counted character by character, up to 127 by a counter,
which slows down each token beyond, and from there on by options in options. That takes 16 ms a character, once for
all strings with the same bounds. Blocks would do with less, but they add half to the time of each token.
"""

from __future__ import annotations

from sundog.engines.structured.json_schema import StringSchema
from sundog.errors import BadResponse

JSON_CHARACTERS_PER_TOKEN = 2
TOKENS_PER_WORD = 3
MIN_WORDS = 4
MAX_WORDS = 512
MAX_REPEAT = 127
MAX_NESTED = 512
# From here on words hold more text than nested characters, though most words are shorter than they may be.
MIN_WORDS_CHARACTERS = 2000
LETTER_BLOCK = 16
MAX_LETTERS = 128
# Words of fewer letters leave out too much text.
FEW_LETTERS = 32
MIN_TEXT_TOKENS = 8

LETTER = "[a-zA-Z0-9]"
CHARACTER_RULES = (
    r"""
char ::= [^"\\\x00-\x1f] | "\\" ["\\/bfnrt]
mark ::= [^"\\a-zA-Z0-9\x00-\x1f] | "\\" ["\\/bfnrt]
letter ::= """
    + LETTER
)


class TextRules:
    """This class collects the rules of one grammar's strings."""

    def __init__(self) -> None:
        self._bodies: dict[str, str] = {}

    def name(self, shape: StringSchema, budget: int) -> str:
        """Return the name of the rule of a string for an answer that has `budget` tokens for it; BadResponse for one
        that no rule can say."""
        least, most = shape.min_length, shape.max_length
        if least > MAX_REPEAT or (most is not None and least > most):
            raise BadResponse(
                f"this engine cannot generate strings of at least {least} characters", hint="ask for fewer"
            )
        fitting = max(least, max(budget, MIN_TEXT_TOKENS) * JSON_CHARACTERS_PER_TOKEN)
        num_words = min(max(budget // TOKENS_PER_WORD, MIN_WORDS), MAX_WORDS)
        if most is None:
            return self._words(least, num_words, min(fitting, MAX_LETTERS))
        if min(fitting, most) >= MIN_WORDS_CHARACTERS:
            num_words = min(num_words, (most - least - FEW_LETTERS) // (FEW_LETTERS + 1))
        letters_each = (most - least - num_words) // (num_words + 1)
        if letters_each >= FEW_LETTERS:
            return self._words(least, num_words, min(letters_each, MAX_LETTERS))
        return self._characters(least, min(fitting, max(least, min(most, MAX_NESTED))))

    def text(self) -> str:
        """Return the rules, one a line, with the ones of the characters."""
        return "".join(f"\n{name} ::= {body}" for name, body in self._bodies.items()) + CHARACTER_RULES

    def _characters(self, least: int, most: int) -> str:
        free = at_most("char", most - least)
        body = counted("char", least, most) if most <= MAX_REPEAT else f"{counted('char', least, least)} {free}"
        return self._rule(f"text_{least}_{most}", f'"\\"" {body} "\\""')

    def _words(self, least: int, num_words: int, num_letters: int) -> str:
        """Return the name of the rule of a first word, which needs no mark, and up to `num_words` others."""
        # One of few numbers, since each has a place of its own for the mark.
        num_blocks = (1 << (num_letters // LETTER_BLOCK).bit_length() - 1) - 1
        part = self._rule("part", counted("letter", 0, LETTER_BLOCK))
        # The last letter stands in a rule of its own, since xgrammar copies a rule that names no other into those that
        # begin with it, and its places with it.
        last = self._rule("last", "letter")
        block = self._rule("block", f"{counted('letter', LETTER_BLOCK - 1, LETTER_BLOCK - 1)} {last}")
        letters = self._rule(f"letters_{num_blocks}", f"{at_most(block, num_blocks)} {part}")
        word = self._rule(f"word_{num_blocks}", f"mark {letters}")
        # A rule of its own: with the quotes in it each word would be a place that reads a character.
        words = self._rule(f"words_{num_words}_{num_blocks}", at_most(word, num_words))
        body = f'"\\"" {counted("char", least, least)} {letters} {words} "\\""'
        return self._rule(f"text_{least}_words_{num_words}_{num_blocks}", body)

    def _rule(self, name: str, body: str) -> str:
        self._bodies[name] = body
        return name


def counted(rule: str, least: int, most: int) -> str:
    """Return what repeats `rule` by a counter, which is quick up to `MAX_REPEAT`."""
    return f"({rule}){{{least},{most}}}" if most else ""


def at_most(rule: str, most: int) -> str:
    """Return what repeats `rule` by options in options, which can be more than a counter holds."""
    return f"{f'({rule} ' * most}{')?' * most}"
