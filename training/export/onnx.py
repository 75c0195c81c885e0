"""ONNX graphs of a model: the denoiser, and the decoder of its codec.

B clips, C channels (K codebooks), F frequency bins of a CQT, R control rows, T frames. `examples/play_onnx.py` samples
with them.
"""

import json
import logging
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from data_specs.codecs.phaseless import PhaselessCodec
from data_specs.errors import UserError
from data_specs.io.files import Json, atomic_write
from data_specs.representations.latents import Latents
from training.diffusion.continuous import ContinuousParadigm
from training.model import TrainedModel

LARGEST_BATCH = 64
MOST_BLOCKS = 1024  # of `frame_multiple` frames
EXAMPLE_BLOCKS = 12  # of the inputs that are traced
METADATA = "pvt"  # key of the graph's metadata


class Denoiser(nn.Module):
    """Denoiser D(x, sigma, controls) of a continuous paradigm, with preconditioning."""

    def __init__(self, network: nn.Module, paradigm: ContinuousParadigm) -> None:
        super().__init__()
        self.network = network
        self.paradigm = paradigm

    def forward(self, x: Tensor, sigma: Tensor, controls: Tensor) -> Tensor:
        """Map noisy data [B, C, (F,) T], sigma [B] and controls [B, R, T] to denoised data of the shape of x.

        Both data are on the scale of the network, with standard deviation sigma_data.
        """
        return self.paradigm.denoise(self.network, x, sigma, controls)


class MagnitudeDecoder(nn.Module):
    """Decoder from latents on the scale of the network to the STFT magnitudes of the `phaseless` codec."""

    def __init__(self, model: TrainedModel, codec: PhaselessCodec) -> None:
        super().__init__()
        self.model, self.codec = model, codec

    def forward(self, x: Tensor) -> Tensor:
        """Map latents [B, C, T] to magnitudes [B, T, bins]."""
        assert self.model.scaling is not None
        return self.codec.magnitudes(self.model.scaling.from_model(x))


def export_onnx(model: TrainedModel, out: Path) -> list[Path]:
    """Write the denoiser to `out`, and the decoder of the `phaseless` codec to `<stem>.decoder.onnx` beside it.

    B may be 1 to 64 and T 2 to 1024 times `frame_multiple`. The inputs are x, sigma and controls. For a model over
    codes, the graph is the network, which maps codes [B, K, T], c_noise [B] and controls to logits [B, K, T, classes].
    The output is called `denoised` in both cases.

    The metadata entry `pvt` of the denoiser is JSON: frame_multiple, sigma_data, controls, instruments, rates, shape,
    digest of the codec, default options of sampling, and the weight of guidance that the graph applies, null for none.
    That of the decoder has window, hop and sample rate.

    Returns:
        Paths of the files; there is no decoder for other codecs.

    Raises:
        UserError: the package onnx or onnxscript is not installed.
    """
    network = model.network
    multiple = int(getattr(network, "multiples", (1,))[-1])
    shape = (*model.data.shape[:-1], EXAMPLE_BLOCKS * multiple)
    controls = torch.rand(2, model.data.layout.total, shape[-1])
    level = torch.tensor([0.5, 2.0])
    if isinstance(model.paradigm, ContinuousParadigm):
        graph: nn.Module = Denoiser(network, model.paradigm)
        names, x = ["x", "sigma", "controls"], torch.randn(2, *shape)
    else:
        graph, names = network, ["codes", "c_noise", "controls"]
        x = torch.zeros(2, *shape, dtype=torch.int64)
    batch = torch.export.Dim("batch", min=1, max=LARGEST_BATCH)
    frames = multiple * torch.export.Dim("blocks", min=2, max=MOST_BLOCKS)
    axes = ({0: batch, x.ndim - 1: frames}, {0: batch}, {0: batch, 2: frames})
    metadata = _metadata(model, multiple)
    _write(graph, (x, level, controls), names, "denoised", axes, metadata, out)
    representation = model.representation
    if not (isinstance(representation, Latents) and isinstance(representation.codec, PhaselessCodec)):
        return [out]
    codec = representation.codec
    decoder = out.with_name(f"{out.stem}.decoder.onnx")
    window = {"window": codec.window.tolist(), "hop": codec.hop, "sample_rate": model.data.sample_rate}
    _write(MagnitudeDecoder(model, codec), (x,), ["x"], "magnitudes", ({0: batch, 2: frames},), window, decoder)
    return [out, decoder]


def _write(
    graph: nn.Module,
    inputs: tuple[Tensor, ...],
    names: list[str],
    output: str,
    axes: tuple[dict[int, Any], ...],
    metadata: Json,
    out: Path,
) -> None:
    try:
        import onnx  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise UserError(f"TO=onnx needs the package {error.name}; run pip install 'pvt-audio[onnx]'") from error
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecations within the exporter
        logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # operators of packages that are not installed
        program = torch.onnx.export(
            graph.eval(),
            inputs,
            dynamo=True,
            input_names=names,
            output_names=[output],
            dynamic_shapes=axes,
            verbose=False,
        )
    assert program is not None
    proto = program.model_proto
    entry = proto.metadata_props.add()
    entry.key, entry.value = METADATA, json.dumps(metadata, sort_keys=True)
    with atomic_write(out) as file:
        file.write(proto.SerializeToString(deterministic=True))


def _metadata(model: TrainedModel, multiple: int) -> Json:
    data, paradigm = model.data, model.paradigm
    return {
        "paradigm": model.config.paradigm,
        "sigma_data": paradigm.sigma_data,
        "controls": [[name, rows] for name, rows in data.layout.rows],
        "instruments": list(data.instruments),
        "sample_rate": data.sample_rate,
        "hop": data.hop,
        "shape": list(data.shape),
        "frame_multiple": multiple,
        "codec": data.codec,
        "codec_digest": data.codec_digest,
        "step": model.step,
        "sampling": paradigm.Options().model_dump(mode="json"),
        "guidance": None if paradigm.guidance_range is None else sum(paradigm.guidance_range) / 2,
    }
