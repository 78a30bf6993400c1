"""Standard output and error of a model: lines of the worker's log."""

import io
import logging
import sys

logger = logging.getLogger("model")  # what the SDK's models say things to


class _Lines(io.RawIOBase):
    def __init__(self, write, descriptor):
        self._write, self._descriptor = write, descriptor

    def writable(self):
        return True

    def fileno(self):
        return self._descriptor

    def write(self, data):
        data = bytes(data)
        self._write(self._descriptor, data)
        return len(data)


def redirect(write):
    """`write` takes 1 or 2, and bytes, which become lines: for each thread its own."""
    for name, descriptor in (("stdout", 1), ("stderr", 2)):
        stream = io.TextIOWrapper(_Lines(write, descriptor), encoding="utf-8", errors="backslashreplace",
                                  write_through=True)
        setattr(sys, name, stream)
    logger.setLevel(logging.INFO)
    logger.addHandler(logging.StreamHandler(sys.stderr))
    logger.propagate = False
