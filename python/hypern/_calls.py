"""How a function of the user's is called: with which arguments, where, and whether it may wait."""

from __future__ import annotations

import dis
import functools
import inspect
from contextvars import copy_context
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hypern._hypern import run_on_thread

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

HANDLER_PARAMETERS: tuple[str, ...] = ("req", "res", "ctx")

# Every way in which a coroutine's own code can give up control compiles to one of these (await, async for, async with;
# YIELD_FROM until Python 3.10, SEND since). Without any of them its first step is its last, and needs no Task.
SUSPENDING_OPCODES = frozenset({"GET_ANEXT", "GET_AWAITABLE", "SEND", "YIELD_FROM", "YIELD_VALUE"})


@dataclass(frozen=True, slots=True)
class Call:
    """A function and how to call it.

    ``arguments`` are the positions, among the values on offer, of the ones to pass, in order. ``is_async``: it returns
    an awaitable and belongs on the event loop; otherwise it may block and belongs on a thread. ``suspends``: its
    awaitable may have to wait.
    """

    call: Callable[..., Any]
    arguments: tuple[int, ...]
    is_async: bool
    suspends: bool

    def pick(self, values: Sequence[Any]) -> list[Any]:
        """Return those of the values on offer that the function takes, in its order."""
        return [values[position] for position in self.arguments]

    async def run(self, values: Sequence[Any]) -> Any:
        """Call it from the event loop: a blocking function on a thread, with a copy of the current context."""
        if self.is_async:
            return await self.call(*self.pick(values))
        return await _on_thread(self.call, *self.pick(values))


def resolve(function: Callable[..., Any], names: tuple[str, ...] = HANDLER_PARAMETERS) -> Call:
    """Find out how to call a function that takes any subset of the named values, in any order.

    Functions, bound methods, partials, callable objects and decorated functions will do.

    :raises TypeError: if it is not callable, or needs a parameter that is not one of the names.
    """
    if not callable(function):
        message = f"expected a function that takes any of {', '.join(names)}, got {function!r}"
        raise TypeError(message)
    positional, keyword = _parameters(function, names)
    call = _with_keywords(function, len(positional), keyword) if keyword else function
    arguments = tuple(names.index(name) for name in (*positional, *keyword))
    inner = innermost(function)
    if inspect.iscoroutinefunction(inner):
        return Call(call, arguments, is_async=True, suspends=_suspends(inner))
    if inspect.iscoroutinefunction(innermost(inspect.unwrap(inner))):
        return Call(_awaiting(call), arguments, is_async=True, suspends=True)
    return Call(call, arguments, is_async=False, suspends=False)


def innermost(function: Callable[..., Any]) -> Any:
    """Return the plain function behind partials, bound methods and callable objects."""
    inner: Any = function
    while isinstance(inner, functools.partial):
        inner = inner.func
    if not inspect.isroutine(inner):
        inner = inner.__call__
    return getattr(inner, "__func__", inner)


def name_of(function: Callable[..., Any]) -> str:
    """Return the name by which an error message speaks of a function."""
    return getattr(function, "__qualname__", None) or repr(function)


def _parameters(function: Callable[..., Any], names: tuple[str, ...]) -> tuple[list[str], list[str]]:
    """Split the parameters to pass into those passed by position and those passed by keyword."""
    positional: list[str] = []
    keyword: list[str] = []
    bound = function.keywords if isinstance(function, functools.partial) else {}
    takes_the_rest = False
    skipped = False
    for parameter in _signature(function).parameters.values():
        if parameter.kind is parameter.VAR_POSITIONAL:
            takes_the_rest = not skipped
        elif parameter.name in names and parameter.name not in bound and parameter.kind is not parameter.VAR_KEYWORD:
            by_keyword = skipped or parameter.kind is parameter.KEYWORD_ONLY
            (keyword if by_keyword else positional).append(parameter.name)
        elif parameter.default is not parameter.empty:
            skipped = True
        elif parameter.kind is not parameter.VAR_KEYWORD:
            message = (
                f"{name_of(function)} needs a parameter {parameter.name!r}; it may take {', '.join(names)}, "
                "by these names, and parameters with a default"
            )
            raise TypeError(message)
    if takes_the_rest and positional == list(names[: len(positional)]):
        # A decorator without functools.wraps: the function behind it expects what a handler gets.
        positional = [name for name in names if name not in keyword]
    return positional, keyword


def _signature(function: Callable[..., Any]) -> inspect.Signature:
    try:
        signature = inspect.signature(function, follow_wrapped=False)
        if any(parameter.kind is parameter.VAR_POSITIONAL for parameter in signature.parameters.values()):
            return inspect.signature(function)
    except ValueError as error:
        message = f"cannot read the signature of {name_of(function)}; wrap it in a function"
        raise TypeError(message) from error
    return signature


def _with_keywords(function: Callable[..., Any], positional: int, keyword: list[str]) -> Callable[..., Any]:
    def call(*values: Any) -> Any:
        return function(*values[:positional], **dict(zip(keyword, values[positional:], strict=True)))

    return call


async def _on_thread(function: Callable[..., Any], *values: Any) -> Any:
    """Run a blocking function on a thread, as if it ran here: the context variables that it sets are set here too."""
    context = copy_context()
    try:
        return await run_on_thread(context.run, _sheltered, function, *values)
    finally:
        for variable, value in context.items():
            if variable.get(None) is not value:
                variable.set(value)


def _sheltered(function: Callable[..., Any], *values: Any) -> Any:
    try:
        return function(*values)
    except StopIteration as error:
        # A future cannot carry it (PEP 479 makes the same of one in a coroutine).
        message = f"{name_of(function)} raised StopIteration"
        raise RuntimeError(message) from error


def _awaiting(function: Callable[..., Any]) -> Callable[..., Any]:
    """Call a ``def`` that hides an ``async def``: it may block, and it may return the coroutine."""

    async def call(*values: Any) -> Any:
        result = await _on_thread(function, *values)
        return await result if inspect.isawaitable(result) else result

    return call


def _suspends(function: Any) -> bool:
    code = getattr(function, "__code__", None)
    if code is None or not code.co_flags & inspect.CO_COROUTINE:
        # Compiled, or marked as a coroutine function: what it awaits is not to be seen here.
        return True
    return any(instruction.opname in SUSPENDING_OPCODES for instruction in dis.get_instructions(code))
