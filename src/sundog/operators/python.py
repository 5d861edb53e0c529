"""The `python` step: one call of a user's function.

Owns the spec, what the plan knows of the step, and one attempt. An async function runs on the event loop, any other in
a bounded pool of threads. A thread cannot be stopped: a function past its time limit holds its thread until it returns.
"""

from __future__ import annotations

import asyncio
import inspect
import traceback
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, PlainValidator

from sundog.errors import FlowError, OperatorError, error_text, suggest
from sundog.functions import SESSION_PREFIX
from sundog.ir.logical import EngineBlock, OperatorSpec
from sundog.ir.physical import Sharing
from sundog.ir.schemas.output_schema import OutputSchema, why_not_fitting
from sundog.ir.schemas.shape import Anything, Shape
from sundog.ir.templates.render import Scope
from sundog.ir.values.normal_form import NoNormalForm, normal_form
from sundog.operators.arguments import (
    Argument,
    check_secrets,
    held_templates,
    redact_error,
    render_argument,
    reveal_argument,
    secret_places,
)
from sundog.operators.base import BoundCall, CallContext, Finding, Outcome, PayloadForm, Traits
from sundog.operators.edited_modules import resolve_as_written
from sundog.operators.own_modules import digests_of, found_elsewhere

POOL = "python"
"""The pool of all functions, and its address."""
DEFAULT_THREADS = 8
MAX_SHOWN = 300
"""Characters of a mistake, which may hold the whole value."""
Function = Callable[..., Any]


class PythonSpec(OperatorSpec):
    """One call of a Python function."""

    allows_secrets = frozenset({"args"})

    #: `module:function`; modules in the flow file's folder come first.
    call: str
    #: Its arguments by name.
    args: dict[str, Argument] = Field(default_factory=dict)
    #: The function changes something outside, so it is claimed and never repeated by itself.
    effect: bool = False
    #: The form of what the function returns, as ir.schemas.output_schema says; None where it may be anything.
    output: Annotated[OutputSchema, PlainValidator(OutputSchema.of_value)] | None = None


class PythonOperator:
    """Python functions of the user's own modules."""

    name = "python"
    Spec: type[OperatorSpec] = PythonSpec

    def __init__(self, base_dir: Path) -> None:
        self._base_dir = base_dir.resolve()
        self._resolve = lru_cache(maxsize=None)(lambda reference: resolve_as_written(reference, base_dir))
        self._threads: ThreadPoolExecutor | None = None

    def check(self, spec: PythonSpec, engines: Mapping[str, EngineBlock]) -> None:
        function = self._resolve(spec.call)
        check_secrets(spec.args)
        _check_arguments(spec, function)

    def traits(self, spec: PythonSpec) -> Traits:
        if not spec.effect:
            return Traits(
                Sharing.NEVER,
                POOL,
                max_concurrency=DEFAULT_THREADS,
                is_limit_of_process=True,
                reason="a function of the user's",
                payload=PayloadForm({"call": spec.call}, held_templates(spec.args, "args")),
            )
        return Traits(
            Sharing.NEVER,
            pool=POOL,
            is_effect=True,
            resource=f"python:{spec.call}",
            writes=True,
            max_concurrency=DEFAULT_THREADS,
            is_limit_of_process=True,
            retries=0,
            reason="effect: true",
        )

    def address_of(self, spec: PythonSpec) -> str:
        return POOL

    def pool_at(self, address: str) -> str | None:
        return POOL if address == POOL else None

    def modules(self, spec: PythonSpec) -> Mapping[str, str]:
        if spec.call.startswith(SESSION_PREFIX):  # its name holds a digest of its code
            return {}
        return digests_of(spec.call.partition(":")[0], self._base_dir)

    def bound_to_machine(self, spec: PythonSpec) -> Finding | None:
        if not spec.call.startswith(SESSION_PREFIX):
            return found_elsewhere(spec.call.partition(":")[0], self._base_dir)
        what = "its function is known in this process alone, as those of notebooks and scripts and lambdas are"
        hint = "move the function into a module in the flow's folder, and import it from there"
        return Finding(what, hint, is_fatal=True)

    def shape(self, spec: PythonSpec) -> Shape:
        return Anything() if spec.output is None else spec.output.shape

    def bind(self, spec: PythonSpec, scope: Scope, engines: Mapping[str, Mapping[str, Any]]) -> BoundCall:
        payload = {
            "call": spec.call,
            "args": render_argument(spec.args, scope),
            "secrets": secret_places(spec.args),
            "effect": spec.effect,
        }
        return BoundCall(payload if spec.output is None else {**payload, "output": spec.output.text})

    async def run(self, call: BoundCall, context: CallContext) -> Outcome:
        payload = call.payload
        function = self._resolve(payload["call"])
        is_effect = payload["effect"]
        try:
            args = reveal_argument(payload["args"], payload["secrets"], context.secrets)
            if _is_async(function):
                value = await self._await(function, args, context, is_effect=is_effect)
                value = _to_json(value, payload["call"], is_effect=is_effect)
            else:
                value = await self._run_in_thread(payload["call"], args, context, is_effect=is_effect)
            if "output" in payload:
                await asyncio.to_thread(_check_form, value, payload)
        except OperatorError as error:
            raise redact_error(error, context.secrets) from None
        return Outcome(context.secrets.redact_all(value))

    async def close(self) -> None:
        if self._threads is not None:
            self._threads.shutdown(wait=False, cancel_futures=True)

    async def _await(
        self, function: Function, args: Mapping[str, Any], context: CallContext, *, is_effect: bool
    ) -> Any:
        try:
            async with asyncio.timeout(context.timeout_s) as limit:
                return await function(**args)
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            raise self._fault(error, function, context, is_effect=is_effect) from error
        except (Exception, SystemExit, GeneratorExit) as error:
            if limit.expired() and isinstance(error, TimeoutError):
                raise _late(context.timeout_s, is_effect=is_effect) from error
            raise self._fault(error, function, context, is_effect=is_effect) from error

    async def _run_in_thread(
        self, reference: str, args: Mapping[str, Any], context: CallContext, *, is_effect: bool
    ) -> Any:
        if self._threads is None:
            self._threads = ThreadPoolExecutor(context.max_concurrency, thread_name_prefix="sundog-python")
        future: Future[Any] = self._threads.submit(self._call, reference, args, context, is_effect)
        timeout_s = context.timeout_s
        try:
            async with asyncio.timeout(timeout_s):
                return await asyncio.wrap_future(future)
        except TimeoutError as error:
            # Cancelling succeeds exactly where no thread has taken the call yet.
            if future.cancel():
                raise OperatorError(
                    f"no thread was free within {timeout_s:g} s: earlier calls still run past their limit",
                    hint="let the function return sooner, or give its own calls a time limit",
                    retryable=True,
                ) from error
            raise _late(timeout_s, is_effect=is_effect) from error

    def _call(self, reference: str, args: Mapping[str, Any], context: CallContext, is_effect: bool) -> Any:
        """Call the function in a thread; JSON is made there too, since a value may be large and its own code slow."""
        function = self._resolve(reference)
        try:
            value = function(**args)
        except BaseException as error:  # no signal ends a thread, so all of these are the function's own
            raise self._fault(error, function, context, is_effect=is_effect) from error
        return _to_json(value, reference, is_effect=is_effect)

    def _fault(
        self, error: BaseException, function: Function, context: CallContext, *, is_effect: bool
    ) -> OperatorError:
        """Return the user's exception: its type, its message, and the last line of the user's own file."""
        frames = traceback.extract_tb(error.__traceback__)
        code = getattr(inspect.unwrap(function), "__code__", None)
        own = [frame for frame in frames if code is not None and frame.filename == code.co_filename]
        where = None
        if own:
            path = Path(own[-1].filename)
            shown = path.relative_to(self._base_dir) if path.is_relative_to(self._base_dir) else path
            where = f"{shown}:{own[-1].lineno}"
        return OperatorError(
            error_text(error, context.secrets.redact),
            where=where,
            hint=f"in the line: {own[-1].line}" if own and own[-1].line else None,
            is_outcome_unknown=is_effect,
        )


def _check_arguments(spec: PythonSpec, function: Function) -> None:
    try:
        signature = inspect.signature(function)
    except ValueError:  # some built-ins tell nothing about their arguments
        return
    try:
        signature.bind(**spec.args)
    except TypeError as error:
        known = [name for name, each in signature.parameters.items() if each.kind is not each.VAR_KEYWORD]
        wrong = sorted(spec.args.keys() - set(known))
        raise FlowError(
            f"'{spec.call}' cannot be called with these args: {error}",
            hint=suggest(wrong[0], known) if wrong else f"it is {function.__name__}{signature}",
        ) from error


def _is_async(function: Function) -> bool:
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(type(function).__call__)


def _late(timeout_s: float, *, is_effect: bool) -> OperatorError:
    return OperatorError(
        f"the function did not return within {timeout_s:g} s",
        hint="the function may or may not have acted" if is_effect else "raise the step's timeout",
        retryable=not is_effect,
        is_outcome_unknown=is_effect,
    )


def _check_form(value: Any, payload: Mapping[str, Any]) -> None:
    why = why_not_fitting(value, payload["output"])
    if why is not None:
        raise OperatorError(
            f"what '{payload['call']}' returned {why if len(why) <= MAX_SHOWN else why[:MAX_SHOWN] + '...'}",
            hint="mend the function, or the step's `output`",
            is_outcome_unknown=payload["effect"],
        )


def _to_json(value: Any, call: str, *, is_effect: bool) -> Any:
    try:
        return normal_form(value)
    except NoNormalForm as error:
        raise OperatorError(
            f"'{call}' returned no JSON: {error}",
            hint="return dicts with text keys, lists, text, finite numbers, true, false or None",
            is_outcome_unknown=is_effect,
        ) from error
