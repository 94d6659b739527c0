"""Utterances as tokens in, a shard of speech out: FLAC with labels, and rejects of what gives no sound."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline import faults, schema
from pipeline.audio.flac import flac_bytes, sixteen_bits
from pipeline.schema import Reason
from pipeline.store.dataset import Output, parquet_bytes
from pipeline.vocoder.voice import Said, Voice
from pipeline.work.units import Reject, reasons, rejects_table
from pipeline.work.waiting import Work

LABELS = ("text", "speaker", "emotion", "language", "split")

Rejecting = Callable[[str, str, str], Reject]
"""Makes a reject of an utterance id, a reason and a sentence."""


@dataclass(frozen=True, kw_only=True, eq=False)
class ToSpeak:
    """An utterance to speak.

    Attributes:
        utterance_id: Its id.
        said: Tokens and speaker.
        labels: Some of ``LABELS``.
    """

    utterance_id: str
    said: Said
    labels: Mapping[str, Any] = field(default_factory=dict)


def speak_shard(
    voice: Voice,
    columns: Sequence[str],
    utterances: Sequence[ToSpeak],
    *,
    rejects: Sequence[Reject],
    rejecting: Rejecting,
    lineage: Mapping[str, Any],
    began: float | None = None,
) -> Output:
    """Speak the utterances of a shard.

    Args:
        voice: The vocoder.
        columns: The layers to hear.
        utterances: They, of one frame or more each; rows come in their order.
        rejects: Of the shard so far.
        rejecting: Makes further ones.
        lineage: Of the dataset.
        began: When the work on the shard began, Unix seconds; None: now.
    """
    began = time.time() if began is None else began
    rows: dict[int, dict[str, Any]] = {}
    rejected, clipped = list(rejects), 0
    rate = voice.spec.sample_rate
    for place, waveform in voice.speak([each.said for each in utterances], columns):
        utterance = utterances[place]
        faults.point("speak", utterance.utterance_id)
        if not np.isfinite(waveform).all():
            detail = "the vocoder gives samples not finite"
            rejected.append(rejecting(utterance.utterance_id, Reason.NOT_FINITE, detail))
            continue
        recording = sixteen_bits(waveform)
        clipped += recording.clipped
        rows[place] = _row(utterance, recording.samples, rate)
    ended = time.time()
    table = pa.Table.from_pylist([rows[place] for place in sorted(rows)], schema=schema.SPEECH)
    num_samples = sum(row["num_samples"] for row in rows.values())
    return Output(
        data=parquet_bytes(table, lineage),
        rows=len(rows),
        rejects=rejects_table(sorted(rejected, key=lambda reject: reject.utterance_id)),
        seconds=num_samples / rate,
        num_frames=num_samples // voice.spec.hop_length,
        notes={"reasons": reasons(rejected), "clipped_samples": clipped},
        work=(Work(kind="encode", began=began, ended=ended, busy=ended - began),),
    )


def _row(utterance: ToSpeak, samples: np.ndarray, rate: int) -> dict[str, Any]:
    audio = {"bytes": flac_bytes(samples, rate), "path": f"{utterance.utterance_id}.flac"}
    return {
        "utterance_id": utterance.utterance_id,
        "audio": audio,
        "num_samples": len(samples),
        "sample_rate": rate,
        **dict.fromkeys(LABELS),
        **utterance.labels,
    }
