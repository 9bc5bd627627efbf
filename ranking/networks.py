"""The networks of the deep rung, user towers and rankers, as PyTorch modules; imported by training and export only."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn
from torch.nn import functional

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from core.types import Scores

TIME_BUCKETS = 30
CLIP = 4.0
"""Standardised inputs of the ranker beyond this are cut: what training never saw must not decide."""
INTERACTION_NAMES = ("tower_dot", "tower_user_length", "tower_item_length", "tower_cosine")
INTERACTIONS = len(INTERACTION_NAMES)
CROSS_RANK = 16


class Attention(nn.Module):
    """Multi-head attention with a learned bias for how far apart two events are, in places and in time.

    The relative bias replaces position embeddings (Shaw et al. 2018; the logarithmic time buckets
    follow HSTU, Zhai et al. 2024), so that it does not matter where in a window an event lies.
    """

    def __init__(self, width: int, heads: int, dropout: float, context_length: int) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.query = nn.Linear(width, width)
        self.key_value = nn.Linear(width, 2 * width)
        self.out = nn.Linear(width, width)
        self.place_bias = nn.Parameter(torch.zeros(heads, context_length))
        self.time_bias = nn.Parameter(torch.zeros(heads, TIME_BUCKETS))

    def forward(self, queried: Tensor, known: Tensor, place: Tensor, bucket: Tensor, allowed: Tensor) -> Tensor:
        """[b, q, d] what each of ``queried`` [b, q, d] gathers from ``known`` [b, l, d].

        Args:
            queried: the newest events, or all.
            known: all events.
            place: [q, l] events between the two, int64.
            bucket: [b, q, l] ``time_bucket`` of the seconds between the two.
            allowed: [b, q, l] whether one may look at the other.
        """
        b, q, d = queried.shape
        length = known.shape[1]
        split = (self.heads, d // self.heads)
        query = self.query(queried).reshape(b, q, *split).transpose(1, 2)
        key, value = self.key_value(known).reshape(b, length, 2, *split).permute(2, 0, 3, 1, 4)
        bias = self.place_bias[:, place] + self.time_bias[:, bucket].transpose(0, 1)
        bias = bias.masked_fill(~allowed[:, None], -1e9)
        weight = torch.softmax(query @ key.transpose(2, 3) / split[1] ** 0.5 + bias, dim=-1)
        weight = functional.dropout(weight, self.dropout, self.training)
        gathered: Tensor = self.out((weight @ value).transpose(1, 2).reshape(b, q, d))
        return gathered


class Block(nn.Module):
    """A transformer block, normalised before each half."""

    def __init__(self, width: int, heads: int, dropout: float, context_length: int) -> None:
        super().__init__()
        self.attend_norm, self.feed_norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = Attention(width, heads, dropout, context_length)
        self.feed = nn.Sequential(
            nn.Linear(width, 2 * width), nn.GELU(), nn.Dropout(dropout), nn.Linear(2 * width, width)
        )
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, place: Tensor, bucket: Tensor, allowed: Tensor) -> Tensor:
        """[b, q, d] from [b, l, d]: the first q events, q given by ``place`` [q, l]."""
        queried = x[:, : place.shape[0]]
        normed = self.attend_norm(x)
        x = queried + self.dropout(self.attention(normed[:, : place.shape[0]], normed, place, bucket, allowed))
        fed: Tensor = x + self.dropout(self.feed(self.feed_norm(x)))
        return fed


class UserTower(nn.Module):
    """A causal transformer over the newest events (the class of SASRec, Kang & McAuley 2018).

    Events come newest first. Each one sees itself and what is older, so every place of a window is a
    training example. A user vector's dot product with an item vector is the score.

    Attributes:
        context_length: newest events of a history that it reads.
    """

    def __init__(
        self,
        n_types: int,
        width: int,
        *,
        blocks: int = 1,
        heads: int = 2,
        dropout: float = 0.2,
        context_length: int = 50,
    ) -> None:
        super().__init__()
        self.context_length = context_length
        self.types = nn.Embedding(n_types + 1, width)
        self.enter = nn.LayerNorm(width)
        self.dropout = nn.Dropout(dropout)
        self.blocks = nn.ModuleList(Block(width, heads, dropout, context_length) for _ in range(blocks))
        self.leave = nn.LayerNorm(width)
        nn.init.normal_(self.types.weight, std=0.02)

    def forward(self, vectors: Tensor, types: Tensor, ages: Tensor, known: Tensor, newest_only: bool = False) -> Tensor:
        """[b, q, d] user vectors as of each event; q = 1 with ``newest_only``, l without.

        Args:
            vectors: [b, l, d] item vectors, newest first.
            types: [b, l] int64 event types.
            ages: [b, l] seconds, larger = older; only differences matter.
            known: [b, l] False where a window is filled up.
            newest_only: compute no more than the first place needs.
        """
        x = self.dropout(self.enter(vectors) + self.types(types))
        at = torch.arange(vectors.shape[1], device=vectors.device)
        distance = at[None] - at[:, None]
        place = distance.clamp(min=0)
        bucket = time_bucket(ages[:, None, :] - ages[:, :, None])
        allowed = (distance >= 0)[None] & known[:, None, :]
        for i, block in enumerate(self.blocks):
            if newest_only and i + 1 == len(self.blocks):
                place, bucket, allowed = place[:1], bucket[:, :1], allowed[:, :1]
            x = block(x, place, bucket, allowed)
        left: Tensor = self.leave(x)
        return left


class SetTower(nn.Module):
    """The sum of the history's item vectors over the root of its length; takes what ``UserTower`` takes.

    Attributes:
        context_length: newest events of a history that it reads.
    """

    def __init__(self, n_types: int, *, context_length: int) -> None:
        super().__init__()
        self.context_length = context_length
        self.types = nn.Embedding(n_types + 1, 1)
        nn.init.ones_(self.types.weight)

    def forward(self, vectors: Tensor, types: Tensor, ages: Tensor, known: Tensor, newest_only: bool = True) -> Tensor:
        """[b, 1, d] user vectors as of the newest event; see ``UserTower.forward``, ages mean nothing here."""
        del ages, newest_only
        weight = self.types(types) * known[..., None]
        total = (vectors * weight).sum(dim=1, keepdim=True)
        user: Tensor = total / weight.sum(dim=1, keepdim=True).clamp(min=1).sqrt()
        return user


class ServedTower(nn.Module):
    """The user tower as serving runs it: one user, the newest place."""

    def __init__(self, tower: UserTower | SetTower) -> None:
        super().__init__()
        self.tower = tower

    def forward(self, history_vectors: Tensor, history_types: Tensor, history_ages: Tensor) -> Tensor:
        """[d] from [h, d], [h] and [h], newest first; events beyond the tower's context length are not looked at."""
        context_length = self.tower.context_length
        vectors, types, ages = (
            history_vectors[:context_length],
            history_types[:context_length],
            history_ages[:context_length],
        )
        types = torch.where(types < self.tower.types.num_embeddings, types, 0)
        known = torch.ones_like(types, dtype=torch.bool)
        vector: Tensor = self.tower(vectors[None], types[None], ages[None], known[None], newest_only=True)[0, 0]
        return vector


class Ranker(nn.Module):
    """Crosses and a multi-layer perceptron over features and the products of user and item vector.

    One low-rank cross layer (DCN v2, Wang et al. 2021) multiplies inputs with each other before the perceptron.
    The vectors enter by rotation-invariant figures alone (dot product, lengths, cosine), because the
    ranker is trained with the vectors of an earlier cut and used with those of the release.
    """

    def __init__(self, n_features: int, hidden: Sequence[int] = (128, 64), dropout: float = 0.1) -> None:
        super().__init__()
        n = n_features + INTERACTIONS
        self.register_buffer("mean", torch.zeros(n))
        self.register_buffer("scale", torch.ones(n))
        self.narrow, self.cross = nn.Linear(n, CROSS_RANK, bias=False), nn.Linear(CROSS_RANK, n)
        layers: list[nn.Module] = []
        for before, after in zip([n, *hidden], hidden, strict=False):
            layers += [nn.Linear(before, after), nn.ReLU(), nn.Dropout(dropout)]
        self.deep = nn.Sequential(*layers)
        self.out = nn.Linear(hidden[-1], 1)
        self.wide = nn.Linear(n, 1)
        self.mean: Tensor
        self.scale: Tensor

    def forward(self, inputs: Tensor) -> Tensor:
        """[..., n] scores from features and interactions side by side, [..., n, F + 4]."""
        x = ((inputs - self.mean) * self.scale).clamp(-CLIP, CLIP)
        crossed = x + x * self.cross(self.narrow(x))
        scores: Tensor = (self.out(self.deep(crossed)) + self.wide(x)).squeeze(-1)
        return scores


class Ensemble(nn.Module):
    """What serving runs: the mean of several rankers, mixed with single inputs (prior, tower score), and a calibration.

    Where the weights come from: ``ranking.model_prior_mix``. The calibration turns the sum into the probability that the user takes
    the item: a slope, an offset and weights of inputs that are the same for all rows of a case, so that it changes
    no order.
    """

    def __init__(self, rankers: Sequence[Ranker], n_features: int) -> None:
        """Rankers with a weight of one, no weights of inputs and no calibration beyond the sigmoid."""
        super().__init__()
        n = n_features + INTERACTIONS
        self.rankers = nn.ModuleList(rankers)
        for name, value in {
            "model_weight": torch.ones(()),
            "input_weights": torch.zeros(n),
            "slope": torch.ones(()),
            "offset": torch.zeros(()),
            "context": torch.zeros(n),
        }.items():
            self.register_buffer(name, value)
        self.model_weight: Tensor
        self.input_weights: Tensor
        self.slope: Tensor
        self.offset: Tensor
        self.context: Tensor

    def forward(self, user_vector: Tensor, item_vectors: Tensor, features: Tensor) -> Tensor:
        """[n] probabilities from [d], [n, d] and [n, F]."""
        inputs = torch.cat([features, interactions(user_vector, item_vectors)], dim=-1)
        return torch.sigmoid(self.slope * self.order(inputs) + inputs @ self.context + self.offset)

    def order(self, inputs: Tensor) -> Tensor:
        """[..., n] the sum that decides the order, before calibration, from [..., n, F + 4]."""
        scores = torch.stack([ranker(inputs) for ranker in self.rankers]).mean(dim=0)
        return self.model_weight * scores + inputs @ self.input_weights


def time_bucket(seconds: Tensor) -> Tensor:
    """Bucket of a difference in time, int64: 0 for none, then one for each power of two."""
    return torch.log2(seconds.clamp(min=0) + 1).clamp(max=TIME_BUCKETS - 1).ceil().long()


def interactions(user_vector: Tensor, item_vectors: Tensor) -> Tensor:
    """[..., n, 4] dot product, both lengths, cosine (0 where a vector is zero) of [..., d] and [..., n, d]."""
    dot = (item_vectors @ user_vector[..., None]).squeeze(-1)
    item = (item_vectors * item_vectors).sum(dim=-1).sqrt()
    user = (user_vector * user_vector).sum(dim=-1, keepdim=True).sqrt().expand_as(dot)
    return torch.stack([dot, user, item, dot / (user * item + 1e-6)], dim=-1)


@torch.no_grad()
def predict(network: Ranker | Ensemble, inputs: Scores) -> Scores:
    """[n] scores, before calibration, of ``RankingData.inputs`` [n, F + 4]."""
    network.eval()
    run = network.order if isinstance(network, Ensemble) else network
    parts = [run(torch.from_numpy(inputs[i : i + 65536])).numpy() for i in range(0, len(inputs), 65536)]
    return np.concatenate(parts) if parts else np.empty(0, np.float32)
