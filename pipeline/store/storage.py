"""Stores: named bytes under one root, on local disk or S3, with the two operations that a commit needs.

A write appears whole or not at all, and ``create`` (put-if-absent) lets exactly one of several writers win.
Nothing here knows what the bytes mean; datasets are built on top in ``dataset.py``.
"""

import contextlib
import errno
import os
import re
import shutil
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar
from urllib.parse import urlsplit

from pipeline import faults
from pipeline.errors import SettingsError, StorageError
from pipeline.redaction import holds_secret, redact_uri
from pipeline.settings import Settings
from pipeline.store.s3_store import Bytes, S3Store

Located = TypeVar("Located", bound=Settings)

TEMPORARY = "_tmp-"
"""How the names of unfinished local files begin; one that stays was left by a killed process."""

PROBES = "_probe"
"""Folder of the names by which a store is tried; what a killed process leaves in it goes when a dataset is finished."""

_FOLDER_RETRIES = 5
_PROBES_TRIED = 3
_TORN = re.compile(r"(?:s3[an]?|gs|gcs|https?|hdfs|abfss?|file)(?::/(?!/)|//)", re.IGNORECASE)
_NO_HARD_LINKS = (errno.EPERM, errno.ENOTSUP, errno.EMLINK, errno.ENOSYS)
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""A disk, a quota, or the largest file that a process may write."""


class Store(Protocol):
    """Named bytes under one root; names are relative POSIX paths.

    Every method may raise StorageError; a missing name raises FileNotFoundError.
    """

    uri: str

    def read(self, name: str) -> bytes:
        """Give the whole content of a name."""

    def read_many(self, names: Sequence[str]) -> list[bytes]:
        """Give the contents of several names, read concurrently, in their order."""

    def write(self, name: str, data: Bytes) -> None:
        """Put content under a name, replacing what was there; readers see the old or the new whole."""

    def create(self, name: str, data: Bytes) -> bool:
        """Put content under a name only if the name is free; False when it is taken."""

    def copy(self, source: str, target: str) -> None:
        """Make a name show the content of another; repeating it changes nothing."""

    def delete(self, names: Iterable[str]) -> None:
        """Remove names; those already gone are no error."""

    def delete_tree(self, folder: str) -> None:
        """Remove all names below a folder."""

    def names(self, folder: str = "") -> list[str]:
        """Name the files directly in a folder, sorted, without the folder; [] when there is none."""

    def tree(self, folder: str) -> list[str]:
        """Name all files below a folder, sorted, relative to the root."""

    def exists(self, name: str) -> bool:
        """Say whether a name has content."""

    def open(self, name: str) -> Any:
        """Open a name as a seekable binary file, for readers that need only parts of it."""

    def open_whole(self, name: str) -> Any:
        """Open a name as a seekable binary file on a local disk, for readers that need all of it, part by part."""


def check_uri(uri: str, what: str = "a storage URI") -> None:
    """Refuse a place that carries credentials or a signature, or a URI that misses a slash.

    Args:
        uri: A local path or URI.
        what: What it is, for the message.

    Raises:
        SettingsError: The message shows no secret.
    """
    if holds_secret(uri):
        raise SettingsError(
            f"{what} must not carry credentials or a signed query; give them to the environment (AWS_PROFILE, instance "
            f"role): {redact_uri(uri)}. A local path that only looks so begins with ./"
        )
    if _TORN.match(uri):
        raise SettingsError(
            f"{what} is a local path or s3://bucket/prefix, got {uri!r}, which misses a slash or a colon. A local path "
            "that only looks so begins with ./"
        )


def open_store(uri: str) -> "Store":
    """Open the store at a local path or an ``s3://bucket/prefix``.

    Raises:
        SettingsError: The scheme is another one, or the URI carries credentials.
    """
    check_uri(uri)
    parts = urlsplit(uri)
    if parts.scheme == "s3":
        if parts.query:
            raise SettingsError(f"a storage URI has no query: {redact_uri(uri)}")
        return S3Store(uri)
    if "://" in uri and parts.scheme != "file":
        raise SettingsError(f"storage is a local path or s3://bucket/prefix, got {uri!r}")
    store = LocalStore(uri.removeprefix("file://"))
    if store.root.is_file():
        raise SettingsError(f"{store.uri} is a file, where the folder of a dataset or a model is needed")
    return store


def join(uri: str, *names: str) -> str:
    """Append path segments to a local path or S3 URI."""
    return "/".join([uri.rstrip("/") or "/", *names])


def absolute(uri: str) -> str:
    """Make a local path independent of the working directory, which differs between driver and workers."""
    return uri if not uri or "://" in uri else str(Path(uri).absolute())


def located(settings: Located, *names: str) -> Located:
    """Give the same settings with absolute local paths: workers may have another working directory.

    Args:
        settings: A config.
        names: Those of its settings that are paths; what is not given stays so.
    """
    paths = settings.flat()
    return settings.but(**{name: absolute(paths[name]) for name in names if paths[name]})


def probe(store: Store) -> None:
    """Refuse a store whose put-if-absent does not hold, because commits rest on it.

    Raises:
        StorageError: The same name could be created twice, or the store cannot be written.
    """
    try:
        # Again, because another run that finishes the dataset removes the names of all probes.
        held = any(_creates_once(store) for _ in range(_PROBES_TRIED))
    except OSError as error:
        raise StorageError(f"{store.uri} cannot be written: {error}") from error
    if not held:
        raise StorageError(
            f"{store.uri} let one name be created twice; commits need put-if-absent "
            "(S3: If-None-Match). Choose another store or upgrade its server."
        )


def _creates_once(store: Store) -> bool:
    name = f"{PROBES}/{uuid.uuid4().hex}"
    try:
        first = store.create(name, b"1")
        faults.point("during_probe", store.uri)
        return first and not store.create(name, b"2") and store.read(name) == b"1"
    except FileNotFoundError:
        return False
    finally:
        store.delete([name])


class LocalStore:
    """A folder on a disk that all workers share (or the only machine's own)."""

    def __init__(self, root: str) -> None:
        self.root = Path(root).absolute()
        self.uri = str(self.root)

    def _path(self, name: str) -> Path:
        return self.root / name

    def _temporary(self, name: str, data: Bytes) -> Path:
        # In the root's own folder: a link or rename must not cross file systems.
        path = self.root / f"{TEMPORARY}{Path(name).name}.{uuid.uuid4().hex}"
        try:
            with path.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
        except OSError:
            path.unlink(missing_ok=True)
            raise
        return path

    @contextlib.contextmanager
    def _room(self, name: str) -> Iterator[None]:
        """Say what to do where the disk has no room for a name."""
        try:
            yield
        except OSError as error:
            if error.errno not in _FULL:
                raise
            raise StorageError(
                f"{self.root} has no room for {name} ({error.strerror}); what is committed stays: "
                "free space or raise the limit, and run the same command again"
            ) from error

    def _settle(self, name: str, step: Callable[[Path], None]) -> None:
        """Run a step that makes a name, again where another process has just removed its folder."""
        for _ in range(_FOLDER_RETRIES):
            with contextlib.suppress(FileNotFoundError), self._room(name):
                self._path(name).parent.mkdir(parents=True, exist_ok=True)
                return step(self._path(name))
        raise StorageError(f"{self._path(name)} could not be made: its folder disappears again and again")

    def read(self, name: str) -> bytes:
        """Give the whole content of a name."""
        return self._path(name).read_bytes()

    def read_many(self, names: Sequence[str]) -> list[bytes]:
        """Give the contents of several names in their order."""
        return [self.read(name) for name in names]

    def write(self, name: str, data: Bytes) -> None:
        """Put content under a name by renaming a finished file."""

        def rename(path: Path) -> None:
            temporary = self._temporary(name, data)
            try:
                temporary.replace(path)
            finally:
                temporary.unlink(missing_ok=True)

        self._settle(name, rename)

    def create(self, name: str, data: Bytes) -> bool:
        """Put content under a free name by an exclusive hard link."""
        try:
            self._settle(name, lambda path: self._link(self._temporary(name, data), path))
        except FileExistsError:
            return False
        except OSError as error:
            if error.errno not in _NO_HARD_LINKS:
                raise
            return self._create_exclusively(name, data)
        return True

    def _link(self, temporary: Path, target: Path) -> None:
        try:
            os.link(temporary, target)
        finally:
            temporary.unlink(missing_ok=True)

    def _create_exclusively(self, name: str, data: Bytes) -> bool:
        """Serve file systems without hard links; a crash inside leaves a name that readers refuse."""
        path = self._path(name)
        try:
            with self._room(name), path.open("xb") as file:
                try:
                    file.write(data)
                    file.flush()
                    os.fsync(file.fileno())
                except OSError:
                    path.unlink()
                    raise
        except FileExistsError:
            return False
        return True

    def copy(self, source: str, target: str) -> None:
        """Show one file under a second name, by hard link where the disk has them."""
        if not self._path(source).is_file():
            raise FileNotFoundError(f"{self._path(source)} does not exist")
        try:
            self._settle(target, lambda path: self._show(self._path(source), path))
        except StorageError:
            # Whoever finishes the dataset removes attempts, also between the look above and the link.
            if self._path(source).is_file():
                raise
            raise FileNotFoundError(f"{self._path(source)} does not exist") from None

    def _show(self, source: Path, target: Path) -> None:
        temporary = self.root / f"{TEMPORARY}{target.name}.{uuid.uuid4().hex}"
        try:
            try:
                os.link(source, temporary)
            except OSError as error:
                if error.errno not in _NO_HARD_LINKS:
                    raise
                shutil.copyfile(source, temporary)
            temporary.replace(target)
        finally:
            # rename() of two links to one file does nothing and leaves the first name (POSIX).
            temporary.unlink(missing_ok=True)

    def delete(self, names: Iterable[str]) -> None:
        """Remove names."""
        for name in names:
            self._path(name).unlink(missing_ok=True)

    def delete_tree(self, folder: str) -> None:
        """Remove a folder and all below it."""
        shutil.rmtree(self._path(folder), ignore_errors=True)

    def names(self, folder: str = "") -> list[str]:
        """Name the files directly in a folder."""
        try:
            return sorted(entry.name for entry in os.scandir(self._path(folder)) if entry.is_file())
        except FileNotFoundError:
            return []

    def tree(self, folder: str) -> list[str]:
        """Name all files below a folder."""
        return sorted(
            str((Path(parent) / file).relative_to(self.root))
            for parent, _, files in os.walk(self._path(folder))
            for file in files
        )

    def exists(self, name: str) -> bool:
        """Say whether a name has content."""
        return self._path(name).is_file()

    def open(self, name: str) -> Any:
        """Open a file for reading."""
        return self._path(name).open("rb")

    def open_whole(self, name: str) -> Any:
        """Open a file for reading; it is on a disk already."""
        return self.open(name)
