"""One training of the user tower: networks, optimiser, data and the loss."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from ranking.networks import MAX_EVENTS, UserTower
from ranking.sequences import SECONDS_PER_DAY
from ranking.windows import TrendGrid, Windows, newest_first

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from torch import Tensor

    from core.types import Rows, Vector
    from ranking.sequences import Sequences

_FULL_SOFTMAX_ITEMS = 20_000
_FIRST_SCALE = 0.02


@dataclass(frozen=True)
class TowerSettings:
    """How a tower is built and trained.

    Attributes:
        width: of user and item vectors.

        blocks: transformer blocks.

        dropout: share of activations dropped while training.

        horizon_days: an answer is right if it comes this soon; None = in the user's next step.

        new_only: only items the user never had before are right answers.

        answers: right answers drawn for each place and epoch.

        trend_half_life_days: the tower learns what a user likes *beyond* the trend of the day, whose
            logarithm is added to every score in training; None = it learns all of it.

        recency_half_life_days: places count half for every so many days of age; None = all the same.

        spectral: item vectors start from a singular value decomposition of who had what, not from noise.

        stride: events between the ends of neighbouring windows.

        batch: windows of a step.

        rate: learning rate.

        item_rate: learning rate of item vectors as a multiple of ``rate``.

        decay: weight decay.

        negatives: sampled items per step where the catalogue is above 20,000 items.
    """

    width: int = 64
    blocks: int = 1
    heads: int = 2
    dropout: float = 0.2
    horizon_days: float | None = None
    new_only: bool = False
    answers: int = 1
    trend_half_life_days: float | None = None
    recency_half_life_days: float | None = None
    spectral: bool = True
    stride: int = 25
    batch: int = 128
    rate: float = 2e-3
    item_rate: float = 1.0
    decay: float = 0.01
    negatives: int = 4096


@dataclass(frozen=True)
class TowerQuestions:
    """Held-out questions for early stopping.

    Attributes:
        sequences: histories, all events before each question and more.

        users: [q] user of each question.

        ends: [q] index after the last event that may be seen.

        relevant: [q] right answers; unique rows.
    """

    sequences: Sequences
    users: NDArray[np.int64]
    ends: NDArray[np.int64]
    relevant: Sequence[Rows]


class TowerRun:
    """Networks, optimiser and data of one training."""

    def __init__(
        self,
        sequences: Sequences,
        n_items: int,
        n_types: int,
        *,
        settings: TowerSettings,
        windows: Windows,
        device: torch.device,
        seed: int,
    ) -> None:
        """Make everything from ``seed``."""
        torch.manual_seed(seed)
        rng = np.random.default_rng(seed)
        self.sequences, self.settings, self.windows, self.device, self.rng = sequences, settings, windows, device, rng
        self.tower = UserTower(
            n_types, settings.width, blocks=settings.blocks, heads=settings.heads, dropout=settings.dropout
        ).to(device)
        self.items = nn.Parameter(torch.from_numpy(_first_vectors(sequences, n_items, settings, rng)).to(device))
        self.trained = np.bincount(sequences.items, minlength=n_items) > 0
        self.optimiser = torch.optim.AdamW(
            [
                {"params": self.tower.parameters(), "rate": settings.rate},
                {"params": [self.items], "rate": settings.rate * settings.item_rate},
            ],
            weight_decay=settings.decay,
            fused=True,
        )
        self.sampled = n_items > _FULL_SOFTMAX_ITEMS
        self.step = 0
        if self.sampled:
            share = np.bincount(sequences.items, minlength=n_items) ** 0.75
            self.share = share / share.sum()
        self._trend: TrendGrid | None = None
        if settings.trend_half_life_days is not None:
            self._trend = TrendGrid(sequences, n_items, settings.trend_half_life_days, first_only=settings.new_only)
        newest = sequences.times.max()
        age = (newest - sequences.times[windows.place]) / SECONDS_PER_DAY
        half = settings.recency_half_life_days
        self.place_weight = np.exp2(-age / half) if half else np.ones(len(age))
        self.place_weight = (self.place_weight / self.place_weight.mean()).astype(np.float32)

    def start_from(self, tower: UserTower, item_vectors: Vector) -> None:
        """Take over weights; items whose vector is zero keep their random one."""
        self.tower.load_state_dict(tower.state_dict())
        known = np.flatnonzero(item_vectors.any(axis=1))
        with torch.no_grad():
            self.items[torch.from_numpy(known)] = torch.from_numpy(item_vectors[known]).to(self.device)

    def weights(self) -> tuple[dict[str, Tensor], Tensor]:
        """A copy of everything that is trained."""
        return {k: v.clone() for k, v in self.tower.state_dict().items()}, self.items.detach().clone()

    def restore(self, weights: tuple[dict[str, Tensor], Tensor]) -> None:
        """Go back to a copy."""
        self.tower.load_state_dict(weights[0])
        with torch.no_grad():
            self.items.copy_(weights[1])

    def item_vectors(self) -> Vector:
        """[items, d] zeros where an item was never seen."""
        vectors = self.items.detach().cpu().numpy().astype(np.float32)
        return np.where(self.trained[:, None], vectors, np.float32(0))

    def epoch(self, of_epochs: int) -> float:
        """One pass of at most ``of_epochs``; the mean loss."""
        self.tower.train()
        order = self.rng.permutation(len(self.windows))
        batches = [order[i : i + self.settings.batch] for i in range(0, len(order), self.settings.batch)]
        total_steps = of_epochs * len(batches)
        total = 0.0
        for chosen in batches:
            for group in self.optimiser.param_groups:
                group["lr"] = group["rate"] * _schedule(self.step / total_steps, self.step)
            self.step += 1
            loss = self._loss(chosen)
            self.optimiser.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call] # torch ships it untyped
            nn.utils.clip_grad_norm_(self.tower.parameters(), 1.0)
            self.optimiser.step()
            total += float(loss.detach())
        return total / len(batches)

    def _loss(self, chosen: NDArray[np.int64]) -> Tensor:
        event, known, window, position, asked = self.windows.batch(chosen, MAX_EVENTS)
        users = self._encode(self.sequences, event, known, newest_only=False)[window, position]
        answers = torch.from_numpy(
            self.sequences.items[self.windows.draw(asked, self.settings.answers, self.rng)].astype(np.int64)
        ).to(self.device)
        weight = torch.from_numpy(self.place_weight[asked]).to(self.device)
        if self.sampled:
            each = self._sampled_loss(users, answers)
        else:
            logits = users @ self.items.T
            if self._trend is not None:
                trend = self._trend.at(self.sequences.times[self.windows.place[asked]])
                logits = logits + torch.from_numpy(trend).to(self.device)
            if self.settings.new_only:
                logits = logits.scatter_add(1, *self._past(event[window], known[window], position))
            each = torch.logsumexp(logits, dim=1) - logits.gather(1, answers).mean(dim=1)
        return (each * weight).mean()

    def _past(
        self, event: NDArray[np.int64], known: NDArray[np.bool_], position: NDArray[np.int64]
    ) -> tuple[Tensor, Tensor]:
        """Index and value [p, l] that take out of the logits what the user had before; it is no wrong answer."""
        past = known & (np.arange(event.shape[1]) >= position[:, None])
        value = np.where(past, np.float32(-1e4), np.float32(0))
        index = self.sequences.items[event].astype(np.int64)
        return torch.from_numpy(index).to(self.device), torch.from_numpy(value).to(self.device)

    def _sampled_loss(self, users: Tensor, answers: Tensor) -> Tensor:
        """Softmax over sampled items, corrected by how often each is sampled (Bengio & Senecal 2008)."""
        k = self.settings.negatives
        drawn = self.rng.choice(len(self.share), k, p=self.share)
        log_q = torch.from_numpy(np.log(self.share * k + 1e-12).astype(np.float32)).to(self.device)
        negatives = torch.from_numpy(drawn).to(self.device)
        against = users @ self.items[negatives].T - log_q[negatives]
        right = (users[:, None] * self.items[answers]).sum(dim=2) - log_q[answers]
        same = answers[:, :, None] == negatives
        others = against[:, None].expand(-1, answers.shape[1], -1).masked_fill(same, -1e9)
        return (torch.logaddexp(torch.logsumexp(others, dim=2), right) - right).mean(dim=1)

    def _encode(
        self, sequences: Sequences, event: NDArray[np.int64], known: NDArray[np.bool_], *, newest_only: bool
    ) -> Tensor:
        ages = (sequences.times[event[:, :1]] - sequences.times[event]).astype(np.float32)
        items = torch.from_numpy(sequences.items[event].astype(np.int64)).to(self.device)
        types = torch.from_numpy(sequences.types[event].astype(np.int64)).to(self.device)
        vectors = functional.embedding(items, self.items)
        at = torch.from_numpy(ages).to(self.device)
        found: Tensor = self.tower(vectors, types, at, torch.from_numpy(known).to(self.device), newest_only=newest_only)
        return found

    @torch.no_grad()
    def ndcg(self, valid: TowerQuestions, k: int = 20) -> float:
        """Mean NDCG@k over the whole catalogue; a user's past items are left out where ``new_only``."""
        self.tower.eval()
        start = valid.sequences.ptr[valid.users]
        values = []
        for i in range(0, len(valid.users), 512):
            part = slice(i, i + 512)
            event, known = newest_first(
                np.maximum(start[part], valid.ends[part] - MAX_EVENTS), valid.ends[part], MAX_EVENTS
            )
            scores = self._encode(valid.sequences, event, known, newest_only=True)[:, 0] @ self.items.T
            if self._trend is not None:
                scores = scores + torch.from_numpy(self._trend.newest).to(self.device)
            found = scores.cpu().numpy()
            found[:, ~self.trained] = -np.inf
            for j, (s, e) in enumerate(zip(start[part], valid.ends[part], strict=True)):
                if self.settings.new_only:
                    found[j, valid.sequences.items[s:e]] = -np.inf
                values.append(_ndcg(found[j], valid.relevant[i + j], k))
        return float(np.mean(values))


def _first_vectors(sequences: Sequences, n_items: int, settings: TowerSettings, rng: np.random.Generator) -> Vector:
    """[items, d] small random vectors, or the spectrum of who had what (as in GF-CF, Shen et al. 2021)."""
    vectors = rng.normal(scale=_FIRST_SCALE, size=(n_items, settings.width))
    if settings.spectral:
        from scipy.sparse import csr_matrix, diags
        from scipy.sparse.linalg import svds

        had = csr_matrix(
            (np.ones(int(sequences.first.sum())), (sequences.users[sequences.first], sequences.items[sequences.first])),
            shape=(sequences.n_users, n_items),
        )
        by_user, by_item = (1 / np.sqrt(np.maximum(np.asarray(had.sum(axis=a)).ravel(), 1)) for a in (1, 0))
        normed = diags(by_user) @ had @ diags(by_item)
        k = min(settings.width, min(normed.shape) - 1)
        _, values, right = svds(normed, k=k, v0=np.ones(min(normed.shape)))
        found = right.T * np.sqrt(values)
        length = np.linalg.norm(found, axis=1, keepdims=True)
        vectors[:, :k] += found / np.maximum(length, 1e-9) * _FIRST_SCALE * settings.width**0.5
    return vectors.astype(np.float32)


def _ndcg(scores: NDArray[Any], relevant: Rows, k: int) -> float:
    top = np.argpartition(-scores, min(k, len(scores) - 1))[:k]
    top = top[np.argsort(-scores[top], kind="stable")]
    gain = 1 / np.log2(np.arange(2, k + 2))
    hit = np.isin(top, relevant)
    return float((hit * gain[: len(hit)]).sum() / gain[: min(len(relevant), k)].sum())


def _schedule(done: float, step: int) -> float:
    """Warm up over 50 steps, then fall along a cosine to a tenth."""
    return min(1.0, (step + 1) / 50) * (0.55 + 0.45 * math.cos(math.pi * min(done, 1.0)))
