"""How codes are corrupted: multinomial diffusion with a uniform prior, and absorbing state.

C classes. x_0 is a code, x_t its corrupted form; `past` and `now` are alphabar at times s < t. Everything that
depends on all classes goes through gathers and reductions over logits [..., C]; no one-hot tensor exists. Scalars per
clip are worked out in float64, since 1 - alphabar loses its digits in float32.
Hoogeboom et al. 2021 (multinomial diffusion), Austin et al. 2021 (D3PM).
"""

import math
from abc import ABC, abstractmethod

import torch
import torch.nn.functional as nnf
from torch import Tensor

from data_specs.errors import UserError
from training.diffusion.noise import Noise

LINEAR_ABOVE = 40.0  # softplus(x) is x to the last digit of float64


class Transition(ABC):
    """One corruption process over codes.

    Args:
        classes: number of classes C.
        last: alphabar_T, which the prior's divergence depends on.
    """

    def __init__(self, classes: int, last: float) -> None:
        self.classes = classes

    @property
    @abstractmethod
    def vocabulary(self) -> int:
        """Number of values that x_t takes."""

    @abstractmethod
    def replacement(self, shape: tuple[int, ...], noise: Noise) -> Tensor:
        """What a corrupted code is replaced with, and where sampling starts: int64 [B, *shape]."""

    @abstractmethod
    def divergence(self, logits: Tensor, x0: Tensor, x_t: Tensor, past: Tensor, now: Tensor) -> Tensor:
        """KL(q(x_s | x_t, x_0) || p(x_s | x_t)) in nats, the model's x_0 being softmax(logits).

        At s = 0, where `past` is 1, it equals -log p(x_0 | x_1).

        Args:
            logits: [B, K, T, C].
            x0, x_t: int64 [B, K, T].
            past, now: float64 [B].

        Returns:
            [B, K, T] in the dtype of `logits`.
        """

    @abstractmethod
    def prior_divergence(self) -> float:
        """KL(q(x_T | x_0) || prior) of one code, in nats."""

    @abstractmethod
    def step(self, log_pi: Tensor, x_t: Tensor, past: Tensor, now: Tensor) -> Tensor:
        """log p(x_s | x_t), [B, K, T, vocabulary], from log-probabilities of x_0 [B, K, T, C]."""

    def corrupt(self, x0: Tensor, now: Tensor, noise: Noise) -> Tensor:
        """A draw of q(x_t | x_0): each code is kept with probability alphabar_t. int64 [B, K, T]."""
        shape = tuple(x0.shape[1:])
        kept = noise.uniform(shape) < _scalar(now, x0, torch.float32)
        return torch.where(kept, x0, self.replacement(shape, noise))


class Uniform(Transition):
    """A corrupted code becomes any class with equal probability (Hoogeboom et al. 2021, eq. 11-14)."""

    def __init__(self, classes: int, last: float) -> None:
        super().__init__(classes, last)
        self._last = last

    @property
    def vocabulary(self) -> int:
        return self.classes

    def replacement(self, shape: tuple[int, ...], noise: Noise) -> Tensor:
        return noise.integers(self.classes, shape)

    def _coefficients(self, past: Tensor, now: Tensor, like: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """a, b of q(x_t | x_s) = a [x_t = x_s] + b and c, d of q(x_s | x_0) = c [x_s = x_0] + d; float64 [B, 1, 1]."""
        a, c = _scalar(now / past, like), _scalar(past, like)
        return a, (1 - a) / self.classes, c, (1 - c) / self.classes

    def divergence(self, logits: Tensor, x0: Tensor, x_t: Tensor, past: Tensor, now: Tensor) -> Tensor:
        # The posterior of x_s takes three values: at x_0, at x_t, and the same at all other classes. The model's is
        # (a [k = x_t] + b)(c pi_k + d) over its sum a (c pi[x_t] + d) + b. What both share cancels. All logarithms are
        # taken relative to d, so that small divergences are sums of small numbers: log(c pi + d) - log d is a softplus.
        # Where d is 0 (s = 0) only x_0 has weight, and its logarithm is that of pi itself.
        a, b, c, d = self._coefficients(past, now, x_t)
        ends = d <= 0
        log_ratio = torch.where(ends, 0.0, (c / d).log())
        same = x0 == x_t
        normaliser = a * (c * same + d) + b
        rest = b * d / normaliser  # posterior of a class that is neither x_0 nor x_t
        at_x0 = torch.where(same, a + b, b) * (c + d) / normaliser
        at_x_t = torch.where(same, torch.zeros_like(rest), (a + b) * d / normaliser)
        ratio = a * c / (a * d + b)

        def cast(value: Tensor) -> Tensor:
            return value.to(logits.dtype)

        log_pi = logits.log_softmax(-1)
        mixed = nnf.softplus(log_pi + cast(log_ratio).unsqueeze(-1), threshold=LINEAR_ABOVE)
        mixed_x0, mixed_x_t = _at(mixed, x0), _at(mixed, x_t)
        others = mixed.sum(-1) - mixed_x0 - torch.where(same, 0.0, mixed_x_t)
        mixed_x0 = torch.where(ends, _at(log_pi, x0), mixed_x0)
        true_x0 = cast(torch.where(ends, 0.0, torch.log1p(c / d)))
        cross = cast(at_x0) * (true_x0 - mixed_x0) - cast(at_x_t) * mixed_x_t - cast(rest) * others
        normalisers = torch.log1p(cast(ratio) * _at(log_pi, x_t).exp()) - cast(torch.log1p(ratio * same))
        return cross + normalisers

    def prior_divergence(self) -> float:
        rest = (1 - self._last) / self.classes
        own = self._last + rest
        others = (self.classes - 1) * rest * math.log(rest * self.classes) if rest > 0 else 0.0
        return own * math.log(own * self.classes) + others

    def step(self, log_pi: Tensor, x_t: Tensor, past: Tensor, now: Tensor) -> Tensor:
        a, b, c, d = (value.unsqueeze(-1).to(log_pi.dtype) for value in self._coefficients(past, now, x_t))
        log_prob = torch.logaddexp(log_pi + c.log(), d.log()) + b.log()
        kept = torch.gather(log_prob, -1, x_t.unsqueeze(-1)) - b.log() + (a + b).log()
        return log_prob.scatter(-1, x_t.unsqueeze(-1), kept).log_softmax(-1)


class Absorbing(Transition):
    """A corrupted code becomes a mask, value C, and stays it (Austin et al. 2021, section 3.1 and appendix A.3)."""

    def __init__(self, classes: int, last: float) -> None:
        super().__init__(classes, last)
        if last != 0:
            raise UserError("the absorbing transition needs a schedule that ends in 0; use schedule = 'cosine'")

    @property
    def vocabulary(self) -> int:
        return self.classes + 1

    def replacement(self, shape: tuple[int, ...], noise: Noise) -> Tensor:
        return torch.full((noise.batch, *shape), self.classes, dtype=torch.int64, device=noise.device)

    def _revealed(self, past: Tensor, now: Tensor, like: Tensor) -> Tensor:
        """Probability that a masked code is not masked one step back, float64 [B, 1, 1]."""
        return _scalar((past - now) / (1 - now), like)

    def divergence(self, logits: Tensor, x0: Tensor, x_t: Tensor, past: Tensor, now: Tensor) -> Tensor:
        # A code that is not masked is known; for a masked one both posteriors agree on when, the model guesses what.
        revealed = self._revealed(past, now, x_t).to(logits.dtype)
        surprise = logits.logsumexp(-1) - _at(logits, x0)
        return torch.where(x_t == self.classes, revealed * surprise, 0.0)

    def prior_divergence(self) -> float:
        return 0.0

    def step(self, log_pi: Tensor, x_t: Tensor, past: Tensor, now: Tensor) -> Tensor:
        revealed = self._revealed(past, now, x_t).to(log_pi.dtype).unsqueeze(-1)
        stays = (1 - revealed).log().expand(*log_pi.shape[:-1], 1)
        masked = torch.cat([log_pi + revealed.log(), stays], dim=-1)
        known = torch.full_like(masked, -math.inf).scatter(-1, x_t.unsqueeze(-1), 0.0)
        return torch.where((x_t == self.classes).unsqueeze(-1), masked, known)


TRANSITIONS: dict[str, type[Transition]] = {"uniform": Uniform, "absorbing": Absorbing}


def categorical(log_prob: Tensor, uniform: Tensor) -> Tensor:
    """One draw from each distribution [..., V] by inverting its cumulative sum at `uniform` [...]; int64 [...].

    One uniform number a code, instead of one for every class, keeps draws per clip cheap.
    """
    cumulative = log_prob.softmax(-1).cumsum(-1)
    target = uniform.to(cumulative.dtype).unsqueeze(-1) * cumulative[..., -1:]
    return torch.searchsorted(cumulative, target, right=True).squeeze(-1).clamp(max=log_prob.shape[-1] - 1)


def _scalar(value: Tensor, like: Tensor, dtype: torch.dtype = torch.float64) -> Tensor:
    return value.to(like.device, dtype).view(-1, 1, 1)


def _at(values: Tensor, codes: Tensor) -> Tensor:
    """values [..., C] at codes [...]."""
    return torch.gather(values, -1, codes.unsqueeze(-1)).squeeze(-1)
