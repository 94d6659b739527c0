"""The vocabulary of an export as it lies in its folder: one for all parts, to which each may add special tokens."""

import json
from collections.abc import Iterable, Sequence

from pipeline.audio.loading import Manifest
from pipeline.errors import SettingsError
from pipeline.export.ids.vocabulary import FILE, Vocabulary
from pipeline.store.storage import Store

FOLDER = "_vocabularies"
"""Folder of the vocabularies that parts were begun with."""


def read_vocabulary(store: Store) -> Vocabulary | None:
    """Read ``vocabulary.json`` of an export, None where there is none yet.

    Raises:
        CorruptDatasetError: It is damaged.
    """
    try:
        return Vocabulary.from_json(json.loads(store.read(FILE)), f"{store.uri}/{FILE}")
    except FileNotFoundError:
        return None


def with_specials(store: Store, vocabulary: Vocabulary, wanted: Iterable[str]) -> Vocabulary:
    """Add the special tokens that a part brings, and write the vocabulary.

    Args:
        store: The export's folder.
        vocabulary: The one of the parts before, or the first.
        wanted: Special tokens of this part, those that are there already too.

    Raises:
        SettingsError: They would take ids past the number format of the parts before.
    """
    extended = vocabulary.extended([name for name in dict.fromkeys(wanted) if name not in vocabulary.specials])
    before = read_vocabulary(store)
    if before is not None and before.dtype != extended.dtype:
        raise SettingsError(
            f"{len(extended.specials) - len(before.specials)} new special tokens take ids past uint16, in which the "
            f"parts before lie; export all parts into a new folder"
        )
    if before != extended:
        store.write(FILE, extended.to_bytes())
    return extended


def of_part(store: Store, part: str, vocabulary: Vocabulary) -> Vocabulary:
    """Give the vocabulary that a part was begun with: later parts may have added special tokens behind."""
    name = f"{FOLDER}/{part}.json"
    store.create(name, vocabulary.to_bytes())
    return Vocabulary.from_json(json.loads(store.read(name)), f"{store.uri}/{name}")


def values_of(manifest: Manifest | None, columns: Sequence[str]) -> dict[str, set[str]]:
    """Collect all values of some columns of a manifest."""
    found: dict[str, set[str]] = {column: set() for column in columns}
    if manifest is not None and columns:
        for _, rows in manifest.scan(list(columns)):
            for column in columns:
                found[column].update(value for value in rows[column].unique().to_pylist() if value is not None)
    return found
