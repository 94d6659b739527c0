"""The Free Spoken Digit Dataset: ``{digit}_{speaker}_{take}.wav``, of which takes 0 to 4 are the test."""

import re
from collections.abc import Iterator
from dataclasses import replace

from pipeline.audio.candidate import Candidate, stem
from pipeline.audio.layouts.walked import read_walked
from pipeline.audio.manifest import encode_id
from pipeline.passed_over import PassedOver

_NAME = re.compile(r"([0-9])_([A-Za-z]+)_([0-9]+)")
_DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
_TEST_TAKES = 5


def read_fsdd(corpus: str, passed_over: PassedOver) -> Iterator[Candidate]:
    """Read the corpus; an utterance is called as its file: ``7_george_12``."""
    return read_walked(corpus, "fsdd", _label, passed_over)


def _label(candidate: Candidate, path: str) -> Candidate | None:
    name = stem(path.rpartition("/")[2])
    match = _NAME.fullmatch(name)
    if match is None:
        return None
    return replace(
        candidate,
        utterance_id=encode_id(name),
        text=_DIGITS[int(match[1])],
        speaker=match[2],
        language="en",
        split="test" if int(match[3]) < _TEST_TAKES else "train",
    )
