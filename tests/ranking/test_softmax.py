"""The chunked softmax is the plain one."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from ranking.softmax import catalogue_softmax

PLACES, ITEMS, WIDTH, ANSWERS = 300, 41, 6, 3


@pytest.mark.parametrize("adjusted", [False, True])
def test_loss_and_gradients_are_those_of_all_logits_at_once(adjusted: bool) -> None:
    draw = torch.Generator().manual_seed(5)
    users = torch.randn(PLACES, WIDTH, generator=draw, requires_grad=True)
    items = torch.randn(ITEMS, WIDTH, generator=draw, requires_grad=True)
    targets = torch.randint(0, ITEMS, (PLACES, ANSWERS), generator=draw)
    weight = torch.rand(PLACES, generator=draw)
    offset = torch.randn(PLACES, ITEMS, generator=draw)

    def adjust(part: slice, logits: torch.Tensor) -> None:
        logits += offset[part]

    logits = users @ items.T + (offset if adjusted else 0)
    each = torch.logsumexp(logits, dim=1) - logits.gather(1, targets).mean(dim=1)
    expected = (each * weight).mean()
    by_user, by_item = torch.autograd.grad(expected * 2, (users, items))

    found = catalogue_softmax(users, items, targets, weight, adjust if adjusted else None, half=False)
    torch.testing.assert_close(found, expected)
    for gradient, wanted in zip(torch.autograd.grad(found * 2, (users, items)), (by_user, by_item), strict=True):
        torch.testing.assert_close(gradient, wanted)


def test_half_precision_is_near() -> None:
    draw = torch.Generator().manual_seed(6)
    users = torch.randn(PLACES, WIDTH, generator=draw, requires_grad=True)
    items = torch.randn(ITEMS, WIDTH, generator=draw, requires_grad=True)
    targets = torch.randint(0, ITEMS, (PLACES, 1), generator=draw)
    found = catalogue_softmax(users, items, targets, torch.ones(PLACES), None, half=True)
    expected = functional.cross_entropy(users @ items.T, targets[:, 0])
    torch.testing.assert_close(found, expected, rtol=0.02, atol=0)
