"""The text files of corpora, plain or packed with gzip, read line by line."""

import gzip
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, cast

from pipeline.errors import ManifestError
from pipeline.store.storage import open_store


@contextmanager
def opened(uri: str) -> Iterator[IO[bytes]]:
    """Open a file of a corpus; one that ends in ``.gz`` is unpacked as it is read.

    Args:
        uri: A local path or ``s3://`` URI.

    Raises:
        ManifestError: It is absent, unreadable, or no gzip where its name says so.
    """
    folder, _, name = uri.rpartition("/")
    try:
        with open_store(folder or "/").open(name) as file:
            if not name.lower().endswith(".gz"):
                yield file
                return
            with gzip.GzipFile(fileobj=file) as unpacked:
                yield cast(IO[bytes], unpacked)
    except FileNotFoundError as error:
        raise ManifestError(f"there is no file {uri}") from error
    except (OSError, EOFError, zlib.error) as error:
        raise ManifestError(f"{uri} cannot be read: {error}") from error
