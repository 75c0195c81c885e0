"""Last layer and loss of DiscDPM as one function that computes its gradients together with its value.

B batch, K codebooks, T frames, C classes, H features, R = B * T rows. Logits exist for some frames of one codebook at
a time. Their gradient is taken while they are there, so that they are never computed again.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from training.networks.codes import ClassLogits


class ClassTerms(NamedTuple):
    """Terms of a divergence from pi = softmax(logits), each [B, K, T].

    Attributes:
        x0: log pi at the clean code.
        x_t: log pi at the corrupted code; at class 0 for a mask.
        excess: sum over classes of log(1 + ratio * pi).
    """

    x0: Tensor
    x_t: Tensor
    excess: Tensor


Divergence = Callable[[ClassTerms, Tensor, Tensor], Tensor]  # terms, x0, x_t, each [B, K, T] -> [B, K, T]


def class_loss(
    layer: ClassLogits,
    features: Tensor,
    x0: Tensor,
    x_t: Tensor,
    divergence: Divergence,
    ratio: Tensor,
    scale: Tensor,
    chunk_values: int,
) -> Tensor:
    """Return the scaled sum of the divergence over the codes of each clip, float32 [B].

    Args:
        layer: the last layer.
        features: [B, H, T].
        x0, x_t: int64 [B, K, T], clean and corrupted codes.
        divergence: see `Transition.divergence`.
        ratio: [B], of the terms `excess`; 0 if they are not needed.
        scale: [B].
        chunk_values: number of logits in memory at once.
    """

    def compute(inputs: tuple[Tensor, ...], scale: Tensor, gradients: bool) -> tuple[Tensor, tuple[Tensor, ...]]:
        return _losses(inputs, (x0, x_t), divergence, ratio, scale, chunk_values, gradients)

    ratio, scale = (values.to(features.device, torch.float32) for values in (ratio, scale))
    inputs = (features, *layer.conv.parameters())
    if torch.is_grad_enabled():
        return _WithGradients.apply(compute, scale, *inputs)
    return compute(inputs, scale, False)[0]


class _WithGradients(torch.autograd.Function):
    """Losses [B] with the gradients of their sum.

    These are the gradients wanted if all losses have the same one, as in the mean over a batch; else they are computed
    again.
    """

    @staticmethod
    def forward(
        ctx: Any, compute: Callable[..., tuple[Tensor, tuple[Tensor, ...]]], scale: Tensor, *inputs: Tensor
    ) -> Tensor:
        losses, gradients = compute(inputs, scale, True)
        ctx.compute = compute
        ctx.save_for_backward(scale, *inputs, *gradients)
        return losses

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        scale, *saved = ctx.saved_tensors
        inputs, gradients = saved[: len(saved) // 2], saved[len(saved) // 2 :]
        # A sum has an expanded gradient. Values are compared on a CPU only, since a GPU would wait.
        if grad.stride(0) == 0 or (grad.device.type == "cpu" and bool((grad == grad[0]).all())):
            return None, None, *(gradient * grad[0].to(gradient.dtype) for gradient in gradients)
        return None, None, *ctx.compute(inputs, scale * grad, True)[1]


def _losses(
    inputs: tuple[Tensor, ...],
    codes: tuple[Tensor, Tensor],
    divergence: Divergence,
    ratio: Tensor,
    scale: Tensor,
    chunk_values: int,
    gradients: bool,
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Compute the scaled losses [B] and the gradients of their sum with respect to `inputs`."""
    features, weight, bias = inputs
    batch, codebooks, frames = codes[0].shape
    rows = features.transpose(1, 2)  # [B, T, H]
    weights = weight.to(rows.dtype).view(codebooks, -1, rows.shape[2])  # [K, C, H]
    biases = bias.to(rows.dtype).view(codebooks, -1)
    classes = weights.shape[1]
    d_rows = torch.empty_like(rows, dtype=torch.float32)
    d_weights = torch.zeros_like(weights, dtype=torch.float32)
    d_biases = torch.zeros_like(biases, dtype=torch.float32)
    losses = torch.zeros_like(scale)
    size = min(frames, max(1, chunk_values // (batch * classes)))
    buffers = rows.new_empty(3, batch * size, classes, dtype=torch.float32)  # allocated once: pages are costly
    for start in range(0, frames, size):
        part = slice(start, start + size)
        hidden = rows[:, part].flatten(0, 1)  # [R, H]
        d_hidden = torch.zeros_like(hidden, dtype=torch.float32)
        for k in range(codebooks):
            x0, x_t = (x[:, k : k + 1, part] for x in codes)
            logits, *spare = buffers[:, : len(hidden)]
            _add_product(logits.copy_(biases[k].expand_as(logits)), hidden, weights[k].T)
            summed, d = _chunk(logits, spare, x0, x_t, divergence, ratio, scale, gradients)
            losses += summed
            if gradients:
                d_biases[k] += d.sum(0)
                _add_product(d_weights[k], d.T, hidden)
                _add_product(d_hidden, d, weights[k])
        d_rows[:, part] = d_hidden.unflatten(0, (batch, -1))
    return losses, (
        d_rows.transpose(1, 2).to(features.dtype),
        d_weights.view_as(weight).to(weight.dtype),
        d_biases.view_as(bias).to(bias.dtype),
    )


def _add_product(total: Tensor, a: Tensor, b: Tensor) -> None:
    """Add a @ b to a float32 `total`; in bfloat16 if a or b is."""
    if a.dtype == b.dtype == total.dtype:
        total.addmm_(a, b)
    else:
        total += a.to(torch.bfloat16) @ b.to(torch.bfloat16)


def _chunk(
    logits: Tensor,
    spare: list[Tensor],
    x0: Tensor,
    x_t: Tensor,
    divergence: Divergence,
    ratio: Tensor,
    scale: Tensor,
    gradients: bool,
) -> tuple[Tensor, Tensor]:
    """Return the scaled losses [B] of codes [B, 1, T] and their gradient with respect to the logits, [B * T, C].

    The logits are overwritten, and so are two spare tensors of their shape.
    """
    shape, classes = x0.shape, logits.shape[1]
    odds, other = spare
    at_x0, at_x_t = x0.reshape(-1, 1), (x_t % classes).reshape(-1, 1)
    top = logits.amax(1, keepdim=True)
    logit_x0, logit_x_t = logits.gather(1, at_x0), logits.gather(1, at_x_t)
    powers = logits.sub_(top).exp_()
    total = powers.sum(1, keepdim=True)
    norm = top + total.log()
    row_ratio = ratio.view(-1, 1).expand(-1, shape[2]).reshape(-1, 1)
    torch.mul(powers, row_ratio / total, out=odds)
    excess = torch.log1p(odds, out=other).sum(1)
    terms = ClassTerms(*(term.view(shape) for term in (logit_x0 - norm, logit_x_t - norm, excess)))
    if not gradients:
        return divergence(terms, x0, x_t).sum((1, 2)) * scale, odds
    with torch.enable_grad():
        terms = ClassTerms(*(term.requires_grad_() for term in terms))
        losses = divergence(terms, x0, x_t).sum((1, 2)) * scale
        found = torch.autograd.grad(losses.sum(), terms, allow_unused=True, materialize_grads=True)
    g0, g_t, g_excess = (gradient.reshape(-1, 1) for gradient in found)
    # Gradients with respect to log pi; then, through its norm, to the logits.
    d = odds.div_(torch.add(odds, 1, out=other)).mul_(g_excess)
    through = (d.sum(1, keepdim=True) + g0 + g_t) / total
    d.addcmul_(powers, through, value=-1).scatter_add_(1, at_x0, g0).scatter_add_(1, at_x_t, g_t)
    return losses.detach(), d
