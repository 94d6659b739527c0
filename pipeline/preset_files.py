"""Presets: settings of a job in a TOML file, one that ships or a user's own."""

import tomllib
from pathlib import Path
from typing import Any

from pipeline.errors import SettingsError


def preset_file(name: str) -> Path:
    """Find a preset: a file, or the name of one that ships.

    Raises:
        SettingsError: There is none.
    """
    package = Path(__file__).parent
    folders = (package.parent / "jobs" / "presets", package / "presets")
    candidates = [Path(name), *(folder / f"{Path(name).stem}.toml" for folder in folders)]
    for candidate in candidates:
        if candidate.is_file():
            return candidate
    shipped = sorted({file.stem for folder in folders for file in folder.glob("*.toml")})
    raise SettingsError(f"no preset {name!r}: neither a file nor one of {', '.join(shipped)}")


def read_preset(name: str) -> dict[str, Any]:
    """Read the settings of a preset, by their names as flags with underscores.

    Raises:
        SettingsError: There is none, or it is no TOML.
    """
    path = preset_file(name)
    try:
        return tomllib.loads(path.read_text())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"preset {path} is not TOML: {error}") from error
