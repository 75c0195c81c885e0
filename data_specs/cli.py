"""Command-line helpers shared by the packages: run a command, print a UserError as one line, parse numbers."""

import argparse
import math
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping

from data_specs.errors import UserError
from data_specs.home import ensure_home
from data_specs.registry import lookup
from data_specs.threads import set_threads, wait_passively

Command = Callable[[argparse.Namespace], int]
# By name: a summary, and a function that adds the options or its "module:function".
Commands = Mapping[str, tuple[str, Callable[[argparse.ArgumentParser], None] | str]]
INTERRUPTED = 130
MISUSED = 2


def run(parser: argparse.ArgumentParser, argv: list[str] | None) -> int:
    """Parse `argv` (None: the process's arguments), call the chosen command and return the exit status.

    The parser must set `command`, a function of the parsed arguments that returns the status. The status is 2 after a
    UserError, 130 after an interrupt from the keyboard (both print one line on stderr), and 0 if the reader of stdout
    has closed it. Other exceptions are not caught. Sets OMP_WAIT_POLICY, HOME and USER where they are missing.

    Raises:
        SystemExit: `argv` asks for help or does not fit the parser.
    """
    wait_passively()
    ensure_home()
    arguments = parser.parse_args(argv)
    command: Command = arguments.command
    try:
        return command(arguments)
    except UserError as error:
        print(f"error: {as_typed(str(error), parser)}", file=sys.stderr)
        return MISUSED
    except KeyboardInterrupt:
        print("interrupted; run the same command again", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:  # the reader of the output has closed it, for example `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def run_commands(commands: Commands, argv: list[str] | None, prog: str, description: str) -> int:
    """Call the command that the first of `argv` names and return the exit status, as `run` does; None: sys.argv[1:].

    Options are added, and modules imported, for the named command only, so that --help is fast.

    Raises:
        SystemExit: help is asked for, no command is named, or the options do not fit it.
    """
    arguments = sys.argv[1:] if argv is None else argv
    parser = Parser(prog=prog, description=description)
    choices = parser.add_subparsers(required=True, metavar="COMMAND")
    options = {name: add for name, (_, add) in commands.items()}
    for name, (summary, _) in commands.items():
        command = choices.add_parser(name, help=summary)
        if arguments[:1] == [name]:
            lookup(options, name, "COMMAND")(command)
    return run(parser, arguments)


def as_typed(message: str, parser: argparse.ArgumentParser) -> str:
    """Return `message` with make variables (`STEPS=9`, `FORCE=1`) as options (`--steps 9`, `--force`).

    Only names that `parser` or one of its subcommands has as options are replaced. Text such as `make dataset CLIPS=9`
    stays. Under make (MAKELEVEL is in the environment) the message is returned unchanged.
    """
    if "MAKELEVEL" in os.environ:
        return message
    options = {
        option[2:].upper().replace("-", "_"): (option, action.nargs == 0)
        for action in _options(parser)
        for option in action.option_strings
        if option.startswith("--")
    }

    def replaced(match: re.Match[str]) -> str:
        name, one, following = match.groups()
        if name not in options:
            return match[0]
        option, is_flag = options[name]
        return option if is_flag else f"{option} {one or ''}" if one or following else option

    return re.sub(r"\bmake \w+(?: [A-Z_]+=\S*)*|\b([A-Z][A-Z_]*)=(1\b)?(?=(\S?))", replaced, message)


def _options(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                yield from _options(command)
        else:
            yield action


def decimal(text: str) -> int | None:
    """Return the integer >= 0 that `text` consists of (1 to 18 ASCII digits); None for any other text."""
    return int(text) if text.isascii() and text.isdecimal() and len(text) <= 18 else None


def integer(name: str, text: str, least: int = 1) -> int:
    """Return the integer given as `text` for the make variable `name`.

    Raises:
        UserError: not 1 to 18 digits without a sign, or less than `least`.
    """
    value = decimal(text)
    if value is None or value < least:
        raise UserError(f"{name}= must be an integer >= {least}, got {text!r:.40}; write e.g. {name}={least + 1}")
    return value


def integer_or_none(name: str, text: str | None) -> int | None:
    """Return the integer >= 1 given as `text` for the make variable `name`; None if `text` is None.

    Raises:
        UserError: not an integer, or less than 1.
    """
    return None if text is None else integer(name, text)


def add_threads(parser: argparse.ArgumentParser) -> None:
    """Add the option --threads, which `use_threads` reads, to `parser`."""
    parser.add_argument("--threads", metavar="N", help="of a CPU (the fastest)")


def use_threads(arguments: argparse.Namespace) -> None:
    """Set the number of CPU threads of torch: --threads, else OMP_NUM_THREADS, else the fastest of those measured.

    Raises:
        UserError: --threads is not an integer >= 1.
    """
    set_threads(integer_or_none("THREADS", arguments.threads))


def number(name: str, text: str) -> float:
    """Return the number given as `text` for the make variable `name`.

    Raises:
        UserError: not a number, or not finite.
    """
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise UserError(f"{name}= must be a number, got {text!r:.40}")
    return value


class Parser(argparse.ArgumentParser):
    """Argument parser that reports arguments it cannot parse in one `error:` line on stderr, with exit status 2."""

    def error(self, message: str) -> None:  # type: ignore[override]
        self.exit(MISUSED, f"error: {message}; see {self.prog} --help\n")
