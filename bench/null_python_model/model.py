"""A model that does nothing, as bench/null_model.cc: what is left is the runtime and the loader."""

from typing import Iterator

import numpy as np
from numpy.typing import NDArray

import baton
from baton.models import ModelClass


class Null(ModelClass):
    def load_model(self):
        self.y = np.ones(8, np.uint8)

    @ModelClass.method
    def predict(self, x: NDArray[np.uint8]) -> NDArray[np.uint8]:
        return self.y

    @ModelClass.method
    def text(self, text: str) -> str:
        return text

    @ModelClass.method
    def whole(self, value: int) -> int:
        return value

    @ModelClass.method
    def identity(self, x: NDArray[np.uint8]) -> NDArray[np.uint8]:
        y = baton.empty_output("output", x.shape, x.dtype)
        y[0] = x[0]
        return y

    @ModelClass.method
    def generate(self, count: int) -> Iterator[NDArray[np.uint8]]:
        for _ in range(count):
            yield self.y
