"""ModelServer and `python -m baton.server`."""

import os
import signal
import subprocess
import sys
import threading
import unittest

import numpy as np

import baton
import served
from baton import _programs
from baton.server import ModelServer


class Server(served.ServedCase):
    def command_line(self, *arguments, **environment):
        process = subprocess.Popen(
            [sys.executable, "-m", "baton.server", *arguments],
            stderr=self.log, env={**os.environ, **environment})
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        return process

    def attach_when_ready(self, name, process):
        def serves():
            self.assertIsNone(process.poll(), self.log_text())
            return "control.sock" in os.listdir(folder) if os.path.isdir(folder) else False

        folder = os.path.join(self.folder, "baton", name)
        served.wait_for(serves, "the server's socket")
        return baton.Front.attach(name, connect_timeout=served.PATIENCE_S)

    def test_as_a_context(self):
        with ModelServer(self.probe("echo"), log=self.log) as server:
            pid = server.pid
            self.assertEqual(server.name, "probe")
            front = server.front()
            self.assertEqual(len(front.predict(np.zeros(3, np.uint8))), 3)
        self.assertFalse(os.path.exists(f"/proc/{pid}"))
        self.assertEqual(front.state, "GONE")
        self.assertEqual(server.pid, 0)
        self.assertIsNone(server.stop())

    def test_names(self):
        self.assertEqual(self.serve(self.probe("echo"), name="mine").name, "mine")
        self.assertEqual(self.serve(self.probe("echo")).name, "probe")
        with self.assertRaisesRegex(baton.FailedPrecondition, "probe"):
            self.serve(self.probe("echo"))

    def test_a_model_that_cannot_be_loaded(self):
        with self.assertRaisesRegex(baton.FailedPrecondition, "load fails as asked"):
            self.serve(self.probe("echo", load="fail"))

    def test_a_start_that_takes_too_long(self):
        server = ModelServer(self.probe("echo", load="hang"), log=self.log)
        with self.assertRaisesRegex(baton.DeadlineExceeded, "longer timeout"):
            server.start(timeout=0.3)
        self.assertEqual(server.pid, 0)

    def test_the_servers_end_follows_its_owners(self):
        program = (
            "import os, signal, sys\n"
            "from baton.server import ModelServer\n"
            "server = ModelServer(sys.argv[1]).start()\n"
            "print(server.pid, flush=True)\n"
            "os.kill(os.getpid(), signal.SIGKILL)\n")
        owner = subprocess.run([sys.executable, "-c", program, self.probe("echo")],
                               stdout=subprocess.PIPE, stderr=self.log, check=False)
        self.assertEqual(owner.returncode, -signal.SIGKILL)
        pid = int(owner.stdout)
        served.wait_for(lambda: not os.path.exists(f"/proc/{pid}"), "the server's end")

    def test_serve_in_the_foreground_until_sigterm_which_drains(self):
        program = ("import sys\n"
                   "from baton.server import ModelServer\n"
                   "sys.exit(ModelServer(sys.argv[1]).serve(port=8000, grpc=True))\n")
        process = subprocess.Popen([sys.executable, "-c", program, self.probe("slow", ms=500)],
                                   stderr=self.log)
        self.addCleanup(process.kill)
        front = self.attach_when_ready("probe", process)
        answers = []
        caller = threading.Thread(target=lambda: answers.append(front.predict(np.zeros(5, np.uint8))))
        caller.start()
        served.wait_for(lambda: self.taken("probe") == 1, "the call has been started")
        process.send_signal(signal.SIGTERM)
        self.assertEqual(process.wait(served.PATIENCE_S), 0)
        caller.join()
        self.assertEqual([len(a) for a in answers], [5])
        self.assertIn("no effect here: grpc, port", self.log_text())
        front.close()

    def test_command_line_with_the_flags_of_the_replaced_sdk(self):
        process = self.command_line(
            "--model_path", self.probe("echo"), "--grpc", "--port", "8000", "--pool_size", "4",
            "--max_queue_size", "2", "--num_threads", "1", "--max_msg_length", "100", "--enable_tls",
            "--disable_secrets_reload", "--name", "flags")
        front = self.attach_when_ready("flags", process)
        self.assertEqual(len(front.predict(np.zeros(5, np.uint8))), 5)
        front.close()
        process.send_signal(signal.SIGTERM)
        self.assertEqual(process.wait(served.PATIENCE_S), 0)
        self.assertIn("no effect here", self.log_text())

    def test_command_line_says_what_is_wrong(self):
        process = self.command_line("--model_path", os.path.join(self.folder, "nowhere"))
        self.assertEqual(process.wait(served.PATIENCE_S), 1)
        self.assertIn("nowhere", self.log_text())
        process = self.command_line("--model_path", "x", BATON_LIBEXEC_DIR="/nowhere")
        self.assertEqual(process.wait(served.PATIENCE_S), 1)
        self.assertIn("cannot find the program baton-supervisor in /nowhere", self.log_text())


class Secrets(served.ServedCase):
    def read_token(self, front):
        result = front.result("predict", np.zeros(1, np.uint8))
        return bytes(result.value.value).decode(), result.generation

    def test_secrets_reload_the_model(self):
        secrets = os.path.dirname(self.write("secrets/TOKEN", "first"))
        front = self.front(self.probe("env", variable="TOKEN"), secrets_directory=secrets)
        self.assertEqual(self.read_token(front), ("first", 1))
        self.write("secrets/TOKEN", "second")
        served.wait_for(lambda: self.read_token(front) == ("second", 2), "the reload")

    def test_the_directory_may_come_from_the_environment(self):
        os.environ["CLARIFAI_SECRETS_PATH"] = os.path.dirname(self.write("secrets/TOKEN", "first"))
        self.addCleanup(os.environ.pop, "CLARIFAI_SECRETS_PATH")
        front = self.front(self.probe("env", variable="TOKEN"))
        self.assertEqual(self.read_token(front)[0], "first")

    def test_a24_reloads_can_be_disabled(self):
        def by_option():
            return {"disable_secrets_reload": True}

        def by_environment():
            os.environ["CLARIFAI_DISABLE_SECRETS_RELOAD"] = "true"
            self.addCleanup(os.environ.pop, "CLARIFAI_DISABLE_SECRETS_RELOAD", None)
            return {}

        for number, disabled in enumerate((by_option, by_environment)):
            with self.subTest(disabled.__name__):
                secrets = os.path.dirname(self.write(f"secrets{number}/TOKEN", "first"))
                other = os.path.dirname(self.write(f"watched{number}/TOKEN", "first"))
                # A server that does watch says when a change would have been noticed.
                watched = self.front(self.probe("env", variable="TOKEN"), name=f"watched{number}",
                                     secrets_directory=other)
                front = self.front(self.probe("env", variable="TOKEN"), name=f"not{number}",
                                   secrets_directory=secrets, **disabled())
                self.assertEqual(self.read_token(front), ("first", 1))
                self.write(f"secrets{number}/TOKEN", "second")
                self.write(f"watched{number}/TOKEN", "second")
                served.wait_for(lambda: self.read_token(watched)[0] == "second", "the other's reload")
                self.assertEqual(self.read_token(front), ("first", 1))


class Programs(unittest.TestCase):
    def test_where_they_are_found(self):
        before = os.environ.pop("BATON_LIBEXEC_DIR", None)
        try:
            beside = _programs.find("baton-supervisor")
            self.assertEqual(os.path.realpath(beside),
                             os.path.realpath(os.path.join(served.BINARY, "bin", "baton-supervisor")))
            with self.assertRaisesRegex(baton.NotFound, "BATON_HOME"):
                _programs.find("baton-nothing")
            os.environ["BATON_HOME"] = os.path.dirname(os.path.dirname(beside))
            self.assertEqual(os.path.realpath(_programs.find("baton-supervisor")), os.path.realpath(beside))
        finally:
            os.environ.pop("BATON_HOME", None)
            if before is not None:
                os.environ["BATON_LIBEXEC_DIR"] = before


if __name__ == "__main__":
    served.main()
