import os

from baton.models import ModelClass


class Counting(ModelClass):
    def __init__(self):
        super().__init__()
        self.calls = ["init:" + os.environ.get("COUNTING_SECRET", "none")]

    def load_model(self):
        self.calls.append("load")

    @ModelClass.method
    def predict(self) -> str:
        return " ".join(self.calls)

    def cleanup(self):
        with open(os.environ["COUNTING_FILE"], "a") as file:
            file.write("cleanup\n")
