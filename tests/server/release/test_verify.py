"""What makes a bundle unfit is found by the check it belongs to, in a process whose end is that of nobody else."""

from __future__ import annotations

import dataclasses
import json
import os
import struct
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest
from onnx import helper

from core.contents import ArrayEntry, Contents, IndexEntry
from core.manifest import read_manifest, write_manifest
from offline import bundle_folder
from ranking.onnx_scorer import RANKER, TOWER
from server.release.verify import verify_bundle
from server.signature import PrivateKey, write_key_pair
from tests.server.bundle_folder import seal, write_bundle
from tests.server.release.whole_bundle import GENERATORS, fit_manifest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from server.release.verify import Check

INDEX = "generators/ann/index.hnsw"
ALL = ["signature", "files", "arrays", "index", "models", "loads", "golden"]


def refused(folder: Path, check: str, said: str) -> None:
    """The bundle is refused by this check, which says that of a file."""
    found = verify_bundle(folder)
    assert [(each.name, each.passed) for each in found[:-1]] == [(name, True) for name in ALL[: ALL.index(check)]]
    assert (found[-1].name, found[-1].passed) == (check, False)
    assert said in found[-1].text
    assert str(folder) in found[-1].text


def test_a_sound_bundle_passes_every_check(sound: Path) -> None:
    found = verify_bundle(sound)
    assert [(check.name, check.passed) for check in found] == [(name, True) for name in ALL]
    assert found[-1].text == "7 golden requests answered as before"


def test_a_bundle_without_a_model_and_golden_requests_passes_and_says_what_was_not_compared(tmp_path: Path) -> None:
    found = verify_bundle(write_bundle(tmp_path / "v1"))
    assert all(check.passed for check in found)
    assert [check.text for check in found if check.name in {"index", "models"}] == ["none", "none"]
    assert found[-1].text == "0 golden requests answered as before; none of POPULARITY, CF, which answer"


def test_a_folder_that_is_no_bundle_is_refused(tmp_path: Path) -> None:
    refused(tmp_path / "nowhere", "signature", "no such bundle folder")


def test_a_bundle_whose_manifest_does_not_say_what_files_hold_is_to_be_built_again(bundle: Path) -> None:
    write_manifest(bundle, dataclasses.replace(read_manifest(bundle), contents=Contents()))
    refused(bundle, "arrays", "manifest.json: says of catalogue/")


@pytest.mark.parametrize(
    "array", [np.zeros(60, np.float64), np.zeros(61, np.float32), np.zeros((60, 1), np.float32)], ids=str
)
def test_an_array_of_another_type_or_shape_is_refused(bundle: Path, array: Any) -> None:
    np.save(bundle / "similar" / "trend.npy", array)
    fit_manifest(bundle)
    refused(bundle, "arrays", "similar/trend.npy: holds ")


def test_an_array_that_needs_pickle_is_refused_and_not_unpickled(bundle: Path, tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> Any:
            return os.mkdir, (str(tmp_path / "sprung"),)

    np.save(bundle / "similar" / "trend.npy", np.array([Trap()], object), allow_pickle=True)
    fit_manifest(bundle)
    refused(bundle, "arrays", "needs pickle")
    assert not (tmp_path / "sprung").exists()


@pytest.mark.parametrize("entry", [IndexEntry("l2", 9, 60), IndexEntry("ip", 8, 60), IndexEntry("ip", 9, 59)], ids=str)
def test_an_index_of_another_space_dimension_or_count_than_the_manifest_says_is_refused(
    bundle: Path, entry: IndexEntry
) -> None:
    fit_manifest(bundle, indexes={INDEX: entry})
    refused(bundle, "index", f"{INDEX}: holds 60 vectors of 9 dimensions in the space ip, the manifest says {entry}")


@pytest.mark.parametrize(("field", "value"), [("dim", 9), ("space", "l2")])
def test_an_index_that_manifest_and_parameters_both_belie_is_refused(
    bundle: Path, field: str, value: int | str
) -> None:
    path = bundle / "generators/ann/params.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {field: value}))
    space = value if field == "space" else "ip"
    fit_manifest(bundle, indexes={INDEX: IndexEntry(str(space), 9, 60)})
    refused(bundle, "loads", INDEX)


def test_an_index_of_items_that_the_catalogue_does_not_have_is_refused(bundle: Path) -> None:
    np.save(bundle / "generators/ann/rows.npy", np.arange(1, 61, dtype=np.int32))
    fit_manifest(bundle)
    refused(bundle, "index", "rows.npy: it does not name rows of the 60")


@pytest.mark.parametrize(
    ("at", "said"), [(52, "entry point"), (96 + 4, "a link leads to an item that it does not have")]
)
def test_an_index_that_would_crash_a_search_is_refused_unopened(bundle: Path, at: int, said: str) -> None:
    raw = bytearray((bundle / INDEX).read_bytes())
    struct.pack_into("=I", raw, at, 1 << 30)
    (bundle / INDEX).write_bytes(raw)
    fit_manifest(bundle)
    refused(bundle, "index", said)


def other_opset(model: onnx.ModelProto) -> None:
    model.opset_import[0].version = 17


def custom_domain(model: onnx.ModelProto) -> None:
    model.graph.node[0].domain = "com.example"


def outside_weights(model: onnx.ModelProto) -> None:
    weight = model.graph.initializer[0]
    weight.data_location = onnx.TensorProto.EXTERNAL
    entry = weight.external_data.add()
    entry.key, entry.value = "location", "../../../../etc/passwd"


def other_input(model: onnx.ModelProto) -> None:
    model.graph.input[1].name = "vectors"
    model.graph.node[0].input[0] = "vectors"


def other_type(model: onnx.ModelProto) -> None:
    model.graph.output[0].type.tensor_type.elem_type = onnx.TensorProto.DOUBLE


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (other_opset, "holds opset 17"),
        (custom_domain, "operators of com.example"),
        (outside_weights, "'weights' lies in another file"),
        (other_input, "vectors: FLOAT"),
        (other_type, "scores: DOUBLE"),
    ],
)
def test_a_model_that_is_not_what_serving_loads_is_refused(
    bundle: Path, change: Callable[[onnx.ModelProto], None], said: str
) -> None:
    model = onnx.load(str(bundle / "model" / RANKER), load_external_data=False)
    change(model)
    (bundle / "model" / RANKER).write_bytes(model.SerializeToString())
    fit_manifest(bundle)
    refused(bundle, "models", said)


def test_input_names_that_manifest_and_model_agree_on_and_serving_does_not_know_are_refused(bundle: Path) -> None:
    model = onnx.load(str(bundle / "model" / TOWER))
    model.graph.input[2].name = "ages"
    onnx.save(model, str(bundle / "model" / TOWER))
    manifest = read_manifest(bundle)
    bundle_folder.seal(bundle, manifest)
    refused(bundle, "loads", "user_tower.onnx: inputs are")


def test_a_model_that_answers_something_else_fails_the_golden_check(bundle: Path) -> None:
    model = onnx.load(str(bundle / "model" / RANKER))
    model.graph.node[2].CopyFrom(helper.make_node("Sub", ["said", "near"], ["scores"]))
    onnx.save(model, str(bundle / "model" / RANKER))
    fit_manifest(bundle)
    refused(bundle, "golden", "a golden request is answered from DEEP with")


def test_a_model_that_answers_nan_is_refused_without_any_golden_request_too(bundle: Path) -> None:
    model = onnx.load(str(bundle / "model" / RANKER))
    weights = model.graph.initializer[0]
    weights.CopyFrom(onnx.numpy_helper.from_array(np.full(weights.dims[0], np.nan, np.float32), weights.name))
    onnx.save(model, str(bundle / "model" / RANKER))
    fit_manifest(bundle)
    write_manifest(bundle, dataclasses.replace(read_manifest(bundle), golden=()))
    refused(bundle, "golden", "DEEP does not answer: invalid_scores")


@pytest.fixture
def with_plug_in(bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Path]:
    """The bundle with a generator of another package that does as the given line of Python says when it is loaded."""

    def make(line: str) -> Path:
        installed = tmp_path / "installed"
        (installed / "plug_in-1.dist-info").mkdir(parents=True)
        (installed / "plug_in-1.dist-info" / "METADATA").write_text("Name: plug-in\nVersion: 1\n")
        (installed / "plug_in-1.dist-info" / "entry_points.txt").write_text(
            "[terrace.candidate_generators]\nplug_in = plug_in:PlugIn\n"
        )
        (installed / "plug_in.py").write_text(
            "import os, signal, sys, time\n"
            "class PlugIn:\n"
            "    name, inline = 'plug_in', True\n"
            "    @classmethod\n"
            "    def load(cls, folder, catalogue):\n"
            f"        {line}\n"
        )
        monkeypatch.syspath_prepend(installed)
        seal(bundle, generators={**GENERATORS, "plug_in": {"limit": 5}}, model={"width": 8})
        return bundle

    return make


@pytest.mark.parametrize(
    ("line", "ended"),
    [
        ("os.kill(os.getpid(), signal.SIGSEGV)", "died of SIGSEGV"),
        ("os.abort()", "died of SIGABRT"),
        ("os._exit(3)", "ended with exit code 3"),
        ("os._exit(0)", "ended with exit code 0"),
    ],
)
def test_a_crash_is_the_check_s_under_way_and_the_asker_lives_on(
    with_plug_in: Callable[[str], Path], line: str, ended: str
) -> None:
    refused(with_plug_in(line), "loads", f"the process that verifies it {ended} during the check 'loads'")


def test_a_check_that_hangs_is_ended_with_all_that_it_started(with_plug_in: Callable[[str], Path]) -> None:
    folder = with_plug_in("os.fork(); time.sleep(600)")
    last = verify_bundle(folder, time_limit_s=3.0)[-1]
    assert not last.passed
    assert "took longer than 3 s" in last.text


def test_what_a_library_prints_is_no_report(with_plug_in: Callable[[str], Path]) -> None:
    folder = with_plug_in("""os.write(1, b'{"check": "golden", "passed": true, "text": ""}\\n'); sys.exit('no')""")
    refused(folder, "loads", "ended with exit code 1 during the check 'loads'")


def test_the_process_gets_no_secrets_and_nothing_to_read(
    with_plug_in: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERRACE_STORE_URL", "redis://:hunter2@localhost")
    said = "raise RuntimeError(f'{sorted(os.environ)} {sys.stdin.read()!r}')"
    last = verify_bundle(with_plug_in(said))[-1]
    assert "PYTHONPATH" in last.text
    assert "TERRACE" not in last.text
    assert last.text.split(")")[0].endswith("''")


def test_it_needs_neither_numpy_nor_grpc_to_ask(sound: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from server.release.verify import verify_bundle\n"
        f"assert verify_bundle(Path({str(sound)!r}))[-1].passed\n"
        "print(sorted({'numpy', 'grpc', 'onnx', 'onnxruntime', 'hnswlib'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=120)
    assert done.stdout == "[]\n", done.stderr


def test_signatures_are_checked_first_where_there_are_keys(bundle: Path, tmp_path: Path) -> None:
    public = write_key_pair(tmp_path / "key")

    def checked() -> list[Check]:
        return verify_bundle(bundle, [public])

    (unsigned,) = checked()
    assert (unsigned.name, unsigned.passed) == ("signature", False)
    assert str(bundle / "manifest.sig") in unsigned.text
    PrivateKey(tmp_path / "key").sign(bundle)
    assert checked()[-1].passed
    (bundle / "manifest.json").write_bytes((bundle / "manifest.json").read_bytes() + b" ")
    (changed,) = checked()
    assert "manifest.sig: not a signature of this manifest.json" in changed.text


def test_a_value_s_type_is_part_of_its_entry() -> None:
    assert str(ArrayEntry("<f4", (None, 3))) == "<f4 [any, 3]"
