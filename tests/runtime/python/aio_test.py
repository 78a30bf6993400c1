"""baton.aio: awaiting, cancelling, many at once."""

import asyncio
import inspect
import os
import unittest

import numpy as np

import baton
import baton.aio
import served


class Aio(served.ServedCase):
    def run_with(self, directory, job, **options):
        """Runs `job(front)` in an event loop, with a server for `directory`."""
        server = self.serve(directory)

        async def main():
            async with baton.aio.attach(server.name, **options) as front:
                return await job(front)

        return asyncio.run(asyncio.wait_for(main(), served.PATIENCE_S))

    def test_a_call_is_awaited(self):
        async def job(front):
            data = np.arange(9, dtype=np.uint8)
            np.testing.assert_array_equal(await front.predict(data), data)
            np.testing.assert_array_equal(await front.call("predict", data=data, timeout=5), data)
            result = await front.result("predict", data)
            self.assertEqual((result.generation, front.generation), (1, 1))
            self.assertEqual(list(inspect.signature(front.predict).parameters), ["data"])
            with self.assertRaisesRegex(AttributeError, "it has: predict"):
                front.generate
            with self.assertRaises(TypeError):
                await front.predict()

        self.run_with(self.probe("echo"), job)

    def test_many_at_once_each_gets_its_own(self):
        async def one(front, number):
            data = np.full(1 + number % 40, number % 256, np.uint8)
            for _ in range(5):
                np.testing.assert_array_equal(await front.predict(data), data)

        async def job(front):  # more than the ring has places
            await asyncio.gather(*(one(front, n) for n in range(500)))

        self.run_with(self.probe("echo"), job, ring_entries=64)

    def test_the_loop_goes_on_meanwhile(self):
        async def job(front):
            turns = 0
            call = asyncio.ensure_future(front.predict(np.zeros(1, np.uint8)))
            while not call.done():
                await asyncio.sleep(0.001)
                turns += 1
            self.assertEqual(len(await call), 1)
            self.assertGreater(turns, 20)

        self.run_with(self.probe("slow", ms=500), job)

    def test_cancelling_the_task_cancels_the_call(self):
        async def job(front):
            first = asyncio.ensure_future(front.predict(np.zeros(1, np.uint8)))
            second = asyncio.ensure_future(front.predict(np.ones(2, np.uint8)))
            await asyncio.sleep(0)
            self.assertEqual(front._queue.outstanding, 2)
            first.cancel()
            with self.assertRaises(asyncio.CancelledError):
                await first
            self.assertEqual(front._queue.outstanding, 1)
            self.assertEqual(len(await second), 2)

        self.run_with(self.probe("slow", ms=200), job)

    def test_timeout(self):
        async def job(front):
            with self.assertRaises(baton.DeadlineExceeded):
                await front.call("predict", np.array([666], np.int32), timeout=0.1)

        self.run_with(self.probe("hang"), job)

    def test_the_death_of_the_worker_is_noticed(self):
        async def job(front):
            with self.assertRaises(baton.Aborted):
                await front.predict(np.array([666], np.int32))
            self.assertEqual((await front.result("predict", np.array([3], np.int32))).generation, 2)

        self.run_with(self.probe("crash"), job)

    def test_large_results_that_are_kept(self):
        async def job(front):
            kept = [await front.predict(np.full(1 << 20, i, np.uint8)) for i in range(12)]
            self.assertEqual([int(k[7]) for k in kept], list(range(12)))

        self.run_with(self.probe("echo"), job, response_arena_bytes=4 << 20)

    def test_large_results_at_once(self):
        async def job(front):
            results = await asyncio.gather(
                *(front.predict(np.full(1 << 20, i, np.uint8)) for i in range(48)))
            self.assertEqual([int(r[7]) for r in results], list(range(48)))

        self.run_with(self.probe("echo"), job, response_arena_bytes=4 << 20)

    def test_closing_cancels_what_waits(self):
        server = self.serve(self.probe("hang"))

        async def main():
            front = await baton.aio.attach(server.name)
            call = asyncio.ensure_future(front.predict(np.array([666], np.int32)))
            await asyncio.sleep(0.05)
            await front.close()
            await front.close()
            with self.assertRaises(asyncio.CancelledError):
                await call
            with self.assertRaises(baton.FailedPrecondition):
                await front.predict(np.array([1], np.int32))

        asyncio.run(main())

    def test_launch(self):
        async def main():
            async with baton.aio.launch(self.probe("echo"), log=self.log) as front:
                pid = front._blocking._server.pid
                self.assertEqual(len(await front.predict(np.zeros(4, np.uint8))), 4)
            return pid

        self.assertFalse(os.path.exists(f"/proc/{asyncio.run(main())}"))


if __name__ == "__main__":
    served.main()
