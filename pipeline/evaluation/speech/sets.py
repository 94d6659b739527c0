"""The sets of layers that a vocoder is judged on, by name."""

import logging
from collections.abc import Sequence

from pipeline import schema
from pipeline.errors import SettingsError
from pipeline.evaluation.settings import NAMED
from pipeline.vocoder.layer_sets import validation_sets
from pipeline.vocoder.spec import VocoderSpec

logger = logging.getLogger(__name__)


def layer_sets(spec: VocoderSpec, there: tuple[str, ...], wanted: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Give the sets, each once, under the first of its names.

    A vocoder without layer dropout speaks from all of its layers alone; of it, other named sets are left out, and the
    log says so.

    Args:
        spec: Of the vocoder.
        there: Its layers that the tokens have.
        wanted: Names as in ``layer_sets`` of the settings.

    Raises:
        SettingsError: The vocoder or the tokens have not such a layer, or no set is left.
    """
    named = {name: columns for name, columns in validation_sets(there).items() if _can(spec, columns)}
    found: dict[str, tuple[str, ...]] = {}
    for name in wanted:
        if name == "each":
            asked = {column: named[column] for column in there if column in named}
        elif name in NAMED:
            asked = {name: named[name]} if name in named else {}
        else:
            asked = {name: _columns(there, name)}
            spec.present(asked[name])
        found |= {title: columns for title, columns in asked.items() if columns not in found.values()}
    if len(there) > 1 and not spec.settings.layer_dropout and any(name in NAMED[1:] for name in wanted):
        logger.warning("this vocoder was trained without layer dropout and is judged with all of its layers alone")
    if not found:
        raise SettingsError(
            f"of the layers {', '.join(there)} there is no set {', '.join(wanted)} that the vocoder can speak from"
        )
    return found


def _columns(there: tuple[str, ...], name: str) -> tuple[str, ...]:
    asked = {schema.layer_column(int(part)) for part in name.split("+")}
    columns = tuple(column for column in there if column.split("_q")[0] in asked)
    if absent := sorted(asked - {column.split("_q")[0] for column in columns}):
        raise SettingsError(f"vocoder and tokens share {', '.join(there)}, and the set {name} asks for {absent[0]}")
    return columns


def _can(spec: VocoderSpec, columns: tuple[str, ...]) -> bool:
    return spec.settings.layer_dropout or set(columns) == set(spec.columns)
