"""Calls that take a stream of items: the caller's iterator runs beside the wait for results."""

from __future__ import annotations

import asyncio
import collections
import os
import threading
from typing import Any, AsyncIterator, Deque, Iterable, Iterator, Optional

from . import _front

_NOTHING = object()
_END = object()
# How soon what signals nobody is noticed: deadlines, deaths.
_WAIT_S = 0.05


class _Failed:
    """The caller's iterator raised."""

    def __init__(self, error: BaseException) -> None:
        self.error = error


class Feeder:
    """Runs an iterator in a thread of its own, one item ahead, for it may wait as long as it likes.

    So a generator may make its next item from the results that came meanwhile.
    """

    def __init__(self, items: Iterable[Any]) -> None:
        self._items = iter(items)
        self._ready: Deque[Any] = collections.deque()
        self._room = threading.Semaphore(1)
        self._stopped = False
        self._event = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._thread = threading.Thread(target=self._run, name="baton-items", daemon=True)
        self._thread.start()

    def fileno(self) -> int:
        """Readable when there may be something to take."""
        return self._event

    def take(self) -> Any:
        """The next item, _NOTHING where there is none yet, _END, or a _Failed."""
        try:
            os.eventfd_read(self._event)
        except BlockingIOError:
            pass
        if not self._ready:
            return _NOTHING
        self._room.release()
        return self._ready.popleft()

    def stop(self) -> None:
        """The iterator is not asked for more. Does not wait for it."""
        self._stopped = True
        self._room.release()

    def __del__(self) -> None:
        os.close(self._event)

    def _run(self) -> None:
        last: Any = _END
        try:
            while True:
                self._room.acquire()
                if self._stopped:
                    return
                try:
                    item = next(self._items)
                except StopIteration:
                    break
                self._give(item)
        except BaseException as error:  # handed to whoever reads the results
            last = _Failed(error)
        finally:
            close = getattr(self._items, "close", None)
            if self._stopped and close is not None:
                close()
        self._give(last)

    def _give(self, item: Any) -> None:
        self._ready.append(item)
        os.eventfd_write(self._event, 1)


class FedStream:
    """The results of a method that takes a stream of items; an iterator, as generators are."""

    def __init__(self, stream: _front.Stream, items: Iterable[Any]) -> None:
        self._stream = stream
        self._feeder: Optional[Feeder] = Feeder(items)
        self._pending: Any = _NOTHING

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        while self._feeder is not None:
            self._feed()
            try:
                read = self._stream.try_read()
            except BaseException:
                self.close()
                raise
            if read is not None:
                return self._value(read)
            if self._feeder is not None:
                # An item that finds no room waits for that, not for the next one.
                fd = self._feeder.fileno() if self._pending is _NOTHING else -1
                self._stream.wait(fd, _WAIT_S)
        return next(self._stream)

    def close(self) -> None:
        """Cancels the call; the model sees it."""
        if self._feeder is not None:
            self._feeder.stop()
            self._feeder = None
        self._stream.close()

    def __del__(self) -> None:
        if getattr(self, "_feeder", None) is not None:
            self.close()

    def _value(self, read: Any) -> Any:
        more, value = read
        if not more:
            self.close()
            raise StopIteration
        return value

    def _feed(self) -> None:
        feeder = self._feeder
        while feeder is not None:
            if self._pending is _NOTHING:
                self._pending = feeder.take()
            item = self._pending
            if item is _NOTHING:
                return
            if item is _END:
                self._stream.writes_done()
                feeder.stop()
                self._feeder = None
                return
            if isinstance(item, _Failed):
                self.close()
                raise item.error
            try:
                if not self._stream.try_write(item):
                    return
            except BaseException:
                self.close()
                raise
            self._pending = _NOTHING


def call_fed(stream: _front.Stream, items: Iterable[Any], streams_outputs: bool) -> Any:
    """What a method that takes a stream gives: an iterator, or its only result."""
    fed = FedStream(stream, items)
    if streams_outputs:
        return fed
    try:
        result = next(fed)
    except StopIteration:
        return None
    finally:
        fed.close()
    return result
