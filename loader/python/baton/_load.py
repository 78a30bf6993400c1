"""Loads model.py and finds the model's class in it. What the worker calls."""

import importlib.machinery
import importlib.util
import inspect
import os
import sys

from baton import _compat, _signature

BadModel = _signature.BadModel


def import_model(path):
    """Runs model.py as the module `model`, with its folder on sys.path."""
    folder = os.path.dirname(path)
    if folder not in sys.path:
        sys.path.insert(0, folder)
    _compat.install()
    # Whatever its name ends with.
    loader = importlib.machinery.SourceFileLoader("model", path)
    spec = importlib.util.spec_from_file_location("model", path, loader=loader)
    module = importlib.util.module_from_spec(spec)
    sys.modules["model"] = module  # dataclasses, pickle and typing look there
    spec.loader.exec_module(module)
    return module


def find_class(module, path):
    """The one class that is defined in `module` and is a model, and no base of another such one."""
    found = [cls for cls in vars(module).values()
             if inspect.isclass(cls) and cls.__module__ == module.__name__
             and not inspect.isabstract(cls) and _signature.is_model_class(cls)]
    found = list(dict.fromkeys(found))
    leaves = [cls for cls in found if not any(other is not cls and issubclass(other, cls)
                                              for other in found)]
    if not leaves:
        raise BadModel(f"{path}: defines no model; write a class that derives from ModelClass "
                       "(from baton.models import ModelClass)")
    if len(leaves) > 1:
        names = ", ".join(f"{cls.__name__} (line {_line(cls)})" for cls in leaves)
        raise BadModel(f"{path}: defines {len(leaves)} models: {names}; keep one, the others may "
                       "move to a module of their own")
    return leaves[0]


def _line(cls):
    try:
        return inspect.getsourcelines(cls)[1]
    except (OSError, TypeError):
        return "?"


def describe(cls, path):
    return _signature.methods_of(cls, os.path.dirname(path))


def construct(cls):
    """A model that is ready: A3."""
    model = cls()
    load = getattr(model, "load_model", None)
    if load is not None:
        load()
    return model
