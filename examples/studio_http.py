"""Drive the studio over HTTP: `python studio_http.py curves.json out.wav`, with `make studio` running.

Only the standard library is needed, so the same request can be sent from Max, a DAW script or another language.
"""

import argparse
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path


def main():
    """Send a curve file and write the WAV file of the answer."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("curves", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--address", default="http://127.0.0.1:8765/")
    parser.add_argument("--seconds", type=float, default=8)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int)
    arguments = parser.parse_args()
    options = {"seconds": arguments.seconds, "seed": arguments.seed}
    if arguments.steps is not None:
        options["steps"] = arguments.steps
    address = f"{arguments.address}generate?{urllib.parse.urlencode(options)}"
    request = urllib.request.Request(address, data=arguments.curves.read_bytes(), method="POST")
    try:
        with urllib.request.urlopen(request, timeout=600) as answer:
            arguments.out.write_bytes(answer.read())
    except urllib.error.HTTPError as error:
        raise SystemExit(f"refused: {error.read().decode()}") from None
    except OSError as error:
        raise SystemExit(f"{arguments.address} cannot be reached ({error}); start make studio") from None
    print(f"wrote {arguments.out}")


if __name__ == "__main__":
    main()
