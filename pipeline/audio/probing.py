"""Reads the headers of a piece of a corpus: candidates in, manifest rows and rejects out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline import schema
from pipeline.audio.decode import AudioInfo, DecodeLimits, Decoder
from pipeline.dataset import Output, parquet_bytes
from pipeline.errors import AudioDecodeError
from pipeline.schema import LABELS, Reason
from pipeline.shards import Reject, Utterance, reasons, rejects_table
from pipeline.storage import open_store

PROBED = "_probed"

CANDIDATES = pa.schema(
    [
        pa.field("utterance_id", pa.string(), nullable=False),
        pa.field("uri", pa.string(), nullable=False),
        pa.field("offset_seconds", pa.float64()),
        pa.field("duration_seconds", pa.float64()),
        pa.field("channel", pa.int32()),
        *(pa.field(name, pa.string()) for name in LABELS),
        pa.field("reason", pa.string()),
        pa.field("detail", pa.string()),
    ]
)
"""What a corpus reader gives, before any header was read."""


@dataclass(frozen=True, kw_only=True)
class ProbeFactory:
    """Builds a ``Prober`` in a worker.

    Attributes:
        scratch: URI of the scratch dataset, with the candidates.
        limits: What a recording may cost.
        roots: Where audio may lie.
        channels: ``mix``, ``pick`` or ``split``.
        pick_channel: The channel that ``pick`` takes.
        lineage: Of the scratch dataset.
    """

    scratch: str
    limits: DecodeLimits
    roots: tuple[str, ...]
    channels: str
    pick_channel: int
    lineage: Mapping[str, Any]

    def __call__(self) -> "Prober":
        """Open the candidates and start the decode child."""
        return Prober(self)


class Prober:
    """Reads the headers of one piece of candidates after the other."""

    stage = "manifest"

    def __init__(self, settings: ProbeFactory) -> None:
        self._settings = settings
        self._store = open_store(settings.scratch)
        # The rate matters to decode() alone; a probe reads headers.
        self._decoder = Decoder(sample_rate=16_000, limits=settings.limits, roots=settings.roots)

    def numerics(self) -> Mapping[str, str]:
        """Headers read the same everywhere."""
        return {}

    def make(self, unit: str, utterances: Sequence[Utterance]) -> Output:
        """Probe the candidates of a piece; ``utterances`` is empty, they are read here."""
        with self._store.open(f"_candidates/{unit}.parquet") as file:
            candidates = pq.read_table(file).to_pylist()
        rows: list[dict[str, Any]] = []
        rejects: list[Reject] = []
        known: dict[str, AudioInfo] = {}
        for candidate in candidates:
            try:
                if candidate["reason"]:
                    raise AudioDecodeError(candidate["reason"], candidate["detail"])
                info = known.get(candidate["uri"]) or self._decoder.probe(candidate["uri"])
                # Segments of one recording follow each other: one header is enough.
                known = {candidate["uri"]: info}
                rows += self._rows(candidate, info)
            except AudioDecodeError as error:
                rejects.append(
                    Reject(
                        utterance_id=candidate["utterance_id"],
                        uri=candidate["uri"],
                        stage=self.stage,
                        reason=error.reason,
                        detail=error.detail,
                    )
                )
        table = pa.Table.from_pylist(rows, schema=schema.MANIFEST)
        return Output(
            data=parquet_bytes(table, self._settings.lineage),
            rows=len(rows),
            rejects=rejects_table(rejects),
            seconds=sum(row["num_samples"] / row["sample_rate"] for row in rows),
            notes={"reasons": reasons(rejects)},
        )

    def _rows(self, candidate: Mapping[str, Any], info: AudioInfo) -> list[dict[str, Any]]:
        """Give the manifest rows of one candidate: one, or one a channel."""
        offset, length = _segment(candidate, info)
        row = {
            "utterance_id": candidate["utterance_id"],
            "uri": candidate["uri"],
            "offset_samples": offset,
            "num_samples": length,
            "sample_rate": info.sample_rate,
            "channel": candidate["channel"],
            "shard": 0,
            **{name: candidate[name] for name in LABELS},
        }
        if row["channel"] is None and self._settings.channels == "pick":
            row["channel"] = self._settings.pick_channel
        channel = row["channel"]
        if channel is not None and not 0 <= channel < info.num_channels:
            raise AudioDecodeError(
                Reason.BAD_SEGMENT, f"channel {channel} was asked for, the recording has {info.num_channels}"
            )
        if channel is None and self._settings.channels == "split" and info.num_channels > 1:
            return [
                {**row, "channel": c, "utterance_id": f"{row['utterance_id']}.ch{c}"} for c in range(info.num_channels)
            ]
        return [row]


def _segment(candidate: Mapping[str, Any], info: AudioInfo) -> tuple[int, int]:
    """Turn a candidate's seconds into samples: rounded to the nearest, a length past the end by 0.1 s is cut."""
    offset = round((candidate["offset_seconds"] or 0.0) * info.sample_rate)
    duration = candidate["duration_seconds"]
    left = info.num_samples - offset
    if duration is None:
        length = left
    else:
        length = round(duration * info.sample_rate)
        if length > left and length - left <= 0.1 * info.sample_rate:
            length = left
    if offset < 0 or length < 0 or length > left:
        raise AudioDecodeError(
            Reason.BAD_SEGMENT,
            f"offset {candidate['offset_seconds']} s, duration {duration} s lies outside the recording of "
            f"{info.num_samples / info.sample_rate:.3f} s",
        )
    if length == 0:
        raise AudioDecodeError(Reason.TOO_SHORT, "the recording has no samples")
    return offset, length
