"""tools/wheel: what it makes can be installed without a network, and serves and calls a model from there."""

import os
import subprocess
import sys
import unittest
import zipfile

import served

PROGRAM = """
import os, sys
import numpy as np
import baton
from baton import _programs
here = os.path.dirname(baton.__file__)
assert here.startswith(sys.argv[2]), here
assert _programs.find("baton-supervisor").startswith(here), _programs.find("baton-supervisor")
with baton.ModelServer(sys.argv[1]) as server:
    front = server.front()
    scores = front.predict(np.zeros((1, 64), np.float32))
    worker = [l for l in open(f"/proc/{server.pid}/maps") if "libcapnp" in l or "libkj" in l]
    assert all(here in l for l in worker), worker
    print("scores", scores.shape)
"""


class Wheel(served.ServedCase):
    def test_it_is_installed_and_used(self):
        out = os.path.join(self.folder, "dist")
        made = subprocess.run([os.path.join(served.SOURCE, "tools", "wheel"), served.BINARY, out],
                              stdout=subprocess.PIPE, check=True, text=True).stdout.strip()
        self.assertRegex(os.path.basename(made), r"^baton-[\d.]+-cp\d+-cp\d+-linux_\w+\.whl$")
        with zipfile.ZipFile(made) as archive:
            self.assertIsNone(archive.testzip())
            self.assertIn("baton/programs/baton-worker", archive.namelist())
        target = os.path.join(self.folder, "site")
        subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps",
                        "--no-cache-dir", "--target", target, made], check=True, stdout=self.log, stderr=self.log)
        environment = {k: v for k, v in os.environ.items() if not k.startswith("BATON_")}
        environment["PYTHONPATH"] = target
        run = subprocess.run([sys.executable, "-c", PROGRAM, served.DIGITS, target], cwd=self.folder,
                             env=environment, stdout=subprocess.PIPE, stderr=self.log, text=True, check=False)
        self.assertEqual(run.returncode, 0, self.log_text())
        self.assertEqual(run.stdout.strip(), "scores (1, 10)")
        shown = subprocess.run([os.path.join(target, "bin", "shmctl"), "--help"], env=environment,
                               stdout=subprocess.PIPE, stderr=self.log, text=True, check=False)
        self.assertEqual(shown.returncode, 0, self.log_text())
        self.assertIn("serve", shown.stdout)


if __name__ == "__main__":
    served.main()
