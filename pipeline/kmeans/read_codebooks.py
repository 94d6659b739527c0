"""Reads the codebooks of finished datasets, checked against their commits. Knows no Ray.

Memory: all codebooks of the dataset for a moment, then those wanted.
"""

from collections.abc import Sequence

from pipeline.errors import SettingsError
from pipeline.features.encoders.shipped import codebooks_folder
from pipeline.kmeans.codebook import Codebook
from pipeline.kmeans.residual import chains
from pipeline.store.dataset import Dataset
from pipeline.store.reading import read_committed


def read_units(dataset: Dataset) -> dict[str, Codebook]:
    """Read every codebook of a finished dataset.

    Returns:
        By unit, as ``layer_07_k1000``, in the order of the plan.

    Raises:
        CorruptDatasetError: A file is damaged.
    """
    return {
        unit: Codebook.from_bytes(read_committed(dataset, unit), f"{dataset.uri}/{unit}") for unit in dataset.plan.units
    }


def read_codebooks(uri: str, layers: Sequence[int] = (), num_clusters: int | None = None) -> list[Codebook]:
    """Read the codebooks that tokens of some layers need: all residual stages, of one K a layer.

    Args:
        uri: The codebooks dataset, or ``encoder-small`` for those that ship.
        layers: Layers wanted, default all that have codebooks, of ``num_clusters`` where it is given.
        num_clusters: K wanted; needed where a layer has codebooks of several.

    Returns:
        Codebooks by layer and stage, ascending.

    Raises:
        SettingsError: A layer has no codebook there, or several of different K and none is chosen.
        CorruptDatasetError: A file is damaged.
        CodebookMismatchError: The stages of a layer do not follow from each other.
    """
    found = read_units(Dataset.open(codebooks_folder(uri), kind="codebooks"))
    books = [
        book
        for book in found.values()
        if (not layers or book.layer in layers) and num_clusters in (None, book.num_clusters)
    ]
    if (absent := sorted(set(layers) - {book.layer for book in books})) or not books:
        size = "" if num_clusters is None else f" of K = {num_clusters}"
        which = f"layers {absent}" if absent else "any layer"
        raise SettingsError(f"{uri} has no codebook{size} for {which}; it has {', '.join(found)}")
    grouped = chains(books)
    for layer in {layer for layer, _ in grouped}:
        sizes = [size for other, size in grouped if other == layer]
        if len(sizes) > 1:
            raise SettingsError(
                f"{uri} has codebooks of K = {', '.join(map(str, sizes))} for layer {layer}; "
                "choose one with --num-clusters"
            )
    return [book for chain in grouped.values() for book in chain]
