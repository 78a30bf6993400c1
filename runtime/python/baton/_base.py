"""What every front has, whatever it calls its methods with."""

from __future__ import annotations

import types
from typing import Any, Dict, Generic, Mapping, TypeVar

from . import _front

__all__ = ["FrontBase"]

AMethod = TypeVar("AMethod")


class FrontBase(Generic[AMethod]):
    """A connection to a server, and the methods of its model as attributes.

    What derives from it sets `_session`, then calls `_offer`.
    """

    _session: _front.Session
    _methods: Dict[str, AMethod]

    def _offer(self, methods: Dict[str, AMethod]) -> None:
        """Makes attributes of the methods whose names the class has no use for itself."""
        self._methods = methods
        for name, method in methods.items():
            if not hasattr(type(self), name) and name not in self.__dict__:
                self.__dict__[name] = method

    @property
    def name(self) -> str:
        """The server's name."""
        return self._session.name

    @property
    def generation(self) -> int:
        """The generation of the worker that serves, or that served last."""
        return self._session.generation

    @property
    def state(self) -> str:
        """"SERVING", "STAGING", ...; "GONE" when the server has ended or this front was closed."""
        return self._session.state

    @property
    def methods(self) -> Mapping[str, AMethod]:
        """The model's methods by name."""
        return types.MappingProxyType(self._methods)

    def __getattr__(self, name: str) -> Any:
        # Methods that there are were found before.
        methods = self.__dict__.get("_methods", {})
        raise AttributeError(f"this model has no method {name!r}; it has: {', '.join(methods)}")
