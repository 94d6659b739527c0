"""The parts of an export: each a tokens dataset that was exported into the same folder, one after the other.

``_parts/part-000.json`` says what a part is made of; it is created once and never changed. The settings of an export
lie in its ``_plan.json``: a part that comes later is written with the same ones, or refused.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from pipeline.errors import CorruptDatasetError, DatasetError, SettingsError
from pipeline.export.grouping import key_of
from pipeline.export.shards.layout import read_columns
from pipeline.store.completion import status, success
from pipeline.store.dataset import SUCCESS, Dataset, canonical
from pipeline.store.storage import Store, join, open_store

FOLDER = "_parts"
KEPT_LINEAGE = ("encoder", "encoder_sha256", "layers", "num_clusters", "codebooks", "frame_rate", "hop_length", "dtype")


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


def part_of(tokens: Dataset, manifest: Dataset | None, corpus: str | None) -> Part:
    """Say what a part of these tokens would be made of; it has no name yet.

    Args:
        tokens: The tokens dataset.
        manifest: Their manifest, None without.
        corpus: What the card calls it; default: the last name of the tokens' path before "tokens".
    """
    made_of = [tokens] if manifest is None else [manifest, tokens]
    names = [name for name in tokens.uri.rstrip("/").split("/") if name != "tokens"]
    return Part(
        name="",
        corpus=corpus or names[-1],
        tokens_sha256=success(tokens)["dataset_sha256"],
        manifest_sha256=success(manifest)["dataset_sha256"] if manifest is not None else None,
        lineage={key: tokens.plan.lineage.get(key) for key in KEPT_LINEAGE},
        rejects={dataset.plan.kind: dict(status(dataset).reasons) for dataset in made_of},
    )


def refuse_known(store: Store, wanted: Part, tokens: Dataset) -> None:
    """Refuse tokens of utterances that another part has: they would be exported twice.

    Args:
        store: The export's folder.
        wanted: The part that is to be written, with its name.
        tokens: The tokens dataset that it is made of.

    Raises:
        SettingsError: There are some.
        DatasetError: Another part was begun whose utterances and special tokens are not all there yet.
    """
    parts = read_parts(store)
    if not parts or wanted.name in {part.name for part in parts}:
        return
    mine = _utterances(tokens)
    for part in parts:
        sequences = join(store.uri, "sequences", part.name)
        if not open_store(sequences).exists(SUCCESS):
            raise DatasetError(
                f"{part.name} of {store.uri}, the tokens of {part.corpus}, is not finished; run its export again first"
            )
        held = _utterances(Dataset.open(sequences, kind="sequences"))
        if (count := len(np.intersect1d(mine, held))) > 0:
            raise SettingsError(
                f"{count:,} utterances of {tokens.uri} are in {part.name} of {store.uri} already; build the "
                "manifest of what is new with build_manifest --known, and tokenise that"
            )


def speaker_sides(store: Store, wanted: Part) -> dict[str, bool | None]:
    """Say on which side the speakers of the parts before a part are: validation or not; None where on both.

    Parts that are not finished are left out: another one cannot begin before they are (``refuse_known``).
    """
    sides: dict[str, bool | None] = {}
    for part in read_parts(store):
        uri = join(store.uri, "sequences", part.name)
        if part.name >= wanted.name or not open_store(uri).exists(SUCCESS):
            continue
        for rows in read_columns(Dataset.open(uri, kind="sequences"), ["speaker", "valid"]):
            for pair in rows.group_by(["speaker", "valid"]).aggregate([]).to_pylist():
                if pair["speaker"] is not None:
                    same = sides.setdefault(pair["speaker"], pair["valid"]) == pair["valid"]
                    sides[pair["speaker"]] = pair["valid"] if same else None
    return sides


def _utterances(dataset: Dataset) -> np.ndarray:
    """Hash the utterance ids of a dataset: uint64, 8 bytes each instead of their text."""
    found = [
        np.fromiter((key_of(name) for name in rows["utterance_id"].unique().to_pylist()), np.uint64)
        for rows in read_columns(dataset, ["utterance_id"])
    ]
    return np.concatenate(found)
