"""VoiceBank-DEMAND: noisy recordings and their clean partners, in trees side by side with the same file names.

    noisy_testset_wav/p232_001.wav      clean_testset_wav/p232_001.wav
    noisy_trainset_28spk_wav/...        clean_trainset_28spk_wav/...

Source: Valentini-Botinhao 2017, Noisy speech database for training speech enhancement algorithms and TTS models,
doi 10.7488/ds/2117. Memory: a path per clean recording.
"""

import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Literal

from pipeline.audio.candidate import Candidate, stem
from pipeline.audio.layouts.walked import read_walked
from pipeline.audio.manifest import encode_id
from pipeline.passed_over import Kind, PassedOver
from pipeline.store.storage import join

_TREE = re.compile(r"(clean|noisy)(_(train|test)set(?:_\w+)?_wav)")
_FILE = re.compile(r"([a-z][0-9]+)_[0-9]+")

_Side = Literal["clean", "noisy"]


def read_noisy(corpus: str, passed_over: PassedOver) -> Iterator[Candidate]:
    """Read the noisy recordings, each with its clean partner."""
    trees = _Trees(corpus, "noisy", passed_over)
    return read_walked(corpus, "voicebank", trees.label, passed_over, wanted=trees.wanted)


def read_clean(corpus: str, passed_over: PassedOver) -> Iterator[Candidate]:
    """Read the clean recordings alone."""
    trees = _Trees(corpus, "clean", passed_over)
    return read_walked(corpus, "voicebank-clean", trees.label, passed_over, wanted=trees.wanted)


class _Trees:
    """The labels of one side of the corpus; clean trees come before noisy ones in a walk."""

    def __init__(self, corpus: str, side: _Side, passed_over: PassedOver) -> None:
        self._corpus, self._side, self._passed_over = corpus, side, passed_over
        self._clean: dict[str, str] = {}

    def wanted(self, path: str) -> bool:
        """Say whether a recording is of this side, and remember clean ones for the noisy ones that follow."""
        folders, file = self._parted(path)
        tree = _TREE.fullmatch(folders[-1])
        if tree is None or tree[1] == self._side:
            return True
        if self._side == "noisy":
            self._clean["/".join([*folders, stem(file)])] = path
        return False

    def label(self, candidate: Candidate, path: str) -> Candidate | None:
        """Fill the labels of a recording; None where it is in no tree, or its name does not fit."""
        folders, file = self._parted(path)
        tree, name = _TREE.fullmatch(folders[-1]), _FILE.fullmatch(stem(file))
        if tree is None or name is None:
            return None
        partner = None
        if self._side == "noisy":
            partner = self._clean.get("/".join([*folders[:-1], f"clean{tree[2]}", stem(file)]))
            if partner is None:
                self._passed_over.add(Kind.WITHOUT_LABEL, example=path, name="clean_uri")
        return replace(
            candidate,
            utterance_id=encode_id(stem(file)),
            speaker=name[1],
            language="en",
            split=tree[3],
            clean_uri=None if partner is None else join(self._corpus, partner),
        )

    def _parted(self, path: str) -> tuple[list[str], str]:
        *folders, file = path.split("/")
        return folders or [self._corpus.rpartition("/")[2]], file
