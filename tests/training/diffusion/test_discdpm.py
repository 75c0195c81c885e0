"""DiscDPM: the chunked loss against a whole one-hot reference, its bytes, sampling back a known distribution."""

import pytest
import torch
from torch import Tensor, nn

from bench.one_hot import Hidden, chunked_and_whole, peak_bytes
from data_specs.errors import UserError
from training.conditioning import ControlLayout
from training.diffusion import BatchNoise, PerClipNoise, build_paradigm, discdpm, transitions
from training.diffusion.schedules import ImportanceTimes
from training.networks import build_network
from training.networks.codes import ClassLogits

LAYOUT = ControlLayout((("velocity", 1), ("chroma", 1)))


def test_chunked_loss_equals_the_one_hot_reference() -> None:
    network, twin, ours, reference = chunked_and_whole(24, torch.float64)
    mine, theirs = ours(), reference()
    assert ((mine - theirs).abs() < 1e-5 * theirs + 1e-9).all()
    for a, b in ((network.hidden.grad, twin.hidden.grad), (network.out.conv.weight.grad, twin.out.conv.weight.grad)):
        assert (a - b).abs().max() < 1e-5 * b.abs().max()


def test_chunked_loss_needs_an_eighth_of_the_bytes() -> None:
    """At full length, B = 4 and [16, 1024, 600]: everything above the last hidden tensor, forward and backward.

    On the meta device every tensor is allocated in name only, so bytes are counted without the work.
    """
    *_, ours, reference = chunked_and_whole(600, torch.float32, "meta")
    mine, theirs = peak_bytes(ours), peak_bytes(reference)
    print(f"bytes above the last hidden tensor: {mine / 2**20:.0f} MiB, reference {theirs / 2**20:.0f} MiB")
    assert mine <= theirs / 8


@pytest.mark.parametrize("transition", ["uniform", "absorbing"])
def test_loss_does_not_depend_on_the_chunk(transition: str) -> None:
    torch.manual_seed(0)
    losses = []
    for chunk in (1, 4 * 9 * 11 * 3, 2**22):
        table = {"chunk_values": chunk, "transition": transition}
        paradigm = build_paradigm("discdpm", table, LAYOUT, classes=9)
        torch.manual_seed(1)
        network = Hidden(torch.randn(3, 8, 20), 4, 9)
        x0 = torch.randint(9, (3, 4, 20), generator=torch.Generator().manual_seed(0))
        losses.append(paradigm.loss(network, x0, None, PerClipNoise(0, range(3), "train")))
    assert torch.allclose(losses[0], losses[1], rtol=2e-5)
    assert torch.allclose(losses[0], losses[2], rtol=2e-5)


@pytest.mark.parametrize("transition", ["uniform", "absorbing"])
def test_loss_is_the_bound_of_a_known_model(transition: str) -> None:
    """With the data's own marginal as the prediction, the bound of independent codes is at least their entropy."""
    shares = torch.tensor([0.6, 0.3, 0.1])
    paradigm = build_paradigm("discdpm", {"steps": 50, "transition": transition}, LAYOUT, classes=3)
    network = Expert(shares, 1)
    x0 = torch.multinomial(shares, 6000, replacement=True, generator=torch.Generator().manual_seed(0)).view(-1, 1, 1)
    loss = paradigm.loss(network, x0, None, BatchNoise(1, 6000))
    entropy = float(-(shares * shares.log()).sum())
    # The expert is exact, so the bound is tight up to its discretisation into 50 steps; 4 standard errors of the mean.
    assert abs(float(loss.mean()) - entropy) < 4 * float(loss.std()) / 6000**0.5 + 0.03


class Expert(nn.Module):
    """The exact model of codes drawn independently with known shares: other codes carry no information about a code."""

    def __init__(self, shares: Tensor, codebooks: int) -> None:
        super().__init__()
        self.out = ClassLogits(1, codebooks, len(shares)).requires_grad_(False)
        self.out.conv.bias.copy_(shares.log().repeat(codebooks))

    def features(self, x: Tensor, c_noise: Tensor, controls: Tensor | None = None) -> Tensor:
        return torch.zeros(x.shape[0], 1, x.shape[2])


@pytest.mark.parametrize("steps", [None, 25])
@pytest.mark.parametrize("transition", ["uniform", "absorbing"])
def test_a_known_distribution_is_sampled_back(transition: str, steps: int | None) -> None:
    shares = torch.tensor([0.55, 0.05, 0.3, 0.1])
    paradigm = build_paradigm("discdpm", {"steps": 100, "transition": transition}, LAYOUT, classes=4)
    network = Expert(shares, 2)
    codes = paradigm.sample(network, (2, 50), None, BatchNoise(0, 200), paradigm.options({"steps": steps}))
    assert codes.shape == (200, 2, 50)
    assert int(codes.max()) < 4
    found = torch.bincount(codes.flatten(), minlength=4) / codes.numel()
    assert (found - shares).abs().max() < 4 * 0.5 / codes.numel() ** 0.5


def test_samples_equal_themselves_in_any_batch() -> None:
    torch.manual_seed(0)
    paradigm = build_paradigm("discdpm", {"steps": 20}, LAYOUT, classes=12)
    table = {"kind": "unet", "channels": 16, "factors": [1], "embedding": 16, "controls": {"local": {"channels": 4}}}
    network = build_network(table, (4, 16), LAYOUT, classes=12).eval()
    nn.init.normal_(network.out.conv.weight)
    controls = torch.rand(5, 2, 16)
    many = paradigm.sample(network, (4, 16), controls, PerClipNoise(0, range(5), "sample"), guidance={"chroma": 2.0})
    one = paradigm.sample(network, (4, 16), controls[3:4], PerClipNoise(0, [3], "sample"), guidance={"chroma": 2.0})
    assert float((many[3:4] == one).float().mean()) > 0.95  # a number on the edge of two classes may fall either way


@pytest.mark.parametrize("transition", ["uniform", "absorbing"])
def test_drawing_all_codes_as_on_a_gpu_gives_the_same_samples(transition: str, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    paradigm = build_paradigm("discdpm", {"steps": 10, "transition": transition}, LAYOUT, classes=5)
    network = Hidden(torch.randn(6, 3, 8), 4, 5)
    few = paradigm.sample(network, (4, 8), None, BatchNoise(0, 6))
    for module in (discdpm, transitions):
        monkeypatch.setattr(module, "indices", lambda wanted: torch.ones_like(wanted).nonzero(as_tuple=True))
    assert torch.equal(paradigm.sample(network, (4, 8), None, BatchNoise(0, 6)), few)


def test_guidance_mixes_renormalised_logarithms() -> None:
    """Two classes, one code, one step from t = T: p(x_0) is the mixture of log p(all) and log p(none), renormalised."""

    class Teller(nn.Module):
        def features(self, x: Tensor, c_noise: Tensor, controls: Tensor | None = None) -> Tensor:
            assert controls is not None
            told = (controls[:, :1, :1] >= 0).float()  # log-odds 1 with controls, 0.2 without
            return torch.cat([0.2 + 0.8 * told, torch.zeros_like(told)], dim=1)

        def __init__(self) -> None:
            super().__init__()
            self.out = ClassLogits(2, 1, 2).requires_grad_(False)
            self.out.conv.weight.copy_(torch.eye(2).unsqueeze(-1))

    paradigm = build_paradigm("discdpm", {"steps": 4}, LAYOUT, classes=2)
    count = 20_000
    controls = torch.ones(count, 2, 1)
    codes = paradigm.sample(Teller(), (1, 1), controls, BatchNoise(0, count), paradigm.options({"steps": 1}), 3.0)
    odds = 0.2 + 3 * (1.0 - 0.2)
    expected = torch.sigmoid(torch.tensor(odds))
    assert abs(float((codes == 0).float().mean() - expected)) < 4 * 0.5 / count**0.5


def test_importance_sampling_is_unbiased_and_learns() -> None:
    times = ImportanceTimes(8)
    sizes = torch.tensor([8.0, 4, 2, 1, 1, 1, 1, 1])
    even, weights = times.draw(torch.linspace(0, 1, 9)[:-1] + 0.01)
    assert even.tolist() == list(range(1, 9))
    assert torch.allclose(weights, torch.ones(8))
    for _ in range(10):
        times.observe(torch.arange(1, 9), sizes)
    p = times.probabilities()
    assert float(p.sum()) == pytest.approx(1)
    assert torch.allclose(p, 0.1 / 8 + 0.9 * (sizes / sizes.sum()).double())
    drawn, weights = times.draw((torch.arange(20_000) + 0.5) / 20_000)
    assert float((weights * sizes[drawn - 1]).mean()) == pytest.approx(float(sizes.mean()), rel=1e-3)
    copy = ImportanceTimes(8)
    copy.load_state_dict(times.state_dict())
    assert torch.equal(copy.probabilities(), p)


def test_observing_recovers_the_terms_whatever_the_batches() -> None:
    """`observe` draws the times again from the same noise, so losses are all that ranks need to exchange."""
    paradigm = build_paradigm("discdpm", {"steps": 3, "times": "importance"}, LAYOUT, classes=5)
    assert paradigm.adaptive
    network = Hidden(torch.randn(40, 4, 6), 2, 5)
    x0 = torch.randint(5, (40, 2, 6))
    for step in range(3):
        indices = range(40 * step, 40 * step + 40)
        losses = paradigm.loss(network, x0, None, PerClipNoise(0, indices, "train"))
        times, _ = paradigm.times.draw(PerClipNoise(0, indices, "train").uniform())
        noise = PerClipNoise(0, indices, "train")
        noise.uniform()
        terms = paradigm.terms(network, x0, None, times, torch.ones(40), noise)
        before = paradigm.times.seen.clone()
        paradigm.observe(PerClipNoise(0, indices, "train"), losses)
        assert torch.equal(paradigm.times.seen - before, torch.bincount(times - 1, minlength=3))
        # The running mean square of the last clip's time ends with that clip's own term in it.
        assert float(paradigm.times.squares[times[-1] - 1]) >= 0.0999 * float(terms.detach()[-1]) ** 2
    assert float(paradigm.times.probabilities().max()) > 1 / 3


def test_continuous_data_is_refused() -> None:
    with pytest.raises(UserError, match="FORMAT= must be disc for PARADIGM=discdpm"):
        build_paradigm("discdpm", {}, LAYOUT)
