"""The parts of an export: each a tokens dataset that was exported into the same folder, one after the other.

``_parts/part-000.json`` says what a part is made of; it is created once and never changed. The settings of an export
lie in its ``_plan.json``: a part that comes later is written with the same ones, or refused.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from pipeline.errors import CorruptDatasetError, DatasetError, SettingsError
from pipeline.store.dataset import canonical
from pipeline.store.storage import Store

FOLDER = "_parts"


@dataclass(frozen=True, kw_only=True)
class Part:
    """What a part is made of.

    Attributes:
        name: As ``part-000``.
        corpus: What the card calls it.
        tokens_sha256: Hash of the tokens dataset.
        manifest_sha256: Hash of the manifest, None without.
        lineage: Where the tokens come from: encoder, codebooks and their hashes.
        rejects: Rejects by reason, of the manifest and of the tokens.
    """

    name: str
    corpus: str
    tokens_sha256: str
    manifest_sha256: str | None
    lineage: Mapping[str, Any]
    rejects: Mapping[str, Mapping[str, int]]


def read_parts(store: Store) -> list[Part]:
    """Read the parts of an export, oldest first.

    Raises:
        CorruptDatasetError: A file is damaged.
    """
    names = [f"{FOLDER}/{name}" for name in store.names(FOLDER)]
    parts = []
    for name, data in zip(names, store.read_many(names), strict=True):
        try:
            parts.append(Part(**json.loads(data)))
        except (ValueError, TypeError) as error:
            raise CorruptDatasetError(f"{store.uri}/{name} is damaged ({error}); restore it") from error
    return parts


def find_part(store: Store, wanted: Part) -> Part:
    """Find the part that is made of the same tokens, else the next one's name for it. Writes nothing.

    Raises:
        SettingsError: The same tokens were exported with another manifest.
    """
    parts = read_parts(store)
    for part in parts:
        if part.tokens_sha256 == wanted.tokens_sha256:
            if part.manifest_sha256 != wanted.manifest_sha256:
                raise SettingsError(
                    f"{store.uri} holds these tokens already, exported with another manifest as {part.name}; "
                    "give the same manifest, or another folder"
                )
            return part
    return Part(**{**asdict(wanted), "name": f"part-{len(parts):03d}"})


def claim_part(store: Store, wanted: Part) -> Part:
    """Take the part that is made of the same tokens, or make the next one.

    Raises:
        DatasetError: Another run has just taken the next part for other tokens.
    """
    part = find_part(store, wanted)
    store.create(f"{FOLDER}/{part.name}.json", canonical(asdict(part)).encode())
    # Whatever create() said: another run of the same tokens may have been first with the same part.
    if part.tokens_sha256 not in {held.tokens_sha256 for held in read_parts(store)}:
        raise DatasetError(
            f"another export into {store.uri} has just begun {part.name}; run this one again when it has finished"
        )
    return find_part(store, wanted)
