"""The token of a Ray that is started here: a file that its owner alone can read. Knows no Ray.

Who reads the token of a running Ray can run code in it. Ray (2.60) makes one where there is none, as any new file is
made: readable by everyone with the usual umask.
"""

import contextlib
import os
import secrets
import stat
import tempfile
from pathlib import Path

_OTHERS = stat.S_IRWXG | stat.S_IRWXO


def keep_token_private() -> None:
    """Make the token that a local Ray will use if there is none, and take it from all others.

    Follows Ray's order: RAY_AUTH_TOKEN, the file of RAY_AUTH_TOKEN_PATH, ``~/.ray/auth_token``. What another program
    manages, as a mounted secret, stays as it is where this process may not change it.
    """
    if os.environ.get("RAY_AUTH_MODE", "token").lower() != "token" or os.environ.get("RAY_AUTH_TOKEN"):
        return
    named = os.environ.get("RAY_AUTH_TOKEN_PATH")
    path = Path(named) if named else Path.home() / ".ray" / "auth_token"
    if not named and not path.exists():
        _make(path)
    with contextlib.suppress(OSError):
        mode = path.stat().st_mode
        if mode & _OTHERS:
            path.chmod(stat.S_IMODE(mode) & ~_OTHERS)


def _make(path: Path) -> None:
    """Write a new token whole and private; of two processes that do so at once, both then use the first one's."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    # mkstemp makes files of mode 0600.
    file, temporary = tempfile.mkstemp(dir=path.parent)
    try:
        with os.fdopen(file, "w") as token:
            token.write(secrets.token_hex(32))
        with contextlib.suppress(FileExistsError):
            os.link(temporary, path)
    except OSError:
        # A disk without hard links.
        os.replace(temporary, path)
    finally:
        Path(temporary).unlink(missing_ok=True)
