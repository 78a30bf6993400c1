"""baton.Front against native models: values, tensors, threads, options."""

import gc
import inspect
import os
import pickle
import re
import signal
import threading
import time
import unittest

import numpy as np

import baton
import served

MIB = 1 << 20


class Calls(served.ServedCase):
    def test_a_dense_model_answers_as_its_weights_say(self):
        front = self.front(served.DIGITS)
        pixels = np.load(os.path.join(served.DIGITS, "heldout_pixels.npy"))
        labels = np.load(os.path.join(served.DIGITS, "heldout_labels.npy"))
        rows = pixels[:64].astype(np.float32).reshape(64, -1)
        spec = inspect.signature(front.predict).parameters["pixels"].annotation
        self.assertIn("float32", spec)
        right = 0
        for row, label in zip(rows, labels):
            scores = front.predict(pixels=row.reshape(1, -1))
            self.assertEqual(scores.dtype, np.float32)
            right += int(np.argmax(scores)) == int(label)
        self.assertGreaterEqual(right, 58)

    def test_arguments_are_taken_as_a_function_takes_them(self):
        front = self.front(self.probe("echo"))
        data = np.arange(7, dtype=np.uint8)
        np.testing.assert_array_equal(front.predict(data), data)
        np.testing.assert_array_equal(front.predict(data=data), data)
        np.testing.assert_array_equal(front.call("predict", data), data)
        np.testing.assert_array_equal(front.methods["predict"](data), data)
        with self.assertRaisesRegex(TypeError, "missing a required argument: 'data'"):
            front.predict()
        with self.assertRaisesRegex(TypeError, "unexpected keyword argument 'other'"):
            front.predict(data, other=1)
        with self.assertRaisesRegex(TypeError, "multiple values for argument 'data'"):
            front.predict(data, data=data)
        with self.assertRaisesRegex(TypeError, "takes 1 positional arguments but 2"):
            front.predict(data, data)
        with self.assertRaisesRegex(AttributeError, "no method 'generate'; it has: predict"):
            front.generate
        with self.assertRaisesRegex(baton.InvalidArgument, "no method 'generate'; it has: predict"):
            front.call("generate")

    def test_methods_can_be_inspected(self):
        front = self.front(self.probe("env", variable="X"))
        self.assertEqual(list(front.methods), ["predict"])
        self.assertEqual(front.predict.__name__, "predict")
        signature = inspect.signature(front.predict)
        self.assertEqual(str(signature.parameters["data"]), "data: 'ndarray[uint8[?]]'")
        self.assertIn("NamedFields(value=", str(signature.return_annotation))
        self.assertIsInstance(front.predict.__doc__, str)
        self.assertIn("predict", repr(front))
        self.assertTrue(callable(front.predict))

    def test_several_outputs_are_named_fields(self):
        os.environ["PROBE_VALUE"] = "seen"
        self.addCleanup(os.environ.pop, "PROBE_VALUE")
        front = self.front(self.probe("env", variable="PROBE_VALUE"))
        result = front.predict(np.zeros(1, np.uint8))
        self.assertEqual(bytes(result.value), b"seen")
        self.assertTrue(result.present[0])

    def test_results_name_their_generation(self):
        front = self.front(self.probe("echo"))
        data = np.zeros(3, np.uint8)
        result = front.result("predict", data)
        self.assertEqual(result.generation, 1)
        self.assertGreaterEqual(result.service_time, 0.0)
        np.testing.assert_array_equal(result.value, data)
        self.assertEqual(front.call_tensors({"data": data}).generation, 1)
        self.assertEqual(front.generation, 1)
        self.assertEqual(front.state, "SERVING")
        self.assertEqual(front.name, "probe")

    def test_more_shapes_than_a_channel_has_plans(self):
        front = self.front(self.probe("echo"))
        for size in list(range(400)) + [5, 399, 0]:
            self.assertEqual(len(front.predict(np.full(size, 7, np.uint8))), size)

    def test_wrong_values_say_which_parameter(self):
        front = self.front(self.probe("echo"))
        with self.assertRaisesRegex(baton.InvalidArgument, "data"):
            front.predict(np.zeros(3, np.float32))
        with self.assertRaises(ValueError):
            front.predict(object())
        with self.assertRaisesRegex(baton.InvalidArgument, "takes no secrets"):
            front.call("predict", np.zeros(1, np.uint8), secrets={"TOKEN": "hunter2"})


class Tensors(served.ServedCase):
    def test_outputs_are_read_only_views_that_keep_their_block(self):
        front = self.front(self.probe("echo"))
        first = np.arange(100, dtype=np.uint8)
        outputs = front.call_tensors({"data": first})
        self.assertEqual(list(outputs), ["data"])
        view = outputs["data"]
        self.assertFalse(view.flags.writeable)
        self.assertFalse(view.flags.owndata)
        part = view[10:20]
        del outputs, view
        gc.collect()
        for fill in range(50):  # would be answered into the same block, were it free
            front.predict(np.full(100, fill, np.uint8))
        np.testing.assert_array_equal(part, first[10:20])

    def test_large_results_are_views_and_small_ones_copies(self):
        front = self.front(self.probe("echo"))
        large = front.predict(np.ones(MIB, np.uint8))
        self.assertFalse(large.flags.owndata)
        self.assertFalse(large.flags.writeable)
        kept = [front.predict(np.full(8, i % 256, np.uint8)) for i in range(3000)]
        self.assertEqual([int(k[0]) for k in kept], [i % 256 for i in range(3000)])
        np.testing.assert_array_equal(large, np.ones(MIB, np.uint8))

    def test_results_that_are_kept_do_not_fill_the_front(self):
        front = self.front(self.probe("echo"), {"response_arena_bytes": 4 * MIB})
        kept = [front.predict(np.full(MIB, i, np.uint8)) for i in range(12)]
        self.assertEqual([int(k[-1]) for k in kept], list(range(12)))

    def test_kept_views_are_bounded(self):
        front = self.front(self.probe("echo"), {"response_arena_bytes": 4 * MIB, "max_channels": 2})
        kept = []
        with self.assertRaisesRegex(baton.ResourceExhausted, "let results go"):
            for i in range(64):
                kept.append(front.call_tensors({"data": np.full(MIB, i, np.uint8)})["data"])
        self.assertEqual([int(k[0]) for k in kept], list(range(len(kept))))
        kept.clear()
        gc.collect()
        self.assertEqual(int(front.predict(np.full(MIB, 9, np.uint8))[0]), 9)

    def test_inputs_are_written_in_place(self):
        front = self.front(self.probe("echo"))
        request = front.new_request({"data": ("uint8", (256,))})
        request.inputs["data"][:] = np.arange(256, dtype=np.uint8)
        outputs = request.call()
        np.testing.assert_array_equal(outputs["data"], np.arange(256, dtype=np.uint8))
        with self.assertRaisesRegex(baton.FailedPrecondition, "called already"):
            request.call()
        late = request.inputs["data"]
        front.close()
        late[:] = 1  # still memory, though nobody's
        with self.assertRaises(baton.InvalidArgument):
            self.front(self.probe("echo"), name="other").new_request({"data": ("float99", (1,))})

    def test_large_requests_get_larger_channels(self):
        front = self.front(self.probe("echo"), {"response_arena_bytes": 80 * MIB})
        data = np.random.default_rng(1).integers(0, 256, 64 * MIB, np.uint8)
        out = front.call_tensors({"data": data})["data"]
        self.assertTrue(np.array_equal(out, data))

    def test_channels_on_huge_pages_and_on_a_node(self):
        with open("/proc/self/status", encoding="utf-8") as status:
            node = int(re.search(r"Mems_allowed_list:\s*(\d+)", status.read()).group(1))
        front = self.front(self.probe("echo"), {"huge_pages": True, "numa_node": node, "backing": "shm"})
        data = np.random.default_rng(2).integers(0, 256, 3 * MIB, np.uint8)

        def memfds():
            with open("/proc/self/maps", encoding="utf-8") as maps:
                return {line for line in maps if "memfd:" in line}

        before = memfds()
        np.testing.assert_array_equal(front.predict(data), data)
        self.assertTrue(memfds() - before, "huge pages are a memfd's, whatever the backing says")
        nowhere = self.front(self.probe("echo"), {"numa_node": 1023}, name="other")
        with self.assertRaisesRegex(baton.InvalidArgument, "NUMA node 1023 is none"):
            nowhere.predict(data)

    def test_strided_and_foreign_arrays(self):
        front = self.front(self.probe("echo"))
        data = np.arange(64, dtype=np.uint8)
        np.testing.assert_array_equal(front.predict(data[::2]), data[::2])
        np.testing.assert_array_equal(front.call_tensors({"data": data[::-1]})["data"], data[::-1])

    def test_results_outlive_front_and_server(self):
        server = self.serve(self.probe("echo"))
        front = server.front()
        view = front.call_tensors({"data": np.full(1000, 5, np.uint8)})["data"]
        front.close()
        server.stop()
        self.assertEqual(int(view.sum()), 5000)


class Waiting(served.ServedCase):
    def test_other_threads_run_while_a_call_waits(self):
        front = self.front(self.probe("slow", ms=500))
        counted = 0
        done = threading.Event()

        def count():
            nonlocal counted
            while not done.is_set():
                counted += 1
                time.sleep(0)

        counter = threading.Thread(target=count)
        counter.start()
        before = counted
        front.predict(np.zeros(1, np.uint8))
        during = counted - before
        done.set()
        counter.join()
        # With the GIL held it could not have moved more than once or twice.
        self.assertGreater(during, 50)

    def test_threads_call_at_the_same_time(self):
        front = self.front(self.probe("echo"))
        wrong = []

        def call(number):
            for i in range(200):
                data = np.full(64 + number, (number * 31 + i) % 256, np.uint8)
                if not np.array_equal(front.predict(data), data):
                    wrong.append(number)

        threads = [threading.Thread(target=call, args=(n,)) for n in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(wrong, [])

    def test_results_are_let_go_by_other_threads(self):
        front = self.front(self.probe("echo"), {"max_channels": 4})
        handed = []
        done = threading.Event()

        def drop():
            while not done.is_set() or handed:
                if handed:
                    handed.pop()
                else:
                    time.sleep(0)

        dropper = threading.Thread(target=drop)
        dropper.start()
        for i in range(2000):
            handed.append(front.call_tensors({"data": np.full(10, i % 256, np.uint8)}))
        done.set()
        dropper.join()

    def test_timeout(self):
        front = self.front(self.probe("slow", ms=2000))
        with self.assertRaises(baton.DeadlineExceeded) as raised:
            front.call("predict", np.zeros(1, np.uint8), timeout=0.05)
        self.assertIsInstance(raised.exception, TimeoutError)
        self.assertEqual(raised.exception.code, "DEADLINE_EXCEEDED")
        brief = front.with_options("predict", timeout=0.05)
        with self.assertRaises(baton.DeadlineExceeded):
            brief(np.zeros(1, np.uint8))

    def test_keyboard_interrupt_comes_through(self):
        front = self.front(self.probe("hang"))

        def interrupt():
            served.wait_for(lambda: self.taken() == 1, "the call has been started")
            os.kill(os.getpid(), signal.SIGINT)

        thread = threading.Thread(target=interrupt)
        thread.start()
        with self.assertRaises(KeyboardInterrupt):
            front.call("predict", np.array([666], np.int32), timeout=100)
        thread.join()

    def test_handlers_of_signals_run_and_the_call_goes_on(self):
        front = self.front(self.probe("slow", ms=600))
        seen = []
        before = signal.signal(signal.SIGALRM, lambda *_: seen.append(front.state))
        self.addCleanup(signal.signal, signal.SIGALRM, before)
        signal.setitimer(signal.ITIMER_REAL, 0.1)
        self.assertEqual(len(front.predict(np.zeros(4, np.uint8))), 4)
        self.assertEqual(seen, ["SERVING"])


class Ends(served.ServedCase):
    def test_a_worker_that_dies_fails_what_it_had_started(self):
        front = self.front(self.probe("crash"))
        with self.assertRaises(baton.Aborted):
            front.predict(np.array([666], np.int32))
        # The next worker answers.
        result = front.result("predict", np.array([1], np.int32))
        self.assertEqual(result.generation, 2)

    def test_a_server_that_is_gone(self):
        server = self.serve(self.probe("echo"))
        front = server.front()
        server._process.kill()
        server._process.wait()
        served.wait_for(lambda: front.state == "GONE", "the front sees the end")
        with self.assertRaises(baton.Unavailable) as raised:
            front.predict(np.zeros(1, np.uint8))
        self.assertIsInstance(raised.exception, ConnectionError)

    def test_a_front_that_was_closed(self):
        front = self.front(self.probe("echo"))
        predict = front.predict
        front.close()
        front.close()
        with self.assertRaisesRegex(baton.FailedPrecondition, "was closed"):
            predict(np.zeros(1, np.uint8))
        self.assertEqual(front.state, "GONE")

    def test_no_such_server(self):
        self.front(self.probe("echo"))
        with self.assertRaisesRegex(baton.NotFound, "probe"):
            baton.Front.attach("nobody")

    def test_launch_ends_with_its_front(self):
        with baton.Front.launch(self.probe("echo"), log=self.log) as front:
            server = front._server
            np.testing.assert_array_equal(front.predict(np.ones(2, np.uint8)), [1, 1])
            pid = server.pid
        self.assertFalse(os.path.exists(f"/proc/{pid}"))

    def test_launch_says_what_the_server_said(self):
        directory = self.probe("echo", load="fail")
        with self.assertRaisesRegex(baton.FailedPrecondition, "load fails as asked"):
            baton.Front.launch(directory, log=self.log)

    def test_a_forked_child_is_told(self):
        front = self.front(self.probe("echo"))
        kept = front.call_tensors({"data": np.zeros(3, np.uint8)})
        read, write = os.pipe()
        pid = os.fork()
        if pid == 0:
            said = b"nothing"
            try:
                front.predict(np.zeros(1, np.uint8))
            except baton.FailedPrecondition as error:
                said = str(error).encode()
            except BaseException as error:
                said = repr(error).encode()
            try:
                del kept
                front.close()
                gc.collect()
            except BaseException as error:
                said = repr(error).encode()
            os.write(write, said)
            os._exit(0)
        os.close(write)
        said = os.read(read, 4096).decode()
        os.close(read)
        self.assertEqual(os.waitpid(pid, 0)[1], 0)
        self.assertIn("is a fork of the one that attached to 'probe'", said)
        # Nothing of the parent's was touched.
        np.testing.assert_array_equal(front.predict(np.ones(2, np.uint8)), [1, 1])
        self.assertEqual(len(kept["data"]), 3)

    def test_errors_are_pickled_and_have_codes(self):
        for name in baton.errors.__all__:
            kind = getattr(baton.errors, name)
            self.assertTrue(issubclass(kind, baton.Error))
            error = pickle.loads(pickle.dumps(kind("what happened")))
            self.assertEqual((type(error), str(error)), (kind, "what happened"))
        codes = ("CANCELLED UNKNOWN INVALID_ARGUMENT DEADLINE_EXCEEDED NOT_FOUND ALREADY_EXISTS PERMISSION_DENIED "
                 "RESOURCE_EXHAUSTED FAILED_PRECONDITION ABORTED OUT_OF_RANGE UNIMPLEMENTED INTERNAL UNAVAILABLE "
                 "DATA_LOSS UNAUTHENTICATED").split()
        for number, code in enumerate(codes, start=1):
            error = baton.errors._from_status(number, "why", 1.5)
            self.assertEqual((error.code, error.retry_after), (code, 1.5))
            self.assertEqual(type(error).__name__, code.title().replace("_", ""))
        self.assertEqual(baton.errors._from_status(99, "why", None).code, "UNKNOWN")


class Batches(served.ServedCase):
    def test_a6_a_batch_keeps_its_order(self):
        front = self.front(self.probe("echo"))
        calls = [np.full(1 + i % 50, i % 256, np.uint8) for i in range(1000)]
        results = front.batch("predict", calls, in_flight=100)
        self.assertEqual(len(results), 1000)
        for call, result in zip(calls, results):
            np.testing.assert_array_equal(call, result)

    def test_calls_are_dicts_tuples_or_values(self):
        front = self.front(self.probe("echo"))
        one = np.ones(1, np.uint8)
        self.assertEqual([len(r) for r in front.map("predict", [{"data": one}, (one,), one])], [1, 1, 1])

    def test_large_results_that_are_kept(self):
        front = self.front(self.probe("echo"), {"response_arena_bytes": 4 * MIB})
        results = front.batch("predict", (np.full(MIB, i, np.uint8) for i in range(10)))
        self.assertEqual([int(r[5]) for r in results], list(range(10)))

    def test_a_failure_stands_in_its_place(self):
        front = self.front(self.probe("hang"))
        calls = [np.array([i], np.int32) for i in (1, 2, 666)]
        results = front.map("predict", calls, timeout=0.5, return_exceptions=True)
        self.assertEqual(int(next(results)[0]), 1)
        self.assertEqual(int(next(results)[0]), 2)
        self.assertIsInstance(next(results), baton.DeadlineExceeded)
        with self.assertRaises(StopIteration):
            next(results)
        with self.assertRaises(baton.InvalidArgument):
            front.batch("predict", [np.zeros(1, np.float64)])

    def test_giving_up_cancels(self):
        front = self.front(self.probe("slow", ms=20))
        results = front.map("predict", (np.full(1, i, np.uint8) for i in range(100)), in_flight=8)
        self.assertEqual(int(next(results)[0]), 0)
        results.close()
        self.assertEqual(len(front.predict(np.zeros(3, np.uint8))), 3)


if __name__ == "__main__":
    served.main()
