"""Softmax over the whole catalogue as one step: loss and gradients, without ever holding all logits.

Logits of a few thousand places over a few thousand items are hundreds of megabytes, and reading and writing them
several times costs more than the products. Here a chunk of places goes from logits to probabilities to gradients while
it lies in the cache, in the forward pass (the idea of Cut Cross-Entropy, Wijmans et al. 2024).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    Adjust = Callable[[slice, Tensor], None]

_CHUNK = 128


def catalogue_softmax(
    users: Tensor, items: Tensor, targets: Tensor, weight: Tensor, adjust: Adjust | None, *, half: bool
) -> Tensor:
    """Weighted mean over places of -log softmax(users @ items.T)[targets], averaged over the targets of a place; a scalar.

    Args:
        users: [p, d] user vectors.
        items: [n, d] item vectors.
        targets: [p, a] items, int64.
        weight: [p] of each place.
        adjust: changes the logits [c, n] of a slice of the places in place; nothing is learnt through it.
        half: multiply in bfloat16; sums stay float32.
    """
    loss: Tensor = _CatalogueSoftmax.apply(users, items, targets, weight, adjust, half)  # type: ignore[no-untyped-call] # torch ships it untyped
    return loss


class _CatalogueSoftmax(torch.autograd.Function):
    @staticmethod
    def forward(  # noqa: PLR0917 - torch passes them by position
        ctx: Any, users: Tensor, items: Tensor, targets: Tensor, weight: Tensor, adjust: Adjust | None, half: bool
    ) -> Tensor:
        users = users.float()
        columns = items.bfloat16() if half else items
        by_user, by_item = torch.empty_like(users), torch.zeros_like(items)
        share = -weight / (len(users) * targets.shape[1])
        total = torch.zeros((), device=users.device)
        for start in range(0, len(users), _CHUNK):
            part = slice(start, min(start + _CHUNK, len(users)))
            rows = users[part].to(columns.dtype)
            logits = (rows @ columns.T).float()
            if adjust is not None:
                adjust(part, logits)
            right = targets[part]
            greatest = logits.amax(dim=1, keepdim=True)
            wanted = logits.gather(1, right) - greatest
            logits.sub_(greatest).exp_()
            together = logits.sum(dim=1, keepdim=True)
            total += (share[part, None] * (wanted - together.log())).sum()
            logits.mul_(-share[part, None] * right.shape[1] / together)
            logits.scatter_add_(1, right, share[part, None].expand_as(right))
            slope = logits.to(columns.dtype)
            by_user[part] = slope @ columns
            by_item += slope.T @ rows
        ctx.save_for_backward(by_user, by_item)
        return total

    @staticmethod
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor | None, ...]:
        by_user, by_item = ctx.saved_tensors
        return by_user * outer[0], by_item * outer[0], None, None, None, None
