r"""A Hugging Face tokenizer folder, in which every id of a vocabulary is one token that its name spells.

    AutoTokenizer.from_pretrained(folder)("<|begin_of_document|><|layer_07_12|><|layer_12_3|>").input_ids

Without text, a token is looked up by its name, space between tokens is skipped, and anything else is an error. With a
text tokenizer, its ids stay and ours come behind as added tokens, so text and units may stand in one string.

Documents begin and end with ``BEGIN`` and ``END``, the tokenizer's bos and eos, and neither is added to a string that
is encoded. ``EMPTY`` is what batches are padded with: it means that nothing stands there, where it stands follows from
the pattern alone, so collators that take padding out of the loss take nothing from it that was to be learned. ``END``
would be unlearned so, and ``<|unused_0|>`` is not there in every vocabulary.

An id of unit BPE is one token, ``<|bpe_5|>``: merges are those of ``bpe.py``, whose words are private characters.

Source of the files: huggingface/tokenizers 0.23, ``tokenizer.json``; huggingface/transformers 4.57 and 5.23,
``tokenizer_config.json``.
"""

import json
from dataclasses import dataclass
from typing import Any

import numpy as np
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers

from pipeline.errors import SettingsError
from pipeline.export.ids.vocabulary import BEGIN, EMPTY, END, Vocabulary

FOLDER = "tokenizer"
NAME = r"<\|[^<|>]+\|>"
"""How units, merges and padding are spelled."""


@dataclass(frozen=True, kw_only=True, eq=False)
class TextTokenizer:
    """The text ids of a Hugging Face tokenizer, without what it puts around a text.

    Attributes:
        source: Its folder or name.
        backend: The tokenizer, which neither cuts nor pads.
    """

    source: str
    backend: Tokenizer

    @classmethod
    def open(cls, source: str) -> "TextTokenizer":
        """Load a tokenizer.

        Args:
            source: A folder, or a name on the Hugging Face hub.

        Raises:
            SettingsError: There is none, or it is not a fast one, which `tokenizers` can write down.
        """
        from transformers import AutoTokenizer

        try:
            found = AutoTokenizer.from_pretrained(source)
        except (OSError, ValueError, KeyError) as error:
            raise SettingsError(f"text tokenizer {source} cannot be loaded: {error}") from error
        if not found.is_fast:
            raise SettingsError(
                f"text tokenizer {source} is {type(found).__name__}; one with a tokenizer.json is needed"
            )
        return cls.from_bytes(found.backend_tokenizer.to_str().encode(), source)

    @classmethod
    def from_bytes(cls, content: bytes, source: str) -> "TextTokenizer":
        """Read what ``to_bytes`` gave, or any ``tokenizer.json``."""
        backend = Tokenizer.from_str(content.decode())
        backend.no_truncation()
        backend.no_padding()
        return cls(source=source, backend=backend)

    def to_bytes(self) -> bytes:
        """Give ``tokenizer.json``."""
        return self.backend.to_str().encode()

    @property
    def size(self) -> int:
        """Ids up to the largest, which ``Vocabulary.build`` must be told as ``text_size``."""
        return max(self.backend.get_vocab(with_added_tokens=True).values()) + 1

    def __call__(self, text: str) -> np.ndarray:
        """Give the ids of a text, int64 (N,), without begin or end."""
        return np.array(self.backend.encode(text, add_special_tokens=False).ids, np.int64)


def tokenizer_folder(vocabulary: Vocabulary, text: TextTokenizer | None = None) -> dict[str, bytes]:
    """Give the files of a tokenizer folder by name; the same vocabulary gives the same bytes.

    Args:
        vocabulary: All ids.
        text: Where its text ids come from; None where it has none.

    Raises:
        SettingsError: The vocabulary was laid out for another text tokenizer, or a special token is spelled like, or
            lies in, another token.
    """
    names = vocabulary.names()
    _check_specials(vocabulary, names)
    if text is None:
        if vocabulary.text_size:
            raise SettingsError(f"the vocabulary has {vocabulary.text_size} text ids; name their text tokenizer")
        backend = _units_alone(vocabulary, names)
    else:
        backend = _behind_text(vocabulary, names, text)
    found = backend.get_vocab(with_added_tokens=True)
    for number, name in enumerate(names, vocabulary.text_size):
        if found.get(name) != number:
            raise SettingsError(
                f"{name} has id {found.get(name)} in the tokenizer and {number} in the vocabulary; the text tokenizer "
                "seems to have a token of that name, call ours otherwise"
            )
    if len(found) != vocabulary.size:
        raise SettingsError(f"the tokenizer has {len(found)} ids, the vocabulary {vocabulary.size}")
    config = json.dumps(_config(vocabulary), indent=1)
    return {"tokenizer.json": backend.to_str().encode(), "tokenizer_config.json": config.encode()}


def _check_specials(vocabulary: Vocabulary, names: list[str]) -> None:
    first = vocabulary.units_end - vocabulary.text_size
    others = "\n".join([*names[:first], *names[first + len(vocabulary.specials) :]])
    for special in vocabulary.specials:
        if special in others:
            raise SettingsError(f"special token {special!r} lies in the name of another token; call it <|{special}|>")


def _units_alone(vocabulary: Vocabulary, names: list[str]) -> Tokenizer:
    backend = Tokenizer(models.WordLevel({name: number for number, name in enumerate(names)}))
    steps = [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Split(Regex(NAME), "isolated")]
    backend.pre_tokenizer = pre_tokenizers.Sequence(steps)
    backend.decoder = decoders.Fuse()
    backend.add_special_tokens([AddedToken(name, normalized=False, special=True) for name in vocabulary.specials])
    return backend


def _behind_text(vocabulary: Vocabulary, names: list[str], text: TextTokenizer) -> Tokenizer:
    """Add our tokens to a copy of the text tokenizer, at their ids."""
    if text.size > vocabulary.text_size:
        raise SettingsError(
            f"text tokenizer {text.source} has ids up to {text.size - 1}, the vocabulary leaves "
            f"{vocabulary.text_size} for text; lay it out with text_size={text.size} or more"
        )
    parts = json.loads(text.to_bytes())
    _fill_gaps(parts)
    # What puts a begin and an end around a text would put them around documents that have theirs.
    backend = Tokenizer.from_str(json.dumps(parts | {"post_processor": None}))
    reserved = [f"<|reserved_text_{number}|>" for number in range(text.size, vocabulary.text_size)]
    special = set(vocabulary.specials)
    backend.add_tokens([AddedToken(name, normalized=False, special=name in special) for name in [*reserved, *names]])
    return backend


def _fill_gaps(parts: dict[str, Any]) -> None:
    """Give a name to ids between others that have none, since added tokens take the next id by their count."""
    model = parts["model"]["vocab"]
    added = {token["id"]: token["content"] for token in parts["added_tokens"]}
    if isinstance(model, list) or max(model.values(), default=-1) < len(model):
        return
    size = max([*model.values(), *added]) + 1
    there = set(model.values())
    for number in range(size):
        if number not in there:
            model[added.get(number, f"<|reserved_text_{number}|>")] = number


def _config(vocabulary: Vocabulary) -> dict[str, Any]:
    others = [name for name in vocabulary.specials if name not in (BEGIN, END, EMPTY)]
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "bos_token": BEGIN,
        "eos_token": END,
        "pad_token": EMPTY,
        "additional_special_tokens": others,
        "clean_up_tokenization_spaces": False,
        "model_input_names": ["input_ids", "attention_mask"],
    }
