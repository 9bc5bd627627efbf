"""Which bundles a deployment answers from: two slots, the pointer to the live one, and the candidate's share of users.

The document is one JSON value (in Redis, and a copy beside every replica). Every change makes a new one with the next
revision, which is written only where the revision before it still stands, so that of two operators the second is told.
Changes are functions from a document to the next; they look at nothing but their arguments.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

RELEASE_FORMAT = 1


class ReleaseError(Exception):
    """A release cannot be changed, or its document not be read; the message says what to do."""


class Slot(StrEnum):
    """Where a bundle stands; the names mean nothing but "one" and "the other"."""

    BLUE = "blue"
    GREEN = "green"

    @property
    def other(self) -> Slot:
        """The slot that this one is not."""
        return Slot.GREEN if self is Slot.BLUE else Slot.BLUE


@dataclass(frozen=True)
class Release:
    """A release document.

    Attributes:
        live: the slot that answers whoever is not given the candidate.

        slots: the version in each slot; the live one always has one.

        candidate_share: part of the users who are answered from the slot that is not live, 0 to 1.

        shadow_share: part of the calls that the candidate answers too, off the request's path, 0 to 1.

        previous: the version that was live before the last promotion; None before the first one.

        frozen: version -> why it must not be given to users.

        revision: number of changes so far, from 1.

        changed_at: of the last change, ISO 8601, UTC.

        changed_by: who made it.

        note: what it was and why.
    """

    live: Slot
    slots: Mapping[Slot, str | None]
    candidate_share: float = 0.0
    shadow_share: float = 0.0
    previous: str | None = None
    frozen: Mapping[str, str] = field(default_factory=dict)
    revision: int = 1
    changed_at: str = ""
    changed_by: str = ""
    note: str = ""
    format_version: int = RELEASE_FORMAT

    @classmethod
    def of(cls, version: str) -> Release:
        """The first document of a deployment: one version, live."""
        return cls(Slot.BLUE, {Slot.BLUE: version, Slot.GREEN: None}, note=f"{version} is live, the first one")

    @property
    def live_version(self) -> str:
        """The version that is live."""
        version = self.slots[self.live]
        assert version is not None  # noqa: S101 - holds for every document that was read
        return version

    @property
    def candidate(self) -> str | None:
        """The version in the other slot: staged, or live before; None where that is empty."""
        return self.slots[self.live.other]

    @property
    def versions(self) -> frozenset[str]:
        """What a replica must have loaded."""
        return frozenset(version for version in self.slots.values() if version is not None)

    def version_for(self, key: str) -> str:
        """The version that answers a user, or whatever else a call is about.

        A user who is given the candidate at one share is given it at every larger one, and after it was promoted.
        """
        if self.candidate_share and self.candidate and _part(self.candidate, key) < self.candidate_share:
            return self.candidate
        return self.live_version

    def stage(self, version: str, share: float = 0.0, *, force: bool = False) -> Release:
        """Put a version into the slot that is not live.

        Raises:
            ReleaseError: it is live already, or frozen and not forced, or the share is none.
        """
        if version == self.live_version:
            raise ReleaseError(f"{version} is live already; stage another version")
        self._check_frozen(version, force=force)
        return self._next(
            f"{version} staged in {self.live.other} at {share:.2%}",
            slots={self.live: self.live_version, self.live.other: version},
            candidate_share=_share(share),
        )

    def with_share(self, share: float, *, force: bool = False) -> Release:
        """Give the candidate another share of the users; 0 takes it from all of them.

        Raises:
            ReleaseError: nothing is staged, or it is frozen and not forced, or the share is none.
        """
        candidate = self._staged()
        if share > 0:
            self._check_frozen(candidate, force=force)
        return self._next(f"{candidate} at {share:.2%}", candidate_share=_share(share))

    def with_shadow(self, share: float) -> Release:
        """Let the candidate answer another part of the calls too, unseen.

        Raises:
            ReleaseError: nothing is staged, or the share is none.
        """
        return self._next(f"{self._staged()} shadows {share:.2%} of the calls", shadow_share=_share(share))

    def promote(self, *, force: bool = False) -> Release:
        """Make the candidate live; what was live stays in its slot, to roll back to.

        Raises:
            ReleaseError: nothing is staged, or it is frozen and not forced.
        """
        candidate = self._staged()
        self._check_frozen(candidate, force=force)
        return self._next(
            f"{candidate} promoted, {self.live_version} before",
            live=self.live.other,
            candidate_share=0.0,
            shadow_share=0.0,
            previous=self.live_version,
        )

    def rollback(self, reason: str = "") -> Release:
        """Take the candidate from its users; where none has any, make live what was live before.

        Raises:
            ReleaseError: there is nothing to go back to.
        """
        why = f": {reason}" if reason else ""
        if self.candidate is not None and (self.candidate_share or self.shadow_share):
            return self._next(f"{self.candidate} rolled back{why}", candidate_share=0.0, shadow_share=0.0)
        if self.candidate is None or self.candidate != self.previous:
            raise ReleaseError(
                f"nothing to roll back: no share of the users is given a candidate, and what was live before "
                f"{self.live_version} is in no slot any more. Stage the version that you want"
            )
        return self._next(
            f"{self.live_version} rolled back to {self.candidate}{why}",
            live=self.live.other,
            previous=self.live_version,
        )

    def freeze(self, version: str, reason: str) -> Release:
        """Never give a version to users again unless forced; takes it from those it has, where it is the candidate."""
        changed: dict[str, Any] = {"frozen": {**self.frozen, version: reason}}
        if version == self.candidate:
            changed |= {"candidate_share": 0.0, "shadow_share": 0.0}
        return self._next(f"{version} frozen: {reason}", **changed)

    def unfreeze(self, version: str) -> Release:
        """Let a version be given to users again.

        Raises:
            ReleaseError: it is not frozen.
        """
        if version not in self.frozen:
            raise ReleaseError(f"{version} is not frozen; `terrace release status` names the versions that are")
        frozen = {name: why for name, why in self.frozen.items() if name != version}
        return self._next(f"{version} no longer frozen", frozen=frozen)

    def to_json(self) -> str:
        """The document as it is stored."""
        return json.dumps(asdict(self), ensure_ascii=False, allow_nan=False)

    @classmethod
    def from_json(cls, text: str | bytes) -> Release:
        """The document from its stored form.

        Raises:
            ReleaseError: it is none, or of another format.
        """
        try:
            raw = json.loads(text)
            found = raw["format_version"]
        except (ValueError, KeyError, TypeError) as error:
            raise ReleaseError(f"the release document is not readable ({error}). {_REPAIR}") from error
        if found != RELEASE_FORMAT:
            raise ReleaseError(
                f"the release document has format_version {found}, this program reads {RELEASE_FORMAT}. "
                "Change it with the version that wrote it, or update this one"
            )
        try:
            slots = {slot: raw["slots"][slot] for slot in Slot}
            document = cls(**raw | {"live": Slot(raw["live"]), "slots": slots})
            document.live_version  # noqa: B018 - asserts
            document._check()
        except (KeyError, TypeError, ValueError, AssertionError) as error:
            raise ReleaseError(f"a field of the release document is missing or wrong ({error}). {_REPAIR}") from error
        return document

    def _check(self) -> None:
        texts = [v for v in (*self.slots.values(), *self.frozen, *self.frozen.values(), self.previous) if v is not None]
        if not all(isinstance(text, str) for text in texts) or not isinstance(self.revision, int):
            raise TypeError("a version is no text, or the revision no number")
        for share in (self.candidate_share, self.shadow_share):
            if not 0 <= share <= 1:
                raise ValueError(f"a share is {share}")

    def _staged(self) -> str:
        if self.candidate is None:
            raise ReleaseError("no version is staged; stage one with `terrace release stage VERSION`")
        return self.candidate

    def _check_frozen(self, version: str, *, force: bool) -> None:
        if version in self.frozen and not force:
            raise ReleaseError(
                f"{version} is frozen: {self.frozen[version]}. Release another version, or use --force if you must"
            )

    def _next(self, note: str, **changed: Any) -> Release:
        return replace(self, revision=self.revision + 1, note=note, **changed)


_REPAIR = "Delete its key and stage the version that shall be live"


def _part(version: str, key: str) -> float:
    """Where between 0 and 1 a key lies for a candidate: evenly spread, the same everywhere, another for each candidate."""
    digest = hashlib.blake2b(key.encode(), key=version.encode()[:64], digest_size=8).digest()
    return int.from_bytes(digest, "little") / 2**64


def _share(share: float) -> float:
    if not 0 <= share <= 1:
        raise ReleaseError(f"a share of {share} is none; it must lie between 0 and 1")
    return share
