"""Which shard and pass of the clean corpus a unit holds, and the clean utterances of it.

With several passes a unit is a shard and a pass, as ``shard-00042-2``, so that it stays as small as a shard.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.audio.decode import DecodeLimits
from pipeline.audio.loading import ShardLoader, open_manifest
from pipeline.audio.manifest import encode_id
from pipeline.work.units import Utterance


def unit_names(shards: Sequence[str], passes: int) -> list[str]:
    """Name the units of a corpus of these shards."""
    if passes == 1:
        return list(shards)
    return [f"{shard}-{number}" for shard in shards for number in range(1, passes + 1)]


def shard_and_pass(unit: str) -> tuple[str, int]:
    """Say which shard, and which pass from 0 on, a unit is."""
    kind, shard, *number = unit.split("-")
    return f"{kind}-{shard}", int(number[0]) - 1 if number else 0


def mixture_id(utterance_id: str, number: int, passes: int) -> str:
    """Name the mixture of an utterance in a pass, counted from 0: its own id, and of several passes ``@1`` and so on.

    All of several are suffixed, so that no id meets one that another corpus spells so.
    """
    return utterance_id if passes == 1 else utterance_id + encode_id(f"@{number + 1}")


@dataclass(frozen=True, kw_only=True)
class CleanLoader:
    """Decodes the clean utterances of a unit.

    Attributes:
        manifest: URI of the manifest.
        sample_rate: Rate of the waveforms given, Hz; 0: that of each utterance's recording.
        limits: What a recording may cost.
    """

    manifest: str
    sample_rate: int
    limits: DecodeLimits

    def __call__(self, unit: str) -> list[Utterance]:
        """Decode a unit; an utterance that cannot be used comes without samples, with its problem."""
        shard, _ = shard_and_pass(unit)
        if self.sample_rate:
            return self._loader(self.sample_rate)(shard)
        rows = open_manifest(self.manifest).rows(shard)
        ids, rates = np.array(rows["utterance_id"].to_pylist()), rows["sample_rate"].to_numpy()
        found: dict[str, Utterance] = {}
        for rate in np.unique(rates).tolist():
            wanted = frozenset(ids[rates == rate].tolist())
            found |= {utterance.utterance_id: utterance for utterance in self._loader(rate).some(shard, wanted)}
        return [found[utterance_id] for utterance_id in ids.tolist()]

    def _loader(self, sample_rate: int) -> ShardLoader:
        # Never streamed: an utterance is mixed whole.
        longest = self.limits.max_seconds
        return ShardLoader(manifest=self.manifest, sample_rate=sample_rate, limits=self.limits, max_row_seconds=longest)
