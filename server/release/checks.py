"""The checks of a bundle, in the order in which they are made; each relies on those before it.

What reads bytes comes before what opens files with the libraries that serve, and these come before what asks for
answers: most damage is found by code that cannot be harmed by it.

``python -m server.release.checks FOLDER [--public-key FILE]`` makes them and prints JSON lines (``server.release.verify``
reads these). The one process of the server that needs ``onnx``.
"""

from __future__ import annotations

import argparse
import asyncio
import ctypes
import json
import os
import resource
import signal
import sys
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from candidate_gen.ann import INDEX_PATH, check_index, describe_index
from core.array_files import describe_arrays
from core.contents import ARRAY_SUFFIXES, MODEL_SUFFIX
from core.manifest import MANIFEST_NAME, BundleError, GoldenError, read_manifest, verify
from core.query import Request
from core.types import Reason, Tier, UserEvent, UserState
from ranking.model_file import describe_model
from server.loader import load_bundle, naming
from server.rungs.deadline import Deadline
from server.rungs.pipeline import Pipeline
from server.rungs.request_record import RequestRecord
from server.rungs.warm_up import repeat_golden
from server.rungs.work_pool import WorkPool
from server.settings import Settings
from server.signature import KeyFileError, trusted
from server.store.user_store import MemoryUserStore

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from core.bundle import Bundle
    from core.manifest import Manifest
    from core.types import Recommendation
    from server.signature import PublicKeys

_PATIENT = Settings(score_timeout_ms=1000.0)
"""Nobody waits for these answers: a model that is slow on a busy machine is not broken."""
_ASKED = 10
"""Items of a history, and of an answer, where the bundle has no golden request of a rung."""
_NOTHING_TO_SAY = frozenset({Reason.NO_CANDIDATES, Reason.NO_HISTORY})
"""Why a sound rung may leave an answer to the one below."""
_NO_NEW_PRIVILEGES, _SIGNAL_OF_PARENTS_DEATH = 38, 1
"""Of ``prctl(2)``."""
_NICE = 10


@dataclass
class _Subject:
    """What is checked."""

    folder: Path
    keys: PublicKeys | None = None
    loaded: list[Bundle] = field(default_factory=list)

    @cached_property
    def manifest(self) -> Manifest:
        """As its signature says, where keys are given."""
        return read_manifest(self.folder) if self.keys is None else self.keys.read_manifest(self.folder)


class _Check(NamedTuple):
    name: str
    make: Callable[[_Subject], str]


def _signature(subject: _Subject) -> str:
    _ = subject.manifest
    return "not asked for" if subject.keys is None else "made for this manifest by a key that is trusted"


def _files(subject: _Subject) -> str:
    verify(subject.folder, subject.manifest)
    files = subject.manifest.files.values()
    return f"{len(files)} files, {sum(file.bytes for file in files):,} bytes"


def _arrays(subject: _Subject) -> str:
    listed = {name for name in subject.manifest.files if Path(name).suffix in ARRAY_SUFFIXES}
    described = subject.manifest.contents.arrays
    _same_names(subject, listed, described)
    for name in sorted(listed):
        found, expected = describe_arrays(subject.folder / name), dict(described[name])
        for member in sorted(found.keys() | expected.keys()):
            here = f"{subject.folder / name}{f', array {member!r}' if member else ''}"
            _same(here, found.get(member), expected.get(member))
    return f"{sum(map(len, described.values()))} arrays"


def _index(subject: _Subject) -> str:
    described = subject.manifest.contents.indexes
    _same_names(subject, {INDEX_PATH} & subject.manifest.files.keys(), described)
    for name, entry in described.items():
        _same(subject.folder / name, describe_index(subject.folder / name), entry)
        check_index(subject.folder / name, subject.manifest.items)
    return "; ".join(str(entry) for entry in described.values()) or "none"


def _models(subject: _Subject) -> str:
    listed = {name for name in subject.manifest.files if Path(name).suffix == MODEL_SUFFIX}
    described = subject.manifest.contents.models
    _same_names(subject, listed, described)
    for name in sorted(listed):
        _same(subject.folder / name, describe_model(subject.folder / name), described[name])
    return f"{len(listed)} models" if listed else "none"


def _same_names(subject: _Subject, listed: Iterable[str], described: Iterable[str]) -> None:
    """Refuse a file that the manifest does not describe, and a description of a file that there is not."""
    differ = sorted(set(listed) ^ set(described))
    if differ:
        raise BundleError(
            f"{subject.folder / MANIFEST_NAME}: says of {differ[0]} either what it holds or that it is there, not both. "
            "Build the bundle again with this version"
        )


def _same(path: object, found: object, expected: object) -> None:
    if found != expected:
        raise BundleError(
            f"{path}: holds {found or 'nothing'}, the manifest says {expected or 'nothing'}. Build the bundle again"
        )


def _loads(subject: _Subject) -> str:
    subject.loaded.append(load_bundle(subject.folder, subject.keys))
    return f"{subject.loaded[0].version}: {', '.join(g.name for g in subject.loaded[0].generators)}"


def _golden(subject: _Subject) -> str:
    return asyncio.run(_answers(subject.loaded[0]))


async def _answers(bundle: Bundle) -> str:
    """Ask every rung that the bundle has."""
    work = WorkPool(_PATIENT.threads, _PATIENT.max_jobs)
    try:
        pipeline = Pipeline(bundle, MemoryUserStore(bundle.manifest.seen_types), work, _PATIENT)
        answers = await repeat_golden(pipeline)
        late = len(bundle.manifest.golden) - len(answers)
        if late:
            raise GoldenError(
                f"{late} golden requests were not answered in time. Verify again on a machine that is free"
            )
        rungs = [Tier.POPULARITY, Tier.CF] + [Tier.DEEP] * (pipeline.deep is not None)
        untold = [tier for tier in rungs if tier not in {answer.tier for answer in answers}]
        answers += [await _ask(pipeline, tier) for tier in untold]
    finally:
        work.close()
    for answer in answers:
        _check_whole(answer)
    said = f"{len(bundle.manifest.golden)} golden requests answered as before"
    return said + (f"; none of {', '.join(tier.name for tier in untold)}, which answer" if untold else "")


async def _ask(pipeline: Pipeline, tier: Tier) -> Recommendation:
    """An answer of a rung to a user who had popular items."""
    catalogue, now_s = pipeline.bundle.catalogue, pipeline.bundle.manifest.as_of_s
    request = Request(user_id="verify", limit=_ASKED, allow_repeats=True)
    popular = await pipeline.answer(request, UserState(), RequestRecord(Deadline.never(), Tier.POPULARITY), now_s=now_s)
    history = tuple(UserEvent(catalogue.ids[row], "", now_s) for row in popular.rows.tolist())
    answer = await pipeline.answer(request, UserState(history), RequestRecord(Deadline.never(), tier), now_s=now_s)
    reason = answer.skipped.get(tier)
    if reason is not None and reason not in _NOTHING_TO_SAY:
        raise GoldenError(f"{tier.name} does not answer: {reason}. Build the bundle again")
    return answer


def _check_whole(answer: Recommendation) -> None:
    """Refuse an answer that was made without a part of the bundle."""
    if answer.dropped:
        without = ", ".join(f"{name} ({reason})" for name, reason in answer.dropped.items())
        raise GoldenError(f"an answer from {answer.tier.name} was made without {without}. Build the bundle again")


CHECKS = (
    _Check("signature", _signature),
    _Check("files", _files),
    _Check("arrays", _arrays),
    _Check("index", _index),
    _Check("models", _models),
    _Check("loads", _loads),
    _Check("golden", _golden),
)


def check_bundle(folder: Path, keys: PublicKeys | None, report: Callable[[Mapping[str, Any]], object]) -> bool:
    """Make the checks until one fails; whether all passed.

    Args:
        folder: of the bundle.
        keys: one of which must have signed it; None takes bundles that nobody signed.
        report: called with ``{"check": name}`` when one begins, and with ``passed`` and ``text`` beside it when it ends.
    """
    subject = _Subject(folder, keys)
    for name, make in CHECKS:
        report({"check": name})
        try:
            with naming(folder):
                text, passed = make(subject), True
        except BundleError as error:
            text, passed = str(error), False
            if str(folder) not in text:
                text = f"{folder}: {text}"
        report({"check": name, "passed": passed, "text": text})
        if not passed:
            return False
    return True


def main() -> None:
    """Check the bundle that the command line names; never returns. Exit code 0 when all checks passed, else 1."""
    parser = argparse.ArgumentParser(description="Check a bundle; JSON lines say what was found.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--public-key", type=Path, action="append", default=[])
    asked = parser.parse_args()
    _give_up_rights()
    reports = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a library prints is no report

    def report(found: Mapping[str, Any]) -> None:
        reports.write(json.dumps(found) + "\n")
        reports.flush()

    try:
        keys = trusted(asked.public_key)
    except KeyFileError as error:
        report({"check": CHECKS[0].name, "passed": False, "text": str(error)})
        passed = False
    else:
        passed = check_bundle(asked.folder, keys, report)
    report({"done": passed})
    sys.stderr.flush()
    os._exit(0 if passed else 1)  # threads that are still in native code must not turn a verdict into a crash


def _give_up_rights() -> None:
    """No memory dump of what may crash here, no more rights by any program, no life beyond that of who asked.

    Whoever serves on this machine has its cores first.
    """
    os.nice(_NICE)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":
        libc = ctypes.CDLL(None)
        libc.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0)
        libc.prctl(_SIGNAL_OF_PARENTS_DEATH, signal.SIGKILL, 0, 0, 0)


if __name__ == "__main__":
    main()
