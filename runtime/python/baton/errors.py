"""What a call can fail with. Every error of a server or a model is a `baton.Error`.

The class says what kind of failure it was, `code` the same as text, and the message what happened, to
what, and what to do next. Where a model written in Python raised, the message holds its traceback.
"""

from __future__ import annotations

import re
from typing import Any, Dict, Optional, Type

__all__ = [
    "Aborted",
    "AlreadyExists",
    "Cancelled",
    "DataLoss",
    "DeadlineExceeded",
    "Error",
    "FailedPrecondition",
    "Internal",
    "InvalidArgument",
    "NotFound",
    "OutOfRange",
    "PermissionDenied",
    "ResourceExhausted",
    "Unavailable",
    "Unauthenticated",
    "Unimplemented",
    "Unknown",
]


_BY_NUMBER: Dict[int, Type["Error"]] = {}


class Error(Exception):
    """A call, or something else that was asked of a server, failed."""

    #: The kind of failure as text: "UNAVAILABLE", "INVALID_ARGUMENT", ...
    code: str = "UNKNOWN"
    #: Seconds after which it is worth another try; None where that is not known.
    retry_after: Optional[float] = None

    def __init_subclass__(cls, *, status: Optional[int] = None, **options: Any) -> None:
        """`status`: its number, as absl::StatusCode has it; its code is its name then."""
        super().__init_subclass__(**options)
        if status is not None:
            cls.code = re.sub(r"(?<!^)(?=[A-Z])", "_", cls.__name__).upper()
            _BY_NUMBER[status] = cls


class Cancelled(Error, status=1):
    """The model's side gave the call up."""


class Unknown(Error, status=2):
    """The model raised something that says nothing about its kind."""


class InvalidArgument(Error, ValueError, status=3):
    """The arguments do not fit the method, or the model says that they make no sense."""


class DeadlineExceeded(Error, TimeoutError, status=4):
    """The time of the call was over; the model may or may not have seen it."""


class NotFound(Error, LookupError, status=5):
    """There is no such server, file or thing."""


class AlreadyExists(Error, status=6):
    """There is one already."""


class PermissionDenied(Error, status=7):
    """Another user's server, or a file that may not be read."""


class ResourceExhausted(Error, status=8):
    """A ring, an arena or the machine is full: nothing was started, try again later."""


class FailedPrecondition(Error, status=9):
    """Not possible as things are; after a fork, for instance."""


class Aborted(Error, status=10):
    """The worker died after it had started the call: it may have had effects."""


class OutOfRange(Error, status=11):
    """Beyond what there is."""


class Unimplemented(Error, NotImplementedError, status=12):
    """This build, or this model, cannot do that."""


class Internal(Error, status=13):
    """Something of the model's or of Baton's own broke."""


class Unavailable(Error, ConnectionError, status=14):
    """Not started, and cannot be in time: `retry_after` says when to try again, where that is known."""


class DataLoss(Error, status=15):
    """The worker wrote nonsense; the next call uses another channel."""


class Unauthenticated(Error, status=16):
    """Nobody whom the server knows."""


def _from_status(number: int, message: str, retry_after: Optional[float]) -> Error:
    """The exception for a status; the extension calls it."""
    error = _BY_NUMBER.get(number, Error)(message)
    if retry_after is not None:
        error.retry_after = retry_after
    return error
