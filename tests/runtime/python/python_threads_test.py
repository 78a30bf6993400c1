"""Several calls of a Python model at once: `num_threads` in its config.yaml."""

import concurrent.futures
import os
import threading
import unittest

import numpy as np

import served

MODEL = '''
import os
import threading
from typing import Iterator, List

import numpy as np

import baton
from baton.models import ModelClass


class Meeting(ModelClass):
    def load_model(self):
        self.barrier = threading.Barrier(2)
        self.local = threading.local()
        self.big_runs = 0

    def _meet(self):
        self.barrier.wait(timeout=100)  # raises where the other does not come

    @ModelClass.method
    def predict(self, text: str) -> str:
        return text.upper()

    @ModelClass.method
    def meet(self, name: str) -> str:
        self._meet()
        return name

    @ModelClass.method
    def meet_late(self, names: Iterator[str]) -> Iterator[str]:
        for name in names:
            self._meet()
            yield name

    @ModelClass.method
    def fill(self, value: int) -> np.ndarray:
        out = baton.empty_output("output", (1000,), np.int64)
        self._meet()
        out[:] = value
        self._meet()
        return out

    @ModelClass.method
    def whisper(self, name: str) -> str:
        self._meet()
        return baton.get_secret(name, "none")

    @ModelClass.method
    def fails(self, name: str) -> str:
        self._meet()
        raise ValueError(name)

    @ModelClass.method
    def calls_of_this_thread(self) -> int:
        self.local.calls = getattr(self.local, "calls", 0) + 1
        return self.local.calls

    @ModelClass.method
    def on_main_thread(self) -> bool:
        return threading.current_thread() is threading.main_thread()

    @ModelClass.method
    def cpus(self) -> List[int]:
        return sorted(os.sched_getaffinity(0))  # of the thread that calls

    @ModelClass.method
    def big(self, size: int) -> str:
        self.big_runs += 1
        return "x" * size

    @ModelClass.method
    def times_big(self) -> int:
        return self.big_runs

    @ModelClass.method
    def echo(self, items: Iterator[str]) -> Iterator[str]:
        for item in items:
            yield item
'''


class Threads(served.ServedCase):
    def model_front(self, threads, config=""):
        path = self.write(f"model{threads}/model.py", MODEL)
        self.write(f"model{threads}/config.yaml", f"num_threads: {threads}\n{config}")
        return self.front(os.path.dirname(path), name=f"model{threads}")

    def together(self, *calls):
        with concurrent.futures.ThreadPoolExecutor(len(calls)) as pool:
            return [future.result(served.PATIENCE_S) for future in [pool.submit(call) for call in calls]]

    def test_two_calls_meet(self):
        front = self.model_front(2)
        self.assertEqual(front.batch("meet", ["a", "b", "c", "d"]), ["a", "b", "c", "d"])
        # A stream's step and a call.
        self.assertEqual(self.together(lambda: list(front.meet_late(["e", "f"])),
                                       lambda: [front.meet("g"), front.meet("h")]), [["e", "f"], ["g", "h"]])

    def test_a_stream_that_waits_for_its_caller_holds_nobody_up(self):
        front = self.model_front(2)
        more = threading.Event()
        self.addCleanup(more.set)

        def items():
            yield "first"
            more.wait()
            yield "second"

        echo = front.echo(items())
        self.assertEqual(next(echo), "first")
        for i in range(20):
            self.assertEqual(front.predict(f"x{i}"), f"X{i}")
        more.set()
        self.assertEqual(list(echo), ["second"])

    def test_what_belongs_to_a_call_is_its_own(self):
        front = self.model_front(2)
        for i in range(5):
            ones, twos = self.together(lambda i=i: front.fill(i), lambda i=i: front.fill(-i))
            np.testing.assert_array_equal(ones, np.full(1000, i))
            np.testing.assert_array_equal(twos, np.full(1000, -i))
        whispers = [front.with_options("whisper", secrets={"KEY": value}) for value in ("one", "two")]
        self.assertEqual(self.together(*(lambda call=call: call("KEY") for call in whispers)), ["one", "two"])

        def error(name):
            with self.assertRaises(Exception) as raised:
                front.fails(name)
            return str(raised.exception)

        one, two = self.together(lambda: error("pear"), lambda: error("plum"))
        self.assertTrue("ValueError: pear" in one and "plum" not in one, one)
        self.assertTrue("ValueError: plum" in two and "pear" not in two, two)

    def test_threads_keep_what_is_theirs(self):
        front = self.model_front(2)
        # One caller, one call at a time: always the same thread.
        self.assertEqual([front.calls_of_this_thread() for _ in range(20)], list(range(1, 21)))
        self.assertFalse(front.on_main_thread())

    def test_the_cpu_of_the_serving_thread_is_its_own(self):
        usable = sorted(os.sched_getaffinity(0))
        pinned = f"worker: {{cpu: {usable[-1]}}}\n"
        self.assertEqual(self.model_front(2, pinned).cpus(), usable)
        self.assertEqual(self.model_front(1, pinned).cpus(), usable[-1:])

    def test_a_result_that_does_not_fit_is_made_once(self):
        front = self.model_front(3)
        self.assertEqual(self.together(*(lambda n=n: len(front.big(n)) for n in (300_000, 400_000, 500_000))),
                         [300_000, 400_000, 500_000])
        self.assertEqual(front.times_big(), 3)

    def test_one_thread_is_the_main_thread(self):
        front = self.model_front(1)
        self.assertTrue(front.on_main_thread())
        self.assertEqual(sorted(self.together(*[front.calls_of_this_thread] * 4)), [1, 2, 3, 4])


if __name__ == "__main__":
    served.main()
