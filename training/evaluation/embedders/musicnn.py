"""VGG taggers of musicnn (Pons and Serra, ISMIR late-breaking 2019) as embedders of the Frechet audio distance.

`musicnn-msd` was trained on the Million Song Dataset, `musicnn-mtt` on MagnaTagATune. The embedding is the flattened
output of the last pooling layer. Input: patches of log-compressed mel spectrograms at 16 kHz, of 2.99 s each, one every
0.99 s. B clips, N audio samples, P patches, L frames, M = 96 mel bands.
"""

from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor, nn

from data_specs.errors import UserError
from data_specs.rates import SAMPLE_RATE
from training.evaluation.embedders.pretrained import Pretrained, judge_weights
from training.evaluation.embedders.vggish import resample

RATE, FFT, HOP, BANDS = 16_000, 512, 256, 96
LENGTH = 187  # frames of a patch: 3 s
STRIDE = 62  # frames between patches: 1 s
DIMENSION = 256
EPSILON = 1e-3  # of the batch normalizations
# Kernel and stride of each pooling in time and frequency. Those of MSD are the ones its checkpoint was trained with;
# the code of the package builds the network of MTT for both.
LAST_POOLS = (((2, 2), (2, 2)), ((2, 2), (2, 2)), ((4, 4), (4, 4)))
POOLS = {
    "musicnn-msd": (((4, 1), (4, 1)), ((1, 4), (1, 4)), *LAST_POOLS),
    "musicnn-mtt": (((4, 1), (2, 2)), ((2, 2), (2, 2)), *LAST_POOLS),
}
BATCH = 16  # patches at a time, to bound memory
FILES = {"musicnn-msd": "musicnn-MSD_vgg.safetensors", "musicnn-mtt": "musicnn-MTT_vgg.safetensors"}


class VggTagger(nn.Module):
    """Network of a tagger up to its last pooling layer, the embedding.

    Batch normalization, then five times convolution, ReLU, batch normalization and max pooling.

    Args:
        name: a key of POOLS, which determines the sizes of the pooling.
    """

    def __init__(self, name: str) -> None:
        super().__init__()
        self.pools = POOLS[name]
        width = 128
        self.norms = nn.ModuleList([nn.BatchNorm2d(size, eps=EPSILON) for size in (1, *[width] * 5)])
        self.convolutions = nn.ModuleList([nn.Conv2d(size, width, 3, padding=1) for size in (1, *[width] * 4)])

    def forward(self, patches: Tensor) -> Tensor:
        """Map log-mel patches [P, L, M] with L = 187 frames to embeddings [P, 256]."""
        maps: Tensor = self.norms[0](patches[:, None])
        for convolution, norm, (size, stride) in zip(self.convolutions, self.norms[1:], self.pools, strict=True):
            maps = nn.functional.max_pool2d(norm(torch.relu(convolution(maps))), size, stride)
        return maps.permute(0, 2, 3, 1).flatten(1)  # channels last, as TensorFlow flattens

    def load_tensorflow(self, tensors: dict[str, Tensor]) -> None:
        """Set the weights from the tensors of the TensorFlow checkpoint, by their names there.

        Kernels of the checkpoint are [height, width, in, out]. Tensors with other names are ignored.

        Raises:
            KeyError: a tensor is missing.
            RuntimeError: a tensor has another shape.
        """
        names = {"gamma": "weight", "beta": "bias", "moving_mean": "running_mean", "moving_variance": "running_var"}
        state = {}
        for number in range(len(self.convolutions)):
            state[f"convolutions.{number}.weight"] = tensors[f"{number + 1}CNN/kernel"].permute(3, 2, 0, 1)
            state[f"convolutions.{number}.bias"] = tensors[f"{number + 1}CNN/bias"]
        for number in range(len(self.norms)):
            layer = "batch_normalization" + (f"_{number}" if number else "")
            state |= {f"norms.{number}.{ours}": tensors[f"{layer}/{theirs}"] for theirs, ours in names.items()}
            state[f"norms.{number}.num_batches_tracked"] = torch.tensor(0)
        self.load_state_dict(state)


class Musicnn(Pretrained):
    """One of the two taggers as an embedder of 24 kHz audio.

    Args:
        name: name of the tagger, a key of FILES.
        network: its network, which is moved to `device` and set to eval mode without gradients.
        device: device of the network.
    """

    dimension = DIMENSION

    def __init__(self, name: str, network: VggTagger, device: str | torch.device = "cpu") -> None:
        super().__init__(network, device)
        self.name = name

    @classmethod
    def load(cls, name: str, path: Path, device: str | torch.device = "cpu") -> "Musicnn":
        """Load the tagger `name` (a key of FILES) from a file that `make judges` wrote.

        Raises:
            UserError: the file cannot be read, or has the weights of another network.
        """
        network = VggTagger(name)
        with judge_weights(path, "a VGG tagger of musicnn") as tensors:
            network.load_tensorflow(tensors)
        return cls(name, network, device)

    @torch.inference_mode()
    def embed(self, audio: Tensor) -> Tensor:
        """Map audio, float32 [B, 1, N] at 24 kHz, to embeddings, float32 [B, P, 256] on the CPU.

        A patch has 2.99 s, and the next starts 0.99 s later.

        Raises:
            UserError: clips shorter than 2.976 s, which have fewer frames than a patch.
        """
        bands = self.log_mel(resample(audio.to(self.device))[:, 0])
        if bands.shape[1] < LENGTH:
            raise UserError(f"{self.name} needs clips of 3 s or more, got {audio.shape[-1] / SAMPLE_RATE:.3g} s")
        return self.embed_patches(bands.unfold(1, LENGTH, STRIDE).transpose(2, 3), BATCH)

    def log_mel(self, audio: Tensor) -> Tensor:
        """Map audio [B, N] at 16 kHz to a log-mel spectrogram, float32 [B, L, M] with L = 1 + N // 256.

        Its values are log10(10^4 p + 1), with p the power in a band of the mel scale of Slaney.
        """
        window = torch.hann_window(FFT, device=audio.device)
        spectra = torch.stft(audio, FFT, HOP, window=window, pad_mode="constant", return_complex=True)
        power = spectra.abs().square().transpose(1, 2) @ self._filters.to(audio.device)
        return torch.log10(1e4 * power + 1)  # in 16 bits, as in the package, loud audio overflows

    @cached_property
    def _filters(self) -> Tensor:
        from librosa.filters import mel

        return torch.from_numpy(mel(sr=RATE, n_fft=FFT, n_mels=BANDS)).float().T
