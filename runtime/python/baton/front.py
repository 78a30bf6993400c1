"""Calling served models: `Front`.

    front = baton.Front.attach("echo")
    print(front.predict(text="hello"))
    for chunk in front.generate(prompt="once upon a time"):
        print(chunk, end="")

Arguments and results travel through shared memory; arrays in results that are larger than 64 KiB are
read-only views of it.
"""

from __future__ import annotations

import atexit
import collections
import json
import os
import weakref
from typing import Any, Deque, Dict, Iterable, Iterator, List, Mapping, Optional, Sequence, Tuple, Union

from . import _front
from ._base import FrontBase
from ._results import Result, Tensors
from .errors import Error, InvalidArgument, ResourceExhausted
from .server import ModelServer

__all__ = ["Front", "LoanedRequest", "Result", "Tensors"]

_MIB = 1 << 20


def _secrets_text(secrets: Optional[Mapping[str, str]]) -> Optional[str]:
    if secrets is None:
        return None
    if not all(isinstance(k, str) and isinstance(v, str) for k, v in secrets.items()):
        raise InvalidArgument("secrets are texts by name")  # and are not repeated here
    return json.dumps(dict(secrets))


class LoanedRequest:
    """A request whose inputs are written where the model reads them: no byte is copied.

    Made by `Front.new_request`. Fill `inputs`, then `call()`. The arrays stay usable memory for as long
    as somebody has them, but what is written there after the call may be read by a later one.
    """

    def __init__(self, request: _front.LoanedRequest) -> None:
        self._request = request
        #: By name: writable numpy arrays, uninitialised.
        self.inputs: Dict[str, Any] = request.arrays

    def call(self) -> Tensors:
        """Calls the method, once, and waits for its outputs."""
        tensors: Tensors = self._request.call()
        return tensors


class Front(FrontBase[_front.Method]):
    """A connection to a server, and the methods of its model as attributes.

    `front.predict(text="x")` calls the model's method `predict`; `front.methods["predict"]` is the same
    for names that this class has a use for itself. Values are Python's; parameters that have a default
    may be left out. `inspect.signature(front.predict)` and `front.predict.__doc__` say what it takes.

    Thread safety: any thread may call anything, at the same time; each call under way has a channel of
    its own. The GIL is released while a call waits, and signals are looked at every 50 ms.
    Fork: a child of the process must attach again; calls raise `FailedPrecondition` there, and arrays
    that are views of shared memory must not be read.
    Errors: `baton.Error` and what derives from it; TypeError for arguments that no such function takes.
    """

    def __init__(self, session: _front.Session, server: Optional[ModelServer] = None) -> None:
        """Use `attach` or `launch`."""
        self._session = session
        self._server = server
        self._offer({method.__name__: method for method in session.methods()})
        _open.add(self)

    @classmethod
    def attach(
        cls,
        name: str,
        *,
        run_directory: str = "",
        connect_timeout: float = 5.0,
        request_arena_bytes: int = 16 * _MIB,
        response_arena_bytes: int = 16 * _MIB,
        ring_entries: int = 256,
        backing: str = "memfd",
        huge_pages: bool = False,
        numa_node: Optional[int] = None,
        max_arena_bytes: int = 4096 * _MIB,
        max_channels: int = 256,
    ) -> "Front":
        """Joins a running server.

        Arguments:
            name: the server's name.
            run_directory: where servers are found; without one, $XDG_RUNTIME_DIR/baton or /tmp/baton-UID.
            connect_timeout: seconds, for connecting and for each of the server's answers.
            request_arena_bytes, response_arena_bytes: shared memory of each channel, for what goes to the
                model and what comes back. A larger request gets a larger channel, up to max_arena_bytes;
                a larger result does not.
            ring_entries: most calls of one channel at once; a power of two.
            backing: "memfd", or "shm" for /dev/shm.
            huge_pages: huge pages for channels where the system has some to give, else normal ones. For
                arenas of tens of MiB and more; a memfd, whatever `backing` says.
            numa_node: the memory node that channels are taken from as long as it has memory left: that of
                the CPUs that the worker runs on, and this process. Without one, wherever the opening
                thread's memory comes from. With one that this process may not use the calls raise
                `InvalidArgument`.
            max_arena_bytes: see request_arena_bytes.
            max_channels: calls under way, and channels that results keep.

        Raises `NotFound` (with the names there are), `PermissionDenied`, or `Unavailable`.
        """
        return cls(
            _attach(
                name,
                run_directory=run_directory,
                connect_timeout=connect_timeout,
                request_arena_bytes=request_arena_bytes,
                response_arena_bytes=response_arena_bytes,
                ring_entries=ring_entries,
                backing=backing,
                huge_pages=huge_pages,
                numa_node=-1 if numa_node is None else numa_node,
                max_arena_bytes=max_arena_bytes,
                max_channels=max_channels,
            )
        )

    @classmethod
    def launch(
        cls,
        directory: Union[str, "os.PathLike[str]"],
        *,
        name: str = "",
        secrets_directory: Union[None, str, "os.PathLike[str]"] = None,
        device: str = "",
        disable_secrets_reload: bool = False,
        start_timeout: float = 600.0,
        run_directory: str = "",
        log: Any = None,
        **options: Any,
    ) -> "Front":
        """Starts a server of one's own for a model directory, and joins it.

        The server ends with `close()`, or with this process, however that ends. The arguments are those
        of `ModelServer`; without a name it has one that nobody else has. `options` are those of `attach`.
        Raises `FailedPrecondition` with the server's own words when the model cannot be loaded.
        """
        server = ModelServer(
            directory,
            name=name or f"private-{os.getpid()}-{os.urandom(4).hex()}",
            secrets_directory=secrets_directory,
            disable_secrets_reload=disable_secrets_reload,
            device=device,
            run_directory=run_directory,
            log=log,
        ).start(start_timeout)
        try:
            front = cls.attach(server.name, run_directory=run_directory, **options)
        except BaseException:
            server.stop()
            raise
        front._server = server
        return front

    def map(
        self,
        method: str,
        calls: Iterable[Any],
        *,
        in_flight: int = 64,
        timeout: Optional[float] = None,
        idempotent: Optional[bool] = None,
        secrets: Optional[Mapping[str, str]] = None,
        return_exceptions: bool = False,
    ) -> Iterator[Any]:
        """Makes many calls, with up to `in_flight` under way at once; their values in the calls' order.

        Each of `calls` is a dict of arguments by name, a tuple of arguments, or the only argument. With
        `return_exceptions` a call that fails gives its exception in its place; without, it is raised
        there. Giving the iterator up cancels what is under way. A call that ends with
        RESOURCE_EXHAUSTED, as large results do beside one another, is made once more, alone.
        """
        return self._map(
            self._with(method, timeout, idempotent, secrets, None), calls, in_flight, return_exceptions
        )

    def batch(self, method: str, calls: Iterable[Any], **options: Any) -> List[Any]:
        """As `map`, all at once."""
        return list(self.map(method, calls, **options))

    def call_tensors(
        self,
        arrays: Mapping[str, Any],
        *,
        method: Optional[str] = None,
        timeout: Optional[float] = None,
        idempotent: Optional[bool] = None,
    ) -> Tensors:
        """Calls a method, the first without a name, with numpy arrays as they are.

        Inputs are copied once, into shared memory; outputs are views of it. See `new_request` for inputs
        without a copy.
        """
        tensors: Tensors = _front.call_tensors(
            self._with(method, timeout, idempotent, None, None), dict(arrays)
        )
        return tensors

    def new_request(
        self,
        inputs: Mapping[str, Tuple[str, Sequence[int]]],
        *,
        method: Optional[str] = None,
        timeout: Optional[float] = None,
        idempotent: Optional[bool] = None,
    ) -> LoanedRequest:
        """A request to be filled in place: `inputs` says a dtype and a shape for each.

        `front.new_request({"x": ("float32", (1024, 1024))})`.
        """
        shapes = {name: (str(dtype), tuple(shape)) for name, (dtype, shape) in inputs.items()}
        return LoanedRequest(_front.loan(self._with(method, timeout, idempotent, None, None), shapes))

    def close(self) -> None:
        """Lets go of the server; ends it where it was launched. Idempotent.

        Calls of other threads end as they would.
        """
        _open.discard(self)
        self._session.close()
        server, self._server = self._server, None
        if server is not None:
            server.stop()

    def __enter__(self) -> "Front":
        """`with` closes it."""
        return self

    def __exit__(self, *_: object) -> None:
        """Closes it."""
        self.close()

    def __repr__(self) -> str:
        return f"<Front of {self.name!r}: {', '.join(self._methods)}>"

    def _with(
        self,
        method: Optional[str],
        timeout: Optional[float],
        idempotent: Optional[bool],
        secrets: Optional[Mapping[str, str]],
        detail: Optional[int],
    ) -> _front.Method:
        found = next(iter(self._methods.values())) if method is None else self._methods.get(method)
        if found is None:
            raise InvalidArgument(f"this model has no method {method!r}; it has: {', '.join(self._methods)}")
        if timeout is None and idempotent is None and secrets is None and detail is None:
            return found
        return _front.with_settings(found, timeout, idempotent, _secrets_text(secrets), detail)

    def _map(
        self, method: _front.Method, calls: Iterable[Any], in_flight: int, return_exceptions: bool
    ) -> Iterator[Any]:
        calls_under_way = _Calls(self._session, method)
        try:
            for call in calls:
                while not calls_under_way.submit(call, in_flight):
                    if calls_under_way.first_has_ended():
                        yield calls_under_way.first(return_exceptions)
                    else:
                        calls_under_way.collect()
                while calls_under_way.first_has_ended():
                    yield calls_under_way.first(return_exceptions)
            while calls_under_way:
                yield calls_under_way.first(return_exceptions)
        finally:
            calls_under_way.cancel()


class _Calls:
    """The calls of one map that are under way or have ended, in their order."""

    def __init__(self, session: _front.Session, method: _front.Method) -> None:
        self._session = session
        self._method = method
        self._queue = session.open_queue()
        self._waiting: Deque[Tuple[int, Any]] = collections.deque()  # tickets, and their calls
        self._ended: Dict[int, Tuple[bool, Any]] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    def submit(self, call: Any, in_flight: int) -> bool:
        """False where there is no room before another one has ended."""
        if self._queue.outstanding >= in_flight:
            return False
        try:
            ticket = self._queue.submit(self._method, *_arguments(call))
        except ResourceExhausted:
            if not self._waiting:
                self._queue = self._session.open_queue()  # results that others keep fill it
            return False
        self._waiting.append((ticket, call))
        return True

    def collect(self) -> None:
        """Waits for an end, a second at most."""
        end = self._queue.wait(1.0)
        if end is not None:
            self._ended[end[0]] = (end[1], end[2])

    def first_has_ended(self) -> bool:
        return bool(self._waiting) and self._waiting[0][0] in self._ended

    def first(self, return_exceptions: bool) -> Any:
        """The first one's result, waited for."""
        while not self.first_has_ended():
            self.collect()
        ticket, call = self._waiting.popleft()
        ok, value = self._ended.pop(ticket)
        if not ok and isinstance(value, ResourceExhausted):
            # Beside the others its result found no room: alone it does, or never.
            while self._queue.outstanding > 0:
                self.collect()
            again = self._queue.submit(self._method, *_arguments(call))
            while again not in self._ended:
                self.collect()
            ok, value = self._ended.pop(again)
        if not ok and not return_exceptions:
            raise value
        return value

    def cancel(self) -> None:
        """Whatever has not ended."""
        for ticket, _ in self._waiting:
            if ticket not in self._ended:
                self._queue.cancel(ticket)


def _arguments(call: Any) -> Tuple[Tuple[Any, ...], Dict[str, Any]]:
    if isinstance(call, Mapping):
        return (), dict(call)
    if isinstance(call, tuple):
        return call, {}
    return (call,), {}


def _attach(name: str, **options: Any) -> _front.Session:
    return _front.attach(name, **options)


# Launched servers end in order, where the interpreter does.
_open: "weakref.WeakSet[Front]" = weakref.WeakSet()


def _close_all() -> None:
    for front in list(_open):
        try:
            front.close()
        except Error:
            pass


atexit.register(_close_all)
