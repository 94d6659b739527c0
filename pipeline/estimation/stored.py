"""How many bytes recordings take where they are stored, by the places that a manifest gives."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.audio.loading import Manifest

_MOST_FILES = 64


@dataclass(frozen=True, kw_only=True)
class Stored:
    """What some recordings are in the store.

    Attributes:
        bytes_per_second: Of audio.
        whole_files: Whether each recording is a file of its own; else they are members of larger files.
    """

    bytes_per_second: float
    whole_files: bool


def stored_audio(manifest: Manifest, units: Sequence[str]) -> Stored | None:
    """Look at the recordings of some shards.

    Args:
        manifest: The manifest.
        units: Its shards.

    Returns:
        None where recordings are cells of a table, joined of pieces, or gone.
    """
    if manifest.joined:
        return None
    num_bytes = seconds = 0.0
    sizes: dict[str, int] = {}
    members = 0
    for unit in units:
        for row in manifest.rows(unit).to_pylist():
            if row["num_bytes"] is None and (
                row["member"] is not None or (row["uri"] not in sizes and len(sizes) == _MOST_FILES)
            ):
                continue
            seconds += row["num_samples"] / row["sample_rate"]
            if row["num_bytes"] is not None:
                members += 1
                num_bytes += row["num_bytes"]
            elif row["uri"] not in sizes:
                try:
                    sizes[row["uri"]] = _size(row["uri"])
                except OSError:
                    return None
    if not seconds:
        return None
    return Stored(bytes_per_second=(num_bytes + sum(sizes.values())) / seconds, whole_files=not members)


def _size(uri: str) -> int:
    if "://" not in uri:
        return os.path.getsize(uri)
    import s3fs

    found: dict[str, Any] = s3fs.S3FileSystem(use_listings_cache=False).info(uri)
    return int(found["size"])
