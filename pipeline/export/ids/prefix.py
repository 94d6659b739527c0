"""The special tokens that a document begins with: fixed ones, and ones that name its language, speaker or layers.

A template as ``<|{language}|>`` gives one special token for each value that the manifest has, and one for none.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.errors import SettingsError
from pipeline.export.ids.vocabulary import Vocabulary

COLUMNS = ("language", "speaker", "emotion", "split")
"""Columns of a manifest whose values may become special tokens."""
LAYERS = "layers"
UNKNOWN = "unknown"
MAX_VALUES = 65_536
"""Special tokens that one column may give: past it a vocabulary would be mostly names."""

_FIELD = re.compile(r"{([^{}]*)}")


def fields_of(templates: Sequence[str]) -> list[str]:
    """Name the columns that templates read, each once.

    Raises:
        SettingsError: A template reads something else, or more than one.
    """
    found: list[str] = []
    for template in templates:
        names = _FIELD.findall(template)
        if len(names) > 1 or any(name not in (*COLUMNS, LAYERS) for name in names):
            raise SettingsError(
                f"prefix {template!r} may name one of {', '.join('{' + name + '}' for name in (*COLUMNS, LAYERS))}, "
                f"got {', '.join(names)}"
            )
        found += [name for name in names if name not in found]
    return [name for name in found if name != LAYERS]


@dataclass(frozen=True, kw_only=True)
class Prefix:
    """What a document begins with, after its begin token.

    Attributes:
        templates: Special tokens, each as it is or with one field, as ``<|{language}|>``.
        columns: Token columns that ``{layers}`` stands for.
        specials: Their ids.
    """

    templates: tuple[str, ...]
    columns: tuple[str, ...]
    specials: Mapping[str, int]

    @classmethod
    def of(cls, templates: Sequence[str], columns: Sequence[str], vocabulary: Vocabulary) -> "Prefix":
        """Look the tokens up in a vocabulary."""
        return cls(templates=tuple(templates), columns=tuple(columns), specials=vocabulary.special_ids)

    def ids(self, about: Mapping[str, Any]) -> list[int]:
        """Give the ids for a row of the manifest; without a manifest every column is unknown.

        Raises:
            SettingsError: A value has no special token.
        """
        found = []
        for template in self.templates:
            name = spelled(template, about, self.columns)
            if name not in self.specials:
                raise SettingsError(f"the vocabulary has no special token {name!r}, which prefix {template!r} needs")
            found.append(self.specials[name])
        return found


def spelled(template: str, about: Mapping[str, Any], columns: Sequence[str]) -> str:
    """Fill a template in."""

    def value(match: re.Match[str]) -> str:
        if match[1] == LAYERS:
            return "+".join(columns)
        found = about.get(match[1])
        return UNKNOWN if found is None else str(found)

    return _FIELD.sub(value, template)


def special_tokens(
    templates: Sequence[str], columns: Sequence[str], values: Mapping[str, Iterable[str]]
) -> tuple[str, ...]:
    """Name all special tokens that templates may give, in the order of templates and sorted values.

    Args:
        templates: As in ``Prefix``.
        columns: Token columns.
        values: All values of each manifest column that a template reads.

    Raises:
        SettingsError: A column has too many values.
    """
    found: dict[str, None] = {}
    for template in templates:
        fields = fields_of([template])
        if not fields:
            found[spelled(template, {}, columns)] = None
            continue
        held = sorted(set(values[fields[0]]))
        if len(held) > MAX_VALUES:
            raise SettingsError(f"{fields[0]} has more than {MAX_VALUES:,} values, too many for prefix {template!r}")
        found |= dict.fromkeys(spelled(template, {fields[0]: value}, columns) for value in [None, *held])
    return tuple(found)
