"""Generate the example of the default model and store it in the package: `python -m pvt.studio.write_example`."""

import soundfile

from data_specs.io.files import write_json
from pvt.studio.engine import Engine, sample_example
from pvt.studio.example import AUDIO, KEY, example_key


def main() -> None:
    """Generate the example and write its audio as 24-bit FLAC, and its key as JSON, to the folder of `pvt.studio`."""
    engine = Engine([], precision="float32")
    entry, request = engine.entry(""), engine.example()
    soundfile.write(AUDIO, sample_example(engine), entry.model.data.sample_rate, subtype="PCM_24")
    write_json(KEY, example_key(entry.digest, request, entry.steps))


if __name__ == "__main__":
    main()
