"""Servers for tests: model directories in a folder of their own, and a run directory that nobody else has."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import unittest

import baton
from baton import _programs
from baton.server import ModelServer

SOURCE = os.environ["BATON_SOURCE_DIR"]
BINARY = os.environ["BATON_BINARY_DIR"]
DIGITS = os.path.join(SOURCE, "loader", "models", "digits")
# Sanitizers make everything slow; nothing here measures.
PATIENCE_S = 120.0


def wait_for(condition, what):
    """Looks until `condition` holds."""
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"waited in vain: {what}")
        time.sleep(0.005)


def probe_config(behaviour, **options):
    """A config.yaml for the native model of tests/models/probe_model.cc."""
    lines = ["reload: {drain_timeout: 3s, cleanup_timeout: 3s}",  # some never end
             "name: probe", "loader: native", f'file: "{BINARY}/tests/models/probe_model.so"', "native:",
             "  options:", f"    behaviour: {behaviour}"]
    lines += [f'    {name}: "{value}"' for name, value in options.items()]
    return "\n".join(lines) + "\n"


class ServedCase(unittest.TestCase):
    """A temporary folder as $XDG_RUNTIME_DIR, and servers that end with the test."""

    def setUp(self):
        self.folder = tempfile.mkdtemp(prefix="baton-python-")
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)
        before = os.environ.get("XDG_RUNTIME_DIR")
        os.environ["XDG_RUNTIME_DIR"] = self.folder
        self.addCleanup(self._restore, before)
        self.models = 0
        self.log = open(os.path.join(self.folder, "log"), "w+b")
        self.addCleanup(self.log.close)

    @staticmethod
    def _restore(before):
        if before is None:
            del os.environ["XDG_RUNTIME_DIR"]
        else:
            os.environ["XDG_RUNTIME_DIR"] = before

    def write(self, path, text):
        path = os.path.join(self.folder, path)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
        return path

    def probe(self, behaviour, config="", **options):
        """The directory of a probe model."""
        self.models += 1  # a folder each: a change in one would reload a server that has it
        text = probe_config(behaviour, **options) + config
        return os.path.dirname(self.write(f"model{self.models}/config.yaml", text))

    def serve(self, directory, **options):
        """A started ModelServer."""
        server = ModelServer(directory, log=self.log, **options).start(PATIENCE_S)
        self.addCleanup(server.stop)
        return server

    def front(self, directory, front_options=None, **options):
        """A front of a server of the test's own."""
        patient = {"connect_timeout": PATIENCE_S, **(front_options or {})}
        return self.serve(directory, **options).front(**patient)

    def worker_pids(self, server):
        """The server's workers: children that are called so."""
        found = []
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                with open(f"/proc/{pid}/stat", encoding="utf-8") as stat:
                    name, rest = stat.read().split("(", 1)[1].rsplit(")", 1)
            except OSError:
                continue
            if name.startswith("baton-worker") and int(rest.split()[1]) == server.pid:
                found.append(int(pid))
        return found

    @staticmethod
    def taken(server="probe"):
        """How many requests its worker has begun with."""
        status = subprocess.run([_programs.find("shmctl"), "status", server, "--json"], check=True,
                                stdout=subprocess.PIPE)
        return int(json.loads(status.stdout)["servers"][0]["requestsTaken"])

    def log_text(self):
        self.log.flush()
        with open(self.log.name, encoding="utf-8", errors="replace") as log:
            return log.read()


def main():
    unittest.main(argv=[sys.argv[0], "-v"])
