"""The layout webdataset: audio inside tar shards, of which only headers and labels are read here.

Members that end as audio does are utterances; ``.txt`` is their text, the fields of ``.json`` their labels by the
column names of listings (a JSON ``offset`` and ``duration``, seconds, cut a segment). ``tar_labels.py`` says which
belong together. Nothing is unpacked: an utterance is a range of bytes. What follows damage is lost, said in one reject.
Cost on S3: as ``tar_members.py`` says. Memory: ``MAX_HELD_BYTES`` for each tar that is read (S3: also the candidates of
64 tars).
"""

import tarfile
from collections.abc import Iterator, Sequence

from pipeline.audio.candidate import EXTENSIONS, Candidate, printable, stem
from pipeline.audio.listings import COLUMNS, read_labels, read_segment
from pipeline.audio.manifest import encode_id
from pipeline.audio.tar_labels import Label, Members, Sample, fields_of, label_place
from pipeline.audio.tar_members import TarMembers, open_tar, read_in_order
from pipeline.audio.walking import container_folder, ending_of, there_is
from pipeline.errors import AudioDecodeError, ManifestError
from pipeline.passed_over import Kind, PassedOver, UnreadColumns
from pipeline.schema import Reason

MAX_LABEL_BYTES = 1 << 20
"""Largest ``.txt`` or ``.json``."""

MAX_HELD_BYTES = 64 << 20
"""Names and labels of a tar that are held at once; labels further away from their recordings are passed over."""

# What Python takes for the header of a member.
_HEADER_BYTES = 1 << 10
_READ_FIELDS = {name: names for name, names in COLUMNS.items() if name not in ("uri", "utterance_id")}


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

    def read(file: str, counts: PassedOver) -> Iterator[Candidate]:
        name = file.removeprefix(folder.rstrip("/") + "/").removeprefix("s3://")[: -len(".tar")]
        with open_tar(file, counts) as tar:
            yield from _Shard(file, name, tar, counts).candidates()

    empty = True
    for candidate in read_in_order(files, read, passed_over, remote=folder.startswith("s3://")):
        empty = False
        yield candidate
    if empty:
        raise ManifestError(
            f"no member of the {len(files)} tars of {corpus} is audio ({', '.join(EXTENSIONS)}){there_is(passed_over)}"
        )


class _Shard:
    """One open tar."""

    def __init__(self, uri: str, name: str, tar: TarMembers, passed_over: PassedOver) -> None:
        self._uri = uri
        self._name = name
        self._tar = tar
        self._passed_over = passed_over
        self._fields = UnreadColumns(_READ_FIELDS)
        self._members_held = Members()
        self._held_bytes = 0

    def candidates(self) -> Iterator[Candidate]:
        sample = Sample(key="")
        end = None
        members = iter(self._tar)
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
        problem = self._tar.problem(member)
        if problem is None and member.size > MAX_LABEL_BYTES:
            problem = AudioDecodeError(
                Reason.BAD_ROW, f"{printable(member.name)} has {member.size} bytes; at most {MAX_LABEL_BYTES} are read"
            )
        if problem is not None:
            return Label(name=self._called(member), problem=problem)
        return Label(name=self._called(member), content=self._tar.read(member))

    def _utterances(self) -> Iterator[Candidate]:
        """Give the recordings that are held with their labels, and let go of both."""
        for member, labels in self._members_held.joined():
            name = stem(member.name)
            try:
                if problem := self._tar.problem(member):
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
