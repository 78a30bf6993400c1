"""What a method takes and gives, as Python's inspect shows it."""

from __future__ import annotations

import ast
import inspect
from typing import Any, Dict, List

from . import _front

# The input that carries the secrets of one call; see Front.call.
_SECRETS = "baton.secrets"
# The output that carries what the model told by set_output_context; see Result.context.
_CONTEXT = "baton.context"
_TYPES = {
    "text": "str",
    "bytes": "bytes",
    "image": "Image",
    "json": "JSON",
    "value": "Any",
}


class _Shown:
    """A default that is the model's to know: only its text is known here."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __repr__(self) -> str:
        return self._text


def _default(text: str) -> Any:
    if not text:
        return None
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return _Shown(text)


def _annotation(tensor: Dict[str, Any]) -> str:
    if tensor["type_text"]:
        return str(tensor["type_text"])
    content, dtype = tensor["content"], tensor["dtype"]
    if content == "scalar":
        return "bool" if dtype == "bool" else "float" if dtype.startswith("float") else "int"
    if content in _TYPES:
        return _TYPES[content]
    shape = ", ".join({-1: "?", -2: "..."}.get(dim, str(dim)) for dim in tensor["shape"])
    return f"ndarray[{dtype}[{shape}]]"


def _returned(described: Dict[str, Any]) -> str:
    outputs = [tensor for tensor in described["outputs"] if tensor["name"] != _CONTEXT]
    types = [_annotation(tensor) for tensor in outputs]
    names = [tensor["name"] for tensor in outputs]
    if not types:
        result = "None"
    elif names == [f"output_{i}" for i in range(len(names))]:
        result = f"tuple[{', '.join(types)}]"
    elif len(types) == 1:
        result = types[0]
    else:
        result = f"NamedFields({', '.join(f'{n}={t}' for n, t in zip(names, types))})"
    streams = described["streams_outputs"] and not result.startswith("Iterator[")
    return f"Iterator[{result}]" if streams else result


def of_method(method: _front.Method) -> inspect.Signature:
    """The signature of a served method."""
    described = _front.describe(method)
    parameters: List[inspect.Parameter] = []
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    for tensor in described["inputs"]:
        name = tensor["name"]
        if name == _SECRETS:
            continue
        if not name.isidentifier():
            # Can be given by ** or by position; cannot be shown.
            return inspect.Signature(
                [
                    inspect.Parameter("args", inspect.Parameter.VAR_POSITIONAL),
                    inspect.Parameter("inputs", inspect.Parameter.VAR_KEYWORD),
                ],
                return_annotation=_returned(described),
            )
        default = _default(tensor["default_text"]) if tensor["optional"] else inspect.Parameter.empty
        after_default = parameters and parameters[-1].default is not inspect.Parameter.empty
        if default is inspect.Parameter.empty and after_default:
            kind = inspect.Parameter.KEYWORD_ONLY
        annotation = _annotation(tensor)
        if tensor["streamed"] and not annotation.startswith(("Iterator[", "Iterable[", "Stream[")):
            annotation = f"Iterator[{annotation}]"
        parameters.append(inspect.Parameter(name, kind, default=default, annotation=annotation))
    return inspect.Signature(parameters, return_annotation=_returned(described))
