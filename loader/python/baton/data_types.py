"""Types that a model's methods may take and give, beside Python's own and numpy's."""

import base64
import io
import typing
from collections.abc import Iterator

_RECORDS = {}  # by name: what a Value's record may be


class MessageData:
    """An object that travels by its fields. `_fields` names them, None is left out."""

    _fields = ()

    def __init_subclass__(cls, **kwargs):
        super().__init_subclass__(**kwargs)
        if "_fields" in cls.__dict__:
            _RECORDS[cls.__name__] = cls

    def _record(self):
        values = ((name, getattr(self, "_" + name, None)) for name in self._fields)
        return {name: value for name, value in values if value is not None}

    @classmethod
    def _from_record(cls, fields):
        made = cls.__new__(cls)
        for name in cls._fields:
            setattr(made, "_" + name, fields.get(name))
        return made

    def __eq__(self, other):
        if type(other) is not type(self):
            return NotImplemented
        mine, others = self._record(), other._record()
        return mine.keys() == others.keys() and all(_same(mine[k], others[k]) for k in mine)

    __hash__ = None

    def __repr__(self):
        return f"{type(self).__name__}({', '.join(f'{k}={_shown(v)}' for k, v in self._record().items())})"


def _same(a, b):
    if hasattr(a, "__array__") or hasattr(b, "__array__"):
        import numpy as np
        return np.array_equal(a, b)
    return a == b


def _shown(value):
    if isinstance(value, bytes):
        return f"<{len(value)} bytes>"
    if hasattr(value, "__array__"):
        return f"<array {getattr(value, 'shape', '')}>"
    return repr(value)


class Text(MessageData):
    """A text, or where to find it."""

    _fields = ("text", "url")

    def __init__(self, text=None, url=None):
        self._text, self._url = text, url

    @property
    def text(self):
        return self._text

    @property
    def url(self):
        return self._url

    def __eq__(self, other):
        if isinstance(other, str):
            return self._text == other
        return super().__eq__(other)

    __hash__ = None

    def __bool__(self):
        return bool(self._text or self._url)

    def __str__(self):
        return self._text or ""


class _Media(MessageData):
    """Encoded bytes, or where to find them."""

    def __init__(self, url=None, bytes=None):
        self._url, self._bytes = url, bytes

    @classmethod
    def from_url(cls, url):
        return cls(url=url)

    @property
    def url(self):
        return self._url

    @url.setter
    def url(self, value):
        self._url = value

    @property
    def bytes(self):
        return self._bytes

    @bytes.setter
    def bytes(self, value):
        self._bytes = value

    def to_base64_str(self):
        if self.bytes is None:
            raise ValueError(f"this {type(self).__name__} has no bytes")
        return base64.b64encode(self.bytes).decode("ascii")


class Audio(_Media):
    """Sound in a file format."""

    _fields = ("url", "bytes")


class Video(_Media):
    """A film in a file format."""

    _fields = ("url", "bytes")


def _pillow(what):
    try:
        from PIL import Image as pillow
    except ImportError:
        raise ValueError(f"{what} needs Pillow (python3-pil), which is not installed") from None
    return pillow


class Image(_Media):
    """A picture: pixels, or a file's bytes, or where to find it. Converts between the first two."""

    _fields = ("url", "bytes", "pixels")

    def __init__(self, url=None, bytes=None, pixels=None):
        super().__init__(url=url, bytes=bytes)
        self._pixels = pixels

    @classmethod
    def from_numpy(cls, array):
        """uint8: height, width and, if there are any, channels."""
        import numpy as np
        array = np.asarray(array)
        if array.dtype != np.uint8 or array.ndim not in (2, 3):
            raise ValueError("an image's pixels are uint8 [height, width] or [height, width, channels], "
                             f"not {array.dtype} {list(array.shape)}")
        return cls(pixels=array.reshape(*array.shape, 1) if array.ndim == 2 else array)

    @classmethod
    def from_pil(cls, image, img_format="PNG"):
        with io.BytesIO() as out:
            image.save(out, format=img_format)
            return cls(bytes=out.getvalue())

    @classmethod
    def from_value(cls, value):
        """An Image as it is, or one of pixels or of a Pillow image."""
        if isinstance(value, cls):
            return value
        if hasattr(value, "save") and hasattr(value, "mode"):
            return cls.from_pil(value)
        if hasattr(value, "__array__"):
            return cls.from_numpy(value)
        raise TypeError(f"expected an Image, not {type(value).__name__}")

    @property
    def bytes(self):
        """A file's bytes; of pixels, a PNG."""
        if self._bytes is None and self._pixels is not None:
            self._bytes = self.from_pil(self.to_pil())._bytes
        return self._bytes

    @bytes.setter
    def bytes(self, value):
        self._bytes, self._pixels = value, None

    def to_numpy(self):
        """uint8 [height, width, channels]. Read-only where it is a view of a request."""
        if self._pixels is None:
            import numpy as np
            array = np.asarray(self.to_pil())
            if array.dtype == bool:
                array = array.astype(np.uint8) * 255
            self._pixels = self.from_numpy(array)._pixels
        return self._pixels

    def to_pil(self):
        pillow = _pillow("to_pil() of an Image")
        if self._pixels is not None:
            one = self._pixels.shape[2] == 1
            return pillow.fromarray(self._pixels[:, :, 0] if one else self._pixels)
        if self._bytes is None:
            raise ValueError("this Image has neither pixels nor bytes" +
                             ("; fetch its url first" if self._url else ""))
        return pillow.open(io.BytesIO(self._bytes))


class Concept(MessageData):
    """A label, and how sure one is of it."""

    _fields = ("id", "name", "value")

    def __init__(self, name, value=1.0, id=None):
        self._name, self._value, self._id = name, value, id

    id = property(lambda self: self._id)
    name = property(lambda self: self._name)
    value = property(lambda self: self._value)


class Region(MessageData):
    """A part of a picture: box is [left, top, right, bottom], each from 0 to 1."""

    _fields = ("id", "box", "concepts", "mask", "point", "track_id", "text")

    def __init__(self, box=None, concepts=None, mask=None, point=None, track_id=None, text=None, id=None):
        self._box, self._concepts, self._mask, self._point = box, concepts, mask, point
        self._track_id, self._text, self._id = track_id, text, id

    id = property(lambda self: self._id)
    box = property(lambda self: self._box)
    concepts = property(lambda self: self._concepts or [])
    mask = property(lambda self: self._mask)
    point = property(lambda self: self._point)
    track_id = property(lambda self: self._track_id)
    text = property(lambda self: self._text)


class Frame(MessageData):
    """One picture of a film, and what was found in it."""

    _fields = ("time", "image", "regions", "concepts")

    def __init__(self, time=None, image=None, regions=None, concepts=None):
        self._time, self._image, self._regions, self._concepts = time, image, regions, concepts

    time = property(lambda self: self._time)
    image = property(lambda self: self._image)
    regions = property(lambda self: self._regions or [])
    concepts = property(lambda self: self._concepts or [])


class JSON(MessageData):
    """What JSON can say: sent as its text."""

    _fields = ("value",)

    def __init__(self, value=None):
        self._value = value

    @property
    def value(self):
        return self._value

    def __eq__(self, other):
        return self._value == (other._value if isinstance(other, JSON) else other)

    __hash__ = None

    def __bool__(self):
        return bool(self._value)


class Param:
    """A default with more to say: `max_tokens: int = Param(default=512, description="...")`."""

    def __init__(self, default=..., description="", **limits):
        self.default, self.description, self.limits = default, description, limits


def _is_annotation(value):
    return isinstance(value, type) or value is typing.Any or typing.get_origin(value) is not None


class _NamedFieldsMeta(type):
    # NamedFields(name=str, score=float) is a type, NamedFields(name="x", score=0.5) an object.
    def __call__(cls, *args, **kwargs):
        if kwargs and not args and all(_is_annotation(value) for value in kwargs.values()):
            return type(cls)("NamedFields", (cls,), {"__annotations__": dict(kwargs), "_anonymous": True})
        return super().__call__(*args, **kwargs)

    def __repr__(cls):
        if not cls.__dict__.get("_anonymous"):
            return super().__repr__()
        shown = (f"{k}={v.__name__ if isinstance(v, type) and not typing.get_origin(v) else v}"
                 for k, v in cls.__annotations__.items())
        return f"NamedFields({', '.join(shown)})"


class NamedFields(metaclass=_NamedFieldsMeta):
    """Values by name: result.label, result["label"]."""

    def __init__(self, **fields):
        self.__dict__.update(fields)

    def keys(self):
        return self.__dict__.keys()

    def values(self):
        return self.__dict__.values()

    def items(self):
        return self.__dict__.items()

    def __contains__(self, name):
        return name in self.__dict__

    def __iter__(self):
        return iter(self.__dict__)

    def __getitem__(self, name):
        return self.__dict__[name]

    def __setitem__(self, name, value):
        self.__dict__[name] = value

    def __eq__(self, other):
        if not isinstance(other, NamedFields):
            return NotImplemented
        mine, others = self.__dict__, other.__dict__
        return mine.keys() == others.keys() and all(_same(mine[k], others[k]) for k in mine)

    __hash__ = None

    def __repr__(self):
        return f"NamedFields({', '.join(f'{k}={v!r}' for k, v in self.__dict__.items())})"


_Item = typing.TypeVar("_Item")


class Stream(Iterator, typing.Generic[_Item]):
    """In annotations: as Iterator."""


class Array:
    """In annotations: Array["float32", 3, None] is an array of that dtype, here 3 x any."""

    def __class_getitem__(cls, parts):
        import numpy as np
        dtype, *shape = parts if isinstance(parts, tuple) else (parts,)
        return typing.Annotated[np.ndarray, np.dtype(dtype), tuple(shape)]
