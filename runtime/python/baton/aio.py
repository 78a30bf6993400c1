"""Calling served models from asyncio.

    async with baton.aio.attach("echo") as front:
        print(await front.predict(text="hello"))
        async for chunk in front.generate(prompt="once upon a time"):
            print(chunk, end="")

All calls of a front share one channel, whose answers wake the event loop. Cancelling the task cancels
the call.
"""

from __future__ import annotations

import asyncio
import collections
from typing import Any, Callable, Deque, Dict, Generator, Generic, Mapping, Optional, Set, TypeVar

from . import _front
from ._base import FrontBase
from .errors import Error, FailedPrecondition, ResourceExhausted
from .front import Front as _BlockingFront

__all__ = ["Front", "Method", "ResultStream", "attach", "launch"]

# Deadlines, and the deaths of servers and workers, signal nobody: they are noticed this soon.
_TICK_S = 0.05
# How often it is looked for answers while a stream has results that nobody has read.
_UNREAD_S = 0.001
# Answers given out in one turn of the event loop.
_ENDS_PER_TURN = 256

_T = TypeVar("_T")


class Opening(Generic[_T]):
    """What `attach` and `launch` give: to be awaited, or entered by `async with`."""

    def __init__(self, open_it: Callable[[], Any]) -> None:
        self._open = open_it
        self._front: Any = None

    def __await__(self) -> Generator[Any, None, _T]:
        """The front."""
        return self._open().__await__()  # type: ignore[no-any-return]

    async def __aenter__(self) -> _T:
        """The front; it is closed at the end of `async with`."""
        self._front = await self._open()
        return self._front  # type: ignore[no-any-return]

    async def __aexit__(self, *_: object) -> None:
        """Closes it."""
        await self._front.close()


class Method:
    """A method of a served model: a coroutine function, or one that gives an asynchronous iterator."""

    def __init__(self, front: "Front", method: _front.Method) -> None:
        self._front = front
        self._method = method
        self.__name__ = method.__name__
        self.__doc__ = method.__doc__
        described = _front.describe(method)
        self._takes_stream = described["streams_inputs"]
        self._gives_stream = described["streams_outputs"]

    @property
    def __signature__(self) -> Any:
        """As of the method of a `baton.Front`."""
        return self._method.__signature__

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Calls it: await the value, or `async for` the results of a method that streams."""
        if self._gives_stream:
            return ResultStream(self._front, self._method, args, kwargs)
        if self._takes_stream:
            return self._front._call_fed(self._method, args, kwargs)
        return self._front._call(self._method, args, kwargs)

    def __repr__(self) -> str:
        return repr(self._method)


class ResultStream:
    """The results of a method that streams: an asynchronous iterator.

    `aclose()`, or the end of `async with`, cancels the call; so does dropping it.
    """

    def __init__(self, front: "Front", method: _front.Method, args: Any, kwargs: Any) -> None:
        self._front = front
        self._start = (method, args, kwargs)
        self._stream: Optional[_front.Stream] = None
        self._feeding: Optional["asyncio.Task[None]"] = None
        self._closed = False

    def __aiter__(self) -> "ResultStream":
        return self

    async def __anext__(self) -> Any:
        if self._stream is None and not self._closed:
            await self._open()
        while not self._closed and self._stream is not None:
            feeding = self._feeding
            if feeding is not None and feeding.done() and feeding.exception() is not None:
                await self.aclose()
                feeding.result()
            try:
                read = self._stream.try_read()
            except BaseException:
                await self.aclose()
                raise
            if read is None:
                await self._front._event()
                continue
            more, value = read
            if more:
                return value
            await self.aclose()
        raise StopAsyncIteration

    async def aclose(self) -> None:
        """Cancels the call; the model sees it. Idempotent."""
        self._closed = True
        if self._feeding is not None:
            self._feeding.cancel()
            self._feeding = None
        if self._stream is not None:
            self._stream.close()

    async def __aenter__(self) -> "ResultStream":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    def __del__(self) -> None:
        if getattr(self, "_feeding", None) is not None and self._feeding is not None:
            try:
                self._feeding.cancel()
            except RuntimeError:  # the event loop is closed
                pass

    async def _open(self) -> None:
        method, args, kwargs = self._start
        self._stream, items = await self._front._start_stream(method, args, kwargs)
        if items is not None:
            self._feeding = asyncio.ensure_future(_feed(self._front, self._stream, items))


async def _feed(front: "Front", stream: _front.Stream, items: Any) -> None:
    """Sends the caller's items, from an asynchronous iterator or a plain one, as there is room."""

    async def send(item: Any) -> None:
        while not stream.try_write(item):
            await front._event()

    if hasattr(items, "__aiter__"):
        async for item in items:
            await send(item)
    else:
        iterator = iter(items)
        end = object()
        loop = asyncio.get_running_loop()
        while True:
            # It may wait as long as it likes.
            item = await loop.run_in_executor(None, next, iterator, end)
            if item is end:
                break
            await send(item)
    stream.writes_done()
    front._wake_streams()


class Front(FrontBase[Method]):
    """As `baton.Front`, for one event loop: `await front.predict(text="x")`.

    Made by `attach` or `launch`. Belongs to the event loop that it was made in, and to that one's thread.
    """

    def __init__(self, front: _BlockingFront, queue: _front.CallQueue) -> None:
        """Use `attach` or `launch`."""
        self._blocking = front
        self._queue = queue
        self._loop = asyncio.get_running_loop()
        self._futures: Dict[int, "asyncio.Future[Any]"] = {}
        self._started = 0  # calls so far
        self._retries = asyncio.Lock()
        self._room: Deque["asyncio.Future[None]"] = collections.deque()
        self._events: Set["asyncio.Future[None]"] = set()  # of streams that wait
        self._timer: Optional[asyncio.TimerHandle] = None
        self._unread: Optional[asyncio.TimerHandle] = None
        self._closed = False
        self._session = front._session
        self._offer({name: Method(self, method) for name, method in front.methods.items()})
        self._loop.add_reader(queue.fileno(), self._on_event)

    async def close(self) -> None:
        """Cancels what is under way and lets go of the server; ends it where it was launched. Idempotent."""
        if self._closed:
            return
        self._closed = True
        self._loop.remove_reader(self._queue.fileno())
        if self._timer is not None:
            self._timer.cancel()
        for waiting in self._room:
            waiting.cancel()
        for future in self._futures.values():
            future.cancel()
        self._futures.clear()
        self._wake_streams()
        await self._loop.run_in_executor(None, self._blocking.close)

    def __repr__(self) -> str:
        return f"<aio.Front of {self.name!r}: {', '.join(self._methods)}>"

    def _with(
        self,
        method: Optional[str],
        timeout: Optional[float],
        idempotent: Optional[bool],
        secrets: Optional[Mapping[str, str]],
        detail: Optional[int],
    ) -> Method:
        return Method(self, self._blocking._with(method, timeout, idempotent, secrets, detail))

    async def _call(self, method: _front.Method, args: Any, kwargs: Any) -> Any:
        alone, started = not self._futures, self._started
        try:
            return await self._call_once(method, args, kwargs)
        except ResourceExhausted:
            if alone and self._started <= started + 1:
                raise
        # Beside others its result found no room: again when they have ended, and of those to whom that
        # happened one at a time.
        async with self._retries:
            while True:
                while self._futures:
                    await asyncio.wait(list(self._futures.values()))
                started = self._started
                try:
                    return await self._call_once(method, args, kwargs)
                except ResourceExhausted:
                    if self._started <= started + 1:
                        raise

    async def _call_once(self, method: _front.Method, args: Any, kwargs: Any) -> Any:
        ticket = await self._submit(method, args, kwargs)
        self._started += 1
        future: "asyncio.Future[Any]" = self._loop.create_future()
        self._futures[ticket] = future
        self._give_out()
        self._keep_ticking()
        try:
            return await future
        except asyncio.CancelledError:
            if self._futures.pop(ticket, None) is not None and not self._closed:
                self._queue.cancel(ticket)
            raise

    async def _submit(self, method: _front.Method, args: Any, kwargs: Any) -> int:
        ticket: int = await self._with_room(lambda: self._queue.submit(method, args, kwargs))
        return ticket

    async def _start_stream(self, method: _front.Method, args: Any, kwargs: Any) -> Any:
        return await self._with_room(lambda: self._queue.start_stream(method, args, kwargs))

    async def _with_room(self, start: Callable[[], Any]) -> Any:
        while True:
            if self._closed:
                raise FailedPrecondition("this front was closed: attach again")
            try:
                return start()
            except ResourceExhausted:
                if self._queue.outstanding == 0:
                    # Results that others keep fill the channel.
                    await self._replace_queue()
                    continue
            room: "asyncio.Future[None]" = self._loop.create_future()
            self._room.append(room)
            try:
                await asyncio.wait_for(room, _TICK_S)  # the end of a stream gives nothing out
            except asyncio.TimeoutError:
                pass

    async def _replace_queue(self) -> None:
        full = self._queue
        opened = await self._loop.run_in_executor(None, self._session.open_queue)
        if self._queue is not full or self._closed:
            return  # another task was faster
        self._loop.remove_reader(full.fileno())
        self._queue = opened
        self._loop.add_reader(opened.fileno(), self._on_event)

    def _on_event(self) -> None:
        self._queue.clear_event()
        self._wake_streams()
        self._give_out()

    def _give_out(self) -> None:
        """Gives out the answers that are there, and asks to be woken for the next."""
        armed = False
        for _ in range(_ENDS_PER_TURN):
            end = self._queue.poll()
            if end is None and armed and self._futures and self._unread is None:
                # What is ready is a stream's, whose reader takes its time; nobody is woken meanwhile.
                self._unread = self._loop.call_later(_UNREAD_S, self._again)
            if end is None:
                if armed or not self._futures or not self._queue.arm():
                    return
                armed = True
                continue
            armed = False
            self._end(*end)
        self._loop.call_soon(self._again)

    def _end(self, ticket: int, ok: bool, value: Any) -> None:
        future = self._futures.pop(ticket, None)
        if future is not None and not future.done():
            if ok:
                future.set_result(value)
            else:
                future.set_exception(value)
        while self._room:
            room = self._room.popleft()
            if not room.done():
                room.set_result(None)
                break

    def _again(self) -> None:
        self._unread = None
        if not self._closed:
            self._give_out()

    def _keep_ticking(self) -> None:
        if self._timer is None and (self._futures or self._events):
            self._timer = self._loop.call_later(_TICK_S, self._tick)

    def _tick(self) -> None:
        self._timer = None
        if self._closed:
            return
        self._wake_streams()
        try:
            self._give_out()
        except Error as error:  # a fork's child
            for future in self._futures.values():
                if not future.done():
                    future.set_exception(error)
            self._futures.clear()
        self._keep_ticking()

    async def _call_fed(self, method: _front.Method, args: Any, kwargs: Any) -> Any:
        async with ResultStream(self, method, args, kwargs) as results:
            async for result in results:
                return result

    async def _event(self) -> None:
        """Waits until something may have come for a stream."""
        if self._closed:
            raise FailedPrecondition("this front was closed: attach again")
        event: "asyncio.Future[None]" = self._loop.create_future()
        self._events.add(event)
        self._keep_ticking()
        # Something that another stream's reader has not read yet counts, too: a short wait, then.
        ready = self._queue.arm()
        try:
            await asyncio.wait_for(event, _UNREAD_S if ready else None)
        except asyncio.TimeoutError:
            self._give_out()
        finally:
            self._events.discard(event)

    def _wake_streams(self) -> None:
        for event in self._events:
            if not event.done():
                event.set_result(None)
        self._events.clear()


async def _open(make: Callable[[], _BlockingFront]) -> Front:
    loop = asyncio.get_running_loop()
    front = await loop.run_in_executor(None, make)
    try:
        queue = await loop.run_in_executor(None, front._session.open_queue)
        return Front(front, queue)
    except BaseException:
        front.close()
        raise


def attach(name: str, **options: Any) -> Opening[Front]:
    """Joins a running server: `async with attach("echo") as front`, or `front = await attach("echo")`.

    The arguments are those of `baton.Front.attach`.
    """
    return Opening(lambda: _open(lambda: _BlockingFront.attach(name, **options)))


def launch(directory: Any, **options: Any) -> Opening[Front]:
    """Starts a server of one's own and joins it, as `attach`.

    The arguments are those of `baton.Front.launch`.
    """
    return Opening(lambda: _open(lambda: _BlockingFront.launch(directory, **options)))
