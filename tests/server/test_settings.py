"""Settings that no server could run with are refused, by name and bound."""

from __future__ import annotations

import dataclasses
import json
import math

import pytest

from server.settings import Settings

ABOVE_0, FROM_0, FROM_1 = "must be above 0", "must be 0 or more", "must be at least 1"
PORT, SHARE = "must lie between 0 and 65535", "must lie between 0 and 1"
NAN, INF = math.nan, math.inf
BOUNDS: dict[str, tuple[str, list[float], list[float]]] = {
    # setting: bound, values just within, values just outside
    "default_deadline_ms": (ABOVE_0, [0.001, 1e6], [0, -1, NAN]),
    "max_request_ms": (ABOVE_0, [0.001, 1e6], [0, -1, NAN]),
    "store_timeout_ms": (ABOVE_0, [0.001, 1e6], [0, -1, NAN]),
    "score_timeout_ms": (ABOVE_0, [0.001, 1e6], [0, -1, NAN]),
    "drain_s": (ABOVE_0, [0.001, 1e6], [0, -1, NAN]),
    "max_connection_age_s": (ABOVE_0, [0.001, 1e6], [0, -1, NAN]),
    "reserve_ms": (FROM_0, [0, 100], [-0.001, NAN]),
    "lame_duck_s": (FROM_0, [0, 100], [-0.001, NAN]),
    "floor_ms": (FROM_0, [0, 100], [-0.001, NAN]),
    "warm_up_requests": (FROM_0, [0, 100], [-1]),
    "store_share": (SHARE, [0.001, 0.999], [0, 1, -0.1, NAN]),
    "retrieve_share": (SHARE, [0.001, 0.999], [0, 1, -0.1, NAN]),
    "reserve_share": ("must lie between 0 and 0.9", [0, 0.9], [-0.001, 0.901, NAN]),
    "exercise_share": ("must lie between 0 and 0.25", [0, 0.25], [-0.001, 0.251, NAN]),
    "refresh_share": (SHARE, [0, 1], [-0.001, 1.001, NAN]),
    "trace_share": (SHARE, [0, 1], [-0.001, 1.001, NAN]),
    "threads": (FROM_1, [1, 64], [0, -1]),
    "max_jobs": (FROM_1, [1, 64], [0, -1]),
    "store_connections": (FROM_1, [1, 64], [0, -1]),
    "port": (PORT, [0, 65535], [-1, 65536]),
    "metrics_port": (PORT, [0, 65535], [-1, 65536]),
}


def test_every_number_has_a_bound() -> None:
    numbers = {
        each.name for each in dataclasses.fields(Settings) if "int" in str(each.type) or "float" in str(each.type)
    }

    assert numbers == set(BOUNDS)


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, (_, good, _) in BOUNDS.items() for value in good])
def test_what_is_just_within_its_bound_is_kept(name: str, value: float) -> None:
    assert getattr(Settings(**{name: value}), name) == value  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "value", "bound"), [(name, value, bound) for name, (bound, _, bad) in BOUNDS.items() for value in bad]
)
def test_what_is_outside_its_bound_is_refused_by_name_and_bound(name: str, value: float, bound: str) -> None:
    with pytest.raises(ValueError, match=name) as refused:
        Settings(**{name: value})  # type: ignore[arg-type]

    assert str(refused.value) == f"{name} is {value}, it {bound}"


def test_what_is_not_set_has_no_bound() -> None:
    assert Settings(metrics_port=None).metrics_port is None


def test_the_defaults_leave_a_request_more_than_its_reserve() -> None:
    settings = Settings()

    assert settings.reserve_ms < settings.default_deadline_ms <= settings.max_request_ms
    assert settings.store_share + settings.retrieve_share + settings.reserve_share < 1


def test_settings_can_be_handed_to_another_process_as_json() -> None:
    settings = Settings(surfaces={"home": True}, precomputed_first=["cheap"], refresh_share=0.1)
    sent = json.dumps(dataclasses.asdict(settings))

    assert json.dumps(dataclasses.asdict(Settings(**json.loads(sent)))) == sent
