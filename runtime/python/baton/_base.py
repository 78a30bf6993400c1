"""What every front has, whatever it calls its methods with."""

from __future__ import annotations

import types
from typing import Any, Callable, Dict, Generic, Mapping, Optional, TypeVar

from . import _front

__all__ = ["FrontBase"]

# What _front.with_settings calls the detail of a whole Result.
_FULL = 1

AMethod = TypeVar("AMethod", bound=Callable[..., Any])


class FrontBase(Generic[AMethod]):
    """A connection to a server, and the methods of its model as attributes.

    What derives from it sets `_session`, then calls `_offer`, and says in `_with` what a method is.
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

    def call(
        self,
        method: str,
        /,
        *args: Any,
        timeout: Optional[float] = None,
        idempotent: Optional[bool] = None,
        secrets: Optional[Mapping[str, str]] = None,
        **kwargs: Any,
    ) -> Any:
        """Calls a method by its name; the result is the method's value.

        Arguments:
            method: its name.
            timeout: seconds for the whole call, waiting for a reload included; 30 without one.
            idempotent: whether it may be tried again where a worker died after it had started.
            secrets: for this call alone: what the model's get_secret() finds before all others.
        The others are the method's own; one of those names is given by `with_options(...)(timeout=...)`.
        """
        return self._with(method, timeout, idempotent, secrets, None)(*args, **kwargs)

    def result(
        self,
        method: str,
        /,
        *args: Any,
        timeout: Optional[float] = None,
        idempotent: Optional[bool] = None,
        secrets: Optional[Mapping[str, str]] = None,
        **kwargs: Any,
    ) -> Any:
        """As `call`; but a result is a `Result`, which says as well which generation gave it, how long it
        took, and what the model told by set_output_context. Of a method that streams, each of its results.

            result = front.result("predict", text="x")
            print(result.value, result.context.get("prompt_tokens"))
        """
        return self._with(method, timeout, idempotent, secrets, _FULL)(*args, **kwargs)

    def with_options(
        self,
        method: str,
        *,
        timeout: Optional[float] = None,
        idempotent: Optional[bool] = None,
        secrets: Optional[Mapping[str, str]] = None,
    ) -> AMethod:
        """A method that is called with these options each time, as `call` has them."""
        return self._with(method, timeout, idempotent, secrets, None)

    def _with(
        self,
        method: Optional[str],
        timeout: Optional[float],
        idempotent: Optional[bool],
        secrets: Optional[Mapping[str, str]],
        detail: Optional[int],
    ) -> AMethod:
        """The method of that name, the first without one, with these settings; None is as it is."""
        raise NotImplementedError

    def __getattr__(self, name: str) -> Any:
        # Methods that there are were found before.
        methods = self.__dict__.get("_methods", {})
        raise AttributeError(f"this model has no method {name!r}; it has: {', '.join(methods)}")
