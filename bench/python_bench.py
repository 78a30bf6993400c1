#!/usr/bin/python3
"""What a call costs from Python, beside what it costs from C++, in one run.

  bench/python_bench.py [BUILD_FOLDER] [--slices N] [--cxx]

A model that does nothing, written in C++ (bench/null_model.cc), is called in these ways, in turns, a slice
each, so that noise on the machine meets all alike. Prints JSON: microseconds, percentiles over all slices.

  predict/64            front.predict(x) of 64 bytes: bound, encoded, copied in, called, decoded
  call_tensors/64       the same with arrays as they are, and views of the results
  in_place/BYTES        new_request, one byte written, call, one byte read: nothing is copied
  view_out/BYTES        call_tensors with a result of BYTES, of which one byte is read: a view

The ratios of in_place and view_out with 64 MiB to those with 64 bytes say whether time depends on size. With --cxx,
roundtrip_bench of the same build runs before and after.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time

BYTES = (64, 1 << 20, 64 << 20)


def percentiles(samples):
    samples = sorted(samples)
    def at(q):
        return round(samples[min(len(samples) - 1, int(q * len(samples)))] * 1e-3, 3)
    return {"p50_us": at(0.5), "p99_us": at(0.99), "samples": len(samples)}


def cxx(build):
    """Round trips of roundtrip_bench, in microseconds."""
    run = subprocess.run([os.path.join(build, "bench", "roundtrip_bench"), "--benchmark_format=json"],
                         stdout=subprocess.PIPE, check=True)
    return {b["name"]: {"p50_us": round(b["real_time"] * 1e-3, 3) if b["time_unit"] == "ns" else b["real_time"]}
            for b in json.loads(run.stdout)["benchmarks"]}


def serve(baton, folder, library, output_bytes, log, **options):
    """A front of a server of its own, whose model gives so many bytes."""
    model = os.path.join(folder, f"noop{output_bytes}")
    os.mkdir(model)
    with open(os.path.join(model, "config.yaml"), "w", encoding="utf-8") as config:
        config.write(f'name: noop\nloader: native\nfile: "{library}"\n'
                     f"native: {{options: {{output_bytes: {output_bytes}}}}}\n")
    return baton.Front.launch(model, log=log, **options)


def subjects(front, large, np):
    """By name: a function that makes one call."""
    small = np.zeros(64, np.uint8)
    made = {
        "predict/64": lambda: front.predict(small),
        "call_tensors/64": lambda: front.call_tensors({"x": small}),
    }
    for size in BYTES:
        shape = {"x": ("uint8", (size,))}

        def in_place(shape=shape):
            request = front.new_request(shape)
            request.inputs["x"][0] = 1
            return request.call()["y"][0]

        made[f"in_place/{size}"] = in_place
    made["view_out/8"] = lambda: front.call_tensors({"x": small})["y"][0]
    made[f"view_out/{BYTES[-1]}"] = lambda: large.call_tensors({"x": small})["y"][0]
    return made


def measure(named, slices, per_slice):
    samples = {name: [] for name in named}
    clock = time.perf_counter_ns
    for _ in range(slices):
        for name, call in named.items():
            for _ in range(per_slice // 10):
                call()
            into = samples[name]
            for _ in range(per_slice):
                began = clock()
                call()
                into.append(clock() - began)
    return {name: percentiles(taken) for name, taken in samples.items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("build", nargs="?", default="build/dev")
    parser.add_argument("--slices", type=int, default=10)
    parser.add_argument("--per-slice", type=int, default=1000)
    parser.add_argument("--cxx", action="store_true")
    asked = parser.parse_args()
    build = os.path.abspath(asked.build)
    sys.path.insert(0, os.path.join(build, "python"))
    import numpy as np

    import baton

    report = {"cpus": os.cpu_count()}
    if asked.cxx:
        report["cxx_before"] = cxx(build)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["XDG_RUNTIME_DIR"] = folder
        library = os.path.join(build, "bench", "libbaton_null_model.so")
        with open(os.path.join(folder, "log"), "wb") as log, \
                serve(baton, folder, library, 8, log, request_arena_bytes=160 << 20) as front, \
                serve(baton, folder, library, BYTES[-1], log, response_arena_bytes=160 << 20) as large:
            report["python"] = measure(subjects(front, large, np), asked.slices, asked.per_slice)
    if asked.cxx:
        report["cxx_after"] = cxx(build)
    calls = report["python"]
    for way, least in (("in_place", 64), ("view_out", 8)):
        report[f"{way}_64MiB_over_{least}B"] = round(
            calls[f"{way}/{BYTES[-1]}"]["p50_us"] / calls[f"{way}/{least}"]["p50_us"], 3)
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
