"""Running a function of bytes in a child process, which may hang, exhaust memory or crash without harm to the caller.

The child is a plain subprocess on a socket pair, because daemonic workers may not use multiprocessing. It serves many
calls and is replaced after it had to be killed. Answers are framed bytes and JSON; nothing is unpickled, so a
compromised child can return wrong data but not execute code in the caller.

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
from types import TracebackType
from typing import Any, Self

import psutil

from data_specs.errors import UserError
from pipeline.rejects import Rejected

_FRAME = struct.Struct("<cQ")  # kind, length
_DONE, _REJECTED, _FAILED, _MEMORY, _READY = b"D", b"R", b"F", b"M", b"Y"
_START_SECONDS = 120  # a cold disk and a busy machine
_LARGEST_FRAME = 1 << 30  # bytes: a false length must not exhaust the caller's memory
_ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


class _ChildFailed(Exception):
    """The child has to be replaced: `timeout`, `memory` or `crash`."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(reason, detail)
        self.reason = reason
        self.detail = detail


class Sandbox:
    """Calls `target` in a child process.

    An input at which the child fails is retried once in a new child. One thread is served at a time; others wait.

    Args:
        target: "module:function", a function of bytes and keyword `parameters` that returns bytes.
        parameters: JSON values.
        seconds: wall-clock limit of a call.
        memory_mb: limit in MiB on the growth of the child's address space after its imports.
    """

    def __init__(self, target: str, parameters: dict[str, Any], seconds: float, memory_mb: int) -> None:
        self.target = target
        self.parameters = parameters
        self.seconds = seconds
        self.memory_mb = memory_mb
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._socket: socket.socket | None = None

    def call(self, content: bytes) -> bytes:
        """Return the function's result for `content`.

        Raises:
            Rejected: the function rejected the input, or the child failed twice (`timeout`, `memory`, `crash`).
            UserError: the child process cannot be started.
        """
        with self._lock:
            try:
                return self._attempt(content)
            except _ChildFailed:
                self._stop()
            try:
                return self._attempt(content)
            except _ChildFailed as hit:
                self._stop()
                raise Rejected(hit.reason, hit.detail) from None

    def close(self) -> None:
        """End the child; a later call starts a new one."""
        with self._lock:
            self._stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        self._stop()

    def _attempt(self, content: bytes) -> bytes:
        connection = self._socket or self._start()
        deadline = time.monotonic() + self.seconds
        try:
            _send(connection, _DONE, content, deadline)
            kind, answer = _receive(connection, deadline)
        except TimeoutError:
            raise _ChildFailed("timeout", f"no answer in {self.seconds} s") from None
        except (EOFError, ConnectionError):
            raise _ChildFailed("crash", self._exit_description()) from None
        except BaseException:  # interrupted within a frame: the stream cannot be used again
            self._stop()
            raise
        if kind == _DONE:
            return answer
        if kind == _MEMORY:
            raise _ChildFailed("memory", f"more than {self.memory_mb} MB")
        if kind == _REJECTED:
            raise Rejected(*_rejection(answer))
        if kind == _FAILED:
            raise Rejected("crash", answer.decode(errors="replace"))
        raise _ChildFailed("crash", "an invalid answer")

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
        """Return how the child ended."""
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


def _send(connection: socket.socket, kind: bytes, content: bytes, deadline: float) -> None:
    connection.settimeout(max(deadline - time.monotonic(), 0.001))
    connection.sendall(_FRAME.pack(kind, len(content)))
    connection.sendall(content)


def _receive(connection: socket.socket, deadline: float | None) -> tuple[bytes, bytes]:
    """Return the next frame; TimeoutError past the deadline, EOFError if the connection is closed."""
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


def _rejection(answer: bytes) -> tuple[str, str]:
    try:
        reason, detail = json.loads(answer)
    except ValueError:
        return "crash", "an invalid rejection"
    return str(reason), str(detail)


def _resolve(target: str) -> Callable[..., bytes]:
    module, _, name = target.partition(":")
    function: Callable[..., bytes] = getattr(importlib.import_module(module), name)
    return function


def _limit_memory(megabytes: int) -> None:
    """Limit further growth of the address space to `megabytes` (effective on Linux only)."""
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
    """Run the child: answer frames until the connection is closed.

    An alarm ends a hung call some time after the caller's limit, in case the caller was killed.
    """
    target, parameters, seconds, memory_mb = json.loads(settings)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the caller ends the child by closing the connection
    connection = socket.socket(fileno=descriptor)
    function = _resolve(target)
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
