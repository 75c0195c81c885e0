"""Corruption processes of codes: multinomial diffusion with a uniform prior, and an absorbing state.

x_0 is a code and x_t its corrupted form at time t. Everywhere `past` is alphabar at a time s and `now` alphabar at a
later time t (s < t). Values per clip are float64, since 1 - alphabar loses precision in float32.

pi are the probabilities of the classes that the network predicts for a code. The model's p(x_s | x_t) is
q(x_t | x_s) sum_j q(x_s | x_0 = j) pi_j, normalized (Hoogeboom et al. 2021, eq. 15): the true posterior with pi in
place of x_0. Thus pi is the prediction of x_0 from all *other* codes, combined with x_t here.
B clips, K codebooks, T frames, C classes, V values of x_t.
"""

import math
from abc import ABC, abstractmethod

import torch
import torch.nn.functional as nnf
from torch import Tensor

from data_specs.arrays import Shape
from data_specs.errors import UserError
from training.diffusion.class_loss import ClassTerms
from training.diffusion.noise import Noise

LINEAR_ABOVE = 40.0  # above it, softplus(x) is x within the precision of float64


class Transition(ABC):
    """Corruption process of codes.

    Args:
        classes: number of classes C.
        last: alphabar at the last time step, which subclasses use for `prior_divergence`.
    """

    def __init__(self, classes: int, last: float) -> None:
        self.classes = classes

    @property
    @abstractmethod
    def vocabulary(self) -> int:
        """Number of values V of x_t: C, plus 1 with a mask."""

    @abstractmethod
    def replacement(self, shape: Shape, noise: Noise) -> Tensor:
        """Draw values that replace corrupted codes, int64 [B, *shape]; in sampling all codes start with such values."""

    def ratio(self, past: Tensor, now: Tensor) -> Tensor:
        """Return the ratio in `ClassTerms.excess` for each clip [B], given alphabar at s and at t [B].

        The base class returns 0, for a `divergence` that does not use `excess`.
        """
        return torch.zeros_like(past)

    @abstractmethod
    def divergence(self, terms: ClassTerms, x0: Tensor, x_t: Tensor, past: Tensor, now: Tensor) -> Tensor:
        """Return KL(q(x_s | x_t, x_0) || p(x_s | x_t)) of each code in nats; at s = 0 it is -log p(x_0 | x_t).

        Args:
            terms: terms of pi, [B, K, T] each.
            x0, x_t: clean and corrupted codes, int64 [B, K, T].
            past, now: alphabar at s and at t, float64 [B]; `past` is 1 at s = 0.

        Returns:
            [B, K, T] in the dtype of `terms`.
        """

    @abstractmethod
    def prior_divergence(self) -> float:
        """Return the KL divergence per code, in nats, of x_t given x_0 at the last time step from `replacement`."""

    @abstractmethod
    def changing(self, x_t: Tensor, uniform: Tensor, past: float, now: float) -> Tensor:
        """Return which codes may change from t to s, bool with the shape of `x_t`.

        Args:
            x_t: codes at t.
            uniform: random numbers in [0, 1) that `draw` will get for them, of the same shape.
            past, now: alphabar at s and at t.
        """

    @abstractmethod
    def mixture(self, pi_x_t: Tensor, x_t: Tensor, past: float, now: float) -> tuple[Tensor, Tensor]:
        """Return w and v of p(x_s | x_t) = w pi[x_s] + v / C + (1 - w - v) [x_s = x_t], with the shape of `pi_x_t`.

        [x_s = x_t] is 1 if both are equal, else 0. w pi + v / C is for classes, not for a mask.

        Args:
            pi_x_t: pi[x_t], the probability that the network gives to the present value; not used by `Absorbing`.
            x_t: corrupted codes, of the same shape.
            past, now: alphabar at s and at t.
        """

    def draw(self, logits: Tensor, x_t: Tensor, uniform: Tensor, past: float, now: float) -> Tensor:
        """Return x_s drawn from p(x_s | x_t) for R codes: int64 [R].

        A random number below w draws from pi, one from w to w + v draws any class with equal probability, a higher one
        keeps x_t (w and v as in `mixture`).

        Args:
            logits: logits of pi, float [R, C].
            x_t: corrupted codes, int64 [R].
            uniform: uniform random numbers in [0, 1), float [R].
            past, now: alphabar at s and at t.
        """
        at_x_t = logits.gather(-1, (x_t % self.classes).unsqueeze(-1)).squeeze(-1)
        w, v = self.mixture((at_x_t - logits.logsumexp(-1)).exp(), x_t, past, now)
        any_class = ((uniform - w) / v * self.classes).long().clamp(max=self.classes - 1)
        x_s = torch.where(uniform < w + v, any_class, x_t)
        from_pi = uniform < w
        some = indices(from_pi)
        drawn = categorical(logits[some], (uniform / w)[some])
        x_s[some] = torch.where(from_pi[some], drawn, x_s[some])
        return x_s

    def corrupt(self, x0: Tensor, now: Tensor, noise: Noise) -> Tensor:
        """Return x_t drawn from q(x_t | x_0), int64 [B, K, T].

        Each code of `x0` [B, K, T] is kept with probability `now` [B] (alphabar at t), else it gets a `replacement`,
        which may equal it.
        """
        shape = tuple(x0.shape[1:])
        kept = noise.uniform(shape) < _scalar(now, x0, torch.float32)
        return torch.where(kept, x0, self.replacement(shape, noise))


class Uniform(Transition):
    """A corrupted code becomes any class (its own included) with equal probability.

    Source: Hoogeboom et al. 2021, eq. 11-14.
    """

    def __init__(self, classes: int, last: float) -> None:
        super().__init__(classes, last)
        self._last = last

    @property
    def vocabulary(self) -> int:
        return self.classes

    def replacement(self, shape: Shape, noise: Noise) -> Tensor:
        return noise.integers(self.classes, shape)

    def _coefficients(self, past: Tensor, now: Tensor, like: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return a, b, c, d of q(x_t | x_s) = a [x_t = x_s] + b and q(x_s | x_0) = c [x_s = x_0] + d.

        `past` and `now` are alphabar at s and at t, [B]. Results are float64 [B, 1, 1] on the device of `like`.
        """
        a, c = _scalar(now / past, like), _scalar(past, like)
        return a, (1 - a) / self.classes, c, (1 - c) / self.classes

    def ratio(self, past: Tensor, now: Tensor) -> Tensor:
        """Return c / d (see `_coefficients`) for each clip [B], or 1 at s = 0, where d is 0."""
        return torch.where(past < 1, self.classes * past / (1 - past), 1.0)

    def divergence(self, terms: ClassTerms, x0: Tensor, x_t: Tensor, past: Tensor, now: Tensor) -> Tensor:
        # The posterior of x_s takes three values: at x_0, at x_t, and the same at all other classes. The model's is
        # (a [k = x_t] + b)(c pi_k + d) over its sum a (c pi[x_t] + d) + b. What both share cancels. T multiplies the
        # result, so logarithms that nearly cancel are joined first: every term below is small when the divergence is.
        # At s = 0, where d is 0, only x_0 has weight.
        classes = self.classes
        a, b, c, d = self._coefficients(past, now, x_t)
        whole, last_step = c + d, d <= 0
        same_sum, other_sum = a * whole + b, a * d + b  # of the posterior before normalising: x_t = x_0, x_t != x_0

        def cast(value: Tensor) -> Tensor:
            return value.to(terms.x0.dtype)

        # log(c pi + d) - log d
        log_ratio = cast(_scalar(self.ratio(past, now), x_t).log())
        excess_x0 = nnf.softplus(terms.x0 + log_ratio, threshold=LINEAR_ABOVE)
        excess_x_t = nnf.softplus(terms.x_t + log_ratio, threshold=LINEAR_ABOVE)
        # log((c pi + d) / (c + d)) at x_0, from whichever side loses fewer digits.
        known = torch.logaddexp(terms.x0 + cast((c / whole).log()), cast((d / whole).log()))
        log_share = torch.where(c > d, known, excess_x0 - cast(torch.log1p(c / d)))

        part = b / same_sum
        surprise = (-log_share).clamp(max=20.0)
        gain = torch.where(
            surprise < 20,
            torch.log1p(cast(part) * torch.expm1(surprise)),
            torch.logaddexp(cast(torch.log1p(-part)), cast(part.log()) - log_share),
        )
        rest = b * d / same_sum
        # promise: discdpm-loss-hot-tensors
        if_same = gain + cast((classes - 1) * rest) * log_share - cast(rest) * (terms.excess - excess_x0)

        rest, at_x0, part = b * d / other_sum, b * whole / other_sum, b / other_sum
        gain = torch.where(
            last_step,
            torch.log1p(cast(a * c / other_sum) * terms.x_t.exp()),
            cast(at_x0 + (classes - 2) * rest) * excess_x_t + torch.log1p(cast(part) * torch.expm1(-excess_x_t)),
        )
        if_other = gain - cast(at_x0) * log_share - cast(rest) * (terms.excess - excess_x0 - excess_x_t)
        return torch.where(x0 == x_t, if_same, if_other)

    def prior_divergence(self) -> float:
        rest = (1 - self._last) / self.classes
        own = self._last + rest
        others = (self.classes - 1) * rest * math.log(rest * self.classes) if rest > 0 else 0.0
        return own * math.log(own * self.classes) + others

    def changing(self, x_t: Tensor, uniform: Tensor, past: float, now: float) -> Tensor:
        return torch.ones_like(x_t, dtype=torch.bool)

    def mixture(self, pi_x_t: Tensor, x_t: Tensor, past: float, now: float) -> tuple[Tensor, Tensor]:
        # (a [x_s = x_t] + b) (c pi[x_s] + d) over its sum a (c pi[x_t] + d) + b
        a, b = now / past, (1 - now / past) / self.classes
        total = a * (past * pi_x_t + (1 - past) / self.classes) + b
        return b * past / total, b * (1 - past) / total


class Absorbing(Transition):
    """A corrupted code becomes a mask, value C, and remains one (Austin et al. 2021, section 3.1 and appendix A.3).

    Raises:
        UserError: `last`, alphabar at the last time step, is not 0.
    """

    def __init__(self, classes: int, last: float) -> None:
        super().__init__(classes, last)
        if last != 0:
            raise UserError("schedule must end in 0 for transition = 'absorbing'; use schedule = 'cosine'")

    @property
    def vocabulary(self) -> int:
        return self.classes + 1

    def replacement(self, shape: Shape, noise: Noise) -> Tensor:
        return torch.full((noise.batch, *shape), self.classes, dtype=torch.int64, device=noise.device)

    def _revealed(self, past: Tensor, now: Tensor, like: Tensor) -> Tensor:
        """Return the probability that a code masked at t is not masked at s, float64 [B, 1, 1] on the device of `like`.

        `past` and `now` are alphabar at s and at t, [B].
        """
        return _scalar((past - now) / (1 - now), like)

    def divergence(self, terms: ClassTerms, x0: Tensor, x_t: Tensor, past: Tensor, now: Tensor) -> Tensor:
        # An unmasked code is known. For a masked one both posteriors have the same probability of unmasking.
        revealed = self._revealed(past, now, x_t).to(terms.x0.dtype)
        return torch.where(x_t == self.classes, -revealed * terms.x0, 0.0)

    def prior_divergence(self) -> float:
        return 0.0

    def changing(self, x_t: Tensor, uniform: Tensor, past: float, now: float) -> Tensor:
        return (x_t == self.classes) & (uniform < (past - now) / (1 - now))

    def mixture(self, pi_x_t: Tensor, x_t: Tensor, past: float, now: float) -> tuple[Tensor, Tensor]:
        revealed = (x_t == self.classes).to(pi_x_t.dtype) * ((past - now) / (1 - now))
        return revealed, torch.zeros_like(revealed)


TRANSITIONS: dict[str, type[Transition]] = {"uniform": Uniform, "absorbing": Absorbing}


def indices(wanted: Tensor) -> tuple[Tensor, ...]:
    """Return the indices at which bool `wanted` is true, as one int64 tensor per axis.

    On a GPU they are the indices of all elements, true or false, since counting the true ones would synchronize.
    """
    if wanted.device.type == "cpu":
        return wanted.nonzero(as_tuple=True)
    return torch.unravel_index(torch.arange(wanted.numel(), device=wanted.device), wanted.shape)


def categorical(log_prob: Tensor, uniform: Tensor) -> Tensor:
    """Return values in 0..V-1 drawn from log-probabilities `log_prob` [..., V], int64 [...].

    `log_prob` need not be normalized. The cumulative probabilities are inverted at `uniform` [...] in [0, 1).
    This needs one random number per code, while Gumbel noise needs one per class.
    """
    cumulative = log_prob.softmax(-1).cumsum(-1)
    target = uniform.to(cumulative.dtype).unsqueeze(-1) * cumulative[..., -1:]
    return torch.searchsorted(cumulative, target, right=True).squeeze(-1).clamp(max=log_prob.shape[-1] - 1)


def _scalar(value: Tensor, like: Tensor, dtype: torch.dtype = torch.float64) -> Tensor:
    return value.to(like.device, dtype).view(-1, 1, 1)
