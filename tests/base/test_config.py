"""Settings of a peer that bind the aggregator: what they are by default, and what is no such setting."""

from __future__ import annotations

from typing import Any

import pytest

from smpcfl.base.config import ConfigError, Settings

FINGERPRINT = "0123456789abcdef" * 4


def test_the_defaults_withstand_one_colluder_and_give_nothing_away() -> None:
    settings = Settings()
    assert (settings.min_cohort, settings.min_peers, settings.min_survivors) == (5, 5, 3)
    assert (settings.tickets_per_hour, settings.configurations) == (60, 1)
    assert (settings.given_seed, settings.seed) == ("off", 0)
    assert settings.pinned() == {}


def test_members_are_pinned_by_name_and_fingerprint() -> None:
    other = FINGERPRINT[::-1]
    settings = Settings(members=f"peer-a={FINGERPRINT}, peer-b={other}")
    assert settings.pinned() == {"peer-a": FINGERPRINT, "peer-b": other}


@pytest.mark.parametrize(
    "members",
    [
        "peer-a",
        "peer-a=",
        f"={FINGERPRINT}",
        f"peer-a={FINGERPRINT[1:]}",
        f"peer-a={FINGERPRINT}0",
        f"peer-a={FINGERPRINT.upper()}",
        f"peer-a:{FINGERPRINT}",
        f"peer-a={FINGERPRINT};peer-b={FINGERPRINT}",
        f"peer-a={FINGERPRINT},peer-b",
    ],
)
def test_anything_else_is_refused_and_the_remedy_said(members: str) -> None:
    with pytest.raises(ConfigError, match=r"SMPCFL_MEMBERS.*ID=FINGERPRINT is needed, with 64 hex"):
        Settings(members=members)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"given_seed": "yes"}, "SMPCFL_GIVEN_SEED.* is 'yes': 'on' or 'off'"),
        ({"given_seed": ""}, "'on' or 'off'"),
        ({"tickets_per_hour": 0}, "SMPCFL_TICKETS_PER_HOUR.* is 0: at least 1"),
        ({"weighted_by": ""}, "SMPCFL_WEIGHTED_BY.* is '': names of metrics .* or 'any'"),
        ({"weighted_by": "num-examples,"}, "SMPCFL_WEIGHTED_BY"),
        ({"configurations": 0}, "SMPCFL_CONFIGURATIONS.* is 0: at least 1"),
        ({"log_format": "xml"}, "SMPCFL_LOG_FORMAT.* is 'xml': 'text' or 'json'"),
        ({"min_cohort": 2}, "min_cohort is 2: at least"),
        ({"min_survivors": 2}, "min_survivors is 2: at least"),
    ],
)
def test_what_is_out_of_range_is_named(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        Settings(**wrong)
