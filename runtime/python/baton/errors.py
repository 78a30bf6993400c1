"""What a call can fail with. Every error of a server or a model is a `baton.Error`.

The class says what kind of failure it was, `code` the same as text, and the message what happened, to
what, and what to do next. Where a model written in Python raised, the message holds its traceback.
"""

from __future__ import annotations

from typing import Optional

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


class Error(Exception):
    """A call, or something else that was asked of a server, failed."""

    #: The kind of failure as text: "UNAVAILABLE", "INVALID_ARGUMENT", ...
    code: str = "UNKNOWN"
    #: Seconds after which it is worth another try; None where that is not known.
    retry_after: Optional[float] = None


class Cancelled(Error):
    """The model's side gave the call up."""

    code = "CANCELLED"


class Unknown(Error):
    """The model raised something that says nothing about its kind."""

    code = "UNKNOWN"


class InvalidArgument(Error, ValueError):
    """The arguments do not fit the method, or the model says that they make no sense."""

    code = "INVALID_ARGUMENT"


class DeadlineExceeded(Error, TimeoutError):
    """The time of the call was over; the model may or may not have seen it."""

    code = "DEADLINE_EXCEEDED"


class NotFound(Error, LookupError):
    """There is no such server, file or thing."""

    code = "NOT_FOUND"


class AlreadyExists(Error):
    """There is one already."""

    code = "ALREADY_EXISTS"


class PermissionDenied(Error):
    """Another user's server, or a file that may not be read."""

    code = "PERMISSION_DENIED"


class ResourceExhausted(Error):
    """A ring, an arena or the machine is full: nothing was started, try again later."""

    code = "RESOURCE_EXHAUSTED"


class FailedPrecondition(Error):
    """Not possible as things are; after a fork, for instance."""

    code = "FAILED_PRECONDITION"


class Aborted(Error):
    """The worker died after it had started the call: it may have had effects."""

    code = "ABORTED"


class OutOfRange(Error):
    """Beyond what there is."""

    code = "OUT_OF_RANGE"


class Unimplemented(Error, NotImplementedError):
    """This build, or this model, cannot do that."""

    code = "UNIMPLEMENTED"


class Internal(Error):
    """Something of the model's or of Baton's own broke."""

    code = "INTERNAL"


class Unavailable(Error, ConnectionError):
    """Not started, and cannot be in time: `retry_after` says when to try again, where that is known."""

    code = "UNAVAILABLE"


class DataLoss(Error):
    """The worker wrote nonsense; the next call uses another channel."""

    code = "DATA_LOSS"


class Unauthenticated(Error):
    """Nobody whom the server knows."""

    code = "UNAUTHENTICATED"


# By the number of the status, as absl::StatusCode has it.
_BY_NUMBER = {
    1: Cancelled,
    2: Unknown,
    3: InvalidArgument,
    4: DeadlineExceeded,
    5: NotFound,
    6: AlreadyExists,
    7: PermissionDenied,
    8: ResourceExhausted,
    9: FailedPrecondition,
    10: Aborted,
    11: OutOfRange,
    12: Unimplemented,
    13: Internal,
    14: Unavailable,
    15: DataLoss,
    16: Unauthenticated,
}


def _from_status(number: int, message: str, retry_after: Optional[float]) -> Error:
    """The exception for a status; the extension calls it."""
    error = _BY_NUMBER.get(number, Error)(message)
    if retry_after is not None:
        error.retry_after = retry_after
    return error
