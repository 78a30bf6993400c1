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
