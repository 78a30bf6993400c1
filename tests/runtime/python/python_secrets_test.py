"""Secrets that change under load, of a model written in Python: A12, A15 to A19, A23."""

import json
import os
import subprocess
import threading
import unittest

import baton
import served
from baton import _programs

KEEPER = '''
import os
from typing import Any, Dict

from baton import get_secret
from baton.models import ModelClass


def environment():
    return {name: value for name, value in os.environ.items() if name.startswith("APP_")}


AT_IMPORT = environment()


class Keeper(ModelClass):
    def __init__(self):
        super().__init__()
        self.at_init = environment()
        self.token = get_secret("APP_TOKEN")
        if get_secret("APP_MODE") == "broken":
            raise PermissionError("the service does not take " + self.token)

    def load_model(self):
        self.at_load = environment()

    @ModelClass.method
    def predict(self) -> Dict[str, Any]:
        now = environment()
        assert all(get_secret(name) == value for name, value in now.items())
        return {"seen": [AT_IMPORT, self.at_init, self.at_load, now], "token": self.token}

    def cleanup(self):
        with open(os.environ["KEEPER_CLEANUPS"], "a") as file:
            file.write(self.at_init["APP_VERSION"] + "\\n")
'''

ROTATIONS = int(os.environ.get("BATON_SECRET_ROTATIONS", "12"))
KEYS = ("APP_VERSION", "APP_TOKEN", "APP_MODE", "APP_EVEN", "APP_THIRD0", "APP_THIRD1", "APP_THIRD2")
SECRET = "sesame"  # in each value that nobody may see


def secrets_of(version, mode="works"):
    """All that is set in that version: some keys come and go."""
    values = {"APP_VERSION": str(version), "APP_TOKEN": f"{SECRET}-{version:06d}", "APP_MODE": mode,
              f"APP_THIRD{version % 3}": f"{SECRET}-third-{version}"}
    if version % 2 == 0:
        values["APP_EVEN"] = f"{SECRET}-even-{version}"
    return values


class Dotenv:
    """secrets/app/app: one file, replaced by a rename."""

    def __init__(self, folder):
        self.folder = os.path.join(folder, "secrets")
        os.makedirs(os.path.join(self.folder, "app"))

    def write(self, values):
        path = os.path.join(self.folder, "app", "app")
        with open(path + ".new", "w", encoding="ascii") as file:
            file.writelines(f"{name}={value}\n" for name, value in values.items())
        os.rename(path + ".new", path)


class Kubernetes:
    """secrets/KEY: links into the folder that the link ..data is to, which is replaced by a rename."""

    def __init__(self, folder):
        self.folder = os.path.join(folder, "secrets")
        os.makedirs(self.folder)
        for key in KEYS:  # one that leads nowhere is no secret
            os.symlink(os.path.join("..data", key), os.path.join(self.folder, key))
        self._swaps = 0

    def write(self, values):
        self._swaps += 1
        name = f"..swap{self._swaps}"
        os.mkdir(os.path.join(self.folder, name))
        for key, value in values.items():
            with open(os.path.join(self.folder, name, key), "w", encoding="ascii") as file:
                file.write(value)
        os.symlink(name, os.path.join(self.folder, "..data_new"))
        os.rename(os.path.join(self.folder, "..data_new"), os.path.join(self.folder, "..data"))


class Client:
    """Calls all the time, from a thread and a front of its own, and keeps what is wrong."""

    def __init__(self, front):
        self._front = front
        self._stop = False
        self.errors = []
        self.wrong = []
        self.changes = []  # (generation, version), in the order of the answers, repeated ones once
        self.answered = 0
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    @property
    def version(self):
        return self.changes[-1][1] if self.changes else 0

    def stop(self):
        self._stop = True
        self._thread.join()

    def _run(self):
        while not self._stop and len(self.errors) + len(self.wrong) < 10:
            try:
                result = self._front.result("predict")
            except baton.Error as error:
                self.errors.append(error)
                continue
            self._check(result)
            self.answered += 1

    def _check(self, result):
        environments = result.value["seen"]
        version = int(environments[0].get("APP_VERSION", 0))
        expected = secrets_of(version)
        if any(seen != expected for seen in environments) or result.value["token"] != expected["APP_TOKEN"]:
            self.wrong.append(result)
        if not self.changes or self.changes[-1] != (result.generation, version):
            self.changes.append((result.generation, version))


class Secrets(served.ServedCase):
    def start(self, layout):
        """A server on version 1, and two clients that are at it."""
        self.secrets = layout(self.folder)
        self.version = 1
        self.secrets.write(secrets_of(1))
        self.cleanups = os.path.join(self.folder, "cleanups")
        os.environ["KEEPER_CLEANUPS"] = self.cleanups
        self.addCleanup(os.environ.pop, "KEEPER_CLEANUPS")
        model = os.path.dirname(self.write("model/model.py", KEEPER))
        self.server = self.serve(model, name="keeper", secrets_directory=self.secrets.folder)
        self.clients = [Client(self.server.front()) for _ in range(2)]
        for client in self.clients:
            self.addCleanup(client.stop)
        self.wait_for_answers(20)

    def wait_for_answers(self, more):
        goals = [client.answered + more for client in self.clients]
        served.wait_for(lambda: self.none_failed() and all(
            client.answered >= goal for client, goal in zip(self.clients, goals)), "answers")

    def none_failed(self):
        for client in self.clients:
            self.assertEqual(client.errors, [])
            self.assertEqual(client.wrong, [])
        return True

    def rotate(self, count=1, **values):
        """So many versions more, at once; waits until both clients have the last one."""
        for _ in range(count):
            self.version += 1
            self.secrets.write(secrets_of(self.version, **values))
        served.wait_for(lambda: self.none_failed() and all(
            client.version == self.version for client in self.clients), f"version {self.version}")

    def receipts(self):
        with open(os.path.join(self.folder, "baton", "keeper", "receipts.jsonl"), encoding="utf-8") as lines:
            return [json.loads(line) for line in lines]

    def status(self):
        return subprocess.run([_programs.find("shmctl"), "status", "keeper", "--json"], check=True,
                              stdout=subprocess.PIPE, text=True).stdout

    def end(self):
        """Stops all of it; what is true in the end, whatever happened."""
        for client in self.clients:
            client.stop()
        self.none_failed()
        self.server.stop()
        for client in self.clients:
            generations = [generation for generation, _ in client.changes]
            self.assertEqual(generations, sorted(set(generations)))  # one version each, none comes back
            versions = [version for _, version in client.changes]
            self.assertEqual(versions, sorted(versions))
        with open(self.cleanups, encoding="ascii") as file:
            cleaned = [int(line) for line in file]
        self.assertEqual(len(cleaned), 1 + sum(r["outcome"] == "swapped" for r in self.receipts()))
        self.assertEqual(cleaned, sorted(cleaned))
        self.assertEqual(cleaned[-1], self.version)
        self.assertNotIn(SECRET, self.log_text())
        self.assertNotIn(SECRET, json.dumps(self.receipts()))

    def check_rotations(self, layout):
        self.start(layout)
        for rotation in range(ROTATIONS):
            # Every third time a burst, of which some come while the one before is being loaded.
            self.rotate(1 + rotation % 3)
        self.assertGreaterEqual(len(self.receipts()), ROTATIONS)
        self.end()

    def test_a12_a17_a18_versions_in_a_file_are_whole(self):
        self.check_rotations(Dotenv)

    def test_a12_a17_a18_versions_in_a_swapped_folder_are_whole(self):
        self.check_rotations(Kubernetes)

    def test_a19_a_version_that_cannot_be_loaded_keeps_the_one_before(self):
        self.start(Dotenv)
        self.rotate()
        before = len(self.receipts())
        good = self.version
        self.version += 1
        self.secrets.write(secrets_of(self.version, mode="broken"))
        # That of the rotation before may come a little later than its answers.
        served.wait_for(lambda: self.none_failed() and any(
            receipt["outcome"] != "swapped" for receipt in self.receipts()[before:]), "the receipt")
        self.wait_for_answers(50)
        self.assertEqual([client.version for client in self.clients], [good, good])
        receipt = self.receipts()[-1]
        self.assertEqual(receipt["outcome"], "kept-old")
        for said in (receipt["reason"], self.status()):
            self.assertIn("PermissionError: the service does not take ***", said)
            self.assertIn("model.py", said)
            self.assertNotIn(SECRET, said)
        self.rotate()
        self.assertEqual(self.receipts()[-1]["outcome"], "swapped")
        self.end()


if __name__ == "__main__":
    served.main()
