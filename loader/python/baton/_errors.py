"""An exception as a text for the caller, of a bounded length."""

import traceback

_MAX_BYTES = 3800  # a status carries 4 KiB
_MAX_FRAMES = 16


def where(error, inside):
    """"model.py:12": the last line in the model's own folder that the error came through."""
    found = None
    for frame in traceback.extract_tb(error.__traceback__):
        if found is None or frame.filename.startswith(inside):
            found = frame
    return "" if found is None else f"{found.filename}:{found.lineno}"


def describe(error, inside):
    """What it is and where, and the last frames of the traceback below."""
    name = type(error).__qualname__
    try:
        text = str(error)
    except Exception:
        text = "<its text cannot be had>"
    place = where(error, inside)
    head = f"{name}: {text}" if text else name
    head = _cut(head, _MAX_BYTES // 2)
    if place:
        head += f" ({place})"
    try:
        lines = traceback.format_exception(type(error), error, error.__traceback__, limit=-_MAX_FRAMES)
        trace = "".join(lines).rstrip()
    except Exception:
        return head
    room = _MAX_BYTES - len(head.encode("utf-8", "backslashreplace"))
    raw = trace.encode("utf-8", "backslashreplace")
    if len(raw) > room:
        raw = b"..." + raw[-max(room - 3, 0):]
    return head + "\n" + raw.decode("utf-8", "ignore")


def _cut(text, limit):
    raw = text.encode("utf-8", "backslashreplace")
    if len(raw) <= limit:
        return raw.decode("utf-8")
    return raw[:limit].decode("utf-8", "ignore") + "..."
