"""The facts of a card as JSON: equal facts give equal bytes."""

import json
from collections.abc import Mapping
from typing import Any

_DIGITS = 9


def card_bytes(facts: Mapping[str, Any]) -> bytes:
    """Write the facts of a card as JSON: sorted keys, numbers of nine digits, a line for each of the facts."""
    lines = [
        f"{json.dumps(name)}: {json.dumps(value, sort_keys=True)}" for name, value in sorted(_rounded(facts).items())
    ]
    return ("{\n" + ",\n".join(lines) + "\n}\n").encode()


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.{_DIGITS}g}")
    if isinstance(value, Mapping):
        return {name: _rounded(found) for name, found in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(found) for found in value]
    return value
