"""Reads the headers of a piece of a corpus, and where asked for the speech: candidates in, manifest rows out."""

import importlib.metadata
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline import schema
from pipeline.audio import fields
from pipeline.audio.decode import AudioInfo, DecodeLimits, Decoder
from pipeline.audio.loading import RECORDINGS
from pipeline.audio.places import Place
from pipeline.audio.speech import SpeechFinder
from pipeline.audio.vad import SAMPLE_RATE, SpeechDetector, VadSettings, weights_sha256
from pipeline.errors import AudioDecodeError, SettingsError
from pipeline.passed_over import Kind, PassedOver
from pipeline.schema import LABELS, PART, Reason
from pipeline.store.dataset import Output, parquet_bytes
from pipeline.store.storage import open_store
from pipeline.work.units import Reject, Utterance, reasons, rejects_table

PROBED = "_probed"

# VAD streams in bounded memory, so that only a header that lies makes a recording too long.
_LONGEST_HEARD_SECONDS = 1e6

CANDIDATES = pa.schema(
    [
        pa.field("utterance_id", pa.string(), nullable=False),
        pa.field("uri", pa.string(), nullable=False),
        pa.field("offset_seconds", pa.float64()),
        pa.field("duration_seconds", pa.float64()),
        pa.field("channel", pa.int32()),
        *(pa.field(name, pa.string()) for name in LABELS),
        *(schema.MANIFEST.field(name) for name in PART),
        pa.field("reason", pa.string()),
        pa.field("detail", pa.string()),
    ]
)
"""What a corpus reader gives, before any header was read."""

CHANNELS = (pa.field("channels", pa.list_(pa.int32())), pa.field("channel_hint", pa.int32()))
"""Further columns of candidates, where a table or list names channels of which the header must tell what they are."""


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
        vad: How recordings are cut into speech; None leaves them whole.
        vad_weights_sha256: The weights that the plan names.
    """

    scratch: str
    limits: DecodeLimits
    roots: tuple[str, ...]
    channels: str
    pick_channel: int
    lineage: Mapping[str, Any]
    vad: VadSettings | None = None
    vad_weights_sha256: str = ""

    def __call__(self) -> "Prober":
        """Open the candidates and start the decode child."""
        return Prober(self)


class Prober:
    """Reads the headers of one piece of candidates after the other."""

    stage = "manifest"

    def __init__(self, settings: ProbeFactory) -> None:
        self._settings = settings
        self._store = open_store(settings.scratch)
        # The rate matters to VAD alone; a probe reads headers.
        limits = replace(settings.limits, max_seconds=_LONGEST_HEARD_SECONDS)
        self._decoder = Decoder(sample_rate=SAMPLE_RATE, limits=limits, roots=settings.roots)
        self._finder = None
        if settings.vad is not None:
            if weights_sha256() != settings.vad_weights_sha256:
                raise SettingsError(
                    f"this node ({platform.node()}) has another release of silero-vad than the driver; install the same"
                )
            self._finder = SpeechFinder(decoder=self._decoder, detector=SpeechDetector(), settings=settings.vad)

    def numerics(self) -> Mapping[str, str]:
        """Headers read the same everywhere; probabilities of speech may differ in their last bits."""
        if self._finder is None:
            return {}
        return {"onnxruntime": importlib.metadata.version("onnxruntime"), "device": f"cpu {platform.machine()}"}

    def make(self, unit: str, utterances: Sequence[Utterance]) -> Output:
        """Probe the candidates of a piece; ``utterances`` is empty, they are read here."""
        with self._store.open(f"_candidates/{unit}.parquet") as file:
            candidates = pq.read_table(file).to_pylist()
        rows: list[dict[str, Any]] = []
        rejects: list[Reject] = []
        passed_over = PassedOver()
        whole = 0
        known: dict[tuple[str, Place | None], AudioInfo] = {}
        for candidate in candidates:
            try:
                if candidate["reason"]:
                    raise AudioDecodeError(candidate["reason"], candidate["detail"])
                place = candidate["uri"], Place.of(candidate)
                info = known.get(place) or self._decoder.probe(place[0], part=place[1], passed_over=passed_over)
                # Segments of one recording follow each other: one header is enough.
                known = {place: info}
                found = self._rows(candidate, info, passed_over)
            except AudioDecodeError as error:
                rejects.append(self._reject(candidate, error))
                continue
            for row in found:
                try:
                    cut = [row] if self._finder is None else self._finder.rows(row, passed_over)
                except AudioDecodeError as error:
                    rejects.append(self._reject(row, error))
                    continue
                rows += cut
                whole += sum(_is_whole(each, info) for each in cut)
        table = pa.Table.from_pylist(rows, schema=schema.MANIFEST)
        return Output(
            data=parquet_bytes(table, self._settings.lineage),
            rows=len(rows),
            rejects=rejects_table(rejects),
            seconds=sum(row["num_samples"] / row["sample_rate"] for row in rows),
            notes={"reasons": reasons(rejects), RECORDINGS: {"whole": whole, "parts": len(rows) - whole}}
            | passed_over.note(),
        )

    def _reject(self, row: Mapping[str, Any], error: AudioDecodeError) -> Reject:
        return Reject(
            utterance_id=row["utterance_id"],
            uri=row["uri"],
            stage=self.stage,
            reason=error.reason,
            detail=error.detail,
        )

    def _rows(self, candidate: Mapping[str, Any], info: AudioInfo, passed_over: PassedOver) -> list[dict[str, Any]]:
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
            **{name: candidate[name] for name in (*LABELS, *PART)},
        }
        hint = candidate.get("channel_hint")
        named = list(candidate.get("channels") or ([] if hint is None else [hint]))
        if hint and info.num_channels == 1:
            named = []
            passed_over.add(Kind.UNUSED_CHANNELS, example=candidate["utterance_id"], name=str(hint + 1))
        for channel in named:
            _check_channel(channel, info)
        if len(named) == 1 and info.num_channels > 1:
            row["channel"] = named[0]
        elif row["channel"] is None and self._settings.channels == "pick" and named != [0]:
            row["channel"] = self._settings.pick_channel
        if row["channel"] is not None:
            _check_channel(row["channel"], info)
        several = 1 < len(named) < info.num_channels
        if several and self._settings.channels == "mix" or several and row["channel"] not in (None, *named):
            raise AudioDecodeError(
                Reason.BAD_SEGMENT,
                f"it is heard in the channels {', '.join(map(str, named))} of {info.num_channels}, and only all can be "
                "averaged; --channels split makes each an utterance, --channels pick takes one of them",
            )
        if row["channel"] is None and self._settings.channels == "split" and info.num_channels > 1:
            chosen = named or range(info.num_channels)
            return [{**row, "channel": c, "utterance_id": f"{row['utterance_id']}.ch{c}"} for c in chosen]
        return [row]


def _is_whole(row: Mapping[str, Any], info: AudioInfo) -> bool:
    """Say whether an utterance is all of a file: nothing cut off, no channel of several, not inside a tar or table."""
    alone = row["channel"] is None or info.num_channels == 1
    return row["num_samples"] == info.num_samples and alone and Place.of(row) is None


def _check_channel(channel: int, info: AudioInfo) -> None:
    if not 0 <= channel < info.num_channels:
        raise AudioDecodeError(
            Reason.BAD_SEGMENT, f"channel {channel} was asked for, the recording has {info.num_channels}"
        )


def _segment(candidate: Mapping[str, Any], info: AudioInfo) -> tuple[int, int]:
    """Turn a candidate's seconds into samples: rounded to the nearest, a length past the end by 0.1 s is cut."""
    start, duration = candidate["offset_seconds"] or 0.0, candidate["duration_seconds"]
    fields.check_seconds(start, duration or 0.0)
    offset = round(start * info.sample_rate)
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
