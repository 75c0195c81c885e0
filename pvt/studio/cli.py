"""Command line of the studio: `pvt studio`."""

import argparse
import secrets
from pathlib import Path

from data_specs.cli import Commands, add_threads, integer, run_commands, use_threads
from data_specs.errors import UserError
from training.runs import SHIPPED

DEFAULT_PORT, MAX_PORT = 8765, 65535
LOOPBACK = ("127.0.0.1", "localhost", "::1")


def main(argv: list[str] | None = None, prog: str = "pvt") -> int:
    """Run `pvt studio ...` and return the exit status.

    Args:
        argv: `studio` and its options; None for the arguments of this process.
        prog: name of the command in messages.
    """
    commands: Commands = {"studio": ("draw curves and hear them in the browser", add_studio)}
    return run_commands(commands, argv, prog, "Draw curves and generate audio from them.")


def add_studio(parser: argparse.ArgumentParser) -> None:
    """Add the options of `pvt studio` to `parser`, and set its default `command` to the function that serves it."""
    parser.description = "Serve the studio, a web page to draw curves and generate audio from them, until Ctrl-C."
    add = parser.add_argument
    add("--run", metavar="RUNS", default="", help="run folders or snapshots, comma-separated (few-steps,edm)")
    add("--port", metavar="N", default=str(DEFAULT_PORT), help=f"the next free one if taken ({DEFAULT_PORT})")
    add(
        "--host",
        metavar="NAME",
        default="127.0.0.1",
        help="address to listen on; others than loopback need a token (127.0.0.1)",
    )
    add("--device", metavar="NAME", help="cpu, cuda or mps (cuda if available)")
    add_threads(parser)
    add("--no-browser", action="store_true", help="do not open a browser")
    parser.set_defaults(command=_studio)


def _studio(arguments: argparse.Namespace) -> int:
    port = integer("PORT", arguments.port, least=0)
    if port > MAX_PORT:
        raise UserError(f"PORT= must be at most {MAX_PORT}, got {port}")
    paths = [Path(part.strip()) for part in arguments.run.split(",") if part.strip()]
    if missing := [str(path) for path in paths if not path.exists() and str(path) not in SHIPPED]:
        raise UserError(
            f"RUN= must be run folders, snapshots, {' or '.join(SHIPPED)}, got {', '.join(missing)}, which do not exist"
        )
    from pvt.studio.server import serve

    if arguments.threads is not None:
        use_threads(arguments)
    if arguments.device is not None:
        from training.distributed import choose_device

        choose_device(arguments.device)
    token = "" if arguments.host in LOOPBACK else secrets.token_urlsafe(16)
    serve(paths, arguments.host, port, token, arguments.device, browser=not arguments.no_browser)
    return 0
