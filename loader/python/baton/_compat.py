"""Import paths of the SDK whose models Baton runs, where that SDK is not installed."""

import importlib
import importlib.abc
import importlib.machinery
import sys

_ROOT = "clarifai"
# What each module gives: names and whence, or all that another one has.
_MODULES = {
    "clarifai": None,
    "clarifai.runners": {"ModelClass": "baton.models"},
    "clarifai.runners.models": {"ModelClass": "baton.models"},
    "clarifai.runners.models.model_class": {"ModelClass": "baton.models"},
    "clarifai.runners.utils": None,
    "clarifai.runners.utils.data_types": "baton.data_types",
    "clarifai.runners.utils.data_types.data_types": "baton.data_types",
    "clarifai.runners.utils.data_utils": {"Param": "baton.data_types"},
    "clarifai.runners.server": {"ModelServer": "baton.server"},
    "clarifai.utils": None,
    "clarifai.utils.logging": {"logger": "baton._log"},
}


class _Module(importlib.abc.Loader):
    def create_module(self, spec):
        return None

    def exec_module(self, module):
        gives = _MODULES[module.__name__]
        module.__baton__ = True

        def get(name):
            source = gives if isinstance(gives, str) else (gives or {}).get(name)
            if source is not None and not name.startswith("__"):
                found = getattr(importlib.import_module(source), name, None)
                if found is not None:
                    return found
            raise AttributeError(f"module '{module.__name__}', supplied by Baton since the SDK is not "
                                 f"installed, has no '{name}'")

        module.__getattr__ = get
        if isinstance(gives, str):
            module.__all__ = list(_public(gives))


def _public(source):
    module = importlib.import_module(source)
    return [name for name, value in vars(module).items()
            if isinstance(value, type) and value.__module__ == source and not name.startswith("_")]


class _Finder(importlib.abc.MetaPathFinder):
    """Asked last, so that a package of that name that is installed comes first, whole."""

    def find_spec(self, name, path=None, target=None):
        if name not in _MODULES:
            return None
        if name != _ROOT and not getattr(sys.modules.get(_ROOT), "__baton__", False):
            return None
        package = any(other.startswith(name + ".") for other in _MODULES)
        return importlib.machinery.ModuleSpec(name, _Module(), is_package=package)


def install():
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.append(_Finder())
