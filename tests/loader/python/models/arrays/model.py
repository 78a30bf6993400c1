import numpy as np

import baton
from baton.models import ModelClass


class Arrays(ModelClass):
    def __init__(self):
        super().__init__()
        self.kept = None
        self.lent = None
        self.runs = 0

    @ModelClass.method
    def address(self, x: np.ndarray) -> int:
        return x.ctypes.data

    @ModelClass.method
    def writes(self, x: np.ndarray) -> str:
        try:
            x[0] = 7
        except ValueError as error:
            return str(error)
        return "written"

    @ModelClass.method
    def unlocks(self, x: np.ndarray) -> str:
        try:
            x.flags.writeable = True
        except ValueError as error:
            return str(error)
        return "unlocked"

    @ModelClass.method
    def keep(self, x: np.ndarray) -> None:
        self.kept = x[1:]

    @ModelClass.method
    def keep_in_list(self, x: list) -> int:
        self.kept = x[0]
        return x[0].ctypes.data

    @ModelClass.method
    def kept_sum(self) -> float:
        return self.kept.sum()

    @ModelClass.method
    def forget(self) -> None:
        self.kept = None

    @ModelClass.method
    def in_place(self, n: int) -> np.ndarray:
        out = baton.empty_output("output", n, np.float32)
        out[:] = np.arange(n)
        return out

    @ModelClass.method
    def keeps_output(self, n: int) -> np.ndarray:
        self.lent = baton.empty_output("output", n, "float32")
        self.lent[:] = 1
        return self.lent

    @ModelClass.method
    def lent_sum(self) -> float:
        self.lent += 1
        return self.lent.sum()

    @ModelClass.method
    def other_array(self, n: int) -> np.ndarray:
        baton.empty_output("output", n, np.float32)
        return np.full(n, 3, np.float32)

    @ModelClass.method
    def other_shape(self, n: int) -> np.ndarray:
        baton.empty_output("output", n, np.float32)
        return np.full(n + 1, 3, np.float32)

    @ModelClass.method
    def counted(self, n: int) -> np.ndarray:
        self.runs += 1
        return np.full(n, self.runs, np.int64)

    @ModelClass.method
    def transposed(self, x: np.ndarray) -> np.ndarray:
        return x.T

    @ModelClass.method
    def complex(self) -> np.ndarray:
        return np.zeros(2, np.complex64)

    @ModelClass.method
    def no_such_output(self) -> np.ndarray:
        return baton.empty_output("outptu", 1, np.float32)
