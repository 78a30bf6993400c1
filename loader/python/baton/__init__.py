"""Baton: Python classes as models, served by a worker through shared memory."""

from baton._context import empty_output, get_secret, output_context, set_output_context
from baton.data_types import (JSON, Array, Audio, Concept, Frame, Image, NamedFields, Region, Stream,
                              Text, Video)
from baton.models import CallEnded, ModelClass

__all__ = [
    "Array", "Audio", "CallEnded", "Concept", "Frame", "Image", "JSON", "ModelClass", "NamedFields",
    "Region", "Stream", "Text", "Video", "empty_output", "get_secret", "output_context",
    "set_output_context",
]

# What calls models is loaded where it is asked for: a worker never does.
_LAZY = {
    "Front": "baton.front", "LoanedRequest": "baton.front", "Result": "baton.front",
    "Tensors": "baton.front", "ModelServer": "baton.server", "aio": None, "errors": None,
    **dict.fromkeys((
        "Aborted", "AlreadyExists", "Cancelled", "DataLoss", "DeadlineExceeded", "Error",
        "FailedPrecondition", "Internal", "InvalidArgument", "NotFound", "OutOfRange",
        "PermissionDenied", "ResourceExhausted", "Unauthenticated", "Unavailable", "Unimplemented",
        "Unknown"), "baton.errors"),
}


def __getattr__(name):
    import importlib
    if name not in _LAZY:
        raise AttributeError(f"module 'baton' has no attribute {name!r}")
    module = _LAZY[name]
    if module is None:
        return importlib.import_module(f"baton.{name}")
    value = globals()[name] = getattr(importlib.import_module(module), name)
    return value


def __dir__():
    return sorted({*globals(), *_LAZY})
