"""The stubs say what there is, and everything public is documented and annotated."""

import ast
import importlib
import inspect
import os
import unittest

import baton
from baton import _front

PACKAGE = os.path.dirname(baton.__file__)
# What a user of the front meets. The models' side has its own tests.
MODULES = ["baton._base", "baton.aio", "baton.errors", "baton.front", "baton.server"]


def stub_of(name):
    path = os.path.join(PACKAGE, name + ".pyi")
    with open(path, encoding="utf-8") as stub:
        return ast.parse(stub.read(), path)


def parameters_of(function):
    return [a.arg for a in function.args.posonlyargs + function.args.args if a.arg != "self"]


class Stubs(unittest.TestCase):
    def test_the_package_is_marked_as_typed(self):
        self.assertTrue(os.path.exists(os.path.join(PACKAGE, "py.typed")))

    def test_the_extension_has_what_its_stub_says_and_nothing_else(self):
        stub = stub_of("_front")
        named = {node.name for node in stub.body if isinstance(node, (ast.ClassDef, ast.FunctionDef))}
        self.assertEqual(named, {name for name in vars(_front) if not name.startswith("__")})
        for node in stub.body:
            if isinstance(node, ast.FunctionDef):
                self.assert_takes(getattr(_front, node.name), parameters_of(node), node.name)
            elif isinstance(node, ast.ClassDef):
                self.assert_class(getattr(_front, node.name), node)

    def assert_class(self, kind, node):
        members = {m.name if isinstance(m, ast.FunctionDef) else m.target.id: m for m in node.body
                   if isinstance(m, (ast.FunctionDef, ast.AnnAssign))}
        public = {name for name in vars(kind) if not name.startswith("_")}
        self.assertEqual({name for name in members if not name.startswith("_")}, public, kind)
        for name, member in members.items():
            where = f"{node.name}.{name}"
            self.assertTrue(hasattr(kind, name), where)
            if not isinstance(member, ast.FunctionDef) or name.startswith("__"):
                continue
            if any(isinstance(d, ast.Name) and d.id == "property" for d in member.decorator_list):
                self.assertIsInstance(vars(kind)[name], property, where)
            else:
                self.assert_takes(vars(kind)[name], parameters_of(member), where)

    def assert_takes(self, function, parameters, where):
        # pybind11 writes the signature into the first line of the docstring.
        text = (function.__doc__ or "").splitlines()[0]
        shown = text[text.index("(") + 1:text.rindex(") ->")]
        taken = [part.split(":")[0].strip() for part in split_arguments(shown)]
        taken = [name for name in taken if name not in ("self", "arg0") or name in parameters]
        self.assertEqual(taken, parameters, f"{where}: {text}")

    def test_everything_public_is_documented_and_annotated(self):
        seen = 0
        for name in MODULES:
            module = importlib.import_module(name)
            self.assertTrue(module.__doc__, name)
            for public in module.__all__:
                thing = getattr(module, public)
                self.assertTrue(inspect.getdoc(thing), f"{name}.{public}")
                seen += self.check(thing, f"{name}.{public}")
        self.assertGreater(seen, 60)

    def check(self, thing, where):
        if inspect.isfunction(thing):
            return self.check_function(thing, where)
        if not inspect.isclass(thing) or not thing.__module__.startswith("baton"):
            return 0
        seen = 1
        for name, member in vars(thing).items():
            if name.startswith("_") and name not in ("__init__", "__enter__", "__exit__", "__call__"):
                continue
            at = f"{where}.{name}"
            if isinstance(member, property):
                self.assertTrue(member.__doc__, at)
                self.assertIn("return", member.fget.__annotations__, at)
                seen += 1
            elif isinstance(member, (classmethod, staticmethod)):
                seen += self.check_function(member.__func__, at)
            elif inspect.isfunction(member):
                seen += self.check_function(member, at)
        return seen

    def check_function(self, function, where):
        if not where.endswith("__init__"):
            self.assertTrue(function.__doc__, where)
        signature = inspect.signature(function)
        self.assertIsNot(signature.return_annotation, inspect.Signature.empty, where)
        for name, parameter in signature.parameters.items():
            if name in ("self", "cls"):
                continue
            self.assertIsNot(parameter.annotation, inspect.Parameter.empty, f"{where}({name})")
        return 1

    def test_everything_can_be_had_from_the_package(self):
        for name in ("Front", "ModelServer", "Result", "Tensors", "aio", "errors", *baton.errors.__all__):
            self.assertTrue(hasattr(baton, name), name)
            self.assertIn(name, dir(baton))
        with self.assertRaisesRegex(AttributeError, "nothing_such"):
            baton.nothing_such

    def test_a_worker_that_imports_the_package_loads_no_front(self):
        import subprocess
        import sys
        said = subprocess.run(
            [sys.executable, "-c", "import sys, baton; print('baton._front' in sys.modules)"],
            stdout=subprocess.PIPE, check=True)
        self.assertEqual(said.stdout.strip(), b"False")


def split_arguments(text):
    """At commas outside of brackets."""
    parts, depth, start = [], 0, 0
    for at, letter in enumerate(text):
        depth += (letter in "[(<{") - (letter in "])>}")
        if letter == "," and depth == 0:
            parts.append(text[start:at])
            start = at + 1
    return [part for part in parts + [text[start:]] if part.strip()]


if __name__ == "__main__":
    unittest.main(verbosity=2)
