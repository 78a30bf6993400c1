"""From a model's class to the methods that a worker serves."""

import functools
import inspect
import os
import sys
import typing

from baton import _types, models

_MAX_TENSORS = 64  # baton::kMaxTensors, one of them for the secrets
_MAX_NAME_BYTES = 255
_MAX_METHODS = 256
_MAX_DOC = 1000  # all methods together have to fit a packet
_SECRETS = "baton.secrets"
_CONTEXT = "baton.context"


class BadModel(Exception):
    """What is wrong with a model's code, where, and what to write instead."""


def _place(function, folder):
    code = getattr(inspect.unwrap(function), "__code__", None)
    if code is None:
        return "?"
    return f"{os.path.relpath(code.co_filename, folder)}:{code.co_firstlineno}" if (
        code.co_filename.startswith(folder)) else f"{code.co_filename}:{code.co_firstlineno}"


def text_of(annotation):
    """As people write it."""
    if isinstance(annotation, str):
        return annotation
    if getattr(annotation, "_anonymous", False):
        return repr(annotation)
    return inspect.formatannotation(annotation).replace("typing.", "").replace("baton.data_types.", "")


def _default_text(value):
    text = repr(value)
    return text if len(text) <= 200 else text[:197] + "..."


def _is_method(cls, name):
    for base in cls.__mro__:
        function = base.__dict__.get(name)
        if callable(function) and hasattr(inspect.unwrap(function), models._MARK):
            return True
    return False


def _method_names(cls):
    """In the order of their definition, those of bases first; but "predict" before all others."""
    foreign = getattr(cls, "_get_method_infos", None)
    if foreign is not None and not issubclass(cls, models.ModelClass):
        return list(foreign())
    names = []
    for base in reversed(cls.__mro__):
        for name in base.__dict__:
            if name not in names and _is_method(cls, name) and callable(getattr(cls, name, None)):
                names.append(name)
    names.sort(key=lambda name: name != "predict")  # is stable
    return names


class _Reader:
    """One method."""

    def __init__(self, cls, name, folder, tells_context):
        self._tells_context = tells_context
        self._function = inspect.unwrap(getattr(cls, name))
        self._where = f"{cls.__name__}.{name} ({_place(self._function, folder)})"
        self.name = name

    def bad(self, what):
        return BadModel(f"{self._where}: {what}")

    def read(self):
        function = self._function
        if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
            raise self.bad("is asynchronous; write a plain method")
        try:
            hints = typing.get_type_hints(function, include_extras=True)
        except Exception as error:
            raise self.bad(f"its annotations cannot be read: {error}") from None
        parameters = list(inspect.signature(function).parameters.values())
        if not parameters:
            raise self.bad("takes no self")
        inputs = [self._input(parameter, hints) for parameter in parameters[1:]]
        streamed = [entry["name"] for entry in inputs if entry["spec"][4]]
        if len(streamed) > 1:
            raise self.bad(f"takes two streams, '{streamed[0]}' and '{streamed[1]}'; one method reads "
                           "one: make it a stream of NamedFields")
        if len(inputs) >= _MAX_TENSORS:
            raise self.bad(f"takes {len(inputs)} parameters; at most {_MAX_TENSORS - 1} can be sent")
        if "return" not in hints:
            raise self.bad("does not say what it returns; write `-> str`, for example")
        result, item = hints["return"], self._item("the returned type", hints["return"])
        shape, outputs = self._outputs(result if item is None else item)
        if self._tells_context:
            outputs.append({"name": _CONTEXT, "leave": None, "spec": _spec(_types.Type(
                _types.JSON, "uint8", (_types.ANY_DIM,)), False, False, "", "")})
        inputs.append({"name": _SECRETS, "spec": _spec(_types.Type(
            _types.SECRET, "uint8", (_types.ANY_DIM,)), True, False, "", "")})
        return {"name": self.name, "doc": (inspect.getdoc(function) or "")[:_MAX_DOC], "inputs": inputs,
                "outputs": outputs, "output_shape": shape, "streams_inputs": bool(streamed),
                "streams_outputs": item is not None}

    def _item(self, what, annotation):
        try:
            return _types.item_of(annotation)
        except _types.Unsupported as error:
            raise self.bad(f"{what} `{text_of(annotation)}` {error}") from None

    def _type(self, what, annotation):
        try:
            return _types.of(annotation)
        except _types.Unsupported as error:
            raise self.bad(f"{what} `{text_of(annotation)}` {error}") from None

    def _input(self, parameter, hints):
        what = f"the parameter '{parameter.name}'"
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            raise self.bad(f"{what} stands for any number of them; name each that callers may send")
        if parameter.name not in hints:
            raise self.bad(f"{what} has no annotation; write `{parameter.name}: str`, for example")
        if len(parameter.name.encode()) > _MAX_NAME_BYTES:
            raise self.bad(f"{what} has a name of more than {_MAX_NAME_BYTES} bytes")
        annotation, text = hints[parameter.name], text_of(hints[parameter.name])
        default = parameter.default
        if type(default).__name__ == "Param" and hasattr(default, "default"):  # also the SDK's
            default = parameter.empty if default.default is ... else default.default
        has_default = default is not parameter.empty
        made = {"name": parameter.name, "keyword_only": parameter.kind is parameter.KEYWORD_ONLY}
        item = self._item(f"{what}:", annotation)
        if item is not None:
            if has_default:
                raise self.bad(f"{what} is a stream, which can have no default")
            kind = self._type(f"{what}: an item of", item)
            return {**made, "spec": _spec(kind, False, True, text, ""), "arrive": kind.arrive}
        # Left out means the default; so None can be sent by leaving out only where it is the default.
        bare, nullable = _types.without_none(annotation)
        if has_default:
            made["default"] = default
        if nullable and (not has_default or default is None):
            annotation, made["default"] = bare, None
        kind = self._type(f"{what}:", annotation)
        shown = _default_text(made["default"]) if has_default else ""
        return {**made, "spec": _spec(kind, "default" in made, False, text, shown),
                "arrive": kind.arrive}

    def _outputs(self, annotation):
        def single():
            kind = self._type("the returned type", annotation)
            return "single", [{"name": "output", "leave": kind.leave,
                               "spec": _spec(kind, False, False, text_of(annotation), "")}]

        args, fields = typing.get_args(annotation), _types.fields_of(annotation)
        if typing.get_origin(annotation) is tuple and args and Ellipsis not in args:
            members, shape = {f"output_{i}": member for i, member in enumerate(args)}, "tuple"
        elif fields:
            # Names that would say something else at the caller's end.
            if "output" in fields or "output_0" in fields:
                return single()
            members, shape = fields, "fields"
        else:
            return single()
        if len(members) > _MAX_TENSORS - self._tells_context:
            return single()
        outputs = []
        for name, member in members.items():
            kind = self._type(f"the returned '{name}':", member)
            outputs.append({"name": name, "leave": kind.leave,
                            "spec": _spec(kind, False, False, text_of(member), "")})
        return shape, outputs


def _spec(kind, optional, streamed, type_text, default_text):
    return (kind.content, kind.dtype, kind.shape, optional, streamed, type_text, default_text)


def _tells_context(cls, folder):
    """Whether code of the model's says set_output_context: its class, its bases, modules in its folder.

    Only then do its methods have an output for that, which costs each call a little.
    """
    modules = [sys.modules.get(base.__module__) for base in cls.__mro__
               if base is not models.ModelClass and base.__module__ not in _foreign_bases()]
    modules += [module for module in list(sys.modules.values())
                if (getattr(module, "__file__", None) or "").startswith(os.path.join(folder, ""))]
    for path in {getattr(module, "__file__", None) for module in modules}:
        try:
            with open(path, "rb") as source:
                if b"set_output_context" in source.read():
                    return True
        except (OSError, TypeError):
            continue
    return False


def methods_of(cls, folder):
    """All methods of a model's class. BadModel names the class, the method and its place."""
    names = _method_names(cls)
    if not names:
        raise BadModel(f"{cls.__name__} has no method for callers; decorate one with @ModelClass.method")
    if len(names) > _MAX_METHODS:
        raise BadModel(f"{cls.__name__} has {len(names)} methods; at most {_MAX_METHODS} can be served")
    tells_context = _tells_context(cls, folder)
    return [_Reader(cls, name, folder, tells_context).read() for name in names]


@functools.lru_cache(maxsize=None)
def _foreign_bases():
    return frozenset({"clarifai.runners.models.model_class"})


def is_model_class(cls):
    if cls is models.ModelClass:
        return False
    return issubclass(cls, models.ModelClass) or any(
        base.__name__ == "ModelClass" and base.__module__ in _foreign_bases() for base in cls.__mro__)
