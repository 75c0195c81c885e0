"""What the command lines of both packages share: run a command, turn a UserError into one sentence and exit 2."""

import argparse
import os
import sys
from collections.abc import Callable

from data_specs.errors import UserError

Command = Callable[[argparse.Namespace], int]
INTERRUPTED = 130
MISUSED = 2


def run(parser: argparse.ArgumentParser, argv: list[str] | None) -> int:
    """Parse `argv` and run the chosen command; returns the exit status."""
    arguments = parser.parse_args(argv)
    command: Command = arguments.command
    try:
        return command(arguments)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return MISUSED
    except KeyboardInterrupt:
        print("stopped; the same command continues", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:  # the reader of our output has gone, for example `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def integer(name: str, text: str, least: int = 1) -> int:
    """The number that a variable called `name` was given as `text`.

    Raises:
        UserError: not a whole number, or less than `least`.
    """
    if not (text.isascii() and text.isdecimal()) or int(text) < least:
        raise UserError(f"{name}={text} is not a whole number of {least} or more; give one, for example {name}=2")
    return int(text)


class Parser(argparse.ArgumentParser):
    """Names the offending value in one sentence, like every other error."""

    def error(self, message: str) -> None:  # type: ignore[override]
        self.exit(MISUSED, f"error: {message}; see {self.prog} --help\n")
