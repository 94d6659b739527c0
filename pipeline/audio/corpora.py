"""Corpora: the layouts in which speech lies on disk or S3, read into candidates in a stable order.

Folders are walked in the order of path components, by code point: the same on every machine, local or S3. Known corpora
and toolkits are in ``layouts/``, a file for each; audio inside other files is in ``tar_shards.py`` and ``tables.py``.
"""

import os
from collections.abc import Iterator

from pipeline.audio.candidate import Candidate as Candidate
from pipeline.audio.layouts.catalogue import CATALOGUE
from pipeline.audio.layouts.layout import folder_of_file
from pipeline.audio.layouts.walked import read_walked
from pipeline.audio.listings import SUFFIXES, read_listing
from pipeline.audio.tables import read_tables
from pipeline.audio.tar_shards import read_shards
from pipeline.audio.walking import container_files, container_folder
from pipeline.errors import ManifestError
from pipeline.passed_over import PassedOver
from pipeline.store.storage import check_uri

LAYOUTS = ("folder", "listing", "webdataset", "parquet", *CATALOGUE)
"""The layouts that ``read_corpus`` knows."""


def read_corpus(
    corpus: str, layout: str, audio_column: str | None = None, *, passed_over: PassedOver
) -> Iterator[Candidate]:
    """Read a corpus into candidates, in an order that depends on its content only.

    ==========  ============================================  ===================================
    layout      recordings                                    utterance_id
    ==========  ============================================  ===================================
    folder      every file that ends as audio does            path below the folder, no extension
    listing     rows of a CSV, TSV, JSONL or Parquet table    the table's, else from the path
    webdataset  members of ``.tar`` shards                    shard, ``/``, name without extension
    parquet     cells of Parquet files                        the table's, else file, ``/``, row
    others      as the reader in ``layouts/`` says            as it says
    ==========  ============================================  ===================================

    All ids pass through ``encode_id``. ``a.wav`` beside ``a.flac`` are two candidates with one id.

    Args:
        corpus: Folder, listing, Parquet file or pattern of tars, a local path or ``s3://``.
        layout: One of ``LAYOUTS``.
        audio_column: Column of audio of the layout parquet; None finds it.
        passed_over: Counts what of the corpus is not read; whole when the iterator has ended.

    Returns:
        Candidates; those with a ``problem`` are to be rejected for it.

    Raises:
        ManifestError: The corpus is absent, empty, unreadable in part, or not in this layout. A fault found only
            while reading is raised from the iterator.
    """
    corpus = _absolute(corpus)
    if layout in CATALOGUE:
        return CATALOGUE[layout].read(corpus, passed_over)
    if layout == "folder":
        return read_walked(corpus, layout, lambda candidate, _: candidate, passed_over)
    if layout == "listing":
        _require_listing(corpus)
        return read_listing(corpus, passed_over)
    if layout not in LAYOUTS:
        raise ManifestError(f"a corpus has the layout {', '.join(LAYOUTS)}; got {layout!r}")
    files = container_files(corpus, layout, passed_over)
    if layout == "webdataset":
        return read_shards(corpus, files, passed_over)
    return read_tables(corpus, files, audio_column, passed_over)


def corpus_roots(corpus: str, layout: str) -> list[str]:
    """Name the folders under which the audio of a corpus must lie.

    Returns:
        One absolute path with its links resolved, or one S3 prefix: the folder, or the folder of the listing.

    Raises:
        SettingsError: The corpus carries credentials.
    """
    corpus = _absolute(corpus)
    root = corpus
    if layout in CATALOGUE:
        root = CATALOGUE[layout].folder(corpus)
    elif layout == "listing":
        root = folder_of_file(corpus)
    elif layout in ("webdataset", "parquet"):
        root = container_folder(corpus)
    return [root if root.startswith("s3://") else os.path.realpath(root)]


def _absolute(corpus: str) -> str:
    check_uri(corpus, "the corpus")
    if corpus.startswith("s3://"):
        return corpus.rstrip("/")
    return os.path.abspath(corpus.removeprefix("file://"))


def _require_listing(listing: str) -> None:
    if not listing.startswith("s3://"):
        if os.path.isdir(listing):
            raise ManifestError(f"{listing} is a folder; a listing is a file: give it, or use the layout folder")
        if not os.path.exists(listing):
            raise ManifestError(f"there is no listing {listing}")
    if not listing.lower().endswith(SUFFIXES):
        raise ManifestError(f"a listing ends in {', '.join(SUFFIXES)}; got {listing}")
