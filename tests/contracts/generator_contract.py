"""What every way of finding candidates promises; inherit and say how yours is made.

``GeneratorContract`` suits anything that satisfies ``core.types.CandidateGenerator``, fakes included;
``BuildableContract`` adds the offline half of ``candidate_gen.registry.BuildableGenerator``.
"""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from core.catalogue import NO_FILTERS, Filters
from core.manifest import BundleError
from core.types import CandidateGenerator, Candidates, Query
from tests.contracts.generator_world import ITEMS, make_catalogue, make_inputs, make_query

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from candidate_gen.registry import BuildableGenerator

SUFFIXES = {".npy", ".json", ".hnsw", ".onnx"}

rows = st.integers(0, ITEMS - 1)
filters = st.just(NO_FILTERS) | st.builds(
    Filters,
    categories=st.lists(st.sampled_from(["garden", "kitchen", "books", "unheard of"]), max_size=3).map(tuple),
    exclude_categories=st.lists(st.sampled_from(["garden", "books"]), max_size=1).map(tuple),
    min_price=st.none() | st.floats(0, 80),
    max_price=st.none() | st.floats(0, 80),
    available_only=st.booleans(),
    attributes=st.just({}) | st.just({"colour": ("red",)}) | st.just({"size": ("xl",)}),
)


def assert_same(one: Candidates, other: Candidates) -> None:
    assert one.source == other.source
    np.testing.assert_array_equal(one.rows, other.rows)
    np.testing.assert_array_equal(one.scores, other.scores)


class GeneratorContract:
    """Inherit as ``TestSomething`` and give ``generator``; see the module."""

    needs_history: ClassVar[bool] = True
    """Whether nothing can be proposed for a user without history."""

    @classmethod
    def generator(cls) -> CandidateGenerator:
        """The generator, over the world of ``generator_world``."""
        raise NotImplementedError

    @classmethod
    def query(cls, **values: Any) -> Query:
        """A query that this generator can have something to say to."""
        return make_query(make_catalogue(unavailable=[3, 8]), **values)

    @classmethod
    @cache
    def shared(cls) -> CandidateGenerator:
        """One generator for all tests that do not change it."""
        return cls.generator()

    def queries(self) -> Iterator[Query]:
        rng = np.random.default_rng(1)
        for h in (0, 1, 2, 5, 20, 60):
            yield self.query(history=rng.integers(0, ITEMS, h).tolist())

    def test_it_is_a_candidate_generator(self) -> None:
        generator = self.shared()
        assert isinstance(generator, CandidateGenerator)
        assert isinstance(generator.inline, bool)
        assert generator.name.isidentifier()

    @settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.differing_executors])
    @given(
        history=st.lists(rows, max_size=60),
        exclude=st.lists(rows, unique=True, max_size=10),
        seen=st.lists(rows, unique=True),
        chosen=filters,
        repeats=st.booleans(),
        restrict=st.none() | st.lists(rows, unique=True, max_size=5),
        limit=st.integers(1, 80),
    )
    def test_any_query_gets_unique_rows_in_range_best_first_within_the_limit(
        self,
        *,
        history: list[int],
        exclude: list[int],
        seen: list[int],
        chosen: Filters,
        repeats: bool,
        restrict: list[int] | None,
        limit: int,
    ) -> None:
        query = self.query(
            history=history, exclude=exclude, seen=seen, filters=chosen, allow_repeats=repeats, restrict=restrict
        )
        found = self.shared().generate(query, limit)
        assert found.source == self.shared().name
        assert found.rows.dtype == np.int32
        assert found.scores.dtype == np.float32
        assert found.rows.shape == found.scores.shape
        assert len(found.rows) <= limit
        assert len(set(found.rows.tolist())) == len(found.rows)
        assert all(0 <= row < ITEMS for row in found.rows.tolist())
        assert np.isfinite(found.scores).all()
        assert (np.diff(found.scores) <= 0).all()

    def test_it_proposes_something_to_a_user_with_history(self) -> None:
        assert len(self.shared().generate(self.query(history=[0, 1, 2, 4, 5]), 10).rows) > 0

    def test_a_user_without_history_gets_nothing_unless_none_is_needed(self) -> None:
        found = self.shared().generate(self.query(), 10)
        assert (len(found.rows) == 0) == self.needs_history

    def test_a_larger_limit_only_adds_at_the_end(self) -> None:
        for query in self.queries():
            few, many = (self.shared().generate(query, limit) for limit in (4, 15))
            np.testing.assert_array_equal(few.scores, many.scores[: len(few.scores)])

    def test_eight_threads_get_the_answers_that_one_gets(self) -> None:
        queries = list(self.queries()) * 20
        generator = self.shared()
        alone = [generator.generate(query, 12) for query in queries]
        with ThreadPoolExecutor(8) as pool:
            together = list(pool.map(lambda query: generator.generate(query, 12), queries))
        for one, other in zip(alone, together, strict=True):
            assert_same(one, other)


class BuildableContract(GeneratorContract):
    """Inherit as ``TestSomething`` and name the class under test."""

    kind: ClassVar[type[BuildableGenerator]]
    params: ClassVar[dict[str, Any]] = {}

    @classmethod
    def generator(cls) -> BuildableGenerator:
        return cls.kind.build(make_inputs(), **cls.params)

    @pytest.fixture
    def saved(self, tmp_path: Path) -> Path:
        folder = tmp_path / "saved"
        folder.mkdir()
        self.generator().save(folder)
        return folder

    def test_it_answers_the_same_after_saving_and_loading(self, saved: Path) -> None:
        loaded = self.kind.load(saved, make_catalogue())
        for query in self.queries():
            assert_same(self.shared().generate(query, 20), loaded.generate(query, 20))

    def test_two_builds_write_the_same_bytes(self, saved: Path, tmp_path: Path) -> None:
        again = tmp_path / "again"
        again.mkdir()
        self.generator().save(again)
        names = sorted(path.name for path in saved.iterdir())
        assert names == sorted(path.name for path in again.iterdir())
        for name in names:
            assert (saved / name).read_bytes() == (again / name).read_bytes(), name

    def test_files_hold_no_pickle(self, saved: Path) -> None:
        for path in saved.iterdir():
            assert path.suffix in SUFFIXES
            if path.suffix == ".npy":
                np.load(path, allow_pickle=False)
            if path.suffix == ".json":
                json.loads(path.read_text(encoding="utf-8"))

    def test_a_missing_truncated_or_empty_file_is_refused_by_name(self, saved: Path) -> None:
        for path in sorted(saved.iterdir()):
            whole = path.read_bytes()
            for damaged in (whole[: len(whole) // 2], whole[:-1], b""):
                path.write_bytes(damaged)
                with pytest.raises(BundleError, match=path.name):
                    self.kind.load(saved, make_catalogue())
            path.unlink()
            with pytest.raises(BundleError, match=path.name):
                self.kind.load(saved, make_catalogue())
            path.write_bytes(whole)
        self.kind.load(saved, make_catalogue())

    def test_an_unknown_parameter_is_a_type_error(self) -> None:
        with pytest.raises(TypeError, match="colour"):
            self.kind.build(make_inputs(), colour="red")

    def test_a_world_without_events_builds_and_answers(self) -> None:
        built = self.kind.build(make_inputs([]), **self.params)
        for query in self.queries():
            built.generate(query, 10)
