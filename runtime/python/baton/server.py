"""Serving a model directory from Python: `ModelServer`, and `python -m baton.server`.

The server is Baton's own supervisor, a process that never runs model code; what is here finds its
program, starts it, and waits for it.

    python -m baton.server --model_path ./model --name echo --secrets /run/secrets

    with baton.ModelServer("./model") as server:
        print(server.front().predict(text="hello"))
"""

from __future__ import annotations

import argparse
import os
import secrets as random_bytes
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING, Any, Dict, List, NoReturn, Optional, Sequence, Union

from . import _programs
from .errors import DeadlineExceeded, FailedPrecondition

if TYPE_CHECKING:
    from .front import Front

__all__ = ["ModelServer", "main"]

# How long a stopping server may take before it is killed; it bounds its own steps, and those add up to less.
_STOP_TIMEOUT_S = 60.0
# Where the replaced SDK looks for secrets.
_SECRETS_VARIABLE = "CLARIFAI_SECRETS_PATH"


class ModelServer:
    """A server for one model directory: Baton's supervisor, run from this process.

    `serve()` runs it in the foreground, as a program's main job; `start()`, or `with`, beside the
    program, for tests and notebooks. Either way the server ends when this process does, however that
    ends.

    Thread safety: none; one thread at a time.

    Arguments:
        model_path: the model directory.
        name: what fronts attach to; without one, as config.yaml says.
        secrets_directory: secrets for the model's environment; a change reloads the model. Without one,
            $CLARIFAI_SECRETS_PATH, if that is set.
        disable_secrets_reload: load secrets at start, but do not reload when they change. So do
            $BATON_DISABLE_SECRETS_RELOAD and $CLARIFAI_DISABLE_SECRETS_RELOAD.
        device: "host", "cuda:0", ...; without one, as config.yaml says.
        run_directory: where servers are found; without one, $XDG_RUNTIME_DIR/baton or /tmp/baton-UID.
        arguments: further arguments of the supervisor's program.
        log: a file for the server's log, which is standard error otherwise.
    """

    def __init__(
        self,
        model_path: Union[str, "os.PathLike[str]"],
        *,
        name: str = "",
        secrets_directory: Union[None, str, "os.PathLike[str]"] = None,
        disable_secrets_reload: bool = False,
        device: str = "",
        run_directory: str = "",
        arguments: Sequence[str] = (),
        log: Any = None,
    ) -> None:
        self.model_path = os.fspath(model_path)
        self.name = name
        self.secrets_directory = _secrets(secrets_directory)
        self.disable_secrets_reload = disable_secrets_reload
        self.device = device
        self.run_directory = run_directory
        self._arguments = list(arguments)
        self._log = log
        self._process: Optional[subprocess.Popen[bytes]] = None
        self._life: Optional[socket.socket] = None
        self._fronts: List["Front"] = []
        self._owner = os.getpid()

    def command(self) -> List[str]:
        """The command that runs the server: its program and its arguments."""
        command = [_programs.find("baton-supervisor"), self.model_path]
        for flag, value in (
            ("--name", self.name),
            ("--secrets", self.secrets_directory),
            ("--device", self.device),
            ("--run-directory", self.run_directory),
        ):
            if value:
                command += [flag, value]
        if self.disable_secrets_reload:
            command.append("--disable-secrets-reload")
        return command + self._arguments

    def serve(self, **ignored: Any) -> int:
        """Serves in the foreground until SIGTERM or SIGINT, which let running requests end.

        Returns the server's exit status, 0 where it was stopped. Arguments of the replaced SDK's serve()
        are accepted, and do nothing.
        """
        _say_ignored(ignored)
        self._spawn([])
        process = self._process
        assert process is not None
        before: Dict[int, Any] = {}
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                before[number] = signal.signal(number, lambda *_: process.terminate())
        try:
            return process.wait()
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
            self.stop()

    def start(self, timeout: float = 600.0) -> "ModelServer":
        """Starts the server and returns when the model is loaded, after `timeout` seconds at most.

        Raises `FailedPrecondition` with the server's own words where it cannot serve that model, and
        `DeadlineExceeded`. Costs what loading the model costs.
        """
        if self._process is not None:
            raise FailedPrecondition(f"the server for {self.model_path} runs already: stop() it first")
        if not self.name and not _names_itself(self.model_path):
            self.name = f"private-{os.getpid()}-{random_bytes.token_hex(4)}"
        read, write = os.pipe()
        try:
            try:
                self._spawn(["--ready-fd", str(write)], write)
            finally:
                os.close(write)
            said = self._read_ready(read, time.monotonic() + timeout)
        except BaseException:
            self.stop()
            raise
        finally:
            os.close(read)
        if not said.startswith("ready"):
            self.stop()
            raise FailedPrecondition(
                said.strip() or f"the server for {self.model_path} ended before it was ready; its log says why"
            )
        if not self.name:
            self.name = self._name_in_run_directory()
        return self

    def front(self, **options: Any) -> "Front":
        """A front of this server, once it has started; `options` as `Front.attach` takes them.

        It is closed by `stop()`.
        """
        if self._process is None:
            raise FailedPrecondition("the server has not been started: call start() first")
        from .front import Front

        front = Front.attach(self.name, run_directory=self.run_directory, **options)
        self._fronts.append(front)
        return front

    @property
    def pid(self) -> int:
        """The server's process; 0 where none runs."""
        return 0 if self._process is None else self._process.pid

    def stop(self, timeout: float = _STOP_TIMEOUT_S) -> Optional[int]:
        """Stops the server and waits for its end; running requests end before it does.

        Kills it after `timeout` seconds. Returns its exit status, None where none ran.
        """
        for front in self._fronts:
            front.close()
        self._fronts.clear()
        process, self._process = self._process, None
        if process is None or self._owner != os.getpid():  # a forked child leaves its parent's alone
            return None
        try:
            if process.poll() is None:
                process.terminate()
            return process.wait(timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            return process.wait()
        finally:
            if self._life is not None:
                self._life.close()
                self._life = None

    def __enter__(self) -> "ModelServer":
        """Starts the server; `with` stops it."""
        return self.start()

    def __exit__(self, *_: object) -> None:
        """Stops the server."""
        self.stop()

    def _spawn(self, arguments: List[str], *fds: int) -> None:
        # A socket of which we hold the other end: the server stops when that end goes, with us.
        ours, theirs = socket.socketpair()
        try:
            self._process = subprocess.Popen(
                self.command() + ["--die-with-fd", str(theirs.fileno())] + arguments,
                stdin=subprocess.DEVNULL,
                stderr=self._log,
                pass_fds=(theirs.fileno(), *fds),
            )
        except BaseException:
            ours.close()
            raise
        finally:
            theirs.close()
        self._life = ours
        self._owner = os.getpid()

    def _read_ready(self, fd: int, deadline: float) -> str:
        said = b""
        poll = select.poll()
        poll.register(fd, select.POLLIN)
        while not said.startswith(b"ready"):
            left = deadline - time.monotonic()
            if left <= 0:
                raise DeadlineExceeded(
                    f"the server for {self.model_path} was not ready in time: give a model that loads slowly "
                    "a longer timeout"
                )
            if not poll.poll(min(left, 1.0) * 1000):
                continue
            got = os.read(fd, 4096)
            if not got:
                break
            said += got
        return said.decode(errors="replace")

    def _name_in_run_directory(self) -> str:
        # config.yaml chose it. Each server's folder has a file with its pid.
        folder = self.run_directory or _default_run_directory()
        for name in os.listdir(folder):
            try:
                with open(os.path.join(folder, name, "lock"), encoding="ascii") as lock:
                    if int(lock.read().strip() or 0) == self.pid:
                        return name
            except (OSError, ValueError):
                continue
        raise FailedPrecondition(f"cannot find the server's name in {folder}: give ModelServer a name")


def _default_run_directory() -> str:
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    return os.path.join(runtime, "baton") if runtime else f"/tmp/baton-{os.getuid()}"


def _names_itself(model_path: str) -> bool:
    return os.path.exists(os.path.join(model_path, "config.yaml"))


def _secrets(directory: Union[None, str, "os.PathLike[str]"]) -> str:
    if directory is not None:
        return os.fspath(directory)
    return os.environ.get(_SECRETS_VARIABLE, "")


def _say_ignored(options: Dict[str, Any]) -> None:
    asked = [name for name, value in options.items() if value]
    if asked:
        print(
            f"baton: no effect here: {', '.join(sorted(asked))} (requests come through shared memory)",
            file=sys.stderr,
            flush=True,
        )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m baton.server",
        description="Serves one model directory in the foreground, until SIGTERM, which lets running "
        "requests end.",
    )
    parser.add_argument("--model_path", "--model-path", required=True, help="the model directory")
    parser.add_argument("--name", default="", help="what fronts attach to (default: as config.yaml says)")
    parser.add_argument("--device", default="", help="host, cuda:0, ... (default: as config.yaml says)")
    parser.add_argument(
        "--secrets",
        default=None,
        metavar="DIR",
        help=f"secrets for the model's environment; a change reloads it (default: ${_SECRETS_VARIABLE})",
    )
    parser.add_argument(
        "--disable_secrets_reload",
        "--disable-secrets-reload",
        action="store_true",
        help="load secrets at start, but do not reload when they change",
    )
    parser.add_argument("--run_directory", "--run-directory", default="", help="where servers are found")
    ignored = parser.add_argument_group("accepted for programs that served over gRPC; no effect here")
    for flag in ("--grpc", "--enable_tls"):
        ignored.add_argument(flag, action="store_true", help=argparse.SUPPRESS)
    for flag in ("--port", "--pool_size", "--num_threads", "--max_queue_size", "--max_msg_length"):
        ignored.add_argument(flag, type=int, help=argparse.SUPPRESS)
    ignored.description = (
        "--grpc, --enable_tls, --port, --pool_size, --num_threads, --max_queue_size, --max_msg_length"
    )
    return parser


def main(arguments: Optional[Sequence[str]] = None) -> NoReturn:
    """`python -m baton.server`: becomes the supervisor's program, signals and exit status included."""
    parsed = _parser().parse_args(arguments)
    _say_ignored(
        {
            name: getattr(parsed, name)
            for name in (
                "grpc",
                "enable_tls",
                "port",
                "pool_size",
                "num_threads",
                "max_queue_size",
                "max_msg_length",
            )
        }
    )
    server = ModelServer(
        parsed.model_path,
        name=parsed.name,
        secrets_directory=parsed.secrets,
        disable_secrets_reload=parsed.disable_secrets_reload,
        device=parsed.device,
        run_directory=parsed.run_directory,
    )
    try:
        command = server.command()
    except LookupError as error:
        print(f"baton: {error}", file=sys.stderr)
        sys.exit(1)
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(command[0], command)


if __name__ == "__main__":
    main()
