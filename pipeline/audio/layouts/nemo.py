"""NeMo, tarred: manifests of JSON lines whose audio are members of tars; ``nemo_shards.py`` says where they lie.

    {"audio_filepath": "data_103_a.wav", "text": "...", "duration": 2.5, "shard_id": 0}

A line meets the member that is called as its audio_filepath. Where none is, ``-sub1`` before the ending is left out, by
which NeMo tells several segments of one member apart; then the ending, which differs where NeMo has transcoded. Plain
NeMo manifests are listings. Source: https://docs.nvidia.com/nemo-framework (ASR, Tarred Datasets). Memory: a line and
the names of a tar's members, or of several tars with up to ``MAX_HELD`` together where lines of shards take turns.
"""

import re
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from pipeline.audio import fields
from pipeline.audio.candidate import Candidate, printable, shown
from pipeline.audio.layouts.entries import refused
from pipeline.audio.layouts.manifests import numbered_rows
from pipeline.audio.layouts.nemo_shards import Shards, count_tars, find_shards, plain_pattern
from pipeline.audio.layouts.tar_index import TarIndex, stem_of
from pipeline.audio.listings import COLUMNS, read_id, read_labels, read_segment
from pipeline.audio.manifest import encode_id
from pipeline.audio.tar_members import open_tar, read_in_order
from pipeline.errors import AudioDecodeError, ManifestError
from pipeline.passed_over import PassedOver, UnreadColumns
from pipeline.schema import Reason

MAX_HELD = 1_000_000
"""Most members of tars whose names are held at once, where lines of several shards take turns."""

_SUB = re.compile(r"(.+)-sub[0-9]+(\.\w+)?")
_COLUMNS = {**COLUMNS, "uri": ("audio_filepath",), "shard_id": ("shard_id",)}
_FindTar = Callable[[Mapping[str, Any]], TarIndex]
"""Gives the tar of a line."""


def read_nemo(corpus: str, passed_over: PassedOver) -> Iterator[Candidate]:
    """Read the lines of the manifests; an utterance is called as its tar, a slash, and its audio_filepath."""
    corpus = plain_pattern(corpus)
    return _read(corpus, find_shards(corpus, passed_over), passed_over)


def _read(corpus: str, shards: Shards, passed_over: PassedOver) -> Iterator[Candidate]:
    def read(unit: tuple[str, int | None], counts: PassedOver) -> Iterator[Candidate]:
        manifest, number = unit
        if number is None:
            yield from _read_whole(manifest, shards, counts)
        else:
            yield from _read_shard(manifest, shards.tars[number], counts)

    empty = True
    for candidate in read_in_order(shards.manifests, read, passed_over, remote=corpus.startswith("s3://")):
        empty = False
        yield candidate
    if empty:
        raise ManifestError(f"{corpus} holds no recordings: its manifests have no lines")


def _read_shard(manifest: str, tar: str, passed_over: PassedOver) -> Iterator[Candidate]:
    with open_tar(tar, passed_over) as members:
        index = TarIndex(tar, members)
        yield from _read_manifest(manifest, lambda _: index, passed_over)
        index.count_unused(passed_over)


def _read_whole(manifest: str, shards: Shards, passed_over: PassedOver) -> Iterator[Candidate]:
    held = _Tars(manifest, shards, passed_over)
    yield from _read_manifest(manifest, held.of, passed_over)
    held.count_unused()


class _Tars:
    """The tars of a manifest of all shards, of which those are held that were met last."""

    def __init__(self, manifest: str, shards: Shards, passed_over: PassedOver) -> None:
        self._manifest, self._shards, self._tars, self._passed_over = manifest, shards, shards.tars, passed_over
        self._held: OrderedDict[int, TarIndex] = OrderedDict()
        self._done: set[int] = set()

    def of(self, row: Mapping[str, Any]) -> TarIndex:
        """Give the tar of a line.

        Raises:
            AudioDecodeError: The line names no shard.
            ManifestError: The shard has no tar, or was let go of.
        """
        number = row.get("shard_id", next(iter(self._tars)) if len(self._tars) == 1 else None)
        if isinstance(number, bool) or not isinstance(number, int):
            raise _bad(f"shard_id must be the number of a tar, got {shown(number)}")
        if number in self._held:
            self._held.move_to_end(number)
            return self._held[number]
        if number not in self._tars:
            raise ManifestError(f"{self._manifest} names the shard {number}, of which there is no audio_{number}.tar")
        if number in self._done:
            raise ManifestError(
                f"the lines of {self._manifest} take turns between so many shards that their tars have more than "
                f"{MAX_HELD:,} members; sort them by shard_id, or give the sharded manifests"
            )
        while self._held and sum(map(len, self._held.values())) > MAX_HELD:
            self._let_go()
        with open_tar(self._tars[number], self._passed_over) as members:
            index = TarIndex(self._tars[number], members)
            index.read_to_end()
        self._held[number] = index
        return index

    def count_unused(self) -> None:
        """Count the members that no line has named, and the tars."""
        while self._held:
            self._let_go()
        if self._shards.whole:
            count_tars([self._tars[number] for number in sorted(set(self._tars) - self._done)], self._passed_over)

    def _let_go(self) -> None:
        number, index = self._held.popitem(last=False)
        self._done.add(number)
        index.count_unused(self._passed_over)


def _read_manifest(manifest: str, tar_of: _FindTar, passed_over: PassedOver) -> Iterator[Candidate]:
    columns = UnreadColumns(_COLUMNS)
    for number, row in numbered_rows(manifest):
        if not isinstance(row, str):
            columns.see(row)
        yield _candidate(row, f"line {number} of {manifest}", f"@row{number}", tar_of)
    columns.count(passed_over, manifest)


def _candidate(row: Mapping[str, Any] | str, where: str, name: str, tar_of: _FindTar) -> Candidate:
    written = ""
    try:
        if isinstance(row, str):
            raise _bad(row)
        written = row.get("audio_filepath") or ""
        if not isinstance(written, str) or not written:
            raise _bad(f"audio_filepath must be the name of a member, got {shown(row.get('audio_filepath'))}")
        fields.label({"audio_filepath": written}, ("audio_filepath",), "utterance_id")
        tar = tar_of(row)
        segment = read_segment(row)
        name = read_id(row) or _name(tar.uri, written, segment["offset_seconds"])
        return Candidate(
            utterance_id=encode_id(name),
            **_place(tar, written),
            **segment,
            **read_labels(row, tar.uri.rpartition("/")[0] or "/"),
        )
    except AudioDecodeError as error:
        return refused(name, written if isinstance(written, str) else "", where, error)


def _name(tar: str, written: str, offset: float | None) -> str:
    name = f"{tar.rpartition('/')[2].removesuffix('.tar')}/{stem_of(written)}"
    return name if offset is None else f"{name}@" + f"{offset:.6f}".rstrip("0").rstrip(".")


def _place(tar: TarIndex, written: str) -> Mapping[str, Any]:
    names = [written]
    if match := _SUB.fullmatch(written):
        names.append(match[1] + (match[2] or ""))
    for name in names:
        if (found := tar.find(name)) is not None:
            return found
    for name in names:
        if (found := tar.find_stem(stem_of(name))) is not None:
            return found
    raise tar.missing(printable(written))


def _bad(detail: str) -> AudioDecodeError:
    return AudioDecodeError(Reason.BAD_ROW, detail)
