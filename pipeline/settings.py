"""What all settings share: they are nested in code, and flat as flags, as keys of a preset and as arguments of ``of``.

Settings that several jobs have stand in a group, a dataclass with its own checks, and a job's config holds groups as
fields. So each setting, its help and its check is written once. Names differ within a job, whatever group they are in.
"""

from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields, is_dataclass, replace
from typing import Any, Self, get_type_hints


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Base of configs and of groups of settings."""

    @classmethod
    def of(cls, **flat: Any) -> Self:
        """Make a config of flat settings, each handed to the group that has it.

        Args:
            flat: Settings by the names that they have as flags; or a whole group by its own name.

        Raises:
            TypeError: There is no such setting, or a required one is not given.
            SettingsError: A value is out of range.
        """
        _check_names(cls, flat)
        made: Self = _made(cls, flat)
        return made

    def but(self, **flat: Any) -> Self:
        """Give the same settings with some changed, named as in ``of``.

        Raises:
            TypeError: There is no such setting.
            SettingsError: A value is out of range.
        """
        _check_names(type(self), flat)
        changed: Self = _changed(self, flat)
        return changed

    def flat(self) -> dict[str, Any]:
        """Give all settings by the names that they have as flags."""
        found = {}
        for name, path in setting_paths(type(self)).items():
            value: Any = self
            for step in path:
                value = getattr(value, step)
            found[name] = value
        return found


def _groups(kind: Any) -> dict[str, Any]:
    """Give the fields of a class that are groups of settings, and their classes."""
    hints = get_type_hints(kind)
    return {each.name: hints[each.name] for each in fields(kind) if is_dataclass(hints[each.name])}


def setting_paths(kind: Any) -> dict[str, tuple[str, ...]]:
    """Say where each setting of a class is, as ``{"layers": ("encoding", "layers")}``.

    Raises:
        TypeError: Two settings have one name, or a setting that of a group.
    """
    found: dict[str, tuple[str, ...]] = {}
    groups = _groups(kind)
    for field in fields(kind):
        inside = setting_paths(groups[field.name]) if field.name in groups else {field.name: ()}
        for name, path in inside.items():
            if name in found or name in groups:
                raise TypeError(f"{kind.__name__} has {name} twice: in {field.name} and elsewhere")
            found[name] = (field.name, *path)
    return found


def _check_names(kind: Any, flat: Mapping[str, Any]) -> None:
    known = {*setting_paths(kind), *_groups(kind)}
    if unknown := sorted(set(flat) - known):
        raise TypeError(f"{kind.__name__} has no setting {', '.join(unknown)}")
    for name, group in _groups(kind).items():
        if name in flat and (inside := sorted(set(flat) & set(setting_paths(group)))):
            raise TypeError(f"{kind.__name__} gets {', '.join(inside)} twice: alone and in {name}")


def _made(kind: Any, flat: Mapping[str, Any]) -> Any:
    groups, given = _groups(kind), {}
    for field in fields(kind):
        if field.name in flat:
            given[field.name] = flat[field.name]
        elif field.name in groups:
            part = _part(groups[field.name], flat)
            if field.default_factory is not MISSING:
                given[field.name] = _changed(field.default_factory(), part)
            elif field.default is not MISSING:
                given[field.name] = _changed(field.default, part)
            else:
                given[field.name] = _made(groups[field.name], part)
    return kind(**given)


def _changed(settings: Any, flat: Mapping[str, Any]) -> Any:
    changes = {}
    for field in fields(settings):
        if field.name in flat:
            changes[field.name] = flat[field.name]
        elif (group := _groups(type(settings)).get(field.name)) and (part := _part(group, flat)):
            changes[field.name] = _changed(getattr(settings, field.name), part)
    return replace(settings, **changes)


def _part(group: Any, flat: Mapping[str, Any]) -> dict[str, Any]:
    own = setting_paths(group)
    return {name: value for name, value in flat.items() if name in own}
