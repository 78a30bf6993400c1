import ctypes
import os
import time

from baton.models import ModelClass

AT_IMPORT = os.environ.get("APP_KEY", "none")
time.sleep(float(os.environ.get("SLOW_IMPORT", "0")))


class Served(ModelClass):
    """Does what it is told."""

    def __init__(self):
        super().__init__()
        self.at_init = os.environ.get("APP_KEY", "none")
        if self.at_init == "bad":
            raise ValueError("this key does not work: " + self.at_init)
        self.loaded = 0

    def load_model(self):
        self.loaded += 1

    @ModelClass.method
    def predict(self, text: str) -> str:
        command, _, rest = text.partition(" ")
        return getattr(self, "_" + command)(rest)

    def _echo(self, rest):
        return rest

    def _keys(self, rest):
        return f"{AT_IMPORT} {self.at_init} {os.environ.get('APP_KEY', 'none')} {self.loaded}"

    def _print(self, rest):
        print("printed:", rest)
        os.write(1, b"written: " + rest.encode() + b"\n")
        return ""

    def _segfault(self, rest):
        ctypes.string_at(0)

    def _hang(self, rest):
        while True:
            time.sleep(3600)

    def _exit(self, rest):
        raise SystemExit(int(rest))

    def _big(self, rest):
        self.bigs = getattr(self, "bigs", 0) + 1
        return "x" * int(rest)

    def _bigs(self, rest):
        return str(self.bigs)

    def cleanup(self):
        with open(os.environ["CLEANUP_FILE"], "a") as file:
            file.write(f"{self.at_init}\n")
        if os.environ.get("CLEANUP") == "hangs":
            self._hang("")
        if os.environ.get("CLEANUP") == "raises":
            raise RuntimeError("no")
