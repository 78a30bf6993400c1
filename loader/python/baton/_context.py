"""What a model's code can ask of the call that it runs in."""

import contextvars
import json
import os

_secrets = contextvars.ContextVar("baton_secrets")
_empty_output_of_worker = None  # in a worker, what worker_module.cc puts here
_output_context = contextvars.ContextVar("baton_output_context")


def get_secret(name, default=None):
    """The secret of that name: the caller's own, or else the worker's, or else `default`."""
    own = _secrets.get(None)
    if own is not None and name in own:
        return own[name]
    return os.environ.get(name, default)


def set_output_context(**values):
    """Facts about the answer of the call that runs; the last word for each name counts.

    Whatever JSON can say; anything else is a TypeError. Callers find them as `context` of a `baton.Result`;
    each result of a stream comes with those that had been told by then.
    """
    plain = json.loads(json.dumps(values, default=_plain))
    _output_context.set({**_output_context.get({}), **plain})


def _plain(value):
    """numpy's numbers are no ones of Python's."""
    if hasattr(value, "item") and getattr(value, "ndim", 1) == 0:
        return value.item()
    raise TypeError(f"set_output_context takes what JSON can say, not {type(value).__name__}")


def output_context():
    """What set_output_context was told in this call."""
    return dict(_output_context.get({}))


def empty_output(name, shape, dtype):
    """An array, uninitialised, in the memory that the answer is read from.

    For output `name` of the method that runs; once for each. Fill it and return (or yield) it: nothing
    is copied. It is an array of its own once the call has ended; views made from it must not be used
    any more then.
    """
    if _empty_output_of_worker is None:
        raise RuntimeError("empty_output: no model is running in this process")
    return _empty_output_of_worker(name, shape, dtype)


def _enter_secrets(text):
    """In the call's own context: `text` is a JSON object of texts. Gives its values."""
    try:
        secrets = json.loads(text)
    except ValueError:
        raise ValueError("is no JSON") from None  # which may be quoted by the error
    if not isinstance(secrets, dict) or not all(isinstance(v, str) for v in secrets.values()):
        raise ValueError("is no JSON object of texts")
    _secrets.set(secrets)
    return list(secrets.values())
