import os
from typing import Iterator

from clarifai.runners.models.model_class import ModelClass
from clarifai.runners.utils.data_types import Image, NamedFields, Text
from clarifai.runners.utils.data_utils import Param
from clarifai.utils.logging import logger

from greeting import GREETING


class MyModel(ModelClass):
    def load_model(self):
        with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "data.txt")) as file:
            self.data = file.read().strip()

    @ModelClass.method
    def predict(self, text: str) -> str:
        self.set_output_context(prompt_tokens=1, completion_tokens=2)
        return f"{GREETING} {text} {self.data}"

    @ModelClass.method
    def describe(self, image: Image, hint: Text = None) -> NamedFields(height=int, hint=str):
        return NamedFields(height=image.to_numpy().shape[0], hint=hint.text if hint else "")

    @ModelClass.method
    def repeat(self, text: str, times: int = Param(default=2, description="how often")) -> str:
        logger.info("repeating %d times", times)
        return text * times

    @ModelClass.method
    def generate(self, text: str) -> Iterator[str]:
        yield from text
