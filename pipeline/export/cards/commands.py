"""How people open an export: front matter for the Hugging Face Hub, and commands for each format.

Files lie where ``export_tokens`` puts them: ``FORMAT/PART/train-00000.ENDING`` and ``valid-...``, beside them
``tokenizer/`` and ``vocabulary.json``.

Source: Hugging Face Hub, "Dataset cards" and "Data files configuration" (YAML metadata); Megatron-LM:
megatron/training/arguments.py; datatrove: utils/dataset.py; OLMo-core: data/numpy_dataset.py; SlamKit and fairseq:
their READMEs.
"""

import json
import re

from pipeline.cards.text import plain
from pipeline.export.cards.card import ALL, ExportCard
from pipeline.export.grouping import TRAIN, VALID

SPLITS = {TRAIN: "train", VALID: "validation"}
"""What ``datasets`` calls a side."""
TAGS = ("audio", "speech", "discrete-audio-tokens", "speech-language-modeling", "strata")
_SIZES = ("1K", "10K", "100K", "1M", "10M", "100M", "1B", "10B", "100B", "1T")
_LANGUAGE = re.compile(r"([a-zA-Z]{2,3})(?:[-_][a-zA-Z0-9]+)*")


def front_matter(card: ExportCard) -> str:
    """Write the YAML block that a dataset card begins with."""
    lines = [f"pretty_name: {_scalar(plain(card.name))}"]
    found = languages(card)
    if found:
        lines += ["language:", *(f"- {_scalar(code)}" for code in found)]
    lines += ["task_categories:", "- text-generation", "size_categories:", f"- {size_category(documents(card))}"]
    lines += ["tags:", *(f"- {tag}" for tag in TAGS)]
    if "parquet" in card.formats and card.formats["parquet"].sides:
        lines += ["configs:", "- config_name: default", "  data_files:"]
        for side in _sides(card, "parquet"):
            lines += [f"  - split: {SPLITS[side]}", f"    path: {_scalar(f'parquet/*/{side}-*.parquet')}"]
    return "\n".join(["---", *lines, "---"])


def languages(card: ExportCard) -> list[str]:
    """Give the languages that are codes of two or three letters, as the Hub wants them, without region."""
    codes = [_LANGUAGE.fullmatch(value) for value, _, _ in card.shares["language"].largest]
    return sorted({code[1].lower() for code in codes if code})


def size_category(documents: int) -> str:
    """Name the Hub's category for a number of documents, as ``1K<n<10K``."""
    powers = sum(documents >= 10 ** (3 + place) for place in range(len(_SIZES)))
    if powers in (0, len(_SIZES)):
        return f"n<{_SIZES[0]}" if not powers else f"n>{_SIZES[-1]}"
    return f"{_SIZES[powers - 1]}<n<{_SIZES[powers]}"


def documents(card: ExportCard) -> int:
    """Count the documents; where nothing was written, utterances."""
    return max((facts.documents for facts in card.formats.values()), default=card.amounts[ALL].utterances)


def commands(card: ExportCard) -> list[tuple[str, str, str]]:
    """Give for each format that was written: its name, the language of what opens it, and that."""
    return [
        (name, *_COMMANDS[name](card, _sides(card, name)))
        for name in sorted(card.formats)
        if name in _COMMANDS and card.formats[name].sides
    ]


def _sides(card: ExportCard, name: str) -> list[str]:
    return [side for side in SPLITS if side in card.formats[name].sides]


def _scalar(text: str) -> str:
    """Quote a string: what JSON writes is YAML as long as no control characters are in it."""
    return json.dumps(text, ensure_ascii=False)


def _megatron(card: ExportCard, sides: list[str]) -> tuple[str, str]:
    paths = [f"  --{side}-data-path $(ls megatron/*/{side}-*.idx | sed 's/\\.idx$//') \\" for side in sides]
    return "bash", "\n".join(
        [
            "# Each prefix is a data set of its own; --data-path takes the same list, and cuts it by --split.",
            "torchrun pretrain_gpt.py \\",
            *paths,
            "  --tokenizer-type HuggingFaceTokenizer --tokenizer-model tokenizer",
        ]
    )


def _nanotron(card: ExportCard, sides: list[str]) -> tuple[str, str]:
    size = 2 if card.vocabulary.dtype == "uint16" else 4
    return "python", "\n".join(
        [
            "from datatrove.utils.dataset import DatatroveFolderDataset",
            "",
            *(
                f'{side} = DatatroveFolderDataset("nanotron", seq_len=2048, filename_pattern="*/{side}-*.ds", '
                f"token_size={size}, return_positions=True)"
                for side in sides
            ),
        ]
    )


def _olmo(card: ExportCard, sides: list[str]) -> tuple[str, str]:
    dtype = "uint16" if card.vocabulary.dtype == "uint16" else "uint32"
    # Its own glob (3.0.0) looks into folders only where a pattern has two stars.
    return "python", "\n".join(
        [
            "from olmo_core.data import NumpyDatasetDType, NumpyFSLDatasetConfig",
            "",
            *(
                f'{side} = NumpyFSLDatasetConfig.glob("olmo/**/{side}-*.npy", sequence_length=2048, '
                f"tokenizer=tokenizer_config, dtype=NumpyDatasetDType.{dtype})"
                for side in sides
            ),
        ]
    )


def _parquet(card: ExportCard, sides: list[str]) -> tuple[str, str]:
    return "python", "\n".join(
        [
            "from datasets import load_dataset",
            "",
            *(
                f'{side} = load_dataset("path/of/this/folder", split="{SPLITS[side]}", streaming=True)'
                for side in sides
            ),
        ]
    )


def _webdataset(card: ExportCard, sides: list[str]) -> tuple[str, str]:
    return "python", "\n".join(
        [
            "from glob import glob",
            "",
            "import webdataset as wds",
            "",
            *(
                f'{side} = wds.WebDataset(sorted(glob("webdataset/*/{side}-*.tar")), shardshuffle=False)'
                '.decode().to_tuple("npy", "json")'
                for side in sides
            ),
        ]
    )


def _slamkit(card: ExportCard, sides: list[str]) -> tuple[str, str]:
    keys = {TRAIN: "data.train_path", VALID: "data.val_path"}
    paths = " ".join(f"{keys[side]}='slamkit/*/{side}-*.jsonl'" for side in sides)
    units = next(block.size for block in card.vocabulary.blocks if block.name == card.pattern["columns"][0])
    return "bash", f"# In a checkout of SlamKit, with a tokeniser of {units:,} units.\npython cli/train.py {paths}"


def _fairseq(card: ExportCard, sides: list[str]) -> tuple[str, str]:
    return "bash", "\n".join(
        [
            "mkdir units",
            *(f"cat fairseq/*/{side}-*.km > units/{side}" for side in sides),
            "fairseq-preprocess --only-source --srcdict fairseq/dict.km.txt \\",
            *(f"  --{side}pref units/{side} \\" for side in sides),
            "  --destdir units/binary",
        ]
    )


_COMMANDS = {
    "megatron": _megatron,
    "nanotron": _nanotron,
    "olmo": _olmo,
    "parquet": _parquet,
    "webdataset": _webdataset,
    "slamkit": _slamkit,
    "fairseq": _fairseq,
}
