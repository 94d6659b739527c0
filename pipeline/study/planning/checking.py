"""Settings of a job out of a table of a study, each checked against its type: a command line would have done that."""

import re
import types
from collections.abc import Mapping
from dataclasses import is_dataclass
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from pipeline.errors import SettingsError
from pipeline.settings import Settings, setting_paths

_LACKING = re.compile(r"missing \d+ required keyword-only arguments?: (.*)")
Kind = TypeVar("Kind", bound=Settings)


def made(kind: type[Kind], table: str, values: Mapping[str, Any]) -> Kind:
    """Make the settings of a job of what a table says.

    Raises:
        SettingsError: A setting is wrong, lacking or not one of this job; the message names the table.
    """
    hints = _hints(kind)
    for name, value in values.items():
        if name in hints and not fits(value, hints[name]):
            raise SettingsError(f"{table}: {name} must be {_told(hints[name])}, got {value!r}")
    try:
        return kind.of(**values)
    except (SettingsError, TypeError, ValueError, AttributeError) as error:
        lacking = _LACKING.search(str(error))
        told = f"{lacking[1]} is not set" if lacking else str(error).removeprefix(f"{kind.__name__} ")
        raise SettingsError(f"{table}: {told}") from error


def _hints(kind: Any) -> dict[str, Any]:
    """Give the type of each setting by its name as a flag."""
    found = {}
    for name, path in setting_paths(kind).items():
        at = kind
        for step in path:
            at = get_type_hints(at)[step]
        found[name] = at
    return found


def fits(value: Any, hint: Any) -> bool:
    """Say whether a value is of a type: plain ones, choices, tuples, and what may be None."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return any(fits(value, each) for each in arguments)
    if origin is Literal:
        return value in arguments
    if origin is tuple:
        if not isinstance(value, tuple):
            return False
        if arguments[-1] is Ellipsis:
            return all(fits(each, arguments[0]) for each in value)
        return len(value) == len(arguments) and all(map(fits, value, arguments))
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if hint is int:
        return type(value) is int
    return not isinstance(hint, type) or isinstance(value, hint) or is_dataclass(hint)


_NAMES = {int: "a whole number", float: "a number", str: "a text", bool: "true or false", type(None): "left away"}


def _told(hint: Any) -> str:
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return " or ".join(_told(each) for each in arguments)
    if origin is Literal:
        return f"one of {', '.join(map(str, arguments))}"
    if origin is tuple:
        return f"a list, each {_told(arguments[0])}"
    return _NAMES.get(hint, getattr(hint, "__name__", str(hint)))
