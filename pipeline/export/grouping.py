"""Which utterances make which document, and on which side of the split it lies.

Both depend on names alone, so a document's side never moves when data is added; but where sides are those of speakers,
documents that share some stay together (``together.py``).
"""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from pipeline.audio.manifest import decode_id
from pipeline.errors import SettingsError
from pipeline.schema import LABELS

TRAIN, VALID = "train", "valid"


def key_of(text: str, salt: str = "") -> int:
    """Hash a text to 64 bits, BLAKE2b; of 24 million documents two share one with probability 2e-5."""
    return int.from_bytes(hashlib.blake2b(f"{salt}\0{text}".encode(), digest_size=8).digest(), "little")


def on_valid_side(name: str, valid_fraction: float) -> bool:
    """Say whether a document (or speaker) of a name belongs to the validation side; its name alone decides."""
    return key_of(name, "split") < valid_fraction * 2.0**64


@dataclass(frozen=True, kw_only=True)
class Together:
    """Documents that are not on the side that their own names, or their speakers', say: others keep them.

    Attributes:
        train: Hashes of those that are trained on, sorted little-endian uint64.
        valid: Hashes of those on the validation side, likewise.
    """

    train: bytes = b""
    valid: bytes = b""

    def __bool__(self) -> bool:
        return bool(self.train or self.valid)

    def side(self, document: int) -> bool | None:
        """Say whether a document is on the validation side; None where its own name decides."""
        for valid, packed in ((False, self.train), (True, self.valid)):
            keys = np.frombuffer(packed, "<u8")
            place = int(np.searchsorted(keys, np.uint64(document)))
            if place < len(keys) and int(keys[place]) == document:
                return valid
        return None


@dataclass(frozen=True, kw_only=True)
class Grouping:
    """What a document is.

    Attributes:
        by: ``utterance``; ``recording``, all segments of one; or a column of the manifest.
        pattern: Where given, a regular expression whose first group, in the utterance_id, names the document instead.
        plain_names: Whether it is also looked for in what the id encodes, where it finds nothing in the id.
    """

    by: str = "utterance"
    pattern: str | None = None
    plain_names: bool = False

    def __post_init__(self) -> None:
        if self.by not in ("utterance", "recording", *LABELS):
            raise SettingsError(f"documents must be utterance, recording or one of {', '.join(LABELS)}, got {self.by}")
        if self.pattern is None:
            return
        try:
            groups = re.compile(self.pattern).groups
        except re.error as error:
            raise SettingsError(f"document_pattern {self.pattern!r} is no regular expression: {error}") from error
        if groups < 1 or self.by != "utterance":
            raise SettingsError(
                "document_pattern needs a group in brackets, and no --documents beside it: it reads the utterance_id"
            )

    @cached_property
    def _pattern(self) -> re.Pattern[str] | None:
        return re.compile(self.pattern) if self.pattern is not None else None

    def found(self, name: str) -> str | None:
        """Give what the pattern finds in a name; None where that is nothing."""
        found = self._pattern.search(name) if self._pattern is not None else None
        return (found[1] or None) if found else None

    def document_id(self, utterance_id: str, labels: Mapping[str, Any]) -> str:
        """Name an utterance's document; its own name where the column is null or the pattern finds nothing.

        Args:
            utterance_id: Id of the utterance.
            labels: Its row of the manifest; may be empty where documents are utterances.
        """
        if self._pattern is not None:
            found = self.found(utterance_id)
            if found is None and self.plain_names and (plain := decode_id(utterance_id)) is not None:
                found = self.found(plain)
            return found or utterance_id
        if self.by == "utterance":
            return utterance_id
        if self.by == "recording":
            parts = [labels["recording"], labels.get("member"), labels.get("row_group"), labels.get("row")]
            if labels.get("channel") is not None:
                parts.append(f"channel {labels['channel']}")
            return "#".join(str(part) for part in parts if part is not None)
        return utterance_id if labels[self.by] is None else str(labels[self.by])
