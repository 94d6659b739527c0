"""The ids of exported sequences: which token of which layer, text or special token each stands for.

    0 ........ text ids of another tokenizer, as they are | layer blocks | unit BPE | special tokens | padding

Blocks touch and never overlap. Special tokens come last, so that a corpus that grows may bring new ones (a language,
a speaker) while every older id stays. The size is a multiple of 128, which embedding tables of trainers want.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from pipeline.errors import CorruptDatasetError, SettingsError

FILE = "vocabulary.json"
MULTIPLE = 128
BEGIN, END, EMPTY = "<|begin_of_document|>", "<|end_of_document|>", "<|empty|>"
"""Special tokens that every vocabulary has; ``EMPTY`` fills what a delay leaves open."""
SPEECH, TEXT = "<|speech|>", "<|text|>"
"""Special tokens that stand before stretches of speech and of text where the two are interleaved."""
FRAMING = 2
"""Ids of a document beside its prefix and its rows: begin and end."""

_RESERVED = re.compile(r"<\|(layer_\d+(_q\d+)?|bpe|unused|reserved_text)_\d+\|>")


@dataclass(frozen=True, kw_only=True)
class Block:
    """Consecutive ids.

    Attributes:
        name: Column of a tokens dataset, as ``layer_07``; or ``bpe``.
        start: First id.
        size: How many.
    """

    name: str
    start: int
    size: int

    @property
    def end(self) -> int:
        """First id past the block."""
        return self.start + self.size


@dataclass(frozen=True, kw_only=True)
class Vocabulary:
    """All ids, and what they stand for.

    Attributes:
        text_size: Ids of a text tokenizer, 0 up to this one; 0 where there is no text.
        layers: A block for each token column, coarse layer first: token k of it is id ``start + k``.
        bpe: Ids that stand for several tokens, in the order in which they were merged; None without unit BPE.
        specials: Special tokens in the order of their ids.
    """

    text_size: int
    layers: tuple[Block, ...]
    bpe: Block | None
    specials: tuple[str, ...]

    @classmethod
    def build(
        cls,
        num_clusters: Mapping[str, int],
        *,
        text_size: int = 0,
        num_merges: int = 0,
        specials: Sequence[str] = (),
    ) -> "Vocabulary":
        """Lay out the blocks.

        Args:
            num_clusters: K of each token column, in the order of their blocks.
            text_size: Ids that a text tokenizer uses.
            num_merges: Ids of unit BPE beyond single tokens.
            specials: Special tokens beside ``BEGIN``, ``END`` and ``EMPTY``.

        Raises:
            SettingsError: Nothing to lay out, or a special token is named twice.
        """
        if not num_clusters or min(num_clusters.values()) < 1 or text_size < 0 or num_merges < 0:
            raise SettingsError(f"a vocabulary needs at least one layer of at least one token, got {num_clusters}")
        layers, start = [], text_size
        for name, size in num_clusters.items():
            layers.append(Block(name=name, start=start, size=size))
            start += size
        bpe = Block(name="bpe", start=start, size=num_merges) if num_merges else None
        return cls(text_size=text_size, layers=tuple(layers), bpe=bpe, specials=(BEGIN, END, EMPTY)).extended(specials)

    def extended(self, specials: Sequence[str]) -> "Vocabulary":
        """Add special tokens behind those there are; no id moves.

        Raises:
            SettingsError: One is there already, or is empty.
        """
        names = (*self.specials, *specials)
        if len(set(names)) < len(names) or not all(name and name == name.strip() for name in names):
            raise SettingsError(f"special tokens must differ and not be empty, got {', '.join(map(repr, specials))}")
        if reserved := [name for name in specials if _RESERVED.fullmatch(name)]:
            raise SettingsError(f"{', '.join(reserved)} may stand for a unit; spell special tokens in another way")
        return replace(self, specials=names)

    @property
    def units_start(self) -> int:
        """First id of the layers."""
        return self.layers[0].start

    @property
    def units_end(self) -> int:
        """First id past the layers and their unit BPE."""
        return self.bpe.end if self.bpe else self.layers[-1].end

    @property
    def used(self) -> int:
        """Ids that stand for something: 0 up to this one."""
        return self.units_end + len(self.specials)

    @property
    def size(self) -> int:
        """All ids, the padding included: a multiple of 128."""
        return -(-self.used // MULTIPLE) * MULTIPLE

    @property
    def dtype(self) -> np.dtype[Any]:
        """Little-endian uint16 while the largest id fits, else int32.

        Raises:
            SettingsError: Ids pass int32.
        """
        if self.size <= 1 << 16:
            return np.dtype("<u2")
        if self.size > 1 << 31:
            raise SettingsError(f"a vocabulary of {self.size:,} ids passes int32; use fewer clusters or layers")
        return np.dtype("<i4")

    def layer(self, column: str) -> Block:
        """Give the block of a token column.

        Raises:
            SettingsError: There is none.
        """
        for block in self.layers:
            if block.name == column:
                return block
        raise SettingsError(f"the vocabulary has {', '.join(block.name for block in self.layers)}, not {column}")

    def special(self, name: str) -> int:
        """Give the id of a special token.

        Raises:
            SettingsError: There is none.
        """
        try:
            return self.special_ids[name]
        except KeyError:
            raise SettingsError(f"the vocabulary has no special token {name!r}") from None

    @cached_property
    def special_ids(self) -> Mapping[str, int]:
        """The ids of all special tokens: speakers may be tens of thousands of them."""
        return {name: self.units_end + place for place, name in enumerate(self.specials)}

    def names(self) -> list[str]:
        """Name every id from ``units_start`` on, padding included, as ``<|layer_07_12|>``."""
        units = [f"<|{block.name}_{token}|>" for block in self.layers for token in range(block.size)]
        merged = [f"<|bpe_{number}|>" for number in range(self.bpe.size if self.bpe else 0)]
        padding = [f"<|unused_{number}|>" for number in range(self.size - self.used)]
        return [*units, *merged, *self.specials, *padding]

    def check(self, ids: np.ndarray) -> np.ndarray:
        """Give ids as they are stored.

        Args:
            ids: Integers of any shape.

        Returns:
            The same in ``dtype``.

        Raises:
            SettingsError: One stands for nothing; it would have been cut to another.
        """
        if ids.size and not 0 <= int(ids.min()) <= int(ids.max()) < self.used:
            raise SettingsError(f"ids must lie in [0, {self.used}), got {int(ids.min())} to {int(ids.max())}")
        return ids.astype(self.dtype)

    def to_json(self) -> dict[str, Any]:
        """Give the content of ``vocabulary.json``."""
        return {
            "size": self.size,
            "used": self.used,
            "dtype": "uint16" if self.dtype.itemsize == 2 else "int32",
            "text": {"start": 0, "size": self.text_size},
            "layers": [asdict(block) for block in self.layers],
            "bpe": asdict(self.bpe) if self.bpe else None,
            "specials": dict(self.special_ids),
        }

    @classmethod
    def from_json(cls, found: Mapping[str, Any], source: str) -> "Vocabulary":
        """Read the content of ``vocabulary.json``.

        Raises:
            CorruptDatasetError: It is no vocabulary, or its numbers contradict each other.
        """
        try:
            vocabulary = cls(
                text_size=found["text"]["size"],
                layers=tuple(Block(**block) for block in found["layers"]),
                bpe=Block(**found["bpe"]) if found["bpe"] else None,
                specials=tuple(sorted(found["specials"], key=found["specials"].__getitem__)),
            )
            whole = vocabulary.to_json() == dict(found)
        except (KeyError, TypeError, IndexError) as error:
            raise CorruptDatasetError(f"{source} is no vocabulary: {error!r}") from error
        if not whole:
            raise CorruptDatasetError(f"{source} contradicts itself; restore it, or export anew")
        return vocabulary

    def to_bytes(self) -> bytes:
        """Give ``vocabulary.json``."""
        return json.dumps(self.to_json(), indent=1).encode()
