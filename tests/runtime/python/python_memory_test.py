"""Whose memory it is that a Python model works on, and how much: pages in place, streams that do not grow."""

import os
import unittest

import numpy as np

import baton
import served

# Of which page of which file an address is, as /proc tells any process of itself: two mappings of the
# same one show the same physical page.
PLACES = '''
import numpy as np


def pages(array):
    """(device, inode, page in the file) of an array's first and last byte; private memory has no inode."""
    first = array.__array_interface__["data"][0]
    return np.array([_page(first), _page(first + array.nbytes - 1)], np.int64)


def _page(address):
    with open("/proc/self/maps") as maps:
        for line in maps:
            span, _, offset, device, inode = line.split()[:5]
            begin, end = (int(edge, 16) for edge in span.split("-"))
            if begin <= address < end:
                major, minor = (int(number, 16) for number in device.split(":"))
                return [major << 20 | minor, int(inode), (int(offset, 16) + address - begin) // 4096]
    raise LookupError(f"no mapping has {address:#x}")
'''

MODEL = '''
import numpy as np

import baton
from baton import NamedFields
from baton.models import ModelClass

from places import pages


class Large(ModelClass):
    def load_model(self):
        self.runs = 0

    @ModelClass.method
    def predict(self, x: np.ndarray) -> NamedFields(y=np.ndarray, x_pages=np.ndarray, y_pages=np.ndarray, runs=int):
        self.runs += 1
        y = baton.empty_output("y", x.shape, x.dtype)
        np.add(x, 1, out=y)
        return NamedFields(y=y, x_pages=pages(x), y_pages=pages(y), runs=self.runs)
'''

SIZE = 64 << 20
ROOM = SIZE + (8 << 20)


def own_pages():
    names = {}
    exec(PLACES, names)
    return names["pages"]


class Pages(served.ServedCase):
    def check(self, backing):
        pages = own_pages()
        self.write("model/places.py", PLACES)
        model = os.path.dirname(self.write("model/model.py", MODEL))
        front = self.front(model, {"request_arena_bytes": ROOM, "response_arena_bytes": ROOM, "backing": backing})
        runs = []
        for call in range(3):
            request = front.new_request({"x": ("uint8", (SIZE,))})
            x = request.inputs["x"]
            x[:] = call
            x[-1] = 200
            result = request.call()
            # The model read the very pages that were written here, the first to the last, ...
            np.testing.assert_array_equal(result["x_pages"], pages(x))
            # ... and what is read here are the pages that it wrote, which are of shared memory.
            y = result["y"]
            np.testing.assert_array_equal(result["y_pages"], pages(y))
            self.assertNotEqual(int(result["y_pages"][0][1]), 0)
            self.assertNotEqual(int(result["y_pages"][0][1]), int(result["x_pages"][0][1]))
            self.assertGreaterEqual(int(pages(y)[1][2] - pages(y)[0][2]), (SIZE - 1) // 4096)
            self.assertEqual((int(y[0]), int(y[SIZE // 2]), int(y[-1])), (call + 1, call + 1, 201))
            runs.append(int(result["runs"]))
            del request, result, x, y
        # Once the first call has shown how large a result is, each call runs once.
        self.assertEqual(runs[1:], [runs[0] + 1, runs[0] + 2])

    def test_a5_64_mib_in_and_out_are_the_same_pages_on_both_sides(self):
        self.check("memfd")

    def test_a5_also_in_named_shared_memory(self):
        self.check("shm")

    def test_a5_64_mib_as_a_value_is_a_view_of_the_models_pages(self):
        pages = own_pages()
        self.write("model/places.py", PLACES)
        model = os.path.dirname(self.write("model/model.py", MODEL))
        front = self.front(model, {"response_arena_bytes": 2 * ROOM})
        x = np.full(SIZE, 7, np.uint8)
        result = front.predict(x)
        np.testing.assert_array_equal(result.y_pages, pages(result.y))
        self.assertFalse(result.y.flags.owndata)
        self.assertTrue(np.array_equal(result.y, x + 1))

STREAM = '''
from typing import Iterator

import numpy as np

from baton.models import ModelClass


class Talker(ModelClass):
    @ModelClass.method
    def generate(self, count: int, made_file: str) -> Iterator[str]:
        made = np.memmap(made_file, np.int64, "r+")
        for number in range(count):
            made[0] = number + 1
            yield f"{number:064d}"
'''

# The sanitizer keeps what is freed, and is slow.
SANITIZED = "libasan" in os.environ.get("LD_PRELOAD", "")
CHUNKS = int(os.environ.get("BATON_STREAM_CHUNKS", "20000" if SANITIZED else "200000"))
WINDOW = 8  # of baton.StreamOptions
SAMPLES = 10


def resident_bytes(pid):
    with open(f"/proc/{pid}/status", encoding="ascii") as status:
        return next(int(line.split()[1]) << 10 for line in status if line.startswith("VmRSS:"))


class LongStreams(served.ServedCase):
    def test_a_slow_reader_bounds_the_model_and_nothing_grows(self):
        made_file = os.path.join(self.folder, "made")
        made = np.memmap(made_file, np.int64, "w+", shape=(1,))
        server = self.serve(os.path.dirname(self.write("model/model.py", STREAM)), name="talker")
        worker = self.worker_pids(server)[0]
        samples = []
        read = 0
        for chunk in server.front().generate(count=CHUNKS, made_file=made_file):
            self.assertEqual(int(chunk), read)
            read += 1
            if read % (CHUNKS // (10 * SAMPLES)) == 0 and read < CHUNKS:
                # Nobody reads until the model has come as far as it may, which is no further.
                served.wait_for(lambda: int(made[0]) >= min(read + WINDOW, CHUNKS), "the model's next chunks")
                self.assertLessEqual(int(made[0]), read + WINDOW)
            if read % (CHUNKS // SAMPLES) == 0:
                samples.append((resident_bytes(worker), resident_bytes("self")))
        self.assertEqual(read, CHUNKS)
        self.assertEqual(len(samples), SAMPLES)
        if SANITIZED:
            return
        for name, grown in (("worker", max(s[0] for s in samples[1:]) - samples[0][0]),
                            ("front", max(s[1] for s in samples[1:]) - samples[0][1])):
            self.assertLess(grown, 1 << 20, f"the {name} grows with the stream: {samples}")


if __name__ == "__main__":
    served.main()
