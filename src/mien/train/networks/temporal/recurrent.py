"""Recurrent heads: a GRU, and one whose gates do not read the state."""

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence
from typing_extensions import override

from mien.train.networks.temporal.base import Body, TemporalHead
from mien.train.objective.losses import Bins
from mien.train.objective.squash import Squash

__all__ = ["MinimalGruHead", "SequenceHead"]

# Frames over which states are kept at the start, from the first unit of a layer to the last.
_SHORTEST = 2
_LONGEST = 64


class SequenceHead(TemporalHead):
    """Bidirectional GRU layers, ReLU, and a linear layer."""

    def __init__(
        self,
        body: Body,
        width_out: int,
        bins: Bins | None = None,
        squash: Squash | None = None,
    ) -> None:
        """Make the head with PyTorch's starting weights.

        Args:
            body: Of the GRU, width per direction.
            width_out: Number of raw outputs, K.
            bins: How raw output is decoded, if it is a choice among bins.
            squash: What raw output passes through.
        """
        super().__init__(bins, squash)
        self.gru = nn.GRU(
            body.width_in, body.width, body.layers, batch_first=True, bidirectional=True
        )
        self.last = nn.Linear(2 * body.width, width_out)

    @override
    def states(self, windows: Tensor, valid: Tensor | None) -> Tensor:
        if valid is None:
            states: Tensor = self.gru(windows)[0]
            return states.relu()
        # Packed, so that the backward direction starts at the last frame and not in the padding.
        lengths = valid.sum(dim=1).cpu()
        packed = pack_padded_sequence(windows, lengths, batch_first=True, enforce_sorted=False)
        packed_states, _ = self.gru(packed)
        length = windows.shape[1]
        states, _ = pad_packed_sequence(packed_states, batch_first=True, total_length=length)
        return states.relu()


class MinimalGruHead(TemporalHead):
    """Bidirectional minimal GRU layers, ReLU, and a linear layer (minGRU; Feng et al., 2024).

    ``h[t] = z[t] h[t - 1] + (1 - z[t]) tanh(W x[t])`` with ``z[t] = sigmoid(V x[t])``: a GRU
    whose gates do not read the state. The recurrence is then linear in the state, so a window is
    computed in log2(T) steps rather than T. It is a GRU with recurrent weights of 0, which ONNX
    knows as one operator, so that a file without loops reads windows of any length in linear
    time; a state-space layer would have to be unrolled. Departure: the paper's candidate has no
    tanh, the operator has.
    """

    def __init__(
        self,
        body: Body,
        width_out: int,
        bins: Bins | None = None,
        squash: Squash | None = None,
    ) -> None:
        """Make the head with starting weights that forget at many rates.

        Args:
            body: Its layers, width per direction.
            width_out: Number of raw outputs, K.
            bins: How raw output is decoded, if it is a choice among bins.
            squash: What raw output passes through.
        """
        super().__init__(bins, squash)
        self.body = body
        self.forwards = nn.ModuleList()
        self.backwards = nn.ModuleList()
        width_in = body.width_in
        for _ in range(body.layers):
            self.forwards.append(_make_gates(width_in, body.width))
            self.backwards.append(_make_gates(width_in, body.width))
            width_in = 2 * body.width
        self.dropout = nn.Dropout(body.dropout)
        self.last = nn.Linear(2 * body.width, width_out)

    @override
    def states(self, windows: Tensor, valid: Tensor | None) -> Tensor:
        states = windows
        for forwards, backwards in zip(self.forwards, self.backwards, strict=True):
            ahead = _scan(*_keep_and_add(forwards(states), valid))
            keep, added = _keep_and_add(backwards(states), valid)
            back = _scan(keep.flip(1), added.flip(1)).flip(1)
            states = self.dropout(torch.cat([ahead, back], dim=2))
        return states.relu()

    @override
    def exportable(self) -> TemporalHead:
        """Give a `SequenceHead` with recurrent weights of 0.

        Returns:
            The head, in evaluation mode.
        """
        twin = SequenceHead(self.body, self.last.out_features, self.bins, self.squash)
        weights = dict(twin.gru.named_parameters())
        width = self.body.width
        with torch.no_grad():
            for weight in weights.values():
                weight.zero_()
            for ending, layers in (("", self.forwards), ("_reverse", self.backwards)):
                for number, module in enumerate(layers):
                    gates = cast(nn.Linear, module)
                    # The GRU's gates are reset, update, candidate; the first is of no effect.
                    weights[f"weight_ih_l{number}{ending}"][width:] = gates.weight
                    weights[f"bias_ih_l{number}{ending}"][width:] = gates.bias
            twin.last.load_state_dict(self.last.state_dict())
        return twin.eval()


def _make_gates(width_in: int, width: int) -> nn.Linear:
    """The layer that gives the update gate and the candidate, one after the other."""
    gates = nn.Linear(width_in, 2 * width)
    # By default states would be kept for two frames, and gradients reach no farther (Tallec and
    # Ollivier, 2018: the bias log(frames - 1) keeps them for so many).
    frames = torch.linspace(_SHORTEST, _LONGEST, width)
    with torch.no_grad():
        gates.bias[:width] = (frames - 1).log()
    return gates


def _keep_and_add(gates: Tensor, valid: Tensor | None) -> tuple[Tensor, Tensor]:
    """Share of the state that is kept, and what is added to it, both (N, T, width)."""
    update, candidate = gates.chunk(2, dim=2)
    keep = update.sigmoid()
    added = (1 - keep) * candidate.tanh()
    if valid is not None:
        # The backward direction begins in the padding, and leaves it with a state of 0.
        added = added.masked_fill(~valid[..., None], 0.0)
    return keep, added


def _scan(keep: Tensor, added: Tensor) -> Tensor:
    """States h[t] = keep[t] h[t - 1] + added[t] (N, T, width), from a state of 0.

    By doubling (Hillis and Steele, 1986): after each step, `added` is the state that the last
    `span` frames give, and `keep` what is left of the state before them.
    """
    span = 1
    while span < added.shape[1]:
        later = added[:, span:] + keep[:, span:] * added[:, :-span]
        added = torch.cat([added[:, :span], later], dim=1)
        keep = torch.cat([keep[:, :span], keep[:, span:] * keep[:, :-span]], dim=1)
        span *= 2
    return added
