"""Annotations as tensors: what each becomes, and the checks that its values pass.

A Type says how a value travels (content, dtype, shape: see value_codec.h), and may have `arrive`, which
makes what the codec gives into what the annotation promises, and `leave`, the reverse. Both raise
TypeError or ValueError for what is none of the type. None: there is nothing to do.
"""

import collections.abc
import functools
import inspect
import types
import typing

from baton import data_types

# baton::Content and baton::DType.
TENSOR, SCALAR, TEXT, BYTES, IMAGE, JSON, VALUE, SECRET = range(8)
DTYPES = {
    "bool": 1, "uint8": 2, "int8": 3, "uint16": 4, "int16": 5, "uint32": 6, "int32": 7, "uint64": 8,
    "int64": 9, "float16": 10, "bfloat16": 11, "float32": 12, "float64": 13, "any": 255,
}
ANY_DIM, ANY_RANK = -1, -2
MAX_RANK = 8


class Unsupported(Exception):
    """An annotation that nothing can be made of; says why."""


class Type:
    def __init__(self, content, dtype, shape, arrive=None, leave=None, check=None):
        self.content, self.dtype, self.shape = content, DTYPES[dtype], tuple(shape)
        self.arrive, self.leave = arrive, leave
        # Of this type inside of another one, where the codec has looked at nothing.
        self.check = check


def _value(check, codec_checks=False):
    conversion = None if codec_checks else check
    return Type(VALUE, "uint8", (ANY_DIM,), conversion, conversion, check)


def _wrong(expected, value):
    return TypeError(f"expected {expected}, not {type(value).__name__}")


def _anything(value):
    return value


def _text(value):
    if isinstance(value, str):
        return value
    if type(value).__name__ == "Text" and isinstance(getattr(value, "text", None), str):
        return value.text
    raise _wrong("str", value)


def _bytes(value):
    if isinstance(value, bytes):
        return value
    if isinstance(value, (bytearray, memoryview)):
        return bytes(value)
    raise _wrong("bytes", value)


def _int(value):
    if isinstance(value, int):
        return int(value)
    if hasattr(value, "__index__") and not hasattr(value, "__len__"):
        return value.__index__()
    raise _wrong("int", value)


def _float(value):
    if isinstance(value, (int, float)):
        return float(value)
    if hasattr(value, "dtype") and getattr(value, "ndim", None) == 0:
        return float(value)
    raise _wrong("float", value)


def _bool(value):
    if isinstance(value, bool):
        return value
    if type(value).__name__ in ("bool_", "bool") and hasattr(value, "dtype"):
        return bool(value)
    raise _wrong("bool", value)


def _none(value):
    if value is not None:
        raise _wrong("None", value)


def _instance(cls):
    def check(value):
        if not isinstance(value, cls):
            raise _wrong(cls.__name__, value)
        return value
    return check


def _text_object(value):
    return value if isinstance(value, data_types.Text) else data_types.Text(_text(value))


def _array(dtype, shape):
    """`dtype` a numpy dtype or None; `shape` a tuple with None for any, or None for any shape."""
    import numpy as np

    def check(value):
        if not hasattr(value, "__array__"):
            raise _wrong("an array", value)
        array = value if isinstance(value, np.ndarray) else np.asarray(value)
        if dtype is not None and array.dtype != dtype:
            raise TypeError(f"expected an array of {dtype}, not of {array.dtype}")
        if shape is not None and (len(shape) != array.ndim or any(
                want not in (None, have) for want, have in zip(shape, array.shape))):
            raise TypeError(f"expected an array of shape {list(shape)}, not {list(array.shape)}")
        return array

    if dtype is not None and dtype.name not in DTYPES:
        raise Unsupported(f"arrays of {dtype.name} cannot be sent; use one of {', '.join(DTYPES)}")
    if shape is not None and len(shape) > MAX_RANK:
        raise Unsupported(f"an array has at most {MAX_RANK} dimensions")
    dims = (ANY_RANK,) if shape is None else tuple(ANY_DIM if dim is None else dim for dim in shape)
    return Type(TENSOR, "any" if dtype is None else dtype.name, dims, check=check)


def _annotated_array(metadata):
    import numpy as np
    dtype, shape = None, None
    for entry in metadata:
        if isinstance(entry, tuple):
            shape = tuple(None if dim in (None, -1, "?") or isinstance(dim, str) else int(dim)
                          for dim in entry)
        elif isinstance(entry, (np.dtype, str)) or (isinstance(entry, type) and
                                                    issubclass(entry, np.generic)):
            dtype = np.dtype(entry)
    return _array(dtype, shape)


# Values of exactly this type pass a check as they are.
_EXACT = {_text: {str}, _bytes: {bytes}, _int: {int}, _float: {float}, _bool: {bool}}


def _sequence(of, kind, name):
    exact = _EXACT.get(of)

    def check(value):
        if not isinstance(value, (list, tuple)):
            raise _wrong(name, value)
        if of is _anything or (exact is not None and exact.issuperset(map(type, value))):
            return value if type(value) is kind else kind(value)
        made = []
        for index, entry in enumerate(value):
            try:
                made.append(of(entry))
            except (TypeError, ValueError) as error:
                raise type(error)(f"[{index}]: {error}") from None
        return kind(made)
    return check


def _tuple(members):
    def check(value):
        if not isinstance(value, (list, tuple)) or len(value) != len(members):
            raise TypeError(f"expected a tuple of {len(members)}, not " +
                            (f"{len(value)} of them" if isinstance(value, (list, tuple))
                             else type(value).__name__))
        made = []
        for index, (of, entry) in enumerate(zip(members, value)):
            try:
                made.append(of(entry))
            except (TypeError, ValueError) as error:
                raise type(error)(f"[{index}]: {error}") from None
        return tuple(made)
    return check


def _mapping(key, of):
    def check(value):
        if not isinstance(value, collections.abc.Mapping):
            raise _wrong("dict", value)
        made = {}
        for name, entry in value.items():
            try:
                made[key(name)] = of(entry)
            except (TypeError, ValueError) as error:
                raise type(error)(f"[{name!r}]: {error}") from None
        return made
    return check


def fields_of(annotation):
    """The fields of a NamedFields type, by name; None when it is none."""
    if isinstance(annotation, type) and annotation is not data_types.NamedFields:
        named = issubclass(annotation, data_types.NamedFields) or any(
            base.__name__ == "NamedFields" for base in annotation.__mro__[1:])
        if named:
            return typing.get_type_hints(annotation, include_extras=True)
    return None


def _fields(annotation, members):
    defaults = {name: annotation.__dict__[name] for name in members if name in annotation.__dict__}

    def check(value):
        if not isinstance(value, (collections.abc.Mapping, data_types.NamedFields)) and (
                "NamedFields" not in [base.__name__ for base in type(value).__mro__]):
            raise _wrong("NamedFields", value)
        named = isinstance(value, collections.abc.Mapping)
        have, made = dict(value) if named else dict(vars(value)), dict(defaults)
        unknown = [name for name in have if name not in members]
        if unknown:
            raise TypeError(f"there is no field '{unknown[0]}' among {', '.join(members)}")
        for name, entry in have.items():
            try:
                made[name] = members[name](entry)
            except (TypeError, ValueError) as error:
                raise type(error)(f"{name}: {error}") from None
        missing = [name for name in members if name not in made]
        if missing:
            raise TypeError(f"the field '{missing[0]}' is missing")
        return annotation(**made)
    return check


def _union(members):
    def check(value):
        for of in members:
            if of is _none and value is None:
                return None
        errors = []
        for of in members:
            try:
                return of(value)
            except (TypeError, ValueError) as error:
                errors.append(str(error))
        raise TypeError("; ".join(errors))
    return check


def _literal(choices):
    def check(value):
        if value not in choices:
            raise ValueError(f"expected one of {', '.join(map(repr, choices))}, not {value!r}")
        return value
    if all(isinstance(choice, str) for choice in choices):
        return Type(TEXT, "uint8", (ANY_DIM,), check, check, check)
    return _value(check)


def _of_sdk(annotation, name):
    """Types of the SDK whose place Baton takes, where that is installed: they look like ours."""
    if name == "Text":
        return Type(TEXT, "uint8", (ANY_DIM,), annotation, _text, annotation)
    if name not in ("Image", "Audio", "Video"):
        return None
    ours = getattr(data_types, name)

    def arrive(value):
        return annotation(url=value.url, bytes=value.bytes)

    def leave(value):
        if not isinstance(value, (annotation, ours)):
            raise _wrong(name, value)
        return ours(url=value.url or None, bytes=value.bytes or None)
    return Type(VALUE, "uint8", (ANY_DIM,), arrive, leave, arrive)


def _foreign(annotation):
    """Types of libraries that need not be there: torch's tensors, Pillow's images."""
    module, name = getattr(annotation, "__module__", ""), getattr(annotation, "__name__", "")
    if module.startswith("clarifai.runners.utils.data_types"):
        return _of_sdk(annotation, name)
    if module == "torch" and name == "Tensor":
        import warnings

        import torch
        warnings.filterwarnings("ignore", message="The given NumPy array is not writ")
        return Type(TENSOR, "any", (ANY_RANK,), torch.as_tensor, None, torch.as_tensor)
    if module == "PIL.Image" and name == "Image":
        def arrive(value):
            return data_types.Image.from_value(value).to_pil()
        return Type(IMAGE, "uint8", (ANY_DIM,) * 3, arrive, data_types.Image.from_value, arrive)
    return None


def without_none(annotation):
    """(T, True) of Optional[T], (annotation, False) of anything else."""
    if typing.get_origin(annotation) in (typing.Union, types.UnionType):
        members = [member for member in typing.get_args(annotation) if member is not type(None)]
        if len(members) < len(typing.get_args(annotation)):
            return (members[0] if len(members) == 1 else typing.Union[tuple(members)]), True
    return annotation, False


_ITERATORS = (collections.abc.Iterator, collections.abc.Iterable, collections.abc.Generator,
              data_types.Stream)
_ASYNC = (collections.abc.AsyncIterator, collections.abc.AsyncIterable,
          collections.abc.AsyncGenerator, collections.abc.Awaitable, collections.abc.Coroutine)


def _is_stream_class(annotation):
    return inspect.isclass(annotation) and annotation.__name__ == "Stream"


def item_of(annotation):
    """T of Iterator[T], Iterable[T], Generator[T, ...] and Stream[T]; None of anything else."""
    origin = typing.get_origin(annotation)
    if origin in _ASYNC or annotation in _ASYNC:
        raise Unsupported("is asynchronous; write a plain method with Iterator[...]")
    bare = annotation in _ITERATORS or (origin in _ITERATORS and not typing.get_args(annotation))
    if bare or (origin is None and _is_stream_class(annotation)):
        raise Unsupported("does not say what of; write Iterator[str], for example")
    if origin in _ITERATORS or _is_stream_class(origin):
        return typing.get_args(annotation)[0]
    return None


def _simple():
    import numpy as np
    line = (ANY_DIM,)
    made = {
        str: Type(TEXT, "uint8", line, None, None, _text),
        bytes: Type(BYTES, "uint8", line, None, None, _bytes),
        bytearray: Type(BYTES, "uint8", line, bytearray, None, lambda v: bytearray(_bytes(v))),
        int: Type(SCALAR, "int64", (), None, None, _int),
        float: Type(SCALAR, "float64", (), None, None, _float),
        bool: Type(SCALAR, "bool", (), None, None, _bool),
        type(None): _value(_none),
        typing.Any: _value(_anything, codec_checks=True),
        object: _value(_anything, codec_checks=True),
        list: _value(_instance(list)),
        tuple: _value(_instance(tuple)),
        dict: _value(_instance(dict)),
        np.ndarray: _array(None, None),
        data_types.Text: Type(TEXT, "uint8", line, data_types.Text, None, _text_object),
        data_types.Image: Type(IMAGE, "uint8", (ANY_DIM,) * 3, None, data_types.Image.from_value,
                               data_types.Image.from_value),
        data_types.JSON: Type(JSON, "uint8", line, data_types.JSON, None, _instance(data_types.JSON)),
        data_types.NamedFields: _value(_instance(data_types.NamedFields)),
    }
    for cls in (data_types.Audio, data_types.Video, data_types.Frame, data_types.Concept,
                data_types.Region):
        made[cls] = _value(_instance(cls))
    for name in DTYPES:
        if name not in ("any", "bfloat16"):
            scalar = np.dtype(name).type
            made[scalar] = Type(SCALAR, name, (), scalar, None, scalar)
    return made


_simple = functools.lru_cache(maxsize=None)(_simple)


def of(annotation):
    """The Type of an annotation, which has been resolved. Unsupported says why there is none."""
    if annotation is None:
        annotation = type(None)
    try:
        if annotation in _simple():
            return _simple()[annotation]
    except TypeError:
        pass  # no annotation at all: it has no hash
    return _composite(annotation) or _foreign(annotation) or _refuse(annotation)


def _refuse(annotation):
    raise Unsupported("is no type that can be sent (str, bytes, int, float, bool, numpy.ndarray, dict, "
                      "list, tuple, NamedFields, Image, Audio, Text, ...)")


def _composite(annotation):
    import numpy as np
    origin, args = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (list, tuple, dict) and not args:
        return of(origin)
    if origin is typing.Annotated:
        return _annotated_array(args[1:]) if args[0] is np.ndarray else of(args[0])
    if origin is np.ndarray:
        dtypes = [d for d in typing.get_args(args[1]) if inspect.isclass(d)] if len(args) > 1 else []
        known = [np.dtype(d) for d in dtypes if np.dtype(d).name in DTYPES or not inspect.isabstract(d)]
        return _array(known[0] if known and dtypes[0] is not np.generic else None, None)
    if origin is typing.Literal:
        return _literal(args)
    if origin in (typing.Union, types.UnionType):
        return _value(_union([of(member).check for member in args]))
    if origin in (list, collections.abc.Sequence, collections.abc.Collection):
        return _value(_sequence(of(args[0]).check, list, "list"))
    if origin is tuple:
        if len(args) == 2 and args[1] is Ellipsis:
            return _value(_sequence(of(args[0]).check, tuple, "tuple"))
        return _value(_tuple([of(member).check for member in args]))
    if origin in (dict, collections.abc.Mapping, collections.abc.MutableMapping):
        return _value(_mapping(of(args[0]).check, of(args[1]).check))
    fields = fields_of(annotation)
    if fields is not None:
        members = {name: of(member).check for name, member in fields.items()}
        check = _fields(annotation, members)
        if issubclass(annotation, data_types.NamedFields):
            return _value(check)
        return Type(VALUE, "uint8", (ANY_DIM,), check,
                    lambda value: data_types.NamedFields(**check(value).__dict__), check)
    return None
