"""What every store promises whose bundles are copied to a cache on this machine."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

import pytest

from core.manifest import BundleError
from server.release.bundle_cache import hold
from server.release.bundle_copy import BundleStoreError
from tests.contracts.bundle_store_contract import (
    BUNDLE_BYTES,
    DAMAGES,
    NEW,
    OLD,
    BundleStoreContract,
    damage,
    is_whole,
    write_bundle,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from server.release.bundle_store import BundleStore
    from tests.contracts.bundle_store_contract import Place

VERSIONS = tuple(f"2026010{day}T020000Z" for day in range(1, 6))
HOLDER = """
import os, sys
from pathlib import Path
from server.release.bundle_cache import hold
hold(Path(sys.argv[1]))
if sys.argv[2] == "fork" and os.fork():
    os._exit(0)  # the one that was forked lives on
print("held", flush=True)
sys.stdin.read()
"""


def cached(folder: Path) -> set[str]:
    """What lies in the cache that a fetched folder is in."""
    return {path.name for path in folder.parent.iterdir()}


class CachedBundleStoreContract(BundleStoreContract):
    @pytest.fixture
    def limited(self, place: Place, tmp_path: Path) -> Callable[[int], BundleStore]:
        """Makes a store on ``place`` whose cache has room for so many bundles of ``VERSIONS``, which are there."""
        raise NotImplementedError

    @pytest.fixture
    def filled(self, store: BundleStore, tmp_path: Path) -> None:
        for version in VERSIONS:
            store.push(write_bundle(tmp_path / "all" / version, version))

    def test_what_is_in_the_cache_needs_no_store(self, store: BundleStore, place: Place, bundle: Path) -> None:
        store.push(bundle)
        folder = store.fetch(OLD)
        store.remove(OLD)

        assert place.open().fetch(OLD) == folder
        assert is_whole(folder)

    @pytest.mark.parametrize("how", DAMAGES)
    def test_a_damaged_download_leaves_nothing_and_is_tried_again(
        self, store: BundleStore, place: Place, bundle: Path, tmp_path: Path, how: str
    ) -> None:
        store.push(bundle)
        other = store.fetch(store.push(write_bundle(tmp_path / "other", NEW)))
        said = damage(place, how)
        for _ in range(2):
            with pytest.raises(BundleError, match=said):
                store.fetch(OLD)
            assert cached(other) == {NEW}
        for name in ("model/part/weights.bin", "manifest.json"):
            place.write(f"{OLD}/{name}", (bundle / name).read_bytes())

        assert is_whole(store.fetch(OLD))

    def test_threads_that_fetch_at_once_all_get_it(self, store: BundleStore, place: Place, bundle: Path) -> None:
        store.push(bundle)
        start, found = threading.Barrier(4), []

        def fetch(reader: BundleStore) -> None:
            start.wait(60)
            found.append(reader.fetch(OLD))

        threads = [threading.Thread(target=fetch, args=(place.open(),)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        assert len(found) == 4
        assert len(set(found)) == 1
        assert is_whole(found[0])

    def test_what_a_killed_download_left_goes_with_the_next(
        self, store: BundleStore, bundle: Path, tmp_path: Path
    ) -> None:
        store.push(bundle)
        left = store.fetch(OLD).parent / f".partial-{NEW}" / "model"
        left.mkdir(parents=True)
        (left / "weights.bin").write_bytes(b"half")
        folder = store.fetch(store.push(write_bundle(tmp_path / "other", NEW)))

        assert is_whole(folder)
        assert cached(folder) == {OLD, NEW}

    @pytest.mark.usefixtures("filled")
    def test_what_was_not_used_for_longest_leaves_a_full_cache(self, limited: Callable[[int], BundleStore]) -> None:
        store = limited(2)
        first, second, third, fourth, _ = VERSIONS
        folder = store.fetch(first)
        for version in (second, third):
            store.fetch(version)
        assert cached(folder) == {second, third}

        store.fetch(second)
        store.fetch(fourth)

        assert cached(folder) == {second, fourth}

    @pytest.mark.usefixtures("filled")
    def test_what_shall_be_kept_does_not_leave(self, limited: Callable[[int], BundleStore]) -> None:
        store = limited(2)
        first, second, third, *_ = VERSIONS
        store.fetch(first)
        store.fetch(second)

        assert cached(store.fetch(third, keep={first})) == {first, third}

    @pytest.mark.usefixtures("filled")
    def test_what_does_not_fit_beside_what_is_in_use_is_refused_and_nothing_leaves(
        self, limited: Callable[[int], BundleStore]
    ) -> None:
        store = limited(2)
        first, second, third, *_ = VERSIONS
        folder = store.fetch(first)
        handle = hold(store.fetch(second))

        with pytest.raises(BundleStoreError, match=rf"{third} .* in use are {first}, {second}\. Raise the bound"):
            store.fetch(third, keep={first})
        assert cached(folder) == {first, second}
        os.close(handle)
        assert cached(store.fetch(third, keep={first})) == {first, third}

    @pytest.mark.usefixtures("filled")
    def test_a_bundle_larger_than_the_cache_is_refused(self, limited: Callable[[int], BundleStore]) -> None:
        with pytest.raises(BundleStoreError, match=f"{OLD} has {BUNDLE_BYTES:,} bytes .* in use are no others"):
            limited(0).fetch(OLD)

    @pytest.mark.usefixtures("filled")
    @pytest.mark.parametrize("how", ["itself", "fork"])
    def test_a_bundle_stays_for_as_long_as_a_process_holds_it_or_one_forked_from_it(
        self, limited: Callable[[int], BundleStore], how: str
    ) -> None:
        store = limited(1)
        first, second, *_ = VERSIONS
        folder = store.fetch(first)
        with subprocess.Popen(
            [sys.executable, "-c", HOLDER, str(folder), how],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as holder:
            assert holder.stdout is not None
            assert holder.stdout.readline() == "held\n"
            with pytest.raises(BundleStoreError, match=f"in use are {first}"):
                store.fetch(second)
            assert is_whole(folder)
            assert holder.stdin is not None
            holder.stdin.close()
            assert holder.stdout.read() == ""  # the last that held it has ended

        assert cached(store.fetch(second)) == {second}

    @pytest.mark.usefixtures("filled")
    def test_a_bundle_that_left_the_cache_cannot_be_held(self, limited: Callable[[int], BundleStore]) -> None:
        store = limited(1)
        folder = store.fetch(OLD)
        store.fetch(NEW)

        with pytest.raises(BundleStoreError, match=str(folder)):
            hold(folder)
