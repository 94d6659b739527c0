"""What a worker of mix_corpus does: the clean utterances of a shard in, noisy ones out.

Ratio, room and noise are drawn by keys of their own, each of seed, utterance and pass alone: so neither the shard nor
what is drawn beside changes them.
"""

import importlib.metadata
import platform
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline import faults, schema
from pipeline.audio.decode import Decoder, to_float32
from pipeline.audio.flac import flac_bytes, sixteen_bits
from pipeline.audio.loading import open_manifest
from pipeline.audio.mixtures.adding import Mixture, add, in_room
from pipeline.audio.mixtures.levels import SILENCE, active_power, mean_power
from pipeline.audio.mixtures.settings import MixCorpusConfig
from pipeline.audio.mixtures.sounds import Sounds
from pipeline.audio.mixtures.units import mixture_id, shard_and_pass
from pipeline.audio.partners import partner_name
from pipeline.errors import AudioDecodeError
from pipeline.passed_over import PassedOver
from pipeline.schema import Reason
from pipeline.seeds import rng
from pipeline.store.dataset import Output, Plan, parquet_bytes
from pipeline.work.machine import instructions
from pipeline.work.units import Reject, Utterance, reasons, rejects_table

LABELS = ("text", "speaker", "emotion", "language", "split")
LIBRARIES = ("numpy", "scipy", "soundfile", "soxr")
TRIES = 20
"""Silent stretches that are drawn for an utterance before it is rejected."""


@dataclass(frozen=True, kw_only=True)
class MixTask:
    """What every worker is told.

    Attributes:
        config: Settings of the stage.
        plan: Of the mixtures.
        whole: Whether utterances that are plain files are their only ones.
    """

    config: MixCorpusConfig
    plan: Plan
    whole: bool


class MixMaker:
    """Mixes one shard after the other; several threads may call it."""

    stage = "mixtures"

    def __init__(self, task: MixTask) -> None:
        """Read what noises and rooms there are."""
        self._task, self._config = task, task.config
        self._noises = Sounds(task.config.noises)
        rooms = task.config.rooms_heard
        self._rooms = None if rooms is None else Sounds(rooms)
        self._decoders: dict[int, Decoder] = {}
        self._lock = threading.Lock()

    def numerics(self) -> Mapping[str, str]:
        """Say what the bits may depend on besides the plan."""
        versions = {name: importlib.metadata.version(name) for name in LIBRARIES}
        return {**versions, "device": f"cpu {platform.machine()}", "instructions": " ".join(instructions())}

    def make(self, unit: str, utterances: Sequence[Utterance]) -> Output:
        """Mix the utterances of a shard, in one pass."""
        config = self._config
        shard, number = shard_and_pass(unit)
        of_id = {row["utterance_id"]: row for row in open_manifest(config.manifest).rows(shard).to_pylist()}
        passed_over = PassedOver()
        rows: list[dict[str, Any]] = []
        rejects: list[Reject] = []
        faint = 0
        for utterance in utterances:
            name = mixture_id(utterance.utterance_id, number, config.passes)
            faults.point("mix", name)
            passed_over.merge(PassedOver.of(utterance.passed_over or {}))
            try:
                row, noise_power = self._row(utterance, number, of_id[utterance.utterance_id], passed_over)
            except AudioDecodeError as error:
                rejects.append(
                    Reject(
                        utterance_id=name, uri=utterance.uri, stage=self.stage, reason=error.reason, detail=error.detail
                    )
                )
                continue
            rows.append({"utterance_id": name, **row})
            faint += noise_power < SILENCE
        table = pa.Table.from_pylist(rows, schema=schema.MIXTURES)
        return Output(
            data=parquet_bytes(table, self._task.plan.lineage),
            rows=len(rows),
            rejects=rejects_table(rejects),
            seconds=sum(row["num_samples"] / row["sample_rate"] for row in rows),
            notes={"reasons": reasons(rejects)} | _notes(rows, faint) | passed_over.note(),
        )

    def _row(
        self, utterance: Utterance, number: int, labels: Mapping[str, Any], passed_over: PassedOver
    ) -> tuple[dict[str, Any], float]:
        """Mix an utterance; gives its row but for the id, and the power of the noise in it.

        Raises:
            AudioDecodeError: It cannot be used, or what was drawn for it.
        """
        if utterance.samples is None:
            raise AudioDecodeError(*(utterance.problem or (Reason.TOO_LONG, "it is not decoded whole")))
        config = self._config
        key = (config.seed, utterance.utterance_id, number)
        rate = config.sample_rate or labels["sample_rate"]
        speech = to_float32(utterance.samples)
        if mean_power(speech) < SILENCE:
            raise AudioDecodeError(Reason.SILENT, "the utterance is silent, so no ratio to it can be kept")
        room, heard = self._heard(speech, rate, labels["split"], key, passed_over)
        noise, stretch = self._noise(len(speech), rate, labels["split"], key, passed_over)
        snr_db = self._snr_db(key)
        power = active_power(heard, rate) if config.level == "active" else mean_power(heard)
        mixture: Mixture = add(heard, stretch, snr_db, power)
        samples = sixteen_bits(mixture.waveform).samples
        name = mixture_id(utterance.utterance_id, number, config.passes)
        row = {
            "audio": {"bytes": flac_bytes(samples, rate), "path": f"{name}.flac"},
            "num_samples": len(samples),
            "sample_rate": rate,
            **{label: labels[label] for label in LABELS},
            "clean_uri": partner_name(
                utterance.uri, utterance.utterance_id, whole=self._task.whole and labels["member"] is None
            ),
            "snr_db": snr_db,
            "noise": noise,
            "room": room,
            "gain_db": mixture.gain_db,
        }
        return row, mixture.noise_power

    def _snr_db(self, key: tuple[object, ...]) -> float:
        draw, choices = rng("mix snr", *key), self._config.snrs
        if choices:
            return float(choices[int(draw.integers(len(choices)))])
        return float(draw.uniform(*self._config.range_db))

    def _heard(
        self, speech: np.ndarray, rate: int, split: str | None, key: tuple[object, ...], passed_over: PassedOver
    ) -> tuple[str | None, np.ndarray]:
        """Put speech into a room, or not; gives the room's id and what is heard."""
        draw = rng("mix room", *key)
        if self._rooms is None or draw.random() >= self._config.room_probability:
            return None, speech
        for _ in range(TRIES):
            row = self._rooms.draw(split, draw)
            response = self._rooms.whole(row, self._decoder(rate), passed_over)
            if mean_power(response) > 0:
                return row["utterance_id"], in_room(speech, response)
        raise AudioDecodeError(Reason.SILENT_NOISE, f"{TRIES} rooms drawn of {self._rooms.uri} are all silent")

    def _noise(
        self, num_samples: int, rate: int, split: str | None, key: tuple[object, ...], passed_over: PassedOver
    ) -> tuple[str, np.ndarray]:
        """Draw a stretch of noise, another one where it is silent; gives the noise's id and the stretch."""
        draw = rng("mix noise", *key)
        for _ in range(TRIES):
            row = self._noises.draw(split, draw)
            stretch = self._noises.part(row, num_samples, self._decoder(rate), draw, passed_over)
            if mean_power(stretch) >= SILENCE:
                return row["utterance_id"], stretch
        raise AudioDecodeError(
            Reason.SILENT_NOISE, f"{TRIES} stretches drawn of the noises of {self._noises.uri} are all silent"
        )

    def _decoder(self, sample_rate: int) -> Decoder:
        """Give the decoder of noises and rooms at a rate, one for all threads: they take turns."""
        with self._lock:
            if sample_rate not in self._decoders:
                roots = (*self._noises.roots, *(() if self._rooms is None else self._rooms.roots))
                self._decoders[sample_rate] = Decoder(sample_rate=sample_rate, limits=self._config.limits, roots=roots)
            return self._decoders[sample_rate]


def _notes(rows: Sequence[Mapping[str, Any]], faint: int) -> dict[str, Any]:
    """Give what a commit says of its mixtures; the report adds it up."""
    found: dict[str, Any] = {
        "in_rooms": sum(row["room"] is not None for row in rows),
        "scaled_down": sum(row["gain_db"] < 0 for row in rows),
        "noise_below_16_bits": faint,
    }
    if rows:
        ratios = [row["snr_db"] for row in rows]
        found["snr_db"] = {"lowest": min(ratios), "highest": max(ratios), "sum": sum(ratios)}
    return found
