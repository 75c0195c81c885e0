"""The child process: what it answers, and what happens when it hangs, swells, dies or lies."""

import multiprocessing
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import psutil
import pytest

from data_specs.errors import UserError
from pipeline.rejects import Rejected
from pipeline.sandbox import Sandbox

TARGETS = '''
import os, re, struct, time
from pathlib import Path
from pipeline.rejects import Rejected

def echo(content, suffix=""):
    return content + suffix.encode()

def obey(content, marker=""):
    """Does what its input says."""
    command = content.decode()
    if command == "hang in Python":
        time.sleep(600)
    if command == "hang in native code":
        re.match("(a*)*b", "a" * 60)
    if command == "swell":
        held = bytearray(2**30)
    if command == "abort":
        os.abort()
    if command == "exit":
        os._exit(3)
    if command == "reject":
        raise Rejected("no notes", "none at all")
    if command == "fail":
        raise KeyError("lost")
    if command == "lie":
        for descriptor in range(3, 30):
            try:
                os.write(descriptor, struct.pack("<cQ", b"D", 2**62))
            except OSError:
                pass
    if command == "hang once" and not Path(marker).exists():
        Path(marker).touch()
        time.sleep(600)
    return b"well"
'''


@pytest.fixture
def targets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a module of functions that a child can import."""
    (tmp_path / "sandbox_targets.py").write_text(TARGETS)
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def make(function: str = "obey", seconds: float = 0.5, memory_mb: int = 300, **parameters: str) -> Sandbox:
    return Sandbox(f"sandbox_targets:{function}", parameters, seconds, memory_mb)


def test_answers_of_any_size_come_back(targets):
    with make("echo", seconds=20, suffix="!") as sandbox:
        for content in (b"", b"x", os.urandom(5_000_000)):
            assert sandbox.call(content) == content + b"!"


def test_one_child_serves_many_calls(targets):
    with make() as sandbox:
        sandbox.call(b"")
        child = sandbox._process.pid
        assert child not in (None, os.getpid())
        for command in (b"reject", b"fail"):
            with pytest.raises(Rejected):
                sandbox.call(command)
        sandbox.call(b"")
        assert sandbox._process.pid == child
    assert not psutil.pid_exists(child)


@pytest.mark.parametrize(
    ("command", "reason", "detail"),
    [
        ("reject", "no notes", "none at all"),
        ("fail", "crash", "KeyError: 'lost'"),
        ("hang in Python", "timeout", "no answer in 0.5 s"),
        ("hang in native code", "timeout", "no answer in 0.5 s"),
        ("swell", "memory", "more than 300 MB"),
        ("abort", "crash", "signal SIGABRT"),
        ("exit", "crash", "exit status 3"),
        ("lie", "crash", ""),
    ],
)
def test_what_goes_wrong_is_named_and_the_next_call_works(targets, command, reason, detail):
    with make() as sandbox:
        with pytest.raises(Rejected) as caught:
            sandbox.call(command.encode())
        assert caught.value.reason == reason
        assert caught.value.detail.startswith(detail)
        assert sandbox.call(b"") == b"well"


def test_an_input_is_given_a_second_chance_in_a_fresh_child(targets):
    with make(marker=str(targets / "marker")) as sandbox:
        sandbox.call(b"")
        child = sandbox._process.pid
        assert sandbox.call(b"hang once") == b"well"
        assert sandbox._process.pid != child


def test_a_child_killed_between_calls_is_replaced(targets):
    with make() as sandbox:
        sandbox.call(b"")
        os.kill(sandbox._process.pid, signal.SIGKILL)
        assert sandbox.call(b"") == b"well"


def test_a_child_that_does_not_read_times_out(targets):
    """More than a socket holds, to a child that is stopped: sending must not block for ever."""
    with make() as sandbox:
        sandbox.call(b"")
        os.kill(sandbox._process.pid, signal.SIGSTOP)
        assert sandbox.call(b"x" * 10_000_000) == b"well"


def test_a_function_that_is_not_there_is_one_sentence():
    with Sandbox("pipeline.nowhere:read", {}, 1, 100) as sandbox, pytest.raises(UserError, match="cannot start"):
        sandbox.call(b"")


def _call_in_daemon(queue) -> None:
    with make() as sandbox:
        queue.put(sandbox.call(b""))


def test_works_in_a_daemonic_process(targets):
    """Workers of Dask are such: multiprocessing would refuse."""
    context = multiprocessing.get_context("fork")
    queue = context.SimpleQueue()
    process = context.Process(target=_call_in_daemon, args=(queue,), daemon=True)
    process.start()
    assert queue.get() == b"well"
    process.join()


def test_a_hung_child_does_not_outlive_its_killed_caller(targets):
    script = f"""
        import sys
        sys.path[:0] = {[str(targets), *sys.path]!r}
        from pipeline.sandbox import Sandbox
        sandbox = Sandbox("sandbox_targets:obey", {{}}, 0.5, 300)
        sandbox.call(b"")
        sandbox.seconds = 600  # the caller would wait: only the child still knows the limit
        print(sandbox._process.pid, flush=True)
        sandbox.call(b"hang in native code")
        """
    with subprocess.Popen([sys.executable, "-c", textwrap.dedent(script)], stdout=subprocess.PIPE, text=True) as caller:
        child = psutil.Process(int(caller.stdout.readline()))
        time.sleep(0.3)
        caller.kill()
    child.wait(timeout=30)
