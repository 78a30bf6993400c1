import os
import threading

from baton.models import ModelClass


class Stateful(ModelClass):
    """What cannot be pickled: locks, open files, threads, thread-locals."""

    def __init__(self):
        super().__init__()
        self.lock = threading.Lock()
        self.file = open(os.path.join(os.path.dirname(__file__), "words.txt"))
        self.local = threading.local()
        self.local.value = "of the thread that made it"
        self.ticks = 0
        self.ticked = threading.Condition()
        threading.Thread(target=self._tick, daemon=True).start()

    def _tick(self):
        for _ in range(1000000):
            with self.ticked:
                self.ticks += 1
                self.ticked.notify_all()
                self.ticked.wait(timeout=0.001)

    @ModelClass.method
    def predict(self, line: int) -> str:
        with self.lock:
            self.file.seek(0)
            return self.file.read().splitlines()[line]

    @ModelClass.method
    def local_value(self) -> str:
        return getattr(self.local, "value", "lost")

    @ModelClass.method
    def wait_for_ticks(self, more: int) -> bool:
        with self.ticked:
            until = self.ticks + more
            return self.ticked.wait_for(lambda: self.ticks >= until, timeout=60)
