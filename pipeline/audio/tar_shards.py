"""The layout webdataset: audio inside tar shards, of which only headers and labels are read here.

Members that end as audio does are utterances; ``.txt`` is their text, the fields of ``.json`` their labels by the
column names of listings (a JSON ``offset`` and ``duration``, seconds, cut a segment). ``tar_labels.py`` says which
belong together. Nothing is unpacked: an utterance is a range of bytes. What follows damage is lost, said in one reject.
Cost on S3: a request of 16 KiB a member, 16 tars at once. Memory: ``MAX_HELD_BYTES`` for each tar that is read (S3:
also the candidates of 64 tars).
"""

import tarfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import IO

from pipeline.audio.candidate import EXTENSIONS, Candidate, printable, stem, storable
from pipeline.audio.listings import COLUMNS, read_labels, read_segment
from pipeline.audio.manifest import encode_id
from pipeline.audio.remote import open_ranged
from pipeline.audio.tar_labels import Label, Members, Sample, fields_of, label_place
from pipeline.audio.walking import container_folder, ending_of, there_is
from pipeline.errors import AudioDecodeError, ManifestError
from pipeline.passed_over import Kind, PassedOver, UnreadColumns
from pipeline.schema import Reason

MAX_MEMBERS = 10_000_000
"""Most members of a tar that are read."""

MAX_LABEL_BYTES = 1 << 20
"""Largest ``.txt`` or ``.json``, and largest header of a long name."""

MAX_HELD_BYTES = 64 << 20
"""Names and labels of a tar that are held at once; labels further away from their recordings are passed over."""

_AHEAD_BYTES = 16 << 10
# What Python takes for the header of a member.
_HEADER_BYTES = 1 << 10
_TARS_AT_ONCE = 16
_TARS_HELD = 64
_READ_FIELDS = {name: names for name, names in COLUMNS.items() if name not in ("uri", "utterance_id")}
_COMPRESSIONS = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ": "xz", b"\x28\xb5\x2f\xfd": "zstandard"}


def read_shards(corpus: str, files: Sequence[str], passed_over: PassedOver) -> Iterator[Candidate]:
    """Read tars into candidates, in the order of the files and of their members.

    Args:
        corpus: What was asked for; ids begin with a tar's path below its folder.
        files: Absolute local paths or S3 URIs of plain tars.
        passed_over: Counts members and labels that are not used.

    Raises:
        ManifestError: A tar is absent or compressed, or no member of any is audio.
    """
    folder = container_folder(corpus)
    empty = True
    for begin in range(0, len(files), _TARS_HELD):
        for candidate in _read_some(files[begin : begin + _TARS_HELD], folder, passed_over):
            empty = False
            yield candidate
    if empty:
        raise ManifestError(
            f"no member of the {len(files)} tars of {corpus} is audio ({', '.join(EXTENSIONS)}){there_is(passed_over)}"
        )


def _read_some(files: Sequence[str], folder: str, passed_over: PassedOver) -> Iterator[Candidate]:
    if not folder.startswith("s3://"):
        for file in files:
            yield from _read_shard(file, folder, passed_over)
        return
    counts = [PassedOver() for _ in files]
    with ThreadPoolExecutor(_TARS_AT_ONCE) as pool:
        shards = pool.map(lambda file, count: list(_read_shard(file, folder, count)), files, counts)
        for shard, count in zip(shards, counts, strict=True):
            passed_over.merge(count)
            yield from shard


def _read_shard(file: str, folder: str, passed_over: PassedOver) -> Iterator[Candidate]:
    name = file.removeprefix(folder.rstrip("/") + "/").removeprefix("s3://")[: -len(".tar")]
    try:
        with open_ranged(file, _AHEAD_BYTES) as tar:
            yield from _Shard(file, name, tar, passed_over).candidates()
    except OSError as error:
        raise ManifestError(f"the tar {printable(file)} cannot be read: {error}") from error


class _Header(tarfile.TarInfo):
    """A header that is refused before ``tarfile`` reads a long name of any length into memory."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> "_Header":
        header = super().frombuf(buf, encoding, errors)
        long_name = header.type in (tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE) or header.type in (
            tarfile.GNUTYPE_LONGNAME,
            tarfile.GNUTYPE_LONGLINK,
        )
        if header.size < 0 or long_name and header.size > MAX_LABEL_BYTES:
            raise tarfile.HeaderError(f"a header declares {header.size} bytes")
        return header


class _Shard:
    """One open tar."""

    def __init__(self, uri: str, name: str, file: IO[bytes], passed_over: PassedOver) -> None:
        self._uri = uri
        self._name = name
        self._file = file
        self._passed_over = passed_over
        self._fields = UnreadColumns(_READ_FIELDS)
        self._members_held = Members()
        self._held_bytes = 0
        self._size = file.seek(0, 2)
        file.seek(0)

    def candidates(self) -> Iterator[Candidate]:
        sample = Sample(key="")
        end = None
        members = self._members()
        while end is None:
            try:
                member = next(members, None)
            except AudioDecodeError as error:
                member, end = None, error
            if member is None:
                break
            folder, slash, base = member.name.rpartition("/")
            key = base.partition(".")[0]
            # A folder has no content of its own: its members are listed by their full names.
            if member.isdir():
                continue
            if not key:
                self._passed_over.add(Kind.HIDDEN_FILES, example=self._called(member))
                continue
            if (key := folder + slash + key) != sample.key:
                if self._held_bytes > MAX_HELD_BYTES:
                    yield from self._utterances()
                sample = Sample(key=key)
                self._members_held.samples.append(sample)
            self._add(sample, member)
        yield from self._utterances()
        self._fields.count(self._passed_over, self._uri)
        if end is not None:
            yield self._rejected("@lost", end)

    def _members(self) -> Iterator[tarfile.TarInfo]:
        """Give the headers in order; AudioDecodeError where the rest cannot be read."""
        if self._size == 0:
            raise AudioDecodeError(Reason.EMPTY, "the tar has 0 bytes")
        magic = self._file.read(6)
        for begin, name in _COMPRESSIONS.items():
            if magic.startswith(begin):
                raise ManifestError(
                    f"{printable(self._uri)} is compressed with {name}; no member of a compressed tar can be read "
                    "alone: unpack it to a plain .tar"
                )
        self._file.seek(0)
        number = 0
        try:
            tar = tarfile.TarFile(fileobj=self._file, tarinfo=_Header, encoding="utf-8", errors="surrogateescape")
            while (member := tar.next() or self._behind(tar)) is not None:
                # It keeps every header it has read, for lookups that nobody makes here.
                tar.members = []  # type: ignore[attr-defined]
                number += 1
                if number > MAX_MEMBERS:
                    raise AudioDecodeError(Reason.TOO_LONG, f"members after the first {MAX_MEMBERS} are not read")
                yield member
                # The size of a sparse member is that of its file, holes too; the next header follows what is stored.
                if (tar.offset if member.issparse() else member.offset_data + member.size) > self._size:
                    raise tarfile.ReadError(f"{printable(member.name)} ends behind it")
        except (tarfile.TarError, ValueError, OverflowError, RecursionError) as error:
            raise AudioDecodeError(
                Reason.TRUNCATED, f"after {number} members the tar is cut or damaged, what follows is lost: {error}"
            ) from error

    def _behind(self, tar: tarfile.TarFile) -> tarfile.TarInfo | None:
        """Look at what stopped ``tarfile``: it takes a damaged header for the end, and reads nothing behind the end.

        Returns:
            The first member of a tar that was joined to this one, None where there is none.
        """
        self._file.seek(tar.offset)
        block = self._file.read(tarfile.BLOCKSIZE)
        if any(block):
            raise tarfile.ReadError(f"byte {tar.offset} is no header")
        if not block:
            self._passed_over.add(Kind.NO_END_MARK, example=self._uri)
        while block and not any(block):
            block = self._file.read(tarfile.BLOCKSIZE)
        if not block:
            return None
        place = self._file.tell() - len(block)
        try:
            _Header.frombuf(block, "utf-8", "surrogateescape")
        except tarfile.HeaderError:
            self._passed_over.add(Kind.UNREAD_END, example=f"{self._uri}, from byte {place} on")
            return None
        tar.offset = place
        return tar.next()

    def _add(self, sample: Sample, member: tarfile.TarInfo) -> None:
        self._held_bytes += _HEADER_BYTES
        if member.name.lower().endswith(EXTENSIONS):
            sample.audio.append(member)
        elif place := label_place(member.name):
            label = self._label(member)
            self._held_bytes += len(label.content)
            self._members_held.labels.append(label)
            sample.labels[place] = label
        else:
            self._passed_over.add(Kind.UNREAD_MEMBERS, example=self._called(member), name=ending_of(member.name))

    def _label(self, member: tarfile.TarInfo) -> Label:
        problem = self._problem(member)
        if problem is None and member.size > MAX_LABEL_BYTES:
            problem = AudioDecodeError(
                Reason.BAD_ROW, f"{printable(member.name)} has {member.size} bytes; at most {MAX_LABEL_BYTES} are read"
            )
        if problem is not None:
            return Label(name=self._called(member), problem=problem)
        self._file.seek(member.offset_data)
        return Label(name=self._called(member), content=self._file.read(member.size))

    def _problem(self, member: tarfile.TarInfo) -> AudioDecodeError | None:
        """Say why a member is not read."""
        name = printable(member.name)
        if not member.isreg() or member.issparse():
            what = "a link" if member.issym() or member.islnk() else "a device, a FIFO or sparse"
            return AudioDecodeError(Reason.NOT_A_FILE, f"the member {name} is {what}, not a plain file")
        if member.name.startswith("/") or ".." in member.name.split("/"):
            return AudioDecodeError(Reason.BAD_ROW, f"the member {name} points out of its tar")
        if not storable(member.name):
            return AudioDecodeError(Reason.BAD_ROW, f"the name of the member {name} is not one line of UTF-8")
        if member.offset_data + member.size > self._size:
            return AudioDecodeError(
                Reason.TRUNCATED,
                f"the member {name} ends at byte {member.offset_data + member.size}, the tar at {self._size}",
            )
        return None

    def _utterances(self) -> Iterator[Candidate]:
        """Give the recordings that are held with their labels, and let go of both."""
        for member, labels in self._members_held.joined():
            name = stem(member.name)
            try:
                if problem := self._problem(member):
                    raise problem
                row = fields_of(labels, self._passed_over)
                self._fields.see(row)
                values = {**read_labels(row, self._uri.rpartition("/")[0] or "/"), **read_segment(row)}
            except AudioDecodeError as error:
                yield self._rejected(name, error)
                continue
            yield Candidate(
                utterance_id=encode_id(f"{self._name}/{name}"),
                uri=self._uri,
                member=member.name,
                byte_offset=member.offset_data,
                num_bytes=member.size,
                **values,
            )
        self._members_held.count_unread(self._passed_over)
        self._members_held = Members()
        self._held_bytes = 0

    def _called(self, member: tarfile.TarInfo) -> str:
        return f"{self._name}.tar: {member.name}"

    def _rejected(self, name: str, error: AudioDecodeError) -> Candidate:
        return Candidate(
            utterance_id=encode_id(f"{self._name}/{name}"),
            uri=printable(self._uri),
            problem=(str(error.reason), error.detail),
        )
