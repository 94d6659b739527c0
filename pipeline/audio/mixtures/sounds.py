"""Noises, or rooms: the rows of a manifest, drawn for utterances of their own split and decoded as far as is needed.

Memory: about 200 bytes per row, and of audio what one mixture needs.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.audio.decode import Decoder, to_float32
from pipeline.audio.loading import PLACE, Manifest, open_manifest
from pipeline.audio.mixtures.adding import stretch
from pipeline.audio.pieces import decode_arguments
from pipeline.errors import AudioDecodeError, DatasetError, SettingsError
from pipeline.passed_over import PassedOver

_SPLIT = "split"


def open_sounds(uri: str, setting: str) -> Manifest:
    """Open a manifest of noises or rooms.

    Args:
        uri: Where it is.
        setting: The setting that names it, for messages.

    Raises:
        SettingsError: It is no manifest, or its recordings cannot be entered at any place.
    """
    try:
        manifest = Manifest(uri)
    except DatasetError as error:
        raise SettingsError(
            f"--{setting} takes a manifest, as build_manifest --layout folder makes of a folder of recordings: {error}"
        ) from error
    if manifest.joined:
        raise SettingsError(f"--{setting} {uri} has utterances joined of pieces; give the manifest of the recordings")
    if not manifest.num_rows:
        raise SettingsError(f"--{setting} {uri} has no recording")
    return manifest


def splits_of(manifest: Manifest) -> dict[str | None, int]:
    """Count the utterances of a manifest by split."""
    found: dict[str | None, int] = {}
    for _, rows in manifest.scan([_SPLIT]):
        for split, count in zip(*rows[_SPLIT].value_counts().flatten(), strict=True):
            found[split.as_py()] = found.get(split.as_py(), 0) + count.as_py()
    return found


def check_splits(utterances: Manifest, sounds: Manifest, what: str) -> None:
    """Refuse utterances of a split for which there is no sound.

    Args:
        utterances: What is to be mixed.
        sounds: Noises or rooms.
        what: ``noise`` or ``room``.

    Raises:
        SettingsError: There are such.
    """
    there = splits_of(sounds)
    if set(there) == {None}:
        return
    wanted = splits_of(utterances)
    lacking = [split for split in wanted if split not in there]
    if lacking:
        told = ", ".join(f"{_spelt(split)} ({wanted[split]:,} utterances)" for split in sorted(lacking, key=_spelt))
        raise SettingsError(
            f"{sounds.dataset.uri} has no {what} of the split {told}, but of {', '.join(sorted(map(_spelt, there)))}; "
            f"each split of {utterances.dataset.uri} needs its own, or leave the splits out of both manifests"
        )


def _spelt(split: str | None) -> str:
    return "none" if split is None else split


class Sounds:
    """Draws recordings and decodes them."""

    def __init__(self, uri: str) -> None:
        """Read what there is.

        Args:
            uri: The manifest.
        """
        manifest = open_manifest(uri)
        self.uri = uri
        self.roots = tuple(manifest.roots)
        self._rows = pa.concat_tables([rows for _, rows in manifest.scan([*PLACE, _SPLIT])]).combine_chunks()
        self._numbers: dict[str | None, list[int]] = {}
        for number, split in enumerate(self._rows[_SPLIT].to_pylist()):
            self._numbers.setdefault(split, []).append(number)
        # Without any split, all serve all.
        self._split = set(self._numbers) != {None}

    def draw(self, split: str | None, draw: np.random.Generator) -> dict[str, Any]:
        """Draw a recording for an utterance of a split; each is as likely."""
        numbers = self._numbers[split if self._split else None]
        row: dict[str, Any] = self._rows.slice(numbers[int(draw.integers(len(numbers)))], 1).to_pylist()[0]
        return row

    def whole(self, row: Mapping[str, Any], decoder: Decoder, passed_over: PassedOver) -> np.ndarray:
        """Decode a recording.

        Returns:
            float32 (N,) at the decoder's rate.

        Raises:
            AudioDecodeError: It cannot be used; the detail names it.
        """
        return self._decoded(row, {}, decoder, passed_over)

    def part(
        self,
        row: Mapping[str, Any],
        num_samples: int,
        decoder: Decoder,
        draw: np.random.Generator,
        passed_over: PassedOver,
    ) -> np.ndarray:
        """Decode a stretch of a recording that begins at a drawn place; a shorter recording is repeated.

        Args:
            row: The recording.
            num_samples: Length of the stretch, at the decoder's rate.
            decoder: What decodes it.
            draw: Where it begins.
            passed_over: Counts what of the recording is not read.

        Returns:
            float32 (num_samples,).

        Raises:
            AudioDecodeError: It cannot be used; the detail names it.
        """
        wanted = -(-num_samples * row["sample_rate"] // decoder.sample_rate) + 1
        share = float(draw.random())
        if row["num_samples"] < wanted:
            noise = self._decoded(row, {}, decoder, passed_over)
            return stretch(noise, int(share * len(noise)), num_samples)
        offset = int(share * (row["num_samples"] - wanted + 1))
        place = {"offset_samples": row["offset_samples"] + offset, "num_samples": wanted}
        return stretch(self._decoded(row, place, decoder, passed_over), 0, num_samples)

    def _decoded(
        self, row: Mapping[str, Any], place: Mapping[str, int], decoder: Decoder, passed_over: PassedOver
    ) -> np.ndarray:
        try:
            found = to_float32(decoder.decode(**{**decode_arguments(row), **place}, passed_over=passed_over))
        except AudioDecodeError as error:
            raise AudioDecodeError(error.reason, f"{row['utterance_id']} of {self.uri}: {error.detail}") from error
        # A recording of no sample, as one so short that nothing is left of it at a lower rate, is silence.
        return found if len(found) else np.zeros(1, np.float32)
