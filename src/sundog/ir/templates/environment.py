"""The one Jinja environment: sandboxed, strict, bounded, keys before attributes.

Owns what a template may do. Never touches files, the network or the clock.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jinja2 import ChainableUndefined, StrictUndefined, nodes, pass_context
from jinja2.compiler import CodeGenerator, Frame
from jinja2.runtime import BlockReference, Context, LoopContext, Macro
from jinja2.sandbox import ImmutableSandboxedEnvironment, safe_range
from jinja2.visitor import NodeTransformer

from sundog.ir.templates.bounded_filters import bounded, is_in, iterated, sized
from sundog.ir.templates.own_filters import OWN_FILTERS
from sundog.ir.templates.spending import pay_braces, pay_method, pay_operator, spending_of
from sundog.ir.values.answer import Answer
from sundog.ir.values.loop_value import LoopValue


class Skipped(ChainableUndefined):
    """The value of a step that did not run (its `when` was false): empty, false, equal to none."""

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        return other is None or isinstance(other, Skipped)

    def __hash__(self) -> int:
        return hash(None)


SKIPPED = Skipped(name="a skipped step")


def shown_value(value: Any) -> str:
    """Return a value as text between other text: null is empty, as a skipped step is."""
    return value if type(value) is str else "" if value is None else str(value)


@pass_context
def _finalize(context: Context, value: Any) -> str:
    if type(value) is str:
        spending_of(context).text(len(value))
        return value
    if isinstance(value, list | tuple | dict | set | int):
        spending_of(context).text_of(value)
    return shown_value(value)


@pass_context
def _concatenated(context: Context, values: list[Any]) -> str:
    return "".join([_finalize(context, value) for value in values])


MACRO_STEPS = 10
"""A macro takes that much longer than a filter."""

# Names that no template can spell, for what the code of a template calls.
_SIZED, _ITERATED, _CONCATENATED = "\0sized", "\0iterated", "\0concatenated"


class _Paying(NodeTransformer):
    """A syntax tree in which loops, comparisons, slices and `~` pay too: Jinja has no hooks for these."""

    def visit_For(self, node: nodes.For) -> nodes.Node:
        """Let each turn of a `for` pay for itself and for the text that it writes."""
        self.generic_visit(node)
        num_characters = sum(len(text.data) for part in node.body for text in _texts(part))
        assert isinstance(node.iter, nodes.Expr)
        node.iter = _filter(node.iter, _ITERATED, nodes.Const(num_characters))
        return node

    def visit_Compare(self, node: nodes.Compare) -> nodes.Node:
        """Let a comparison pay for the size of what it compares with."""
        self.generic_visit(node)
        for operand in node.ops:
            if not isinstance(operand.expr, nodes.Const):
                operand.expr = _filter(operand.expr, _SIZED)
        return node

    def visit_Getitem(self, node: nodes.Getitem) -> nodes.Expr:
        self.generic_visit(node)
        return _filter(node, _SIZED) if isinstance(node.arg, nodes.Slice) else node

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:
        self.generic_visit(node)
        return _filter(nodes.List(node.nodes, lineno=node.lineno), _CONCATENATED)


def _texts(node: nodes.Node) -> list[nodes.TemplateData]:
    return [node] if isinstance(node, nodes.TemplateData) else list(node.find_all(nodes.TemplateData))


def _filter(node: nodes.Expr, name: str, *args: nodes.Expr) -> nodes.Filter:
    return nodes.Filter(node, name, list(args), [], None, None, lineno=node.lineno)


class _Generator(CodeGenerator):
    def visit_Template(self, node: nodes.Template, frame: Frame | None = None) -> None:
        super().visit_Template(_Paying().visit(node), frame)


class _Environment(ImmutableSandboxedEnvironment):
    code_generator_class = _Generator
    intercepted_binops = frozenset({"+", "*", "**", "%"})

    def getattr(self, obj: Any, attribute: str) -> Any:
        """A column called `items` or `keys` wins over the method of that name."""
        if attribute == "usage" and isinstance(obj, Answer):
            return obj.usage
        if isinstance(obj, LoopValue) and attribute in obj.skipped:
            return SKIPPED
        if isinstance(obj, Mapping) and attribute in obj:
            return obj[attribute]
        return super().getattr(obj, attribute)

    def getitem(self, obj: Any, argument: Any) -> Any:
        """Return what `getattr` does for the carriers of values, and else the element."""
        if argument == "usage" and isinstance(obj, Answer):
            return obj.usage
        if isinstance(obj, LoopValue) and isinstance(argument, str) and argument in obj.skipped:
            return SKIPPED
        return super().getitem(obj, argument)

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        """Apply an operator that can make more than it was given, once that is paid for."""
        pay_operator(spending_of(context), operator, left, right)
        return super().call_binop(context, operator, left, right)

    def call(__self, __context: Context, __obj: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: N805 - as in jinja2
        """Make a call, once it is paid for."""
        spending = spending_of(__context)
        spending.step()
        given = [*args, *kwargs.values()]
        owner = getattr(__obj, "__self__", None)
        if isinstance(__obj, Macro | LoopContext | BlockReference):
            spending.step(MACRO_STEPS)
            spending.text(spending.num_source_characters)
            if isinstance(__obj, LoopContext):
                # `loop(values)` goes over them without asking the filter that a `for` asks.
                args = tuple(iterated(__context, one, spending.num_source_characters) for one in args)
        elif isinstance(owner, str | bytes):
            pay_method(spending, owner, __obj.__name__, given)
        elif isinstance(owner, int) and not isinstance(owner, bool):
            spending.text(max((abs(one) for one in given if isinstance(one, int)), default=0))
        elif hasattr(__obj, "__wrapped__"):
            pay_braces(spending, __obj.__wrapped__.__self__, given)
        elif owner is not None:
            spending.look_at(owner)
        return spending.take(super().call(__context, __obj, *args, **kwargs))


def _make() -> _Environment:
    # Nothing is computed while a template is compiled: there is no account to pay from, and what comes out of a filter
    # need not have a spelling in Python's source (nan, inf).
    environment = _Environment(
        undefined=StrictUndefined, keep_trailing_newline=True, autoescape=False, finalize=_finalize, optimized=False
    )
    environment.globals.clear()
    environment.globals["range"] = safe_range
    del environment.filters["random"]  # a template is a function of its scope
    every = {**environment.filters, **OWN_FILTERS}
    environment.filters = {name: bounded(name, function) for name, function in every.items()}
    environment.filters |= {_SIZED: sized, _ITERATED: iterated, _CONCATENATED: _concatenated}
    environment.tests["in"] = is_in
    environment.tests["none"] = lambda value: value is None or isinstance(value, Skipped)
    return environment


ENVIRONMENT = _make()
FILTERS = frozenset(name for name in ENVIRONMENT.filters if name.isidentifier())
TESTS = frozenset(ENVIRONMENT.tests)
