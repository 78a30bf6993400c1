"""Results that say more than their value."""

from __future__ import annotations

from typing import Any, Dict, NamedTuple

__all__ = ["Result", "Tensors"]


class Result(NamedTuple):
    """The value that a call gave, and who gave it."""

    #: What the method returned.
    value: Any
    #: The generation of the worker that answered.
    generation: int
    #: Seconds in the model.
    service_time: float


class Tensors(Dict[str, Any]):
    """Outputs by name, as read-only numpy arrays that lie in shared memory.

    A block of shared memory is kept for as long as any of the arrays, or a view of one, lives: copy what
    is to be kept for long. In a forked child they must not be read.
    """

    #: The generation of the worker that answered.
    generation: int
    #: Seconds in the model.
    service_time: float

    def __init__(self, arrays: Dict[str, Any], generation: int, service_time: float) -> None:
        super().__init__(arrays)
        self.generation = generation
        self.service_time = service_time
