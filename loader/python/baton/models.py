"""What a model derives from."""

from baton import _context

_MARK = "_baton_method"


class CallEnded(BaseException):
    """The caller has gone, its time is over, or the worker must end.

    Raised by the iterator of a streaming input. Not an Exception, so that a model that goes on after
    a bad item does not go on after this one.
    """


class ModelClass:
    """A model: one class in model.py that derives from this.

    The worker makes one instance, calls load_model() once, then its methods, one call at a time, and
    cleanup() once when it is told to end. Methods that callers may use are decorated with
    @ModelClass.method, and have annotations for all that they take and give.
    """

    @staticmethod
    def method(function):
        """Makes a method one that callers may use."""
        if not callable(function) or isinstance(function, (staticmethod, classmethod, type)):
            raise TypeError("@ModelClass.method goes on a plain method, above no staticmethod or "
                            f"classmethod; this is {function!r}")
        setattr(function, _MARK, True)
        return function

    def load_model(self):
        """Called once, after __init__."""

    def set_output_context(self, **values):
        """Facts about the answer of the call that runs, such as prompt_tokens=12 (baton.set_output_context)."""
        _context.set_output_context(**values)
