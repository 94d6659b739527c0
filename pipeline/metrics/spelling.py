"""One way to write English, so that spelling is no error."""

from functools import cache
from typing import Any


def english(text: str) -> str:
    """Give a text by whisper's rules, lower case and numbers as digits, without its table of British spellings."""
    return " ".join(str(_whisper()(text)).split())


@cache
def _whisper() -> Any:
    from transformers.models.whisper.english_normalizer import EnglishTextNormalizer

    return EnglishTextNormalizer({})  # type: ignore[no-untyped-call]
