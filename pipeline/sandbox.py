"""Calls of a function in a child process. The child may hang, exhaust memory or crash without harm to the caller.

The function takes and returns bytes. The child is a plain subprocess at the other end of a socket pair, because
daemonic workers may not use multiprocessing. It serves many calls. After it had to be killed, the next call starts a
new one. Answers are framed bytes and JSON. Nothing is unpickled, so a compromised child can return wrong data but
cannot execute code in the caller.

    sandbox = Sandbox("pipeline.midi.reader:read_packed", {"limits": {...}}, seconds=20, memory_mb=2000)
    packed = sandbox.call(content)
"""

import importlib
import json
import os
import resource
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable
from typing import Any, Self

import psutil

from data_specs.errors import UserError
from pipeline.rejects import Rejected

_FRAME = struct.Struct("<cQ")  # kind, length
_DONE, _REJECTED, _FAILED, _MEMORY, _READY = b"D", b"R", b"F", b"M", b"Y"
_START_SECONDS = 120  # enough with a cold disk and a busy machine
_LARGEST_FRAME = 1 << 30  # bytes: a false length must not exhaust the caller's memory
_ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


class _ChildFailed(Rejected):
    """The child had to be ended. `reason` is `timeout`, `memory` or `crash`."""


class Sandbox:
    """A child process that calls a function. The first `call` starts it.

    A call at which the child had to be ended is tried once more in a new child. Threads that call at the same time wait
    for each other.

    Args:
        target: "module:function", a function that takes bytes and keyword arguments and returns bytes.
        parameters: the keyword arguments of every call, as JSON values.
        seconds: limit on the wall-clock time of an attempt.
        memory_mb: limit in MiB on the growth of the child's address space after its imports.
    """

    def __init__(self, target: str, parameters: dict[str, Any], seconds: float, memory_mb: int) -> None:
        self.target = target
        self.parameters = parameters
        self.seconds = seconds
        self.memory_mb = memory_mb
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None  # None while no child runs
        self._socket: socket.socket | None = None

    def call(self, content: bytes) -> bytes:
        """Return the result of the function for `content`, computed in the child.

        Raises:
            Rejected: the function raised Rejected; it raised another exception (`crash`); or the child had to be ended
                at both attempts (`timeout`, `memory` or `crash`).
            UserError: the child process cannot be started.
        """
        with self._lock:
            try:
                return self._attempt(content)
            except _ChildFailed:
                return self._attempt(content)

    def close(self) -> None:
        """End the child process; a later call starts a new one."""
        with self._lock:
            self._stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        self._stop()

    def _attempt(self, content: bytes) -> bytes:
        connection = self._socket or self._start()
        deadline = time.monotonic() + self.seconds
        try:
            connection.settimeout(self.seconds)
            connection.sendall(_FRAME.pack(_DONE, len(content)) + content)
            kind, answer = _receive(connection, deadline)
        except TimeoutError:
            raise self._failed("timeout", f"no answer in {self.seconds} s") from None
        except (EOFError, ConnectionError):
            raise self._failed("crash", self._exit_description()) from None
        except BaseException:  # interrupted within a frame: the stream cannot be used again
            self._stop()
            raise
        if kind == _DONE:
            return answer
        if kind == _MEMORY:
            raise self._failed("memory", f"more than {self.memory_mb} MB")
        if kind == _REJECTED:
            try:
                reason, detail = json.loads(answer)
            except ValueError:
                raise self._failed("crash", "an invalid rejection") from None
            raise Rejected(str(reason), str(detail))
        if kind == _FAILED:
            raise Rejected("crash", answer.decode(errors="replace"))
        raise self._failed("crash", "an invalid answer")

    def _failed(self, reason: str, detail: str) -> _ChildFailed:
        """End the child and return, without raising it, the error with this reason and detail."""
        self._stop()
        return _ChildFailed(reason, detail)

    def _start(self) -> socket.socket:
        ours, theirs = socket.socketpair()
        settings = json.dumps([self.target, self.parameters, self.seconds, self.memory_mb])
        paths = os.pathsep.join(os.path.abspath(path) for path in sys.path)  # the child imports the same modules
        with theirs, tempfile.TemporaryFile() as stderr:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "pipeline.sandbox", str(theirs.fileno()), settings],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=stderr,
                pass_fds=[theirs.fileno()],
                env=os.environ | _ONE_THREAD | {"PYTHONPATH": paths},
            )
            theirs.close()
            self._socket = ours
            try:
                kind, _ = _receive(ours, time.monotonic() + _START_SECONDS)
            except (TimeoutError, EOFError, ConnectionError):
                kind = b""
            if kind != _READY:
                self._stop()
                stderr.seek(0)
                lines = stderr.read().decode(errors="replace").strip().splitlines() or ["no message"]
                raise UserError(f"the process that runs {self.target} cannot start ({lines[-1]}); run `make doctor`")
        return ours

    def _exit_description(self) -> str:
        """Wait up to 0.5 s for the child to end and return its signal or exit status.

        For a child that still runs, return that it violated the protocol.
        """
        assert self._process is not None
        try:
            code = self._process.wait(timeout=0.5)
        except subprocess.TimeoutExpired:
            return "the child violated the protocol"
        return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit status {code}"

    def _stop(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None


def _receive(connection: socket.socket, deadline: float | None) -> tuple[bytes, bytes]:
    """Return kind (one byte) and content of the next frame.

    Args:
        deadline: time in seconds of time.monotonic, or None to wait without limit.

    Raises:
        TimeoutError: the frame was not complete at `deadline`.
        EOFError: the connection was closed.
        ConnectionError: the frame is longer than 1 GiB.
    """
    kind, length = _FRAME.unpack(_receive_exactly(connection, _FRAME.size, deadline))
    if length > _LARGEST_FRAME:
        raise ConnectionError(f"a frame of {length} bytes")
    return kind, _receive_exactly(connection, length, deadline)


def _receive_exactly(connection: socket.socket, size: int, deadline: float | None) -> bytes:
    parts = []
    while size:
        connection.settimeout(None if deadline is None else max(deadline - time.monotonic(), 0.001))
        part = connection.recv(min(size, 1 << 20))
        if not part:
            raise EOFError
        parts.append(part)
        size -= len(part)
    return b"".join(parts)


def _limit_memory(megabytes: int) -> None:
    """Limit further growth of this process's address space to `megabytes` MiB. Only Linux enforces it."""
    most = psutil.Process().memory_info().vms + megabytes * 2**20
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (most if hard == resource.RLIM_INFINITY else min(most, hard), hard))


def _answer(function: Callable[..., bytes], content: bytes, parameters: dict[str, Any]) -> tuple[bytes, bytes]:
    try:
        return _DONE, function(content, **parameters)
    except Rejected as rejected:
        return _REJECTED, json.dumps([rejected.reason, rejected.detail]).encode()
    except MemoryError:
        return _MEMORY, b""
    except Exception as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        return _FAILED, f"{type(error).__name__}: {error} ({place.name}, line {place.lineno})".encode()


def serve(descriptor: int, settings: str) -> None:
    """Run the child: report that it is ready, then answer each frame until the connection is closed.

    An alarm ends the child if a call takes more than twice `seconds` plus 1 s, since a caller that was killed cannot.

    Args:
        descriptor: file descriptor of the child's end of the socket pair.
        settings: JSON list of target, parameters, seconds and memory_mb, as in Sandbox.
    """
    target, parameters, seconds, memory_mb = json.loads(settings)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the caller ends the child by closing the connection
    connection = socket.socket(fileno=descriptor)
    module, _, name = target.partition(":")
    function = getattr(importlib.import_module(module), name)
    # promise: child-killed-file-tried
    _limit_memory(memory_mb)
    connection.sendall(_FRAME.pack(_READY, 0))
    while True:
        try:
            _, content = _receive(connection, None)
        except (EOFError, ConnectionError):
            return
        signal.setitimer(signal.ITIMER_REAL, 2 * seconds + 1)
        kind, answer = _answer(function, content, parameters)
        signal.setitimer(signal.ITIMER_REAL, 0)
        connection.sendall(_FRAME.pack(kind, len(answer)) + answer)


if __name__ == "__main__":
    serve(int(sys.argv[1]), sys.argv[2])
