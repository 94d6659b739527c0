"""The fixed sets of layers that a vocoder is validated and judged on. Knows no torch."""

from collections.abc import Sequence


def validation_sets(columns: Sequence[str]) -> dict[str, tuple[str, ...]]:
    """Give the sets of layers that validation speaks, by name.

    ``all``, each layer by its own name, ``lower`` and ``upper``: the first and last half in the order of the columns,
    which share the middle one of an odd number. A set that another name has already is not given twice.
    """
    half = (len(columns) + 1) // 2
    found = {"all": tuple(columns), **{column: (column,) for column in columns}}
    for name, chosen in (("lower", tuple(columns[:half])), ("upper", tuple(columns[-half:]))):
        if chosen not in found.values():
            found[name] = chosen
    if len(columns) == 1:
        del found[columns[0]]
    return found
