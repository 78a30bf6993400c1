#!/usr/bin/python3
"""What calls cost from Python and into Python, beside what they cost in C++, in one run.

  bench/python_bench.py [BUILD_FOLDER] [--slices N] [--per-slice N] [--stream CHUNKS] [--cxx]

Two models that do nothing, one written in C++ (bench/null_model.cc) and one in Python
(bench/null_python_model), are called from Python in these ways, in turns, a slice each, so that noise on the
machine meets all alike, by a thread with a CPU of its own. Prints JSON: microseconds, percentiles over all slices.

  predict/64             front.predict(x) of 64 bytes: bound, encoded, copied in, called, decoded
  python_model/64        the same, of the model in Python: `added_by_a_python_model_us` is the difference
  python_model/text      front.text("...") of 64 letters, the same back
  call_tensors/64        arrays as they are, and views of the results
  in_place/BYTES         new_request, one byte written, call, one byte read: nothing is copied
  identity/BYTES         in_place of the model in Python, which gives as many bytes by baton.empty_output
  view_out/BYTES         call_tensors with a result of BYTES, of which one byte is read: a view
  first_chunk/MODEL      from the call of a method that streams to its first result
  chunk/MODEL            from one result to the next; `chunks_per_s` is the mean rate

The ratios of 64 MiB to 64 (8) bytes say whether time depends on size. Then a stream of CHUNKS results, a million
where nothing else is said, whose reader stops every so often: the resident memory of worker and reader, at ten
times of it. With --cxx, roundtrip_bench and python_model_bench of the same build run before and after.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time

BYTES = (64, 1 << 20, 64 << 20)
ENDLESS = 1 << 40
HERE = os.path.dirname(os.path.abspath(__file__))


def percentiles(samples):
    samples = sorted(samples)
    def at(q):
        return round(samples[min(len(samples) - 1, int(q * len(samples)))] * 1e-3, 3)
    return {"p50_us": at(0.5), "p99_us": at(0.99), "samples": len(samples)}


def cxx(build, environment):
    """Medians of the benchmarks in C++, in microseconds."""
    medians = {}
    for program in ("roundtrip_bench", "python_model_bench"):
        run = subprocess.run([os.path.join(build, "bench", program), "--benchmark_format=json"],
                             stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True, env=environment)
        for row in json.loads(run.stdout)["benchmarks"]:
            medians[row["name"]] = {name.replace("_ns", "_us"): round(row[name] * 1e-3, 3)
                                    for name in ("p50_ns", "p99_ns", "added_ns") if name in row}
    return medians


def serve(baton, folder, library, output_bytes, log, **options):
    """A front of a server of its own, whose model gives so many bytes."""
    model = os.path.join(folder, f"noop{output_bytes}")
    os.mkdir(model)
    with open(os.path.join(model, "config.yaml"), "w", encoding="utf-8") as config:
        config.write(f'name: noop\nloader: native\nfile: "{library}"\n'
                     f"native: {{options: {{output_bytes: {output_bytes}}}}}\n")
    return baton.Front.launch(model, log=log, **options)


class Chunks:
    """Results of an endless stream, one at a time."""

    def __init__(self, front):
        self._front = front
        self._results = None

    def begin(self):
        self._results = self._front.generate(count=ENDLESS)

    def end(self):
        self._results.close()
        self._results = None

    def __call__(self):
        return next(self._results)


def first_chunk(front):
    results = front.generate(count=1)
    return next(results), results


def subjects(front, large, python, np):
    """By name: a function that makes one call."""
    small = np.zeros(64, np.uint8)
    text = "t" * 64
    made = {
        "predict/64": lambda: front.predict(small),
        "python_model/64": lambda: python.predict(small),
        "python_model/text": lambda: python.text(text),
        "call_tensors/64": lambda: front.call_tensors({"x": small}),
    }

    def in_place(of, size, method, output):
        shape = {"x": ("uint8", (size,))}

        def call():
            request = of.new_request(shape, method=method)
            request.inputs["x"][0] = 1
            return request.call()[output][0]

        return call

    for size in BYTES:
        made[f"in_place/{size}"] = in_place(front, size, "predict", "y")
        made[f"identity/{size}"] = in_place(python, size, "identity", "output")
    made["view_out/8"] = lambda: front.call_tensors({"x": small})["y"][0]
    made[f"view_out/{BYTES[-1]}"] = lambda: large.call_tensors({"x": small})["y"][0]
    for name, of in (("cxx", front), ("python", python)):
        made[f"first_chunk/{name}"] = lambda of=of: first_chunk(of)
        made[f"chunk/{name}"] = Chunks(of)
    return made


def pin(named, fronts):
    """This thread to one CPU, the workers to another one, as roundtrip_bench has it."""
    for call in named.values():  # opens all channels: one that a thread with a single CPU opens never spins
        run(call, 1)
    cpus = sorted(os.sched_getaffinity(0))
    if len(cpus) < 2:
        return
    for front in fronts:
        os.sched_setaffinity(worker_of(front._server.pid), {cpus[1]})
    os.sched_setaffinity(threading.get_native_id(), {cpus[0]})


def run(call, times, into=None):
    """Calls it so often; its times go into `into`."""
    clock = time.perf_counter_ns
    if hasattr(call, "begin"):
        call.begin()
    for _ in range(times // 10 + 1):
        call()
    if into is not None:
        for _ in range(times):
            began = clock()
            call()
            into.append(clock() - began)
    if hasattr(call, "end"):
        call.end()


def measure(named, slices, per_slice):
    samples = {name: [] for name in named}
    for _ in range(slices):
        for name, call in named.items():
            run(call, per_slice, samples[name])
    report = {name: percentiles(taken) for name, taken in samples.items()}
    for name, taken in samples.items():
        if name.startswith("chunk/"):
            report[name]["chunks_per_s"] = round(len(taken) / (sum(taken) * 1e-9))
    return report


def worker_of(server_pid):
    """The server's worker: its child that is called so."""
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/stat", encoding="utf-8") as stat:
                name, rest = stat.read().split("(", 1)[1].rsplit(")", 1)
        except OSError:
            continue
        if name.startswith("baton-worker") and int(rest.split()[1]) == server_pid:
            return int(pid)
    raise LookupError(f"the server {server_pid} has no worker")


def resident_kib(pid):
    with open(f"/proc/{pid}/status", encoding="ascii") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmRSS:"))


def stream_memory(front, chunks):
    """Reads a long stream, slowly, and looks at the memory of both ends."""
    worker = worker_of(front._server.pid)
    read = 0
    samples = []
    began = time.monotonic()
    for _ in front.generate(count=chunks):
        read += 1
        if read % max(chunks // 1000, 1) == 0:
            time.sleep(0.001)  # the model has gone as far as it may by then
        if read % max(chunks // 10, 1) == 0:
            samples.append((resident_kib(worker), resident_kib("self")))
    return {"chunks": read, "seconds": round(time.monotonic() - began, 1),
            "worker_rss_kib": [s[0] for s in samples], "reader_rss_kib": [s[1] for s in samples]}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("build", nargs="?", default="build/dev")
    parser.add_argument("--slices", type=int, default=10)
    parser.add_argument("--per-slice", type=int, default=1000)
    parser.add_argument("--stream", type=int, default=1_000_000, metavar="CHUNKS")
    parser.add_argument("--cxx", action="store_true")
    asked = parser.parse_args()
    build = os.path.abspath(asked.build)
    sys.path.insert(0, os.path.join(build, "python"))
    import numpy as np

    import baton

    report = {"cpus": os.cpu_count()}
    environment = dict(os.environ)  # without our own run directory, which goes
    if asked.cxx:
        report["cxx_before"] = cxx(build, environment)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["XDG_RUNTIME_DIR"] = folder
        library = os.path.join(build, "bench", "libbaton_null_model.so")
        room = {"request_arena_bytes": 160 << 20, "response_arena_bytes": 160 << 20}
        with open(os.path.join(folder, "log"), "wb") as log, \
                serve(baton, folder, library, 8, log, request_arena_bytes=160 << 20) as front, \
                serve(baton, folder, library, BYTES[-1], log, response_arena_bytes=160 << 20) as large, \
                baton.Front.launch(os.path.join(HERE, "null_python_model"), log=log, **room) as python:
            named = subjects(front, large, python, np)
            pin(named, (front, large, python))
            report["python"] = measure(named, asked.slices, asked.per_slice)
            report["stream"] = stream_memory(python, asked.stream)
    if asked.cxx:
        report["cxx_after"] = cxx(build, environment)
    calls = report["python"]
    report["added_by_a_python_model_us"] = round(
        calls["python_model/64"]["p50_us"] - calls["predict/64"]["p50_us"], 3)
    for way, least in (("in_place", 64), ("identity", 64), ("view_out", 8)):
        report[f"{way}_64MiB_over_{least}B"] = round(
            calls[f"{way}/{BYTES[-1]}"]["p50_us"] / calls[f"{way}/{least}"]["p50_us"], 3)
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
