from typing import Any, Dict, List, Optional, Tuple

import numpy as np
import numpy.typing as npt

from baton.models import ModelClass
from baton.data_types import JSON, Array, Audio, Concept, Frame, Image, NamedFields, Region, Text


class Base(ModelClass):
    @ModelClass.method
    def inherited(self, value: int = 3) -> int:
        """From the base class."""
        return value


class Echo(Base):
    """Gives back what it gets, as each type."""

    @ModelClass.method
    def predict(self, text: str) -> str:
        return text

    @ModelClass.method
    def data(self, value: bytes) -> bytes:
        return value

    @ModelClass.method
    def integer(self, value: int) -> int:
        return value

    @ModelClass.method
    def number(self, value: float) -> float:
        return value

    @ModelClass.method
    def boolean(self, value: bool) -> bool:
        return value

    @ModelClass.method
    def single(self, value: np.float32) -> np.float32:
        assert isinstance(value, np.float32)
        return value

    @ModelClass.method
    def array(self, value: np.ndarray) -> np.ndarray:
        return value

    @ModelClass.method
    def floats(self, value: npt.NDArray[np.float32]) -> Array["float32", None, 2]:
        return value

    @ModelClass.method
    def anything(self, value: Any) -> Any:
        return value

    @ModelClass.method
    def mapping(self, value: dict) -> dict:
        return value

    @ModelClass.method
    def words(self, value: List[str]) -> List[str]:
        assert isinstance(value, list)
        return value

    @ModelClass.method
    def nested(self, value: Dict[str, List[Tuple[int, Optional[float]]]]) -> Dict[str, List[Tuple[int, Optional[float]]]]:
        return value

    @ModelClass.method
    def pair(self, a: str, b: np.ndarray) -> Tuple[str, np.ndarray]:
        return a, b

    @ModelClass.method
    def fields(self, value: NamedFields(name=str, score=float, box=List[int])) -> NamedFields(
            name=str, score=float, box=List[int]):
        assert value.name == value["name"]
        return value

    @ModelClass.method
    def image(self, value: Image) -> Image:
        assert isinstance(value, Image)
        return value

    @ModelClass.method
    def images(self, value: List[List[Image]]) -> List[List[Image]]:
        return value

    @ModelClass.method
    def audio(self, value: Audio) -> Audio:
        return value

    @ModelClass.method
    def text(self, value: Text) -> Text:
        assert isinstance(value, Text)
        return value

    @ModelClass.method
    def frame(self, value: Frame) -> Frame:
        return value

    @ModelClass.method
    def json(self, value: JSON) -> JSON:
        return JSON(value.value)

    @ModelClass.method
    def maybe(self, value: Optional[str]) -> Optional[str]:
        return value

    @ModelClass.method
    def defaults(self, a: str = "", b: int = 0, c: float = 0.5, d: Optional[int] = 4, *,
                 e: List[int] = [1, 2]) -> list:
        return [a, b, c, d, e]

    @ModelClass.method
    def batch(self, values: List[int]) -> List[int]:
        return [value * value for value in values]

    @ModelClass.method
    def nothing(self) -> None:
        pass
