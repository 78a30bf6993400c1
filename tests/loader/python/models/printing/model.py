import os
import sys
import threading

from baton.models import ModelClass

print("imported")


class Printing(ModelClass):
    @ModelClass.method
    def predict(self, text: str) -> str:
        print("line of", text)
        print("no newline", end="")
        sys.stderr.write("to stderr\n")
        thread = threading.Thread(target=print, args=("from a thread",))
        thread.start()
        thread.join()
        return text

    @ModelClass.method
    def tell(self, name: str) -> str:
        from baton import get_secret
        print("it is", get_secret(name))
        return ""

    @ModelClass.method
    def raw(self) -> str:
        sys.stdout.buffer.write(b"bytes\n")
        return ""
