"""Utterances that several manifests of speech have: chosen by hash, and decoded one after the other.

Memory: the ids of the manifests, about 100 bytes each; the places of the chosen ones; one utterance in all of them.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from pipeline.audio.decode import DecodeLimits, Decoder, to_float32
from pipeline.audio.loading import Manifest, decoded_lengths
from pipeline.audio.pieces import decode_place
from pipeline.batches.sides import share
from pipeline.errors import SettingsError
from pipeline.evaluation.speech.utterances import LABELS, MOST_SECONDS
from pipeline.metrics.speech.judge import SAMPLE_RATE

ABSENT, TOO_LONG = "absent", "too_long"


@dataclass(frozen=True, kw_only=True, eq=False)
class RecordedUtterance:
    """An utterance as every manifest has it.

    Attributes:
        utterance_id: Its id.
        labels: Its text and speaker; None where nobody says.
        waveforms: float32 (S,) at 16 kHz, by name of the manifest.
    """

    utterance_id: str
    labels: Mapping[str, str | None]
    waveforms: Mapping[str, np.ndarray]


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """The utterances of an evaluation.

    Attributes:
        manifests: By name.
        names: Ids, in a fixed random order.
        labels: Text and speaker of each, from the first manifest that has them.
        left_out: Utterances that some manifest has, and that are not judged, by reason.
    """

    manifests: Mapping[str, Manifest]
    names: tuple[str, ...]
    labels: Mapping[str, Mapping[str, str | None]]
    left_out: Mapping[str, int]
    _places: Mapping[str, Mapping[str, Any]] = field(repr=False)

    def heard(self) -> Iterator[RecordedUtterance]:
        """Decode them, an utterance of all manifests at a time.

        Raises:
            AudioDecodeError: A recording cannot be read.
            StorageError: S3 failed.
        """
        limits = DecodeLimits(max_seconds=2 * MOST_SECONDS)
        decoders = {
            name: Decoder(sample_rate=SAMPLE_RATE, limits=limits, roots=manifest.roots)
            for name, manifest in self.manifests.items()
        }
        try:
            for utterance_id in self.names:
                waveforms = {
                    name: np.ascontiguousarray(
                        to_float32(decode_place(decoder, self._places[name][utterance_id])), np.float32
                    )
                    for name, decoder in decoders.items()
                }
                yield RecordedUtterance(
                    utterance_id=utterance_id, labels=self.labels[utterance_id], waveforms=waveforms
                )
        finally:
            for decoder in decoders.values():
                decoder.close()


def choose(manifests: Mapping[str, Manifest], count: int) -> Chosen:
    """Choose utterances that all manifests have, the same ones whatever else is compared.

    Args:
        manifests: By name.
        count: Utterances at most.

    Raises:
        SettingsError: They have no utterance in common.
    """
    had: Counter[str] = Counter()
    long: set[str] = set()
    for manifest in manifests.values():
        for _, rows in manifest.scan(["utterance_id", *manifest.length_columns]):
            names = rows["utterance_id"].to_pylist()
            had.update(names)
            too_long = decoded_lengths(rows, SAMPLE_RATE) > MOST_SECONDS * SAMPLE_RATE
            long.update(name for name, found in zip(names, too_long, strict=True) if found)
    everywhere = [name for name, times in had.items() if times == len(manifests)]
    usable = sorted(
        (name for name in everywhere if name not in long), key=lambda name: (share(0, f"judged {name}"), name)
    )
    if not usable:
        told = ", ".join(f"{name} ({manifest.num_rows})" for name, manifest in manifests.items())
        raise SettingsError(
            f"no utterance id of at most {MOST_SECONDS:g} s is in all of {told}: {len(had)} ids, {len(everywhere)} of "
            "them everywhere; manifests are compared by utterance id"
        )
    left_out = {ABSENT: len(had) - len(everywhere), TOO_LONG: len(everywhere) - len(usable)}
    names = tuple(usable[:count])
    found = {name: _places(manifest, set(names)) for name, manifest in manifests.items()}
    return Chosen(
        manifests=manifests,
        names=names,
        labels={name: _labels(name, found) for name in names},
        left_out=left_out,
        _places=found,
    )


def _places(manifest: Manifest, wanted: set[str]) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for _, rows in manifest.scan([*manifest.place_columns, *LABELS]):
        held = [place for place, name in enumerate(rows["utterance_id"].to_pylist()) if name in wanted]
        found |= {row["utterance_id"]: row for row in rows.take(held).to_pylist()} if held else {}
    return found


def _labels(name: str, found: Mapping[str, Mapping[str, Any]]) -> dict[str, str | None]:
    return {
        label: next((held[name][label] for held in found.values() if held[name][label] is not None), None)
        for label in LABELS
    }
