import os
import sys

from baton.models import ModelClass


class Failing(ModelClass):
    @ModelClass.method
    def predict(self, text: str) -> str:
        return self._deep(text, 40)

    def _deep(self, text, depth):
        if depth == 0:
            raise KeyError(text)
        return self._deep(text, depth - 1)

    @ModelClass.method
    def leave(self) -> str:
        sys.exit(3)

    @ModelClass.method
    def interrupt(self) -> str:
        raise KeyboardInterrupt

    @ModelClass.method
    def wrong_type(self) -> str:
        return 5

    @ModelClass.method
    def wrong_fields(self) -> list[int]:
        return [1, "two"]

    @ModelClass.method
    def wrong_tuple(self) -> tuple[int, int]:
        return (1, 2, 3)

    @ModelClass.method
    def long_error(self) -> str:
        raise RuntimeError("x" * 100000)

    @ModelClass.method
    def tells_secret(self) -> str:
        from baton import get_secret
        raise RuntimeError("the key is " + get_secret("KEY"))

    def cleanup(self):
        raise RuntimeError("no cleaning today")
