"""Models written in Python, called through the Python front: A2, A5, A6."""

import asyncio
import inspect
import os
import unittest

import numpy as np

import baton
import baton.aio
import served

UNARY = '''
from typing import Any, Dict, List, Optional, Tuple

import numpy as np

import baton
from baton.models import ModelClass
from baton import NamedFields


class Base(ModelClass):
    @ModelClass.method
    def inherited(self, text: str) -> str:
        return "inherited " + text


class Values(Base):
    def load_model(self):
        self.calls = 0

    @ModelClass.method
    def predict(self, text: str, times: int = 2, suffix: str = "!") -> str:
        """Repeats a text."""
        return text * times + suffix

    @ModelClass.method
    def text(self, value: str) -> str:
        return value

    @ModelClass.method
    def data(self, value: bytes) -> bytes:
        return value

    @ModelClass.method
    def whole(self, value: int) -> int:
        return value

    @ModelClass.method
    def real(self, value: float) -> float:
        return value

    @ModelClass.method
    def truth(self, value: bool) -> bool:
        return value

    @ModelClass.method
    def array(self, value: np.ndarray) -> np.ndarray:
        return value

    @ModelClass.method
    def view(self, value: np.ndarray) -> bool:
        return not value.flags.owndata and not value.flags.writeable

    @ModelClass.method
    def mapping(self, value: Dict[str, Any]) -> Dict[str, Any]:
        return value

    @ModelClass.method
    def listing(self, value: List[Any]) -> List[Any]:
        return value

    @ModelClass.method
    def pair(self, value: str) -> Tuple[str, int]:
        return value, len(value)

    @ModelClass.method
    def fields(self, value: str) -> NamedFields(label=str, size=int):
        return NamedFields(label=value, size=len(value))

    @ModelClass.method
    def maybe(self, value: Optional[str] = None) -> str:
        return "nothing" if value is None else value

    @ModelClass.method
    def fail(self, message: str) -> str:
        raise KeyError(message)

    @ModelClass.method
    def secret(self, name: str) -> str:
        return baton.get_secret(name) or "none"
'''

TELLING = '''
from typing import Iterator, Tuple

import numpy as np

from baton.models import ModelClass


class Telling(ModelClass):
    def load_model(self):
        self.runs = 0

    @ModelClass.method
    def predict(self, text: str) -> str:
        self.runs += 1
        self.set_output_context(prompt_tokens=len(text.split()), runs=self.runs)
        self.set_output_context(completion_tokens=np.int64(1), cost={"unit": "eur", "amount": 0.5})
        return text

    @ModelClass.method
    def silent(self, text: str) -> Tuple[str, int]:
        return text, len(text)

    @ModelClass.method
    def large(self, size: int) -> np.ndarray:
        self.runs += 1
        self.set_output_context(runs=self.runs)
        return np.zeros(size, np.uint8)

    @ModelClass.method
    def generate(self, text: str) -> Iterator[str]:
        for number, word in enumerate(text.split(), 1):
            if number > 1:
                self.set_output_context(tokens=number)
            yield word

    @ModelClass.method
    def tells_nonsense(self) -> str:
        self.set_output_context(thing=object())
        return ""
'''


class OutputContext(served.ServedCase):
    """What set_output_context was told comes with the result."""

    def setUp(self):
        super().setUp()
        self.model_front = self.front(os.path.dirname(self.write("model/model.py", TELLING)), name="telling")

    def test_it_comes_beside_the_value(self):
        front = self.model_front
        result = front.result("predict", text="two words")
        self.assertEqual(result.value, "two words")
        self.assertEqual(result.context, {"prompt_tokens": 2, "runs": 1, "completion_tokens": 1,
                                          "cost": {"unit": "eur", "amount": 0.5}})
        self.assertEqual(front.predict("as ever"), "as ever")
        self.assertEqual(str(inspect.signature(front.predict)), "(text: 'str') -> 'str'")

    def test_one_calls_is_none_of_the_next(self):
        front = self.model_front
        front.predict("a b c")
        result = front.result("silent", "ab")
        self.assertEqual((result.value, result.context), (("ab", 2), {}))

    def test_a_result_that_was_too_large_at_first_keeps_its_own(self):
        result = self.model_front.result("large", 300_000)
        self.assertEqual((result.value.size, result.context), (300_000, {"runs": 1}))
        self.assertEqual(self.model_front.result("large", 300_000).context, {"runs": 2})

    def test_each_result_of_a_stream_has_what_was_told_by_then(self):
        results = list(self.model_front.result("generate", "a b c"))
        self.assertEqual([(r.value, r.context) for r in results],
                         [("a", {}), ("b", {"tokens": 2}), ("c", {"tokens": 3})])
        self.assertEqual(list(self.model_front.generate("a b")), ["a", "b"])

    def test_with_tensors(self):
        text = np.frombuffer(b"in bytes", np.uint8)
        tensors = self.model_front.call_tensors({"text": text}, method="predict")
        self.assertEqual(list(tensors), ["output"])
        self.assertEqual(tensors.context["prompt_tokens"], 2)

    def test_what_json_cannot_say_is_an_error_of_the_model(self):
        with self.assertRaisesRegex(baton.Error, "takes what JSON can say, not object"):
            self.model_front.tells_nonsense()

    def test_from_asyncio(self):
        async def job():
            async with baton.aio.attach("telling") as front:
                self.assertEqual((await front.result("predict", "a b")).context["prompt_tokens"], 2)
                contexts = [r.context async for r in front.result("generate", "a b")]
                self.assertEqual(contexts, [{}, {"tokens": 2}])

        asyncio.run(job())


class Unary(served.ServedCase):
    def setUp(self):
        super().setUp()
        self.model = os.path.dirname(self.write("model/model.py", UNARY))
        self.model_front = self.front(self.model, name="model")

    def test_a2_signatures_can_be_fetched(self):
        front = self.model_front
        self.assertTrue({"predict", "inherited", "array"} <= set(front.methods))
        signature = inspect.signature(front.predict)
        self.assertEqual(list(signature.parameters), ["text", "times", "suffix"])
        self.assertEqual(signature.parameters["times"].default, 2)
        self.assertEqual(signature.parameters["suffix"].default, "!")
        self.assertEqual(signature.parameters["text"].annotation, "str")
        self.assertEqual(signature.return_annotation, "str")
        self.assertEqual(front.predict.__doc__, "Repeats a text.")
        self.assertEqual(front.inherited(text="x"), "inherited x")

    def test_a6_defaults_are_honoured(self):
        front = self.model_front
        self.assertEqual(front.predict(text="ab"), "abab!")
        self.assertEqual(front.predict("ab", 1), "ab!")
        self.assertEqual(front.predict("ab", suffix="?"), "abab?")
        self.assertEqual(front.maybe(), "nothing")
        self.assertEqual(front.maybe(None), "nothing")
        self.assertEqual(front.maybe(""), "")

    def test_a5_values_round_trip(self):
        front = self.model_front
        for name, values in {
            "text": ["", "x", "Grüße \U0001f600", "a" * 100_000],
            "data": [b"", b"\0\1\2", bytes(1000)],
            "whole": [0, 1, -1, 2**62],
            "real": [0.0, -1.5, 1e300, float("inf")],
            "truth": [True, False],
            "mapping": [{}, {"a": 1, "b": [1.5, None, "x"], "c": {"d": False}}],
            "listing": [[], [0, "", None, [1, [2]], {"k": b"v"}]],
        }.items():
            for value in values:
                back = front.call(name, value)
                self.assertEqual(back, value, name)
                self.assertIs(type(back), type(value), name)
        self.assertEqual(front.pair("abc"), ("abc", 3))
        fields = front.fields("abc")
        self.assertEqual((fields.label, fields.size), ("abc", 3))

    def test_a5_arrays_arrive_as_views(self):
        self.assertTrue(self.model_front.view(np.zeros(1000)))

    def test_a5_arrays_round_trip(self):
        front = self.model_front
        for dtype in (np.uint8, np.int64, np.float32, np.float64, np.bool_, np.float16):
            for shape in ((), (0,), (3,), (2, 3, 4)):
                value = np.ones(shape, dtype)
                back = front.array(value)
                self.assertEqual((back.dtype, back.shape), (value.dtype, shape))
                np.testing.assert_array_equal(back, value)
        large = np.arange(1 << 17)
        back = front.array(large)
        self.assertFalse(back.flags.owndata)  # a view of the response
        np.testing.assert_array_equal(back, large)

    def test_a6_a_batch_keeps_its_order(self):
        texts = [f"text {i}" * (i % 7) for i in range(300)]
        self.assertEqual(self.model_front.batch("text", texts), texts)

    def test_errors_hold_the_traceback(self):
        with self.assertRaises(baton.Error) as raised:
            self.model_front.fail("no such thing")
        said = str(raised.exception)
        self.assertIn("KeyError", said)
        self.assertIn("model.py", said)
        self.assertIn("raise KeyError(message)", said)
        with self.assertRaisesRegex(baton.InvalidArgument, "value"):
            self.model_front.whole("text")

    def test_secrets_of_one_call(self):
        front = self.model_front
        self.assertEqual(front.call("secret", "TOKEN", secrets={"TOKEN": "mine"}), "mine")
        self.assertEqual(front.secret("TOKEN"), "none")
        self.assertEqual(front.with_options("secret", secrets={"A": "b"})("A"), "b")

    def test_from_asyncio(self):
        async def job():
            async with baton.aio.attach("model") as front:
                texts = [f"text {i}" for i in range(100)]
                self.assertEqual(await asyncio.gather(*(front.text(t) for t in texts)), texts)
                with self.assertRaisesRegex(baton.Error, "KeyError"):
                    await front.fail("x")

        asyncio.run(job())


if __name__ == "__main__":
    served.main()
