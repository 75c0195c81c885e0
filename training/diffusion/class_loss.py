"""Last layer and loss of DiscDPM as one function, computed in chunks to save memory.

A chunk has the logits [R, G, C] of R rows (some frames of all B clips) and of G of the K codebooks. Their gradient is
computed with the loss, so that logits are not stored for the backward pass. B clips, K codebooks, T frames, C classes,
H features.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from training.networks.codes import ClassLogits


class ClassTerms(NamedTuple):
    """Terms from which a divergence is computed, each [B, K, T]; pi = softmax(logits) over the classes of a code.

    Attributes:
        x0: log pi of the clean code.
        x_t: log pi of the corrupted code; log pi of class 0 for a mask.
        excess: sum over classes of log(1 + ratio * pi), with the `ratio` of the clip given to `class_loss`.
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
    """Return `scale` times the sum of the divergence over the codes of each clip, float32 [B].

    The result has gradients for `features` and the parameters of `layer`, of first order only.

    Args:
        layer: last layer of the network.
        features: its inputs [B, H, T].
        x0, x_t: clean and corrupted codes, int64 [B, K, T].
        divergence: function (terms, x0, x_t) -> [B, K, T], called with some frames and codebooks at a time.
        ratio: ratio of each clip in `ClassTerms.excess`, [B]; 0 if `divergence` does not use `excess`.
        scale: factor of each clip [B].
        chunk_values: largest number of logits of a chunk, which has at least those of one frame and codebook of all
            clips.
    """

    def compute(inputs: tuple[Tensor, ...], scale: Tensor, gradients: bool) -> tuple[Tensor, tuple[Tensor, ...]]:
        return _losses(inputs, (x0, x_t), divergence, ratio, scale, chunk_values, gradients)

    ratio, scale = (values.to(features.device, torch.float32) for values in (ratio, scale))
    inputs = (features, *layer.conv.parameters())
    if torch.is_grad_enabled():
        return _WithGradients.apply(compute, scale, *inputs)
    return compute(inputs, scale, False)[0]


class _WithGradients(torch.autograd.Function):
    """Losses [B], with the gradients of their sum with respect to `inputs` computed in the forward pass.

    The backward pass scales these gradients if the gradient of every loss is the same, as for a sum or mean; else it
    computes them again. On a GPU only an expanded gradient (stride 0) counts as the same.
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
        # The gradient of a sum has stride 0. Values are compared on a CPU only, since on a GPU it would synchronize.
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
    """Return the losses of `class_loss` [B], and the gradients of their sum with respect to each of `inputs`.

    Args:
        inputs: features [B, H, T], and weight and bias of the last layer.
        codes: clean and corrupted codes, int64 [B, K, T].
        divergence, ratio, scale, chunk_values: as in `class_loss`.
        gradients: whether to compute the gradients; they are 0 otherwise.
    """
    features, weight, bias = inputs
    batch, codebooks, frames = codes[0].shape
    rows = features.transpose(1, 2)  # [B, T, H]
    weights = weight.to(rows.dtype).flatten(1)  # [K * C, H]
    biases = bias.to(rows.dtype)
    classes = len(biases) // codebooks
    d_rows = torch.empty_like(rows, dtype=torch.float32)
    d_weights = torch.zeros_like(weights, dtype=torch.float32)
    d_biases = torch.zeros_like(biases, dtype=torch.float32)
    losses = torch.zeros_like(scale)
    length = min(frames, max(1, chunk_values // (batch * classes)))
    group = min(codebooks, max(1, chunk_values // (batch * length * classes)))
    # Allocated once, since the first write to a page is slow.
    buffers = rows.new_empty(3, batch * length * group * classes, dtype=torch.float32)
    for start in range(0, frames, length):
        part = slice(start, start + length)
        hidden = rows[:, part].flatten(0, 1)  # [R, H]
        d_hidden = torch.zeros_like(hidden, dtype=torch.float32)
        for first in range(0, codebooks, group):
            x0, x_t = (x[:, first : first + group, part] for x in codes)
            outputs = slice(first * classes, (first + x0.shape[1]) * classes)
            size = len(hidden) * len(biases[outputs])
            logits, *spare = (buffer[:size].view(len(hidden), -1) for buffer in buffers)  # [R, G * C]
            _add_product(logits.copy_(biases[outputs].expand_as(logits)), hidden, weights[outputs].T)
            per_code = [values.unflatten(1, (-1, classes)) for values in (logits, *spare)]
            summed, d = _chunk(per_code, x0, x_t, divergence, ratio, scale, gradients)
            losses += summed
            if gradients:
                d = d.flatten(1)
                d_biases[outputs] += d.sum(0)
                _add_product(d_weights[outputs], d.T, hidden)
                _add_product(d_hidden, d, weights[outputs])
        d_rows[:, part] = d_hidden.unflatten(0, (batch, -1))
    return losses, (
        d_rows.transpose(1, 2).to(features.dtype),
        d_weights.view_as(weight).to(weight.dtype),
        d_biases.view_as(bias).to(bias.dtype),
    )


def _add_product(total: Tensor, a: Tensor, b: Tensor) -> None:
    """Add a @ b to `total`, float32, in place; the product is computed in bfloat16 unless a and b are float32."""
    if a.dtype == b.dtype == total.dtype:
        total.addmm_(a, b)
    else:
        total += a.to(torch.bfloat16) @ b.to(torch.bfloat16)


def _chunk(
    buffers: list[Tensor],
    x0: Tensor,
    x_t: Tensor,
    divergence: Divergence,
    ratio: Tensor,
    scale: Tensor,
    gradients: bool,
) -> tuple[Tensor, Tensor]:
    """Return the scaled losses [B] of the codes of a chunk, and the gradient of their sum for its logits [R, G, C].

    Without `gradients` the second result has no meaning.

    Args:
        buffers: three tensors [R, G, C] with R = B * (frames of the chunk), all overwritten; the first has the logits.
        x0, x_t: clean and corrupted codes of the chunk, int64 [B, G, frames of the chunk].
        divergence, ratio, scale: as in `class_loss`.
        gradients: whether to compute the gradient.
    """
    logits, odds, pi = buffers
    batch, codebooks, frames = x0.shape
    classes = logits.shape[2]

    def to_rows(values: Tensor) -> Tensor:
        """Return `values` [B, G, frames] as [B * frames, G, 1]."""
        return values.transpose(1, 2).reshape(-1, codebooks, 1)

    at_x0, at_x_t = to_rows(x0), to_rows(x_t % classes)
    top = logits.amax(2, keepdim=True)
    logit_x0, logit_x_t = logits.gather(2, at_x0), logits.gather(2, at_x_t)
    torch.softmax(logits, 2, out=pi)
    norm = top - pi.amax(2, keepdim=True).log()
    torch.mul(pi, ratio.repeat_interleave(frames).view(-1, 1, 1), out=odds)
    excess = torch.log1p(odds, out=logits).sum(2)
    per_row = (logit_x0 - norm, logit_x_t - norm, excess)
    terms = ClassTerms(*(term.view(batch, frames, codebooks).transpose(1, 2) for term in per_row))
    if not gradients:
        return divergence(terms, x0, x_t).sum((1, 2)) * scale, odds
    with torch.enable_grad():
        terms = ClassTerms(*(term.detach().requires_grad_() for term in terms))
        losses = divergence(terms, x0, x_t).sum((1, 2)) * scale
        found = torch.autograd.grad(losses.sum(), terms, allow_unused=True, materialize_grads=True)
    g0, g_t, g_excess = (to_rows(gradient) for gradient in found)
    # Gradients with respect to log pi; then, through its norm, to the logits.
    d = odds.div_(torch.add(odds, 1, out=logits)).mul_(g_excess)
    through = d.sum(2, keepdim=True) + g0 + g_t
    d.addcmul_(pi, through, value=-1).scatter_add_(2, at_x0, g0).scatter_add_(2, at_x_t, g_t)
    return losses.detach(), d
