"""Where Baton's own programs are, for whoever starts a server from Python."""

from __future__ import annotations

import os
import shutil
from typing import List

from .errors import NotFound

_PACKAGE = os.path.dirname(os.path.realpath(__file__))


def _places() -> List[str]:
    """The folders that may hold the programs, the ones that were asked for first."""
    asked = os.environ.get("BATON_LIBEXEC_DIR")
    if asked:
        return [asked]  # and nowhere else, as the C++ side has it
    places = []
    home = os.environ.get("BATON_HOME")
    if home:
        places += [os.path.join(home, "libexec", "baton"), os.path.join(home, "bin")]
    places.append(os.path.join(_PACKAGE, "programs"))  # a wheel
    for package in dict.fromkeys((os.path.dirname(os.path.abspath(__file__)), _PACKAGE)):
        folder = package
        for _ in range(4):  # <prefix>/lib/python3/dist-packages/baton, or build/<preset>/python/baton
            folder = os.path.dirname(folder)
            places += [os.path.join(folder, "libexec", "baton"), os.path.join(folder, "bin")]
    return places


def find(program: str) -> str:
    """The path of one of Baton's programs.

    Looked for in $BATON_LIBEXEC_DIR if that is set (and nowhere else then), in $BATON_HOME, in this
    package, beside it where it was installed or built, and in $PATH. Raises `NotFound`, which names the
    places.
    """
    places = _places()
    for place in places:
        path = os.path.join(place, program)
        if os.path.isfile(path) and os.access(path, os.X_OK):
            return path
    found = shutil.which(program)
    if found:
        return found
    raise NotFound(
        f"cannot find the program {program} in {', '.join(places)} or $PATH: install Baton, or set "
        "BATON_HOME to where it is"
    )
