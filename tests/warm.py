"""Processes of Python that start without the seconds of importing torch: each is forked from one that has done so.

`python("-m", "trainer", "train")` is what `subprocess.Popen([sys.executable, "-m", "trainer", "train"])` would be: a
real process with its own folder, environment, streams, signals and exit code. What a start-up costs, imports or reads
from the environment is for a cold one: `python(..., cold=True)`.

The server is this file, run as a script. It has one thread, for a fork takes only one along, beside that of pyarrow's
allocator, which knows of forks.
"""

import atexit
import contextlib
import fcntl
import functools
import gc
import importlib
import json
import multiprocessing.util
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import threading
import time
import types
from pathlib import Path
from typing import IO, Any

# What a run of training or a lesson imports.
PRELOADED = (
    "trainer.commands.train",
    "trainer.commands.sweep",
    "trainer.commands.evaluate",
    "trainer.commands.predict",
    "trainer.runs.run_training",
    "trainer.runs.inference",
    "trainer.data.datasets.digits",
    "trainer.data.datasets.image_folder",
    "trainer.data.datasets.synthetic",
    "trainer.data.table.table_data",
    "trainer.data.images.augment",
    "trainer.models.cnn",
    "trainer.models.mlp",
    "trainer.tasks.classification",
    "trainer.tasks.regression",
    "torch.utils.tensorboard",
    "matplotlib.backends.backend_agg",
    "matplotlib.pyplot",
)
ALLOCATOR = "jemalloc_bg_thd\n"
# Read once, by the interpreter or by a library as it is loaded: a process with another value starts cold.
READ_AT_THE_START = ("PYTHON", "OMP_", "LD_", "MALLOC_", "GLIBC_")
LONGEST = 1 << 20  # bytes of a request
STREAMS = ("stdin", "stdout", "stderr")
# A word of a command that may start trials of a sweep, which are forked from a server of `multiprocessing`.
SWEEPS = ("-m", "--multirun", "resume", "sweep")


# The side of the tests


class Process:
    """A process that the server has forked, with the methods of a `subprocess.Popen` in text mode that tests use."""

    def __init__(self, arguments: tuple[str, ...], cwd: Path, env: dict[str, str], **streams: Any) -> None:
        self.args, self.returncode = arguments, None
        self._status, theirs = socket.socketpair()
        given = {name: streams.get(name) for name in STREAMS}
        pipes = {name: os.pipe() for name, stream in given.items() if stream == subprocess.PIPE}
        with contextlib.ExitStack() as after:
            after.callback(theirs.close)
            null = os.open(os.devnull, os.O_RDWR)
            after.callback(os.close, null)
            for name, (reader, writer) in pipes.items():
                after.callback(os.close, reader if name == "stdin" else writer)
            descriptors: dict[Any, Any] = {None: null, subprocess.DEVNULL: null}
            for name, stream in given.items():
                if name in pipes:
                    given[name] = pipes[name][0 if name == "stdin" else 1]
                elif stream == subprocess.STDOUT:
                    given[name] = given["stdout"]
                else:
                    given[name] = descriptors.get(stream, stream)
            request = json.dumps({"arguments": arguments, "cwd": str(cwd), "env": env}).encode()
            numbers = [stream if isinstance(stream, int) else stream.fileno() for stream in given.values()]
            socket.send_fds(_server(), [request], [*numbers, theirs.fileno()])
        mine = {name: ends[1 if name == "stdin" else 0] for name, ends in pipes.items()}
        opened = {name: open(end, "w" if name == "stdin" else "r") for name, end in mine.items()}  # noqa: SIM115
        self.stdin: IO[str] | None = opened.get("stdin")
        self.stdout: IO[str] | None = opened.get("stdout")
        self.stderr: IO[str] | None = opened.get("stderr")
        self.pid = int(self._read())

    def _read(self) -> bytes:
        """A line from the server: the pid, later the exit code."""
        line = b""
        while not line.endswith(b"\n"):
            byte = self._status.recv(1)
            assert byte, "the server of warm processes has died"
            line += byte
        return line

    def poll(self) -> int | None:
        """The exit code; None as long as it runs."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            return self.wait(0)
        return None

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the end; gives the exit code, negative for a signal."""
        if self.returncode is None:
            if not select.select([self._status], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired(self.args, timeout or 0)
            self.returncode = int(self._read())
            self._status.close()
        return self.returncode

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """Read both streams to their ends and wait."""
        texts = ["", ""]

        def read(number: int, stream: IO[str]) -> None:
            with stream:
                texts[number] = stream.read()

        end = time.monotonic() + (timeout or 1e6)
        if self.stdin is not None:
            self.stdin.close()
        streams = [(i, stream) for i, stream in enumerate((self.stdout, self.stderr)) if stream and not stream.closed]
        readers = [threading.Thread(target=read, args=each, daemon=True) for each in streams]
        for reader in readers:
            reader.start()
        for reader in readers:
            reader.join(end - time.monotonic())
            if reader.is_alive():
                raise subprocess.TimeoutExpired(self.args, timeout or 0)
        self.wait(max(0.0, end - time.monotonic()))
        return texts[0], texts[1]

    def send_signal(self, number: int) -> None:
        """Send a signal; nothing where it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def __enter__(self) -> "Process":
        return self

    def __exit__(self, *_: object) -> None:
        for stream in (self.stdin, self.stdout, self.stderr):
            if stream is not None:
                stream.close()
        self.wait()


def python(
    *arguments: str, cwd: Path, env: dict[str, str] | None = None, cold: bool = False, **streams: Any
) -> "Process | subprocess.Popen[str]":
    """Start `python ARGUMENTS` (`-m MODULE`, `-c CODE` or a file) in a session of its own.

    Args:
        arguments: what follows `python`.
        cwd: its folder.
        env: variables beside those of this process.
        cold: start it from nothing; so it is, too, where a variable is only read at the start.
        streams: stdin, stdout and stderr, as those of `subprocess.Popen`; nothing is inherited.
    """
    given = env or {}
    if cold or not hasattr(os, "pidfd_open") or any(name.startswith(READ_AT_THE_START) for name in given):
        streams = {name: streams.get(name, subprocess.DEVNULL) for name in STREAMS}
        command = [sys.executable, *arguments]
        return subprocess.Popen(command, cwd=cwd, env=os.environ | given, text=True, start_new_session=True, **streams)
    return Process(arguments, cwd, os.environ | given, **streams)


@functools.cache
def _server() -> socket.socket:
    """The connection to the server, which ends when it is closed."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, LONGEST)
    server = subprocess.Popen(
        [sys.executable, __file__, str(theirs.fileno())],
        pass_fds=[theirs.fileno()],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        start_new_session=True,
    )
    theirs.close()
    atexit.register(server.wait)
    atexit.register(ours.close)  # the last to be registered is the first to be called
    return ours


# The side of the server


def serve(requests: socket.socket) -> dict[str, Any]:
    """Fork a child for each request, and tell its pid and exit code; returns in each child, with its request."""
    children: dict[int, tuple[int, socket.socket]] = {}  # what becomes readable when a child has ended: whose, for whom
    poll = select.poll()
    poll.register(requests, select.POLLIN)
    while True:
        for ready, _ in poll.poll():
            if ready != requests.fileno():
                poll.unregister(ready)
                pid, told = children.pop(ready)
                code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
                with told, contextlib.suppress(BrokenPipeError):
                    told.sendall(f"{code}\n".encode())
                os.close(ready)
                continue
            data, descriptors, _, _ = socket.recv_fds(requests, LONGEST, 4)
            if not data:
                os._exit(0)
            *streams, told_fd = descriptors
            pid = os.fork()
            if not pid:
                for number, stream in enumerate(streams):
                    os.dup2(stream, number)
                for unneeded in (*descriptors, requests.detach(), *children):
                    os.close(unneeded)
                for _, sibling in children.values():
                    sibling.close()
                request: dict[str, Any] = json.loads(data)
                return request
            for stream in streams:
                os.close(stream)
            told = socket.socket(fileno=told_fd)
            with contextlib.suppress(BrokenPipeError):
                told.sendall(f"{pid}\n".encode())
            waiting = os.pidfd_open(pid)
            children[waiting] = pid, told
            poll.register(waiting, select.POLLIN)


def become(arguments: list[str], cwd: str, env: dict[str, str]) -> None:
    """Do what `python ARGUMENTS` does once it has started."""
    os.setsid()
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(env)
    sys.stdin, sys.stdout = open(0, closefd=False), open(1, "w", closefd=False)  # noqa: SIM115  # a terminal, perhaps
    sys.stderr = open(2, "w", buffering=1, errors="backslashreplace", closefd=False)  # noqa: SIM115
    importlib.invalidate_caches()
    sys.path.pop(0)
    if any(word.startswith(SWEEPS) for word in arguments[2:]):
        serve_trials_warm()
    with_folder = arguments[0] != "-P"
    match arguments if with_folder else arguments[1:]:
        case ["-m", module, *rest]:
            sys.path[:0], sys.argv = [cwd] * with_folder, ["-m", *rest]
            runpy.run_module(module, run_name="__main__", alter_sys=True)
        case ["-c", code, *rest]:
            sys.path[:0], sys.argv = [""] * with_folder, ["-c", *rest]
            main = sys.modules["__main__"] = types.ModuleType("__main__")
            exec(compile(code, "<string>", "exec"), main.__dict__)
        case [path, *rest]:
            sys.path[:0], sys.argv = [str(Path(path).parent)] * with_folder, [path, *rest]
            runpy.run_path(path, run_name="__main__")


def serve_trials_warm() -> None:
    """Let the fork server of `multiprocessing` be forked from this process as it is now, where a sweep will start one.

    It is a child of this process, as it would be, and does what it would: only its imports have been done already.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    before = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1))
    pid = os.fork()
    if not pid:  # until it is needed it is not there, so that no signal is for it
        ours.close()
        data, descriptors, _, _ = socket.recv_fds(theirs, LONGEST, 4)
        if not data:
            os._exit(0)  # no sweep has been started
        request = json.loads(data)
        signal.pthread_sigmask(signal.SIG_SETMASK, request["blocked"])
        os.environ.clear()
        os.environ.update(request["env"])
        moved = [fcntl.fcntl(descriptor, fcntl.F_DUPFD, 100) for descriptor in descriptors]  # out of the way
        for there, number in zip(moved, request["numbers"], strict=True):
            os.dup2(there, number)
        kept = {0, 1, 2, *request["numbers"]}
        for number in [int(entry.name) for entry in Path("/proc/self/fd").iterdir()]:
            if number not in kept:
                with contextlib.suppress(OSError):  # the folder's own
                    os.close(number)
        exec(request["code"], {})
        os._exit(0)
    signal.pthread_sigmask(signal.SIG_SETMASK, before)
    theirs.close()
    os.set_inheritable(ours.fileno(), False)
    cold = multiprocessing.util.spawnv_passfds

    def start(path: bytes, arguments: list[str], numbers: list[int]) -> int:
        *_, code = arguments
        if "forkserver" not in code or ours.fileno() < 0:
            return cold(path, arguments, numbers)
        blocked = [int(each) for each in signal.pthread_sigmask(signal.SIG_BLOCK, ())]
        request = {"code": code, "numbers": list(numbers), "env": dict(os.environ), "blocked": blocked}
        socket.send_fds(ours, [json.dumps(request).encode()], list(numbers))
        ours.close()  # the next one, should this be killed, starts cold
        return pid

    multiprocessing.util.spawnv_passfds = start


class Exit:
    """Ends a child where Python would take its modules apart, one by one: 0.3 s for those that are preloaded.

    Threads have been waited for by then, and everything else that is done at the exit is done. Where the streams cannot
    be flushed, Python ends as it does.
    """

    def __init__(self) -> None:
        self.code: int | None = None  # of the exit; None: Python ends as it does
        atexit.register(self.leave)  # the first to be registered is the last to be called

    def leave(self) -> None:
        if self.code is not None:
            with contextlib.suppress(OSError, ValueError):
                sys.stdout.flush()
                sys.stderr.flush()
                os._exit(self.code)


def main() -> None:
    from trainer.config.compose import compose

    end = Exit()
    for name in PRELOADED:
        importlib.import_module(name)
    compose([])  # Hydra is given the dataclasses, and its parser builds its tables: 0.2 s of each command
    threads = [name for task in Path("/proc/self/task").iterdir() if (name := (task / "comm").read_text()) != ALLOCATOR]
    assert len(threads) == 1, f"{threads}: a fork would take only one of them along"
    gc.collect()
    gc.freeze()  # what is here stays: its pages need not be copied in each child
    request = serve(socket.socket(fileno=int(sys.argv[1])))
    try:
        become(**request)
        end.code = 0
    except SystemExit as stop:
        end.code = 0 if stop.code is None else stop.code if isinstance(stop.code, int) else 1
        raise
    except Exception:
        end.code = 1
        raise


if __name__ == "__main__":
    main()
