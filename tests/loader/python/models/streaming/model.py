from typing import Generator, Iterator, List

import numpy as np

import baton
from baton.models import ModelClass
from baton.data_types import NamedFields, Stream


class Streaming(ModelClass):
    def __init__(self):
        super().__init__()
        self.events = []

    @ModelClass.method
    def generate(self, text: str, times: int = 3) -> Iterator[str]:
        try:
            for i in range(times):
                self.events.append(f"at {i}")
                yield f"{text}{i}"
        except GeneratorExit:
            self.events.append("closed")
            raise

    @ModelClass.method
    def stream(self, texts: Iterator[str], prefix: str = ">") -> Iterator[str]:
        for text in texts:
            yield prefix + text
        yield "end"

    @ModelClass.method
    def scored(self, items: Stream[NamedFields(name=str, score=float)]) -> Stream[NamedFields(name=str, double=float)]:
        for item in items:
            yield NamedFields(name=item.name, double=item.score * 2)

    @ModelClass.method
    def total(self, numbers: Iterator[int]) -> int:
        return sum(numbers)

    @ModelClass.method
    def as_list(self, text: str) -> List[str]:
        return list(text)

    @ModelClass.method
    def listed(self, text: str) -> Iterator[str]:
        return iter(text)

    @ModelClass.method
    def no_iterator(self, text: str) -> Iterator[str]:
        return 5

    @ModelClass.method
    def fails_midway(self, text: str) -> Generator[str, None, None]:
        yield text
        raise ValueError("enough of " + text)

    @ModelClass.method
    def swallows(self, texts: Iterator[str]) -> Iterator[str]:
        try:
            for text in texts:
                yield text
        except BaseException as error:
            self.events.append(type(error).__name__)
        yield "went on"

    @ModelClass.method
    def takes(self, texts: Iterator[str]) -> Iterator[str]:
        try:
            for text in texts:
                self.events.append(text)
        except BaseException as error:
            self.events.append(type(error).__name__)
        yield "went on"

    @ModelClass.method
    def arrays(self, count: int) -> Iterator[np.ndarray]:
        for i in range(count):
            out = baton.empty_output("output", (4,), np.int32)
            out[:] = i
            yield out

    @ModelClass.method
    def secret(self, name: str) -> Iterator[str]:
        for _ in range(2):
            yield baton.get_secret(name, "none")

    @ModelClass.method
    def log(self) -> List[str]:
        events, self.events = self.events, []
        return events
