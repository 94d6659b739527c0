"""The utterances of a manifest, found by the names that other tools have for them or for their recordings.

Memory: ids and the places of recordings, about 250 bytes an utterance.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.audio.alignment import Names
from pipeline.audio.alignments.timed import Called, Timed
from pipeline.audio.candidate import printable, stem
from pipeline.audio.loading import Manifest

_COLUMNS = (
    *("utterance_id", "uri", "offset_samples", "num_samples", "sample_rate", "channel"),
    *("member", "row_group"),
)
_NO_CHANNEL = -1


@dataclass(frozen=True, kw_only=True, eq=False)
class Places:
    """Utterances that some intervals may lie in.

    Attributes:
        ranks: int64 (n,), places among the sorted ids.
        starts: float64 (n,), where each begins, seconds on the clock of the intervals.
    """

    ranks: np.ndarray
    starts: np.ndarray


class Utterances:
    """The utterances of a manifest, sorted by id.

    Attributes:
        ids: Their ids (N,).
        seconds: float64 (N,), their lengths.
    """

    def __init__(self, manifest: Manifest) -> None:
        """Read a manifest.

        Args:
            manifest: Of joined utterances the recordings have no names: each is made of several.
        """
        parts = [_columns(rows, joined=manifest.joined) for _, rows in manifest.scan(_COLUMNS)]
        table = pa.concat_tables(parts).sort_by("utterance_id").combine_chunks()
        self._names = Names(table["utterance_id"].to_pylist())
        self.ids = self._names.ids
        self.seconds: np.ndarray = table["seconds"].to_numpy()
        self._offsets: np.ndarray = table["offset"].to_numpy()
        self._channels: np.ndarray = table["channel"].to_numpy()
        self._column = table["recording"].combine_chunks()

    @cached_property
    def _recordings(self) -> "_Recordings":
        """Made where a name is that of no utterance."""
        return _Recordings(self._column)

    def recording(self, rank: int) -> str:
        """Name the recording of an utterance for a person; nothing where it has no name."""
        return printable((self._column[rank].as_py() or "").rstrip("\n").replace("\n", ", "))

    def find(self, batch: Sequence[Timed]) -> list[Places | None]:
        """Find the utterances of intervals: by the first of their names that an id is, or encodes, or a recording has.

        Args:
            batch: Some of them: each call looks at all ids.

        Returns:
            Places of each, None where there are none or the name is that of several recordings.
        """
        ranks = iter(self._ranks([called.name for timed in batch for called in timed.called]))
        found: list[Places | None] = []
        for timed in batch:
            named = [(called, next(ranks)) for called in timed.called]
            places = (self._places(called, rank, timed.channel) for called, rank in named)
            found.append(next((each for each in places if each is not None), None))
        return found

    def leading_folders(self, paths: Sequence[str]) -> int | None:
        """Say how many leading folders of some paths must go so that any of them names an utterance.

        All paths lose as many: where ``b/take_1`` is not in the manifest, it must not meet the ``a/take_1`` that is.

        Returns:
            The least number, None where none helps.
        """
        split = [path.split("/") for path in paths]
        for number in range(max(map(len, split), default=0)):
            names = ["/".join(folders[number:]) for folders in split if len(folders) > number]
            if max(self._ranks(names)) >= 0 or any(self._recordings.find(name) is not None for name in names):
                return number
        return None

    def _ranks(self, names: list[str]) -> list[int]:
        found = self._names.find(pa.array(map(printable, names), pa.string()))
        ranks: list[int] = pc.fill_null(pc.index_in(found, self.ids), -1).to_pylist()
        return ranks

    def _places(self, called: Called, rank: int, channel: int | None) -> Places | None:
        if rank >= 0:
            offset = self._offsets[rank] if called.recording else 0.0
            return Places(ranks=np.array([rank]), starts=np.array([called.zero + offset]))
        ranks = self._recordings.find(called.name)
        if ranks is None:
            return None
        channels = self._channels[ranks]
        if channel is not None and len(set(channels.tolist()) - {_NO_CHANNEL}) > 1:
            ranks = ranks[(channels == channel) | (channels == _NO_CHANNEL)]
        return Places(ranks=ranks, starts=called.zero + self._offsets[ranks]) if len(ranks) else None


def _columns(rows: pa.Table, *, joined: bool) -> pa.Table:
    rate = pc.cast(rows["sample_rate"], pa.float64())
    # A cell of a table has no name, and a joined utterance only its own.
    nameless = pc.or_(pc.is_valid(rows["row_group"]), pa.scalar(joined))
    place = pc.binary_join_element_wise(rows["uri"], pc.fill_null(rows["member"], ""), "\n")
    return pa.table(
        {
            "utterance_id": rows["utterance_id"],
            "recording": pc.if_else(nameless, pa.scalar(None, pa.string()), place),
            "offset": pc.divide(pc.cast(rows["offset_samples"], pa.float64()), rate),
            "seconds": pc.divide(pc.cast(rows["num_samples"], pa.float64()), rate),
            "channel": pc.fill_null(rows["channel"], _NO_CHANNEL),
        }
    )


class _Recordings:
    """Recordings by the end of their path, without its extension. Memory: 24 bytes each, and their places."""

    def __init__(self, column: pa.StringArray) -> None:
        encoded = column.dictionary_encode()
        self._places = encoded.dictionary
        codes = pc.fill_null(encoded.indices, len(self._places)).to_numpy(zero_copy_only=False)
        self._ranks = np.argsort(codes, kind="stable")
        self._bounds = np.searchsorted(codes[self._ranks], np.arange(len(self._places) + 1))
        hashes = np.fromiter(
            (_hash(_path(place.as_py()).rpartition("/")[2]) for place in self._places), np.uint64, len(self._places)
        )
        self._by_hash = np.argsort(hashes, kind="stable")
        self._hashes = hashes[self._by_hash]

    def find(self, name: str) -> np.ndarray | None:
        """Give the ranks of a recording's utterances; None where no recording, or several, have this name."""
        end = "/" + _stem(name)
        key = np.uint64(_hash(end.rpartition("/")[2]))
        begin, until = np.searchsorted(self._hashes, key, side="left"), np.searchsorted(self._hashes, key, side="right")
        codes = [
            code
            for code in self._by_hash[begin:until].tolist()
            if f"/{_path(self._places[code].as_py())}".endswith(end)
        ]
        if len(codes) != 1:
            return None
        return self._ranks[self._bounds[codes[0]] : self._bounds[codes[0] + 1]]


def _path(place: str) -> str:
    uri, _, member = place.partition("\n")
    return _stem(member or uri)


def _stem(path: str) -> str:
    """Drop the extensions of a recording, of which some copies of corpora have two: ``SA1.WAV.wav``."""
    while (shorter := stem(path)) != path:
        path = shorter
    return path


def _hash(text: str) -> int:
    digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "little")
