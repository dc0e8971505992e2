"""`@step` and `@pipeline`: ordinary functions, whose calls inside a pipeline make a graph instead of running.

Outside a pipeline, in a test or a notebook, both are the functions they decorate. While trueline reads a pipeline, each
call of a step gives a `Handle`, which may be passed on to other steps, unpacked or indexed, and says so clearly when
something else is done with it: there is no value yet. Standard library only: `import trueline` brings this module.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from datetime import timedelta
from functools import update_wrapper
from typing import Any, Generic, NoReturn, ParamSpec, TypeVar, cast, get_args, get_origin, overload

from trueline.errors import InvalidInput
from trueline.pipelines.graph import INPUT, Argument, Call, Graph

P = ParamSpec("P")
R = TypeVar("R")

SPANS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
PLAIN = (type(None), bool, int, float, str)


class Trace:
    """The calls made while a pipeline's function runs."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self._counts: dict[str, int] = {}

    def add(self, step: Step[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Handle:
        function = step.function
        try:
            given = inspect.signature(function).bind(*args, **kwargs).arguments
        except TypeError as problem:
            raise InvalidInput(f"step {function.__name__} cannot be called like this: {problem}") from problem
        name = self._name(function.__name__)
        arguments = {key: self.encode(value, f"step {name} is given {key}") for key, value in given.items()}
        qualname, module = function.__qualname__, function.__module__
        if "." in qualname or qualname == "<lambda>":
            raise InvalidInput(
                f"step {name} is defined inside {qualname.rpartition('.')[0] or 'an expression'}, where the process "
                "that runs it cannot find it; define it at the top of a module"
            )
        call = Call(name, module, qualname, None, arguments, step.retries, step.timeout, step.cache)
        self.calls.append(call)
        return Handle(self, name, (), step.outputs)

    def encode(self, value: Any, what: str) -> Argument:
        """A value as the graph keeps it."""
        if isinstance(value, Handle):
            if value.trace_ is not self:
                raise InvalidInput(f"{what} from another pipeline's run; pass it on inside one pipeline function")
            return {"step": value.step_, "path": list(value.path_)}
        kind = type(value)
        if kind in PLAIN:
            return {"value": value}
        if kind in (list, tuple):
            return {kind.__name__: [self.encode(one, what) for one in value]}
        if kind is dict and all(type(name) is str for name in value):
            return {"dict": {name: self.encode(one, what) for name, one in value.items()}}
        raise InvalidInput(
            f"{what} as a {kind.__name__}; pass results of steps, the frame, and plain values (texts, numbers, lists, "
            "dicts), and make other objects inside a step"
        )

    def _name(self, name: str) -> str:
        count = self._counts[name] = self._counts.get(name, 0) + 1
        return name if count == 1 else f"{name}-{count}"


_tracing: ContextVar[Trace | None] = ContextVar("trueline pipeline", default=None)


class Handle:
    """What a step will give. Pass it on; unpack it if the step has several outputs; take a part of it with []."""

    def __init__(self, trace: Trace, step: str, path: tuple[Any, ...], outputs: int | None) -> None:
        self.trace_, self.step_, self.path_, self._outputs = trace, step, path, outputs

    def __getitem__(self, key: object) -> Handle:
        if type(key) not in (int, str):
            self._no_value(f"taking the part {key!r} of it")
        return Handle(self.trace_, self.step_, (*self.path_, key), None)

    def __iter__(self) -> Iterator[Handle]:
        if self._outputs is None:
            raise InvalidInput(
                f"how many outputs {self} has is not known here; to unpack them, write @step(outputs=2) or annotate the "
                "step's result as tuple[..., ...]"
            )
        return (self[place] for place in range(self._outputs))

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("__"):
            raise AttributeError(name)
        self._no_value(f"`.{name}`")

    def __repr__(self) -> str:
        part = "".join(f"[{key!r}]" for key in self.path_)
        return f"the frame{part}" if self.step_ == INPUT else f"the result{part} of step {self.step_}"

    def _no_value(self, what: str) -> NoReturn:
        raise InvalidInput(
            f"{self} has no value yet while the pipeline is put together, so {what} is not possible; do it in a step"
        )


def _refuse(name: str) -> Callable[..., NoReturn]:
    def refuse(self: Handle, *_: object) -> NoReturn:
        self._no_value(f"{name} with it")

    return refuse


for _names, _what in {
    ("bool", "len", "int", "float", "index", "contains", "call", "setitem"): "deciding, counting or calling",
    ("eq", "ne", "lt", "le", "gt", "ge"): "comparing",
    ("add", "radd", "sub", "rsub", "mul", "rmul", "truediv", "rtruediv", "pow", "neg", "matmul"): "calculating",
    ("enter", "exit"): "`with`",
}.items():
    for _name in _names:
        setattr(Handle, f"__{_name}__", _refuse(_what))


class Step(Generic[P, R]):
    """A function that may be a step; `retries` and `timeout` (seconds) hold when trueline runs it."""

    def __init__(
        self, function: Callable[P, R], *, retries: int, timeout: float | None, cache: bool, outputs: int | None
    ) -> None:
        self.function, self.retries, self.timeout, self.cache, self.outputs = function, retries, timeout, cache, outputs
        update_wrapper(cast("Any", self), function, updated=())

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        trace = _tracing.get()
        if trace is None:
            return self.function(*args, **kwargs)
        return cast("R", trace.add(self, args, kwargs))


class Pipeline(Generic[P, R]):
    """A function that wires steps; called by anybody but trueline it just runs them."""

    def __init__(self, function: Callable[P, R]) -> None:
        self.function = function
        update_wrapper(cast("Any", self), function, updated=())

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        return self.function(*args, **kwargs)

    def trace(self, params: Mapping[str, Any]) -> Graph:
        """The graph of one run with these parameters; the calls do not know their files yet."""
        name, trace = self.function.__name__, Trace()
        token = _tracing.set(trace)
        try:
            result = cast("Any", self.function)(Handle(trace, INPUT, (), None), **params)
        finally:
            _tracing.reset(token)
        if not isinstance(result, Handle) or result.step_ == INPUT:
            told = "nothing" if result is None else "the frame" if isinstance(result, Handle) else type(result).__name__
            raise InvalidInput(
                f"pipeline {name} returned {told}; return what the step gave that fitted the estimator, as it is"
            )
        return Graph(tuple(trace.calls), trace.encode(result, f"pipeline {name} returns a result"))


@overload
def step(function: Callable[P, R]) -> Step[P, R]: ...
@overload
def step(
    *, retries: int = 0, timeout: str | float | timedelta | None = None, cache: bool = True, outputs: int | None = None
) -> Callable[[Callable[P, R]], Step[P, R]]: ...
def step(
    function: Callable[P, R] | None = None,
    *,
    retries: int = 0,
    timeout: str | float | timedelta | None = None,
    cache: bool = True,
    outputs: int | None = None,
) -> Any:
    """Make a function a step of pipelines.

    `retries`: so often it is tried again after a failure, waiting longer each time. `timeout`: "90s", "10m" or seconds,
    after which an attempt is stopped. `cache=False`: it runs in every run. `outputs`: how many results a tuple it returns
    may be unpacked into; not needed where the function is annotated with `-> tuple[A, B]`.
    """
    if isinstance(retries, bool) or not isinstance(retries, int) or not 0 <= retries <= 100:
        raise InvalidInput(f"retries is a number from 0 to 100, not {retries!r}")
    seconds = _seconds(timeout)

    def decorate(function: Callable[P, R]) -> Step[P, R]:
        if not callable(function) or inspect.isclass(function):
            raise InvalidInput(f"@step is for functions, not for {function!r}")
        if inspect.iscoroutinefunction(function) or inspect.isgeneratorfunction(function):
            raise InvalidInput(f"step {function.__name__} must return its result: it cannot be async or yield")
        count = outputs if outputs is not None else _outputs(function)
        return Step(function, retries=retries, timeout=seconds, cache=cache, outputs=count)

    return decorate if function is None else decorate(function)


def pipeline(function: Callable[P, R]) -> Pipeline[P, R]:
    """Make a function the wiring of steps: its first parameter is the frame, the others are the run's `params`."""
    return Pipeline(function)


def _seconds(timeout: object) -> float | None:
    found: float | None = None
    if timeout is None:
        return None
    if isinstance(timeout, timedelta):
        found = timeout.total_seconds()
    elif isinstance(timeout, int | float):
        found = float(timeout)
    elif isinstance(timeout, str) and (said := re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([smhd])\s*", timeout)):
        found = float(said[1]) * SPANS[said[2]]
    if found is None or not 0 < found < float("inf"):
        raise InvalidInput(
            f"timeout is a span above nothing, as 90s, 10m or 2h, or a number of seconds, not {timeout!r}"
        )
    return found


def _outputs(function: Callable[..., Any]) -> int | None:
    """How many results `-> tuple[A, B]` promises; texts are annotations too."""
    promised: Any = getattr(function, "__annotations__", {}).get("return")
    if isinstance(promised, str):
        said = re.fullmatch(r"\s*(?:typing\.)?[Tt]uple\[(.*)\]\s*", promised)
        parts = _split(said[1]) if said else []
    else:
        parts = list(get_args(promised)) if get_origin(promised) is tuple else []
    return len(parts) if parts and parts[-1] not in (..., "...") else None


def _split(text: str) -> list[str]:
    """At the commas outside brackets.

    >>> _split("dict[str, int], float")
    ['dict[str, int]', 'float']
    """
    parts, depth, start = [], 0, 0
    for place, letter in enumerate(text):
        depth += (letter in "[(") - (letter in "])")
        if letter == "," and depth == 0:
            parts.append(text[start:place])
            start = place + 1
    return [part.strip() for part in (*parts, text[start:]) if part.strip()]
