"""The hashes of what no commit of an export names: vocabulary, tokenizer, merges, parts, plans and the card's numbers.

They go into ``_SUCCESS`` of the export, where ``verify_dataset`` finds them. The card's README and plots are left out:
they are for people, who may edit them.
"""

from collections.abc import Iterator, Sequence

from pipeline.export.cards import making
from pipeline.export.formats.registry import FORMATS
from pipeline.export.ids import bpe, tokenizer_folder, vocabularies, vocabulary
from pipeline.export.shards import parts
from pipeline.store.dataset import PLAN, sha256
from pipeline.store.storage import Store

KINDS = ("sequences", "scattered", *FORMATS)


def sealed_files(store: Store, finished: Sequence[parts.Part]) -> dict[str, str]:
    """Hash the files of an export that no commit names.

    Args:
        store: The export's folder.
        finished: The parts whose sequences are whole; files of others may still come or change.

    Returns:
        SHA-256 by name.
    """
    names = [name for name in _names(store, finished) if store.exists(name)]
    return {name: sha256(data) for name, data in zip(names, store.read_many(names), strict=True)}


def _names(store: Store, finished: Sequence[parts.Part]) -> Iterator[str]:
    yield from (vocabulary.FILE, bpe.FILE, making.JSON)
    yield from (f"{tokenizer_folder.FOLDER}/{name}" for name in store.names(tokenizer_folder.FOLDER))
    for part in finished:
        yield from (f"{folder}/{part.name}.json" for folder in (parts.FOLDER, vocabularies.FOLDER))
        yield from (f"{kind}/{part.name}/{PLAN}" for kind in KINDS)
