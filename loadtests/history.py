"""What came of every call of a run, written down for whoever asks later."""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Self

import grpc
import numpy as np

from loadtests.plan import Span, to_json

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

CRITICALITIES = ("user", "prefetch", "batch")
OK: int = grpc.StatusCode.OK.value[0]
SHED: int = grpc.StatusCode.RESOURCE_EXHAUSTED.value[0]
COLUMNS: Mapping[str, Any] = {
    "meant_s": np.float64,
    "late_ms": np.float32,
    "took_ms": np.float32,
    "status": np.int8,
    "tier": np.int8,
    "reason": np.int8,
    "who": np.int8,
    "known": np.bool_,
}


@dataclass(frozen=True)
class History:
    """Calls in the order of their ends; every column is [n].

    Attributes:
        meant_s: when the call was meant to be sent, seconds since the run began.

        late_ms: how much later it was sent, because the caller was busy.

        took_ms: from the moment meant to the answer or failure.

        status: gRPC status code.

        tier: number of the tier that answered (``core.types.Tier``); 0 for none.

        reason: why DEEP did not answer (``terrace.v1.Reason``); 0 where it did, or where nobody did.

        who: place in ``CRITICALITIES``.

        known: whether the user is one that the store knows.
    """

    meant_s: NDArray[np.float64]
    late_ms: NDArray[np.float32]
    took_ms: NDArray[np.float32]
    status: NDArray[np.int8]
    tier: NDArray[np.int8]
    reason: NDArray[np.int8]
    who: NDArray[np.int8]
    known: NDArray[np.bool_]

    @classmethod
    def of(cls, calls: Sequence[tuple[Any, ...]]) -> Self:
        """From one tuple a call, in the order of ``COLUMNS``."""
        columns = zip(*calls, strict=True) if calls else [()] * len(COLUMNS)
        pairs = zip(COLUMNS.items(), columns, strict=True)
        return cls(**{name: np.array(column, kind) for (name, kind), column in pairs})

    def __len__(self) -> int:
        """Calls."""
        return len(self.meant_s)

    @property
    def answered(self) -> NDArray[np.bool_]:
        """[n] whether an answer came."""
        return np.equal(self.status, OK)

    @property
    def shed(self) -> NDArray[np.bool_]:
        """[n] whether the server refused because it had too much to do."""
        return np.equal(self.status, SHED)

    def where(self, mask: NDArray[np.bool_]) -> History:
        """Only the calls of ``mask`` [n]."""
        return History(**{column.name: getattr(self, column.name)[mask] for column in fields(self)})

    def between(self, start_s: float, end_s: float) -> History:
        """Calls meant to be sent in this time."""
        return self.where((self.meant_s >= start_s) & (self.meant_s < end_s))

    def of_criticality(self, *names: str) -> History:
        """Calls of these criticalities; of all where none is named."""
        return self.where(np.isin(self.who, [CRITICALITIES.index(name) for name in names])) if names else self

    def in_time(self, deadline_ms: float) -> NDArray[np.bool_]:
        """[n] whether an answer came within the deadline."""
        return self.answered & (self.took_ms <= deadline_ms)


@dataclass(frozen=True)
class Run:
    """One scenario as it was run.

    Attributes:
        capacity: DEEP answers a second in time that callers in a closed loop got before, with nothing broken.

        caller_busy: [seconds] share of a core that the calling process used in each second.

        conditions: where the figures come from.
    """

    scenario: str
    deadline_ms: float
    capacity: float
    spans: tuple[Span, ...]
    history: History
    caller_busy: NDArray[np.float64]
    conditions: Mapping[str, Any]

    def span(self, phase: str) -> Span:
        """The phase of that name."""
        return next(span for span in self.spans if span.name == phase)

    def during(self, phase: str, skip_s: float = 0.0) -> History:
        """Calls of a phase, without its first ``skip_s`` seconds."""
        span = self.span(phase)
        return self.history.between(span.start_s + skip_s, span.end_s)

    def save(self, path: Path) -> None:
        """Write an ``.npz`` file."""
        about = {
            "scenario": self.scenario,
            "deadline_ms": self.deadline_ms,
            "capacity": self.capacity,
            "spans": to_json(self.spans),
            "conditions": dict(self.conditions),
        }
        columns = {name: getattr(self.history, name) for name in COLUMNS}
        np.savez_compressed(path, about=json.dumps(about), caller_busy=self.caller_busy, **columns)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read what ``save`` wrote."""
        with np.load(path, allow_pickle=False) as arrays:
            about = json.loads(str(arrays["about"]))
            about["spans"] = tuple(Span(**span) for span in about["spans"])
            history = History(**{name: arrays[name] for name in COLUMNS})
            return cls(**about, history=history, caller_busy=arrays["caller_busy"])
