"""One training of the user tower: networks, optimiser, data and the loss."""

from __future__ import annotations

from copy import deepcopy
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from ranking.ndcg import ndcg_of_scores
from ranking.networks import UserTower
from ranking.sequences import SECONDS_PER_DAY
from ranking.softmax import catalogue_softmax
from ranking.tower_examples import TrendGrid, Windows, newest_first
from ranking.tower_settings import FULL_SOFTMAX_ITEMS, TowerCases, TowerSettings

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray
    from torch import Tensor

    from core.types import Vector
    from ranking.sequences import Sequences

_FIRST_SCALE = 0.02
_WARM_UP_STEPS = 50


class TowerRun:
    """Networks, optimiser and data of one training."""

    def __init__(
        self,
        sequences: Sequences,
        n_items: int,
        n_types: int,
        *,
        settings: TowerSettings,
        device: torch.device,
        seed: int,
    ) -> None:
        """Make everything from ``seed``.

        Raises:
            ValueError: there is nothing to learn from.
        """
        torch.manual_seed(seed)
        self.rng = np.random.default_rng(seed)
        self.sequences, self.settings, self.device = sequences, settings, device
        self._windows = self._cut()
        if not len(self._windows):
            raise ValueError("no user has events at two different times: there is no sequence to learn from")
        self.tower = UserTower(
            n_types,
            settings.width,
            blocks=settings.blocks,
            heads=settings.heads,
            dropout=settings.dropout,
            context_length=settings.context_length,
        ).to(device)
        self.items = nn.Parameter(torch.from_numpy(_first_vectors(sequences, n_items, settings, self.rng)).to(device))
        self.trained = np.bincount(sequences.items, minlength=n_items) > 0
        self.optimiser = torch.optim.AdamW(
            [
                {"params": self.tower.parameters(), "lr": settings.rate, "rate": settings.rate},
                {"params": [self.items], "rate": settings.rate * settings.item_rate},
            ],
            weight_decay=settings.decay,
            fused=True,
        )
        self.mean_tower, self.mean_items = deepcopy(self.tower).eval(), self.items.detach().clone()
        self._half = device.type == "cuda" or torch.ops.mkldnn._is_mkldnn_bf16_supported()  # noqa: SLF001 - no public name
        self.sampled = n_items > FULL_SOFTMAX_ITEMS
        self.step = 0
        if self.sampled:
            share = np.bincount(sequences.items, minlength=n_items) ** 0.75
            self.share = share / share.sum()
        self._trend: TrendGrid | None = None
        if settings.trend_half_life_days is not None:
            self._trend = TrendGrid(sequences, n_items, settings.trend_half_life_days, first_only=settings.new_only)
        half_life = settings.recency_half_life_days
        age = (sequences.times.max() - sequences.times) / SECONDS_PER_DAY
        self._event_weight = (np.exp2(-age / half_life) if half_life else np.ones(len(age))).astype(np.float32)

    def start_from(self, tower: nn.Module, item_vectors: Vector) -> None:
        """Take over weights; items whose vector is zero keep their random one."""
        self.tower.load_state_dict(tower.state_dict())
        known = np.flatnonzero(item_vectors.any(axis=1))
        with torch.no_grad():
            self.items[torch.from_numpy(known)] = torch.from_numpy(item_vectors[known]).to(self.device)
        self.mean_tower.load_state_dict(tower.state_dict())
        self.mean_items.copy_(self.items.detach())

    def weights(self) -> tuple[dict[str, Tensor], Tensor]:
        """A copy of what is evaluated: the averaged weights."""
        return {k: v.clone() for k, v in self.mean_tower.state_dict().items()}, self.mean_items.clone()

    def restore(self, weights: tuple[dict[str, Tensor], Tensor]) -> None:
        """Go back to a copy, to evaluate it."""
        self.mean_tower.load_state_dict(weights[0])
        self.mean_items.copy_(weights[1])

    def state(self) -> dict[str, Any]:
        """Everything that the next epoch depends on, to be kept in a file."""
        return {
            "tower": self.tower.state_dict(),
            "items": self.items.detach(),
            "mean": self.weights(),
            "optimiser": self.optimiser.state_dict(),
            "step": self.step,
            "rng": self.rng.bit_generator.state,
            "torch_rng": torch.get_rng_state(),
        }

    def resume(self, state: dict[str, Any]) -> None:
        """Go on as if ``state`` had just been taken."""
        self.tower.load_state_dict(state["tower"])
        with torch.no_grad():
            self.items.copy_(state["items"])
        self.restore(state["mean"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.step = state["step"]
        self.rng.bit_generator.state = state["rng"]
        torch.set_rng_state(state["torch_rng"])

    def item_vectors(self) -> Vector:
        """[items, d] zeros where an item was never seen."""
        vectors = self.mean_items.cpu().numpy().astype(np.float32)
        return np.where(self.trained[:, None], vectors, np.float32(0))

    def epoch(self) -> float:
        """One pass; the mean loss."""
        self.tower.train()
        if self.step:
            self._windows = self._cut(self._shift())
        batches = self._windows.batches(self.settings.batch, self.rng)
        total = 0.0
        for chosen in batches:
            for group in self.optimiser.param_groups:
                group["lr"] = group["rate"] * min(1.0, (self.step + 1) / _WARM_UP_STEPS)
            self.step += 1
            loss = self._loss(chosen)
            self.optimiser.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call] # torch ships it untyped
            nn.utils.clip_grad_norm_(self.tower.parameters(), 1.0)
            self.optimiser.step()
            self._average()
            total += float(loss.detach())
        return total / len(batches)

    @torch.no_grad()
    def _average(self) -> None:
        forget = 1 - min(self.settings.memory, self.step / (self.step + 10))
        for mean, now in zip(self.mean_tower.parameters(), self.tower.parameters(), strict=True):
            mean.lerp_(now, forget)
        self.mean_items.lerp_(self.items, forget)

    def _shift(self) -> NDArray[np.int64]:
        """[users] events by which each user's first window is shorter, drawn anew in every epoch."""
        # Users without events draw nothing: some of them only appear after the cut, and must not show in the weights.
        shift = np.zeros(self.sequences.n_users, np.int64)
        active = np.diff(self.sequences.ptr) > 0
        shift[active] = self.rng.integers(0, self.settings.stride, int(active.sum()))
        return shift

    def _cut(self, shift: NDArray[np.int64] | None = None) -> Windows:
        settings = self.settings
        return Windows.cut(
            self.sequences,
            length=settings.context_length,
            stride=settings.stride,
            horizon_days=settings.horizon_days,
            new_only=settings.new_only,
            shift=shift,
        )

    def _loss(self, chosen: NDArray[np.int64]) -> Tensor:
        windows = self._windows
        length = int((windows.stop[chosen] - windows.start[chosen]).max())
        event, known, window, position, chosen_places = windows.batch(chosen, length)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self._half):
            encoded = self._encode(self.tower, self.items, self.sequences, event, known, newest_only=False)
        users = encoded[window, position].float()
        targets = torch.from_numpy(
            self.sequences.items[windows.draw(chosen_places, self.settings.targets, self.rng)].astype(np.int64)
        ).to(self.device)
        weight = torch.from_numpy(self._event_weight[windows.place[chosen_places]]).to(self.device)
        weight = weight / weight.mean()
        if self.sampled:
            return (self._sampled_loss(users, targets) * weight).mean()
        day = None if self._trend is None else self._trend.day(self.sequences.times[windows.place[chosen_places]])
        past = self._past(event, known, window, position) if self.settings.new_only else None

        def adjust(part: slice, logits: Tensor) -> None:
            if self._trend is not None and day is not None:
                logits += torch.from_numpy(self._trend.grid[day[part]]).to(self.device)
            if past is not None:
                logits.scatter_add_(1, *past(part))

        return catalogue_softmax(users, self.items, targets, weight, adjust, half=self._half)

    def _past(
        self,
        event: NDArray[np.int64],
        known: NDArray[np.bool_],
        window: NDArray[np.int64],
        position: NDArray[np.int64],
    ) -> Callable[[slice], tuple[Tensor, Tensor]]:
        """For a slice of places index and value [c, l] that take out of logits what the user had: what the user had is no negative."""
        items = torch.from_numpy(self.sequences.items[event].astype(np.int64)).to(self.device)
        at = np.arange(event.shape[1])

        def of(part: slice) -> tuple[Tensor, Tensor]:
            past = known[window[part]] & (at >= position[part, None])
            value = torch.from_numpy(np.where(past, np.float32(-1e4), np.float32(0))).to(self.device)
            return items[torch.from_numpy(window[part]).to(self.device)], value

        return of

    def _sampled_loss(self, users: Tensor, targets: Tensor) -> Tensor:
        """Softmax over sampled items, corrected by how often each is sampled (Bengio & Senecal 2008)."""
        k = self.settings.negatives
        drawn = self.rng.choice(len(self.share), k, p=self.share)
        log_q = torch.from_numpy(np.log(self.share * k + 1e-12).astype(np.float32)).to(self.device)
        negatives = torch.from_numpy(drawn).to(self.device)
        against = users @ self.items[negatives].T - log_q[negatives]
        right = (users[:, None] * self.items[targets]).sum(dim=2) - log_q[targets]
        same = targets[:, :, None] == negatives
        others = against[:, None].expand(-1, targets.shape[1], -1).masked_fill(same, -1e9)
        return (torch.logaddexp(torch.logsumexp(others, dim=2), right) - right).mean(dim=1)

    def _encode(
        self,
        tower: UserTower,
        item_vectors: Tensor,
        sequences: Sequences,
        event: NDArray[np.int64],
        known: NDArray[np.bool_],
        *,
        newest_only: bool,
    ) -> Tensor:
        ages = (sequences.times[event[:, :1]] - sequences.times[event]).astype(np.float32)
        items = torch.from_numpy(sequences.items[event].astype(np.int64)).to(self.device)
        types = torch.from_numpy(sequences.types[event].astype(np.int64)).to(self.device)
        vectors = functional.embedding(items, item_vectors)
        at = torch.from_numpy(ages).to(self.device)
        found: Tensor = tower(vectors, types, at, torch.from_numpy(known).to(self.device), newest_only=newest_only)
        return found

    @torch.no_grad()
    def ndcg(self, valid: TowerCases, k: int = 20) -> float:
        """Mean NDCG@k over the whole catalogue; a user's past items are left out where ``new_only``."""
        context_length = self.settings.context_length
        start = valid.sequences.ptr[valid.users]
        values = []
        for i in range(0, len(valid.users), 512):
            part = slice(i, i + 512)
            event, known = newest_first(
                np.maximum(start[part], valid.ends[part] - context_length), valid.ends[part], context_length
            )
            users = self._encode(self.mean_tower, self.mean_items, valid.sequences, event, known, newest_only=True)[
                :, 0
            ]
            scores = users @ self.mean_items.T
            if self._trend is not None:
                scores = scores + torch.from_numpy(self._trend.newest).to(self.device)
            found = scores.cpu().numpy()
            found[:, ~self.trained] = -np.inf
            for j, (s, e) in enumerate(zip(start[part], valid.ends[part], strict=True)):
                if self.settings.new_only:
                    found[j, valid.sequences.items[s:e]] = -np.inf
                values.append(ndcg_of_scores(found[j], valid.relevant[i + j], k))
        return float(np.mean(values))


def _first_vectors(sequences: Sequences, n_items: int, settings: TowerSettings, rng: np.random.Generator) -> Vector:
    """[items, d] small random vectors, or the spectrum of who had what (as in GF-CF, Shen et al. 2021)."""
    vectors = rng.normal(scale=_FIRST_SCALE, size=(n_items, settings.width))
    if settings.spectral:
        from scipy.sparse import csr_matrix, diags
        from scipy.sparse.linalg import svds

        rows = sequences.active_users[sequences.first]
        had = csr_matrix(
            (np.ones(len(rows)), (rows, sequences.items[sequences.first])), shape=(rows.max(initial=-1) + 1, n_items)
        )
        by_user, by_item = (1 / np.sqrt(np.maximum(np.asarray(had.sum(axis=a)).ravel(), 1)) for a in (1, 0))
        normed = diags(by_user) @ had @ diags(by_item)
        k = min(settings.width, min(normed.shape) - 1)
        _, values, right = svds(normed, k=k, v0=np.ones(min(normed.shape)))
        found = right.T * np.sqrt(values)
        length = np.linalg.norm(found, axis=1, keepdims=True)
        vectors[:, :k] += found / np.maximum(length, 1e-9) * _FIRST_SCALE * settings.width**0.5
    return vectors.astype(np.float32)
