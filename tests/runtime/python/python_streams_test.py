"""Methods that stream, of models written in Python, through the Python front: A2, A7, A8."""

import asyncio
import inspect
import os
import threading
import unittest

import baton
import baton.aio
import served

STREAMS = '''
from typing import Iterator

from baton.models import ModelClass


class Talker(ModelClass):
    def __init__(self):
        super().__init__()
        self.closed = 0

    @ModelClass.method
    def generate(self, prompt: str, count: int = 3) -> Iterator[str]:
        try:
            for i in range(count):
                yield f"{prompt}{i}"
        finally:
            self.closed += 1

    @ModelClass.method
    def stream(self, items: Iterator[str], prefix: str = "") -> Iterator[str]:
        for item in items:
            yield prefix + item.upper()

    @ModelClass.method
    def total(self, items: Iterator[int]) -> int:
        return sum(items)

    @ModelClass.method
    def breaks(self, prompt: str) -> Iterator[str]:
        yield prompt + "0"
        yield prompt + "1"
        raise RuntimeError("broken on purpose")

    @ModelClass.method
    def closes(self) -> int:
        return self.closed
'''


class Streams(served.ServedCase):
    def setUp(self):
        super().setUp()
        self.model = os.path.dirname(self.write("model/model.py", STREAMS))
        self.model_front = self.front(self.model, name="model")

    def test_a2_generate(self):
        front = self.model_front
        self.assertEqual(list(front.generate("x")), ["x0", "x1", "x2"])
        self.assertEqual(list(front.generate(prompt="y", count=100)), [f"y{i}" for i in range(100)])
        self.assertEqual(list(front.generate("z", 0)), [])
        self.assertIn("Iterator[str]", str(inspect.signature(front.generate)))

    def test_a7_the_first_chunk_comes_before_the_last_is_made(self):
        chunks = self.model_front.generate("x", count=1_000_000_000)
        self.assertEqual([next(chunks) for _ in range(3)], ["x0", "x1", "x2"])
        chunks.close()
        served.wait_for(lambda: self.model_front.closes() == 1, "the model sees the end")
        with self.assertRaises(StopIteration):
            next(chunks)

    def test_an_iterator_that_is_dropped_is_cancelled(self):
        chunks = self.model_front.generate("x", count=1_000_000_000)
        next(chunks)
        del chunks
        served.wait_for(lambda: self.model_front.closes() == 1, "the model sees the end")

    def test_a7_in_bidi_the_first_output_comes_before_the_second_input(self):
        came = threading.Semaphore(0)
        seen = []

        def items():
            for text in ("a", "b", "c"):
                yield text
                self.assertTrue(came.acquire(timeout=served.PATIENCE_S))

        for result in self.model_front.stream(items(), prefix="> "):
            seen.append(result)
            came.release()
        self.assertEqual(seen, ["> A", "> B", "> C"])

    def test_many_items(self):
        texts = [f"text {i}" for i in range(500)]
        self.assertEqual(list(self.model_front.stream(texts)), [t.upper() for t in texts])
        self.assertEqual(list(self.model_front.stream([])), [])

    def test_items_of_more_shapes_than_there_are_plans(self):
        texts = ["x" * (n % 400) for n in range(500)]
        self.assertEqual(list(self.model_front.stream(texts)), [t.upper() for t in texts])

    def test_results_that_are_kept(self):
        texts = [str(n) * 100_000 for n in range(10)]  # more than the window
        self.assertEqual(list(self.model_front.stream(texts)), texts)

    def test_a_stream_of_inputs_with_one_result(self):
        self.assertEqual(self.model_front.total(range(100)), 4950)
        self.assertEqual(self.model_front.total(iter([])), 0)

    def test_a8_earlier_chunks_then_the_traceback(self):
        chunks = self.model_front.breaks("x")
        self.assertEqual([next(chunks), next(chunks)], ["x0", "x1"])
        with self.assertRaisesRegex(baton.Error, "RuntimeError: broken on purpose"):
            next(chunks)

    def test_an_iterator_that_raises(self):
        def items():
            yield "a"
            raise LookupError("of the caller's")

        with self.assertRaisesRegex(LookupError, "of the caller's"):
            list(self.model_front.stream(items()))
        self.assertEqual(list(self.model_front.stream(["b"])), ["B"])

    def test_timeout(self):
        came = threading.Event()
        self.addCleanup(came.set)

        def items():
            came.wait()
            yield "never"

        with self.assertRaises(baton.DeadlineExceeded):
            list(self.model_front.with_options("stream", timeout=0.3)(items()))

    def test_from_asyncio(self):
        async def items():
            for text in ("a", "b"):
                yield text
                await asyncio.sleep(0)

        async def job():
            async with baton.aio.attach("model") as front:
                self.assertEqual([c async for c in front.generate("x")], ["x0", "x1", "x2"])
                self.assertEqual([c async for c in front.stream(items())], ["A", "B"])
                self.assertEqual([c async for c in front.stream(["c", "d"])], ["C", "D"])
                self.assertEqual(await front.total([1, 2, 3]), 6)
                chunks = front.breaks("x")
                self.assertEqual(await chunks.__anext__(), "x0")
                self.assertEqual(await chunks.__anext__(), "x1")
                with self.assertRaisesRegex(baton.Error, "broken on purpose"):
                    await chunks.__anext__()
                endless = front.generate("x", count=1_000_000_000)
                self.assertEqual(await endless.__anext__(), "x0")
                await endless.aclose()
                while await front.closes() < 2:
                    await asyncio.sleep(0.005)

        asyncio.run(job())


if __name__ == "__main__":
    served.main()
