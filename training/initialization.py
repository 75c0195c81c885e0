"""Initial weights from a trained model (INIT=). O output channels of a layer, I input channels."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from data_specs.controls import INSTRUMENTS
from data_specs.errors import UserError
from training.metadata import DatasetMetadata
from training.model import TrainedModel

Column = tuple[str, str, int]  # of an input channel: control, label of its row, number of a basis function or -1


@torch.no_grad()
def initialize(model: TrainedModel, source: TrainedModel) -> list[str]:
    """Copy weights of `source` to `model` in place; return the names of weights without a match, which stay unchanged.

    Weights are matched by name and shape. Layers that read controls are matched by input channel: by control, and for
    instruments by label. Channels of a new instrument start at the mean of those of the instruments of `source`,
    channels of a new control at zero.

    Raises:
        UserError: the models are for different codecs.
    """
    if model.data.codec_digest != source.data.codec_digest:
        raise UserError(
            f"INIT= must name a model for the codec of the data ({model.data.label}), got one for {source.data.label}"
        )
    theirs, own = source.network.state_dict(), model.network.state_dict()
    inputs = _control_inputs(model.network, model.data)
    other_inputs = _control_inputs(source.network, source.data)
    unmatched = []
    for name, value in own.items():
        known = theirs.get(name)
        if known is not None and name in inputs and name in other_inputs and known.shape[0] == value.shape[0]:
            value.copy_(_matched_columns(known, other_inputs[name], inputs[name]))
        elif known is not None and known.shape == value.shape:
            value.copy_(known)
        else:
            unmatched.append(name)
    return unmatched


def _control_inputs(network: nn.Module, data: DatasetMetadata) -> dict[str, list[Column]]:
    """Return the `Column` of each input channel of the layers that read controls, by name of their weights."""
    rows = []
    for control, count in data.layout.rows:
        labels = data.instruments if control == INSTRUMENTS else [str(row) for row in range(count)]
        rows += [(control, label) for label in labels]
    found = {}
    for name, module in network.named_modules():
        resolutions = getattr(module, "resolutions", None)
        if isinstance(resolutions, tuple) and len(resolutions) == len(rows) and hasattr(module, "conv_in"):
            values: list[Column] = [(*row, -1) for row in rows]
            basis = [(*row, k) for row, size in zip(rows, resolutions, strict=True) if size > 1 for k in range(size)]
            found[f"{name}.conv_in.weight"] = values + basis
    return found


def _matched_columns(known: Tensor, old: list[Column], new: list[Column]) -> Tensor:
    """Return weights [O, I, ...] for the input channels `new` from the weights `known` for the channels `old`.

    A channel that `old` lacks gets the mean over the instruments in `old` if it is of an instrument, else zeros.
    """
    places: Mapping[Column, int] = {column: place for place, column in enumerate(old)}
    columns = []
    for control, label, kind in new:
        place = places.get((control, label, kind))
        peers = [p for (c, _, k), p in places.items() if (c, k) == (control, kind) and control == INSTRUMENTS]
        if place is not None:
            columns.append(known[:, place])
        elif peers:
            columns.append(known[:, peers].mean(1))
        else:
            columns.append(torch.zeros_like(known[:, 0]))
    return torch.stack(columns, dim=1)
