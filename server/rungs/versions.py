"""The bundles that a process answers from, and which of them answers a call."""

from __future__ import annotations

from typing import TYPE_CHECKING

from core.release import Release

if TYPE_CHECKING:
    from collections.abc import Mapping

    from server.rungs.pipeline import Pipeline
    from server.rungs.request_record import RequestRecord


class Versions:
    """Pipelines by version, and the release document that chooses between them; belongs to one event loop.

    A document that names a version which is not loaded here changes nothing: what is answered stays as it is.

    Attributes:
        pipelines: by bundle version.

        release: what is followed.
    """

    def __init__(self, pipelines: Mapping[str, Pipeline], release: Release) -> None:
        """Keep the parts.

        Args:
            pipelines: by bundle version; at least that of the live one.
            release: what to follow until another one comes.
        """
        self.pipelines = pipelines
        self.release = release
        self.live = pipelines[release.live_version]

    @classmethod
    def of(cls, pipeline: Pipeline) -> Versions:
        """One version, live."""
        version = pipeline.bundle.version
        return cls({version: pipeline}, Release.of(version))

    def follow(self, release: Release) -> bool:
        """Answer as another document says.

        Returns:
            Whether its live version is loaded here; the document is not followed otherwise.
        """
        live = self.pipelines.get(release.live_version)
        if live is None:
            return False
        self.release, self.live = release, live
        return True

    def pipeline_for(self, key: str, record: RequestRecord) -> Pipeline:
        """The pipeline for a user, or whatever else a call is about; taken once for each call, whose record notes it."""
        chosen = self.live
        if self.release.candidate_share:
            chosen = self.pipelines.get(self.release.version_for(key), chosen)
        record.version = chosen.bundle.version
        return chosen
