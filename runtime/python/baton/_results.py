"""Results that say more than their value."""

from __future__ import annotations

from typing import Any, Dict, NamedTuple

__all__ = ["Result", "Tensors"]


class Result(NamedTuple):
    """The value that a call gave, who gave it, and what the model told beside it."""

    #: What the method returned.
    value: Any
    #: The generation of the worker that answered.
    generation: int
    #: Seconds in the model.
    service_time: float
    #: What the model told by set_output_context, such as {"prompt_tokens": 12}; empty where it told nothing.
    context: Dict[str, Any]


class Tensors(Dict[str, Any]):
    """Outputs by name, as read-only numpy arrays that lie in shared memory.

    A block of shared memory is kept for as long as any of the arrays, or a view of one, lives: copy what
    is to be kept for long. In a forked child they must not be read.
    """

    #: The generation of the worker that answered.
    generation: int
    #: Seconds in the model.
    service_time: float
    #: What the model told by set_output_context.
    context: Dict[str, Any]

    def __init__(
        self, arrays: Dict[str, Any], generation: int, service_time: float, context: Dict[str, Any]
    ) -> None:
        super().__init__(arrays)
        self.generation = generation
        self.service_time = service_time
        self.context = context
