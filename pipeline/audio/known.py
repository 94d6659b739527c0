"""What earlier manifests hold already, so that a corpus that grew gives a manifest of what is new.

Memory: 8 bytes an utterance and 8 a recording of the earlier manifests.
"""

import hashlib
from collections.abc import Iterator, Sequence
from itertools import islice

import numpy as np

from pipeline.audio.candidate import Candidate
from pipeline.audio.loading import Manifest
from pipeline.passed_over import Kind, PassedOver
from pipeline.schema import PART
from pipeline.store.completion import success

BATCH = 100_000


def _hash(*parts: object) -> int:
    # 64 bits: of 24 million utterances two share a hash with probability 2e-5.
    return int.from_bytes(hashlib.blake2b("\0".join(map(str, parts)).encode(), digest_size=8).digest(), "little")


def _sorted(hashes: Iterator[int]) -> np.ndarray:
    return np.unique(np.fromiter(hashes, np.uint64))


class Known:
    """Utterances and recordings of earlier manifests.

    Attributes:
        sha256: Hashes of the manifests, sorted.
    """

    def __init__(self, manifests: Sequence[str], *, whole_recordings: bool) -> None:
        """Read earlier manifests.

        Args:
            manifests: Their folders, local or s3://.
            whole_recordings: Whether all of a recording is known by any of its utterances, as where the stage
                itself cuts recordings or parts channels; else an utterance is known by its id.
        """
        opened = [Manifest(uri) for uri in manifests]
        self.sha256 = sorted(success(manifest.dataset)["dataset_sha256"] for manifest in opened)
        self._whole = whole_recordings
        columns = ("uri", *PART) if whole_recordings else ("utterance_id",)
        self._hashes = _sorted(
            _hash(*row)
            for manifest in opened
            for _, rows in manifest.scan(columns)
            for row in zip(*(rows[column].to_pylist() for column in columns), strict=True)
        )

    def new(self, candidates: Iterator[Candidate], passed_over: PassedOver) -> Iterator[Candidate]:
        """Give the candidates that no earlier manifest has, and count those that are left out."""
        while batch := list(islice(candidates, BATCH)):
            keys = np.fromiter(map(self._key, batch), np.uint64, len(batch))
            # A search in what is sorted already; np.isin would sort all of it again for each batch.
            places = np.searchsorted(self._hashes, keys, side="right") - 1
            known = (places >= 0) & (self._hashes[places] == keys) if len(self._hashes) else np.zeros(len(keys), bool)
            for candidate, old in zip(batch, known.tolist(), strict=True):
                if old:
                    passed_over.add(Kind.KNOWN, example=candidate.utterance_id)
                else:
                    yield candidate

    def _key(self, candidate: Candidate) -> int:
        if not self._whole:
            return _hash(candidate.utterance_id)
        return _hash(candidate.uri, *(getattr(candidate, name) for name in PART))
