"""Checks what the load and the receipt say of a secret's rotation, and prints it.

    check_rotation.py BENCH_JSON RECEIPTS_JSON
"""

import json
import sys


def number(value):
    """Cap'n Proto writes 64-bit numbers as strings."""
    return int(value)


def main():
    with open(sys.argv[1], encoding="utf-8") as file:
        bench = json.load(file)
    with open(sys.argv[2], encoding="utf-8") as file:
        receipts = json.load(file)
    receipt = receipts["receipts"][-1]

    failed = number(bench["failed"])
    generations = [number(one["generation"]) for one in bench["generations"]]
    peak = number(receipt["deviceBytesPeak"])
    model = number(receipt["deviceBytesModel"])
    print(f"requests answered: {number(bench['succeeded'])}, failed: {failed}, "
          f"generations: {generations}")
    print(f"verdict: {receipt['verdict']} ({receipt['verdictSource']}), "
          f"gap: {number(receipt['gapNs']) / 1e6:.2f} ms")
    print(f"peak device bytes: {peak}, one model: {model}, ratio {peak / model:.3f}")

    wrong = []
    if failed:
        wrong.append(f"{failed} requests failed")
    if generations != [1, 2]:
        wrong.append(f"served by generations {generations}, not [1, 2]")
    if receipt["verdict"] != "freed":
        wrong.append(f"verdict is {receipt['verdict']}, not freed")
    if not model or peak > 1.02 * model:
        wrong.append(f"peak of {peak} device bytes against {model} of one model")
    for what in wrong:
        print(f"demo: {what}", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
