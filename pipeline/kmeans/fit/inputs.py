"""The features datasets of a fit: of one encoder, and in an order of their own.

They stand in the order of the SHA-256 of their data, so nothing depends on the order in which they are named.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Self

from pipeline.errors import SettingsError
from pipeline.store.completion import read_shard_table, success
from pipeline.store.dataset import Dataset, canonical, sha256

# The lineage of a codebook says one value of each.
_ALIKE = ("encoder_sha256", "normalize_waveform", "dim", "sample_rate", "hop_length", "dtype")


@dataclass(frozen=True, kw_only=True)
class FitInputs:
    """The features datasets that codebooks are fitted on.

    Attributes:
        datasets: At least one, in the order of their SHA-256.
        digests: SHA-256 of the data of each.
    """

    datasets: Sequence[Dataset]
    digests: Sequence[str]

    @classmethod
    def open(cls, uris: Sequence[str]) -> Self:
        """Open datasets, named in any order.

        Args:
            uris: At least one.

        Raises:
            DatasetError: One is no features dataset, or is not finished.
            SettingsError: Two hold the same data, or are not of the same encoder used in the same way.
        """
        opened = [Dataset.open(uri, kind="features") for uri in uris]
        found = sorted(((success(each)["dataset_sha256"], each) for each in opened), key=lambda pair: pair[0])
        for (digest, one), (next_digest, other) in pairwise(found):
            if digest == next_digest:
                raise SettingsError(f"{one.uri} and {other.uri} hold the same data; name one of them")
            _check_alike(one, other)
        return cls(datasets=[dataset for _, dataset in found], digests=[digest for digest, _ in found])

    @property
    def lineage(self) -> Mapping[str, Any]:
        """What the first dataset says of its features; all say the same of encoder, width, clock and dtype."""
        return self.datasets[0].plan.lineage

    @property
    def origin(self) -> dict[str, Any]:
        """What codebooks are made from, for their plan and lineage: ``input_sha256``, and ``inputs`` of several.

        Of one dataset it is the SHA-256 of its data; of several that of the list of these, which is ``inputs``.
        """
        if len(self.digests) == 1:
            return {"input_sha256": self.digests[0]}
        return {"input_sha256": sha256(canonical(list(self.digests)).encode()), "inputs": list(self.digests)}

    @property
    def num_shards(self) -> int:
        """Shards of all datasets."""
        return sum(len(dataset.plan.units) for dataset in self.datasets)

    @property
    def names(self) -> str:
        """Their URIs, for messages."""
        return ", ".join(dataset.uri for dataset in self.datasets)

    def layers(self, wanted: Sequence[int]) -> list[int]:
        """Give the layers to fit, ascending.

        Args:
            wanted: None: every layer, which are then the same in all datasets.

        Raises:
            SettingsError: A dataset lacks one that is wanted, or datasets have different ones and none are wanted.
        """
        for one, other in pairwise(self.datasets):
            if not wanted and one.plan.lineage["layers"] != other.plan.lineage["layers"]:
                raise SettingsError(
                    f"{one.uri} has layers {one.plan.lineage['layers']}, {other.uri} has "
                    f"{other.plan.lineage['layers']}; choose layers of both with --layers"
                )
        for dataset in self.datasets:
            if absent := sorted(set(wanted) - set(dataset.plan.lineage["layers"])):
                raise SettingsError(f"{dataset.uri} has layers {dataset.plan.lineage['layers']}, not {absent}")
        return sorted(wanted) or list(self.lineage["layers"])

    def num_frames(self) -> int:
        """Count the frames of all datasets."""
        return sum(sum(read_shard_table(dataset)["num_frames"].to_pylist()) for dataset in self.datasets)


def _check_alike(one: Dataset, other: Dataset) -> None:
    ours, theirs = one.plan.lineage, other.plan.lineage
    differ = [
        f"{name} {ours.get(name)!r} and {theirs.get(name)!r}" for name in _ALIKE if ours.get(name) != theirs.get(name)
    ]
    if differ:
        raise SettingsError(
            f"{one.uri} and {other.uri} cannot be fitted on together, because they have {'; '.join(differ)}. "
            "Extract both with the same encoder and the same settings"
        )
