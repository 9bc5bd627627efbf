"""Which bundles a deployment answers from: two slots, the pointer to the live one, and the candidate's share of users.

The document is one JSON value (in Redis, and a copy beside every replica). Every change makes a new one with the next
revision, and is written by compare-and-set: of two operators who change the same revision, the second gets an error.
Changes are functions from a document to the next; they look at nothing but their arguments.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from core.release_values import (
    ReleaseArgumentError,
    ReleaseDocumentError,
    ReleaseError,
    checked_reason,
    checked_share,
    checked_version,
    is_share,
    is_text,
    is_version,
    part_of,
    percent,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["RELEASE_FORMAT", "Release", "ReleaseArgumentError", "ReleaseDocumentError", "ReleaseError", "Slot"]

RELEASE_FORMAT = 1


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

        previous: the version that was live before the last promotion, to roll back to; None before the first promotion
            and after a rollback.

        frozen: version -> why it must not be given to users.

        revision: number of changes so far, from 1.

        document_id: made with the first revision and kept by all that follow, so that a document which was deleted and
            made anew is another one.

        changed_at: of the last change, ISO 8601, UTC; by the clock of who made it, so nothing is decided by it.

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
    document_id: str = ""
    changed_at: str = ""
    changed_by: str = ""
    note: str = ""
    format_version: int = RELEASE_FORMAT

    @classmethod
    def of(cls, version: str) -> Release:
        """The first document of a deployment: one version, live.

        Raises:
            ReleaseArgumentError: it is no version.
        """
        checked_version(version)
        return cls(Slot.BLUE, {Slot.BLUE: version, Slot.GREEN: None}, note=f"{version} is live, the first one")

    @property
    def live_version(self) -> str:
        """The version that is live."""
        version = self.slots[self.live]
        if version is None:
            raise ReleaseDocumentError("the live slot has no version")
        return version

    @property
    def candidate(self) -> str | None:
        """The version in the other slot: staged, or live before; None where that is empty."""
        return self.slots[self.live.other]

    @property
    def staged(self) -> str | None:
        """The candidate, unless it stands there to be rolled back to."""
        return None if self.candidate == self.previous else self.candidate

    @property
    def versions(self) -> frozenset[str]:
        """What a replica must have loaded."""
        return frozenset(version for version in self.slots.values() if version is not None)

    def version_for(self, key: str) -> str:
        """The version that answers a user, or whatever else a call is about.

        A user who is given the candidate at one share is given it at every larger one, and after it was promoted.
        """
        if self.candidate_share and self.candidate and part_of(self.candidate, key) < self.candidate_share:
            return self.candidate
        return self.live_version

    def stage(self, version: str, share: float = 0.0, *, force: bool = False) -> Release:
        """Put a version into the slot that is not live, and give it a share of the users; the same again is harmless.

        Args:
            version: of a bundle.
            share: part of the users, 0 to 1; it replaces the share that the version has, if it is staged already.
            force: also where the version is frozen, or another candidate has users.

        Raises:
            ReleaseArgumentError: it is no version, or the share is none.
            ReleaseError: it is live already, or one of what ``force`` is for.
        """
        checked_version(version)
        if version == self.live_version:
            raise ReleaseError(f"{version} is live already; stage another version")
        self._check_frozen(version, force=force)
        if self.candidate_share and version != self.candidate and not force:
            raise ReleaseError(
                f"{self.candidate} is given to {percent(self.candidate_share)} of the users. "
                "Promote it or roll it back before you stage another version, or use --force"
            )
        return self._next(
            f"{version} staged in {self.live.other} at {percent(checked_share(share))}",
            forced=force,
            slots={self.live: self.live_version, self.live.other: version},
            candidate_share=share,
            shadow_share=self.shadow_share if version == self.candidate else 0.0,
            previous=None if version == self.previous else self.previous,
        )

    def with_share(self, share: float, *, force: bool = False) -> Release:
        """Give the candidate another share of the users; 0 takes it from all of them.

        Raises:
            ReleaseArgumentError: the share is none.
            ReleaseError: nothing is staged, or it is frozen and not forced.
        """
        staged = self._staged()
        if checked_share(share) > 0:
            self._check_frozen(staged, force=force)
        return self._next(f"{staged} at {percent(share)}", forced=force, candidate_share=share)

    def with_shadow(self, share: float) -> Release:
        """Let the candidate answer another part of the calls too, unseen.

        Raises:
            ReleaseArgumentError: the share is none.
            ReleaseError: nothing is staged.
        """
        staged = self._staged()
        return self._next(f"{staged} shadows {percent(checked_share(share))} of the calls", shadow_share=share)

    def promote(self, *, force: bool = False) -> Release:
        """Make the candidate live; what was live stays in its slot, to roll back to.

        Raises:
            ReleaseError: nothing is staged, or it is frozen and not forced.
        """
        staged = self._staged()
        self._check_frozen(staged, force=force)
        return self._next(
            f"{staged} promoted, {self.live_version} before",
            forced=force,
            live=self.live.other,
            candidate_share=0.0,
            shadow_share=0.0,
            previous=self.live_version,
        )

    def rollback(self, reason: str = "", *, force: bool = False) -> Release:
        """Take the candidate from its users; where none has any, make live what was live before the last promotion.

        What was promoted stays in its slot as a candidate without users. A second rollback changes nothing: there is
        nothing more to go back to.

        Raises:
            ReleaseArgumentError: the reason is too long.
            ReleaseError: there is nothing to go back to, or it is frozen and not forced.
        """
        why = f": {checked_reason(reason)}" if reason else ""
        if self.candidate_share or self.shadow_share:
            return self._next(f"{self.candidate} rolled back{why}", forced=force, candidate_share=0.0, shadow_share=0.0)
        if self.candidate is None or self.candidate != self.previous:
            raise ReleaseError(
                f"nothing to roll back: no share of the users is given a candidate, and there is no version that was "
                f"live before {self.live_version} in the other slot. Stage the version that you want"
            )
        self._check_frozen(self.candidate, force=force)
        return self._next(
            f"{self.live_version} rolled back to {self.candidate}{why}",
            forced=force,
            live=self.live.other,
            previous=None,
        )

    def withdraw(self, version: str, reason: str) -> Release:
        """Take a version from all of its users and freeze it, in one change; it is the candidate, or was promoted last.

        Raises:
            ReleaseArgumentError: there is no reason, or too long a one.
            ReleaseError: it is neither, or what was live before is frozen.
        """
        frozen = {**self.frozen, version: checked_reason(reason)}
        note = f"{version} rolled back and frozen: {reason}"
        if version == self.staged:
            return self._next(note, frozen=frozen, candidate_share=0.0, shadow_share=0.0)
        if version != self.live_version or self.previous is None or self.candidate != self.previous:
            raise ReleaseError(f"{version} cannot be withdrawn: it is not staged, and it is not what was promoted last")
        self._check_frozen(self.previous, force=False)
        changed: dict[str, Any] = {"live": self.live.other, "previous": None, "candidate_share": 0.0}
        return self._next(f"{note}; {self.previous} is live", frozen=frozen, shadow_share=0.0, **changed)

    def freeze(self, version: str, reason: str) -> Release:
        """Never give a version to users again unless forced; takes it from those it has, where it is the candidate.

        The live version can be frozen too: it stays live, and once it was rolled back it does not come back.

        Raises:
            ReleaseArgumentError: it is no version, or there is no reason, or too long a one.
        """
        checked_version(version)
        changed: dict[str, Any] = {"frozen": {**self.frozen, version: checked_reason(reason)}}
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
            ReleaseDocumentError: it is none, or of another format.
        """
        try:
            raw = json.loads(text)
            found = raw["format_version"]
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise ReleaseDocumentError(
                f"the release document is not readable ({type(error).__name__}: {error}). {_REPAIR}"
            ) from error
        if found != RELEASE_FORMAT:
            raise ReleaseDocumentError(
                f"the release document has format_version {found!r}, this program reads {RELEASE_FORMAT}. "
                "Change it with the version that wrote it, or update this one"
            )
        try:
            slots = {slot: raw["slots"][slot] for slot in Slot}
            document = cls(**raw | {"live": Slot(raw["live"]), "slots": slots})
            document._check()
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ReleaseDocumentError(
                f"a field of the release document is missing or wrong ({error}). {_REPAIR}"
            ) from error
        return document

    def _check(self) -> None:
        """Hold every field against what changes can make of it.

        Raises:
            ValueError: names the field.
            AttributeError, TypeError: one is of another type.
        """
        others = (version for version in (self.candidate, self.previous) if version is not None)
        for version in (self.slots[self.live], *others, *self.frozen):
            if not is_version(version):
                raise ValueError(f"{version!r} is no version")
        if self.candidate == self.slots[self.live]:
            raise ValueError("both slots have the same version")
        for name in ("candidate_share", "shadow_share"):
            share = getattr(self, name)
            if not is_share(share) or (share and self.candidate is None):
                raise ValueError(f"{name} is {share!r}")
        if type(self.revision) is not int or not 1 <= self.revision < 2**63:
            raise ValueError(f"revision is {self.revision!r}")
        texts = {name: getattr(self, name) for name in ("document_id", "changed_at", "changed_by", "note")}
        for name, text in (*texts.items(), *self.frozen.items()):
            if not is_text(text):
                raise ValueError(f"{name} is no text")
        if self.changed_at:
            datetime.fromisoformat(self.changed_at)

    def _staged(self) -> str:
        if self.staged is not None:
            return self.staged
        if self.candidate is None:
            raise ReleaseError("no version is staged; stage one with `terrace release stage VERSION`")
        raise ReleaseError(
            f"no version is staged: {self.live_version} is live, and {self.candidate} was before. Go back to it with "
            "`terrace release rollback`, or stage a version with `terrace release stage VERSION`"
        )

    def _check_frozen(self, version: str, *, force: bool) -> None:
        if version in self.frozen and not force:
            raise ReleaseError(
                f"{version} is frozen: {self.frozen[version]}. Release another version, or use --force if you must"
            )

    def _next(self, note: str, *, forced: bool = False, **changed: Any) -> Release:
        note = f"{note} (forced)" if forced else note
        return replace(self, revision=self.revision + 1, note=note, **changed)


_REPAIR = "Delete its key and stage the version that shall be live"
