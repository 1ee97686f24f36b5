"""The files of known answers: what the code makes, each read by a test, small, and of one form."""

from __future__ import annotations

import re

import pytest

import vectors.test_draws_known
import vectors.test_hashes
import vectors.test_messages
import vectors.test_metrics
import vectors.test_numbers
import vectors.test_policy
import vectors.test_receipts
import vectors.test_rounds
import vectors.test_secrets  # noqa: F401  (imported for what they use)
from smpcfl.protocol.errors import Reason
from vectors.files import FOLDER, LOCAL, load, topics, used
from vectors.generate import differing


def test_the_generator_makes_these_files_byte_for_byte() -> None:
    assert differing() == []


def test_every_vector_is_read_by_a_test() -> None:
    found = {
        (topic, item["op"])
        for topic in topics()
        for part in ("vectors", "bad")
        for item in load(topic)[part]
    }
    assert found == used


@pytest.mark.parametrize("topic", topics())
def test_a_file_has_the_form_that_the_readme_gives(topic: str) -> None:
    content = load(topic)
    assert list(content) == ["version", "what", "protocol", "vectors", "bad"]
    assert re.fullmatch(r"docs/protocol\.md, section [0-9a-z ]+", content["protocol"])
    for part, last in (("vectors", "output"), ("bad", "reason")):
        assert all(list(item) == ["op", "name", "input", last] for item in content[part])
        names = [(item["op"], item["name"], str(item["input"])) for item in content[part]]
        assert len(names) == len(set(names))
    assert {item["reason"] for item in content["bad"]} <= {*Reason, LOCAL}
    assert (FOLDER / f"{topic}.json").stat().st_size < 100_000
