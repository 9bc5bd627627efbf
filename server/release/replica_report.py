"""What a replica says of itself: which bundles it has loaded, which it refused, from which it answers."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING

from core.release_values import is_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

REPORT_FORMAT = 1


@dataclass(frozen=True, slots=True)
class ReplicaReport:
    """One replica, as it was a moment ago.

    Attributes:
        replica_id: unique among the replicas of a namespace, and kept when a worker is replaced.

        host: where it runs.

        revision: of the release document that it goes by; 0 where it has seen none.

        loaded: versions that each of its workers can answer from.

        rejected: version -> why it could not be loaded, or is quarantined.

        workers_wanted: workers that there should be.

        workers_ready: workers that answer.

        answers_from: the version that is live on this replica; None where no worker answers.

        at_s: when it was received, by the store's clock, seconds since the epoch.

        problem: why this report cannot be read; nothing else is known of the replica then. Empty for a readable one.
    """

    replica_id: str
    host: str
    revision: int = 0
    loaded: tuple[str, ...] = ()
    rejected: Mapping[str, str] = field(default_factory=dict)
    workers_wanted: int = 1
    workers_ready: int = 0
    answers_from: str | None = None
    at_s: float = 0.0
    problem: str = ""

    def missing(self, version: str) -> str | None:
        """Why this replica could not give a version to users; None where it could."""
        if self.problem:
            return self.problem
        if version in self.rejected:
            return f"{version} was refused: {self.rejected[version]}"
        if version not in self.loaded:
            return f"{version} is not loaded yet (loaded: {', '.join(self.loaded) or 'nothing'})"
        return None if self.workers_ready else f"none of its {self.workers_wanted} workers is ready"

    def to_json(self) -> str:
        """The report as it is sent; the store adds the time."""
        sent = {name: value for name, value in asdict(self).items() if name not in {"replica_id", "at_s", "problem"}}
        return json.dumps({"format_version": REPORT_FORMAT, **sent}, allow_nan=False)

    @classmethod
    def from_json(cls, replica_id: str, text: str | bytes, at_s: float) -> ReplicaReport:
        """The report from its stored form; one that cannot be read says so in ``problem``, since its replica is there."""
        try:
            raw = json.loads(text)
            found = raw.pop("format_version")
            if found != REPORT_FORMAT:
                return cls._unreadable(replica_id, at_s, f"has format_version {found!r}, not {REPORT_FORMAT}")
            if not isinstance(raw["loaded"], list):
                return cls._unreadable(replica_id, at_s, "has a field loaded that is no list")
            report = cls(replica_id, **raw | {"loaded": tuple(raw["loaded"])})
            report._check()
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            return cls._unreadable(replica_id, at_s, f"is not readable ({type(error).__name__}: {error})")
        return replace(report, at_s=at_s)

    @classmethod
    def _unreadable(cls, replica_id: str, at_s: float, why: str) -> ReplicaReport:
        return cls(replica_id, "", at_s=at_s, problem=f"its report {why}; update the older of the two programs")

    def _check(self) -> None:
        """Hold every field against its type and bounds.

        Raises:
            TypeError, ValueError: names the field.
            AttributeError: ``rejected`` is no mapping.
        """
        texts = (self.host, self.answers_from or "", *self.loaded, *self.rejected.keys(), *self.rejected.values())
        if not all(is_text(text) for text in texts):
            raise TypeError("host, answers_from, loaded or rejected has what is no text")
        for name in ("revision", "workers_wanted", "workers_ready"):
            value = getattr(self, name)
            if type(value) is not int or not 0 <= value < 2**31:
                raise ValueError(f"{name} is {value!r}")


def not_ready(versions: Iterable[str], replicas: Iterable[ReplicaReport]) -> dict[str, str]:
    """Replicas that could not give each of some versions to users -> why."""
    wanted = sorted(versions)
    found = {}
    for replica in replicas:
        why = next((why for version in wanted if (why := replica.missing(version)) is not None), None)
        if why is not None:
            found[replica.replica_id] = why
    return found
