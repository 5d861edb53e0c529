"""A schema as a grammar whose JSON has no white space and ends in time.

Owns the grammar text (EBNF as xgrammar reads it). Never runs it.

Two reasons for a grammar of our own. A small model offered white space between the parts of a JSON answer fills the
answer with it until `max_tokens`, and openvino-genai has no switch against that. And a string without a bound may never
end. So every part gets a share of the token budget, and strings, lists and numbers without a bound get one from their
share. Of a number each character is counted as a token; text_rules says how strings are counted. A model that falls
into digits can still run out.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import lru_cache

from sundog.engines.structured.json_schema import (
    AnswerSchema,
    AnyOfSchema,
    ArraySchema,
    LiteralSchema,
    NumberSchema,
    ObjectSchema,
    StringSchema,
    read_schema,
)
from sundog.engines.structured.text_rules import (
    JSON_CHARACTERS_PER_TOKEN,
    MAX_REPEAT,
    MIN_TEXT_TOKENS,
    TextRules,
    counted,
)
from sundog.errors import BadResponse

DEFAULT_TOKENS = 1024
MAX_ITEMS = 16
MAX_DIGITS = 15
MAX_DECIMALS = 6


@lru_cache(maxsize=256)
def compact_grammar(schema_text: str, max_tokens: int | None) -> str:
    """Return the grammar of a schema for answers of at most `max_tokens`; BadResponse for a schema outside the
    subset."""
    rules = TextRules()
    return f"root ::= {_rule(read_schema(schema_text), max_tokens or DEFAULT_TOKENS, rules)}{rules.text()}"


def _rule(shape: AnswerSchema, budget: int, rules: TextRules) -> str:
    match shape:
        case LiteralSchema(texts=texts):
            return _any_of([_quote(text) for text in texts])
        case NumberSchema():
            return _number(shape, budget)
        case StringSchema():
            return rules.name(shape, budget)
        case ArraySchema():
            return _items(shape, budget, rules)
        case ObjectSchema():
            return _fields(shape, budget, rules)
        case AnyOfSchema(options=options):
            return _any_of([_rule(option, budget, rules) for option in options])


def _fields(shape: ObjectSchema, budget: int, rules: TextRules) -> str:
    keys = [f"{json.dumps(name, ensure_ascii=False)}:" for name, _ in shape.fields]
    elastic = [one for _, one in shape.fields if _is_elastic(one)]
    spare = budget - _least_tokens(shape) + sum(map(_least_tokens, elastic))
    numbers = [min(_most_tokens(one), spare // len(elastic)) for one in elastic if isinstance(one, NumberSchema)]
    share = (spare - sum(numbers)) // max(len(elastic) - len(numbers), 1)
    budgets = (spare // len(elastic) if isinstance(one, NumberSchema) and elastic else share for _, one in shape.fields)
    parts = [_rule(one, tokens, rules) for (_, one), tokens in zip(shape.fields, budgets, strict=True)]
    pairs = [f"{_quote(('{' if i == 0 else ',') + keys[i])} {part}" for i, part in enumerate(parts)]
    return f"({' '.join(pairs)} {_quote('}')})"


def _items(shape: ArraySchema, budget: int, rules: TextRules) -> str:
    if shape.max_items == 0:
        return _quote("[]")
    if shape.min_items > min(MAX_REPEAT, shape.max_items or MAX_REPEAT):
        raise BadResponse(f"this engine cannot generate lists of {shape.min_items} items", hint="ask for fewer")
    fitting = budget // (_least_tokens(shape.item) + 1)
    most = max(shape.min_items, min(shape.max_items or MAX_ITEMS, MAX_REPEAT, fitting), 1)
    item = _rule(shape.item, budget // most - 1, rules)
    more = counted(f"{_quote(',')} {item}", max(shape.min_items - 1, 0), most - 1)
    filled = f"{_quote('[')} {item} {more} {_quote(']')}"
    return f"({filled})" if shape.min_items else _any_of([_quote("[]"), filled])


def _number(shape: NumberSchema, budget: int) -> str:
    """Return the rule of a number between the bounds exactly; an open side ends where the budget does, after at most
    `MAX_DIGITS` digits."""
    low, high = shape.minimum, shape.maximum
    if low is not None and high is not None and low > high:
        raise BadResponse(f"no number is between {low} and {high}", hint="correct the bounds in the schema")
    num_digits, fraction = _form(shape, budget)
    if low is None and high is None:
        return f'("-"? {_from(0, num_digits)}{fraction})'
    signs = []
    if high is None or high >= 0:
        signs.append(_magnitudes(max(low or 0, 0), high, num_digits, fraction))
    if low is None or low < 0:
        least = max(-high if high is not None else 0, 0 if fraction else 1)
        signs.append(f'"-" {_magnitudes(least, None if low is None else -low, num_digits, fraction)}')
    return _any_of(signs)


def _form(shape: NumberSchema, budget: int) -> tuple[int, str]:
    """Return the most digits on an open side, and the rule of the fraction, that a budget allows beside the sign."""
    if shape.is_integer:
        return max(1, min(MAX_DIGITS, budget - 1)), ""
    num_decimals = max(1, min(MAX_DECIMALS, (budget - 2) // 3))
    return max(1, min(MAX_DIGITS, budget - 2 - num_decimals)), f' ("." [0-9]{{1,{num_decimals}}})?'


def _magnitudes(low: int, high: int | None, num_digits: int, fraction: str) -> str:
    """Return the rule of numbers without a sign; `high` None leaves the side open."""
    if high is None:
        return f"{_from(low, num_digits)}{fraction}"
    if not fraction:
        return _any_of(list(_digit_patterns(low, high)))
    below = [f"{_any_of(list(_digit_patterns(low, high - 1)))}{fraction}"] if low < high else []
    return _any_of([*below, _quote(str(high))])


def _from(low: int, num_digits: int) -> str:
    """Return the rule of whole numbers from `low` on, of up to `num_digits` digits or as many as `low` has."""
    return _any_of(list(_digit_patterns(low, 10 ** max(num_digits, len(str(low))) - 1)))


def _digit_patterns(low: int, high: int) -> Iterator[str]:
    """Yield patterns that together match the decimal numbers from `low` to `high`, 0 <= low <= high, each once."""
    if low == 0:
        yield _quote("0")
        low = 1
    while low <= high:
        length = len(str(low))
        if low == 10 ** (length - 1) and 10 * low - 1 <= high:
            # All lengths at once: the fewer the alternatives, the less the sampler lets through that is none of them.
            longest = len(str(high + 1)) - 1
            yield f"[1-9] [0-9]{{{length - 1},{longest - 1}}}"
            low = 10**longest
            continue
        num_free = 0
        while low % 10 ** (num_free + 1) == 0 and low + 10 ** (num_free + 1) - 1 <= high:
            num_free += 1
        block = 10**num_free
        head, digit = divmod(low // block, 10)
        last = min(9, digit + (high - low + 1) // block - 1)
        free = f" [0-9]{{{num_free}}}" if num_free else ""
        yield f"{_quote(str(head)) if head else ''} [{digit}-{last}]{free}"
        low += (last - digit + 1) * block


def _least_tokens(shape: AnswerSchema) -> int:
    """Return a guess at the tokens that a value of `shape` needs, its elastic parts at their smallest."""
    match shape:
        case LiteralSchema(texts=texts):
            return max(map(len, texts)) // JSON_CHARACTERS_PER_TOKEN + 1
        case NumberSchema(minimum=low, maximum=high, is_integer=is_integer):
            num_digits = max((len(str(bound)) for bound in (low, high) if bound is not None), default=2)
            return num_digits + (1 if is_integer else 3)
        case StringSchema(max_length=most):
            return min(MIN_TEXT_TOKENS, MIN_TEXT_TOKENS if most is None else most // JSON_CHARACTERS_PER_TOKEN) + 2
        case ArraySchema(item=item, min_items=least):
            return max(least, 1) * (_least_tokens(item) + 1) + 1
        case ObjectSchema(fields=fields):
            return sum(len(name) // JSON_CHARACTERS_PER_TOKEN + 3 + _least_tokens(one) for name, one in fields) + 1
        case AnyOfSchema(options=options):
            return max(map(_least_tokens, options))


def _most_tokens(shape: NumberSchema) -> int:
    """Return what a number can use."""
    return 1 + MAX_DIGITS + (0 if shape.is_integer else 1 + MAX_DECIMALS)


def _is_elastic(shape: AnswerSchema) -> bool:
    """Return whether the length of a value follows from the budget."""
    match shape:
        case StringSchema() | ArraySchema():
            return True
        case NumberSchema(minimum=low, maximum=high, is_integer=is_integer):
            return low is None or high is None or not is_integer
        case ObjectSchema(fields=fields):
            return any(_is_elastic(one) for _, one in fields)
        case AnyOfSchema(options=options):
            return any(map(_is_elastic, options))
    return False


def _any_of(rules: list[str]) -> str:
    return f"({' | '.join(rules)})"


def _quote(text: str) -> str:
    """Return `text` as a literal of the grammar."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + "".join(one if one.isprintable() else f"\\u{ord(one):04x}" for one in escaped) + '"'
