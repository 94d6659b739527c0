"""A dataset folder: plan, attempt, commit, publish, finish. The protocol is docs/architecture.md, section 3.

    _plan.json                        immutable: what the folder holds and from what, by put-if-absent
    _attempts/UNIT/ATTEMPT.{json,..}  data and rejects of every attempt, beside its announcement
    _commits/UNIT.json                put-if-absent: names the one attempt that won
    UNIT.parquet, _rejects/UNIT.parquet   the winner's files, for everyone to read
    _shards.parquet, _SUCCESS         all commits in one table; the folder is whole
    _redo/                            units that were opened anew later (``generations.py``)

A unit is what is committed at once: a shard, a codebook, a file of the manifest. Whatever is not data starts
with an underscore, so that a plain ``read_parquet(folder)`` sees exactly the data.
"""

import contextlib
import hashlib
import json
import os
import platform
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline import faults, schema
from pipeline.errors import CorruptDatasetError, DatasetError, PlanMismatchError, SchemaMismatchError, StorageError
from pipeline.store.commits import AT_ONCE, Commit, FileRecord
from pipeline.store.commits import Json as Json
from pipeline.store.commits import canonical as canonical
from pipeline.store.generations import Redo, attempts_folder, commit_name, read_redos
from pipeline.store.storage import Store, open_store, probe

PLAN, SUCCESS, SHARDS, NUMERICS = "_plan.json", "_SUCCESS", "_shards.parquet", "_numerics.json"
FILES = "files"
"""The note of a commit that gives the SHA-256, by name, of files that lie beside the data."""


def shard_name(shard: int) -> str:
    """Name a shard's unit, as ``shard-00042``."""
    return f"shard-{shard:05d}"


def sha256(data: bytes | memoryview) -> str:
    """Give the SHA-256 of bytes in hexadecimal."""
    return hashlib.sha256(data).hexdigest()


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What a dataset holds and what it is made from; equal plans give equal bytes.

    Attributes:
        kind: ``manifest``, ``features``, ``codebooks`` or ``tokens``.
        content: The content key: every setting, input and code version that the data depends on.
        lineage: What readers need to know; also in every data file's footer.
        units: Names of all units, in order.
        totals: What the input promises, for progress and verification, as ``rows`` and ``seconds``.
        extension: Ending of data files.
    """

    kind: str
    content: Mapping[str, Json]
    lineage: Mapping[str, Json]
    units: Sequence[str]
    totals: Mapping[str, float] = field(default_factory=dict)
    extension: str = ".parquet"

    def to_bytes(self) -> bytes:
        """Give the content of ``_plan.json``."""
        return json.dumps({"schema_version": schema.SCHEMA_VERSION, **asdict(self)}, sort_keys=True, indent=1).encode()

    @classmethod
    def from_bytes(cls, data: bytes, source: str) -> "Plan":
        """Read ``_plan.json``.

        Raises:
            CorruptDatasetError: The bytes are no plan.
            SchemaMismatchError: The plan is of another schema version.
        """
        try:
            fields = json.loads(data)
            version = fields.pop("schema_version")
            plan = cls(**fields)
        except (ValueError, KeyError, TypeError) as error:
            raise CorruptDatasetError(f"{source} is not a plan ({error}); restore it or use a new folder") from error
        if version != schema.SCHEMA_VERSION:
            raise SchemaMismatchError(
                f"{source} was written with schema version {version}, this is {schema.SCHEMA_VERSION}; "
                "see CHANGELOG.md for the migration"
            )
        return plan

    def differences(self, other: "Plan") -> list[str]:
        """Name each content key that differs, with both values; ``other`` is the one on disk."""
        mine, theirs = ({"kind": plan.kind, **plan.content} for plan in (self, other))
        return [
            f"{key}: folder has {_brief(theirs.get(key))}, this run has {_brief(mine.get(key))}"
            for key in sorted(mine.keys() | theirs.keys())
            if canonical(mine.get(key)) != canonical(theirs.get(key))
        ]


def _brief(value: Json) -> str:
    text = json.dumps(value, sort_keys=True)
    return text if len(text) <= 80 else text[:77] + "..."


@dataclass(frozen=True, kw_only=True)
class Output:
    """What an attempt made: the data file's bytes, the counts that go into the commit, and the time it took.

    ``work`` is when the device had it (``work.waiting.Work``), for the report; it is not written.
    ``beside`` are further files by visible name, which is the unit's own: they appear with the data or not at all.
    """

    data: bytes | memoryview
    rows: int
    rejects: pa.Table | None = None
    seconds: float = 0.0
    num_frames: int = 0
    notes: Mapping[str, Json] = field(default_factory=dict)
    work: Sequence[Any] = ()
    beside: Mapping[str, bytes | memoryview] = field(default_factory=dict)


def parquet_bytes(table: pa.Table, lineage: Mapping[str, Json], *, compression: str = "zstd") -> memoryview:
    """Write a table as one Parquet row group in memory, lineage in the footer."""
    sink = pa.BufferOutputStream()
    table = table.replace_schema_metadata(schema.with_lineage(table.schema, canonical(lineage)).metadata)
    pq.write_table(
        table, sink, compression=compression, row_group_size=max(1, table.num_rows), write_page_checksum=True
    )
    return memoryview(sink.getvalue())


class Dataset:
    """A dataset folder that is being written or read."""

    def __init__(self, store: Store, plan: Plan) -> None:
        self.store = store
        self.plan = plan
        self._redos: list[Redo] | None = None
        self._generations: dict[str, int] | None = None

    @classmethod
    def create(cls, uri: str, plan: Plan) -> "Dataset":
        """Start or resume the dataset of a plan.

        Raises:
            PlanMismatchError: The folder holds another plan; the message names the keys that differ.
            DatasetError: The folder holds something else.
        """
        store = open_store(uri)
        check_folder(store, plan)
        if not store.exists(PLAN):
            probe(store)
            store.create(PLAN, plan.to_bytes())
            check_folder(store, plan)
        faults.point("after_plan", uri)
        return cls(store, plan)

    @classmethod
    def open(cls, uri: str, *, kind: str | None = None, finished: bool = True) -> "Dataset":
        """Open an existing dataset.

        Args:
            uri: The folder.
            kind: The kind it must be.
            finished: Whether it must be whole.

        Raises:
            DatasetError: There is none, it is of another kind, or it is not finished.
        """
        store = open_store(uri)
        try:
            plan = Plan.from_bytes(store.read(PLAN), f"{store.uri}/{PLAN}")
        except FileNotFoundError:
            what = f"it has no {PLAN}" if store.names() else "there is nothing there"
            raise DatasetError(f"{store.uri} is no dataset: {what}") from None
        if kind is not None and plan.kind != kind:
            raise DatasetError(f"{store.uri} is {_a(plan.kind)} dataset where {_a(kind)} dataset is needed")
        dataset = cls(store, plan)
        if finished and not dataset.finished():
            raise DatasetError(
                f"{store.uri} is not finished (no {SUCCESS}); run the job that makes it again, it will resume"
            )
        return dataset

    @property
    def uri(self) -> str:
        """Where the dataset lies."""
        return self.store.uri

    @property
    def redos(self) -> list[Redo]:
        """The generations after the first, as they were when first asked for."""
        if self._redos is None:
            self._redos = read_redos(self.store)
        return self._redos

    def look_again(self) -> None:
        """Forget the generations: another process may have begun one."""
        self._redos = self._generations = None

    def generation(self, unit: str) -> int:
        """Give the generation of a unit: 0, unless it was opened anew."""
        if self._generations is None:
            self._generations = {name: redo.number for redo in self.redos for name in redo.units}
        return self._generations.get(unit, 0)

    def finished(self) -> bool:
        """Whether the folder is whole, in its last generation."""
        try:
            found = json.loads(self.store.read(SUCCESS))
        except FileNotFoundError:
            return False
        except ValueError:
            return True
        # Written by one who had not seen that a generation began.
        return bool(not isinstance(found, dict) or found.get("redone", 0) == len(self.redos))

    def committed(self) -> set[str]:
        """Name the units that have a commit; one listing, no reads."""
        there = set(self.store.names("_commits"))
        return {unit for unit in self.plan.units if self._commit_name(unit).removeprefix("_commits/") in there}

    def _commit_name(self, unit: str) -> str:
        return commit_name(unit, self.generation(unit))

    def _attempts(self, unit: str) -> str:
        return f"{attempts_folder(self.generation(unit))}/{unit}"

    def pending(self) -> list[str]:
        """Name the units without a commit, in order."""
        done = self.committed()
        return [unit for unit in self.plan.units if unit not in done]

    def commits(self, units: Sequence[str] | None = None) -> list[Commit]:
        """Read the commits of some units (default: all that are committed), in plan order."""
        return list(self.each_commit(units))

    def each_commit(self, units: Sequence[str] | None = None) -> Iterator[Commit]:
        """Read the commits of some units (default: all that are committed), in plan order, a thousand at a time."""
        done = self.committed() if units is None else set(units)
        names = [self._commit_name(unit) for unit in self.plan.units if unit in done]
        for start in range(0, len(names), AT_ONCE):
            some = names[start : start + AT_ONCE]
            for name, data in zip(some, self.store.read_many(some), strict=True):
                yield Commit.from_bytes(data, f"{self.uri}/{name}")

    def read_commit(self, unit: str) -> Commit | None:
        """Read one unit's commit, None when it has none."""
        name = self._commit_name(unit)
        try:
            return Commit.from_bytes(self.store.read(name), f"{self.uri}/{name}")
        except FileNotFoundError:
            return None

    def attempts(self, unit: str) -> int:
        """Count the attempts at a unit that were begun and not taken back: the process of each is gone, or at it."""
        return sum(name.endswith(".json") for name in self.store.names(self._attempts(unit)))

    def announce(self, unit: str) -> str:
        """Announce a new attempt at a unit and give its identifier."""
        attempt = uuid.uuid4().hex
        who = {"host": platform.node(), "pid": os.getpid(), "time": time.time()}
        self.store.write(f"{self._attempts(unit)}/{attempt}.json", json.dumps(who).encode())
        faults.point("after_announce_before_data", unit)
        return attempt

    def retract(self, unit: str, attempt: str) -> None:
        """Take back the announcement of an attempt that ended in an error; its files stay, for it may have won."""
        with contextlib.suppress(OSError, StorageError):
            self.store.delete([f"{self._attempts(unit)}/{attempt}.json"])

    def commit(self, unit: str, attempt: str, output: Output, numerics: Mapping[str, str]) -> Commit:
        """Write an attempt's files and try to win the unit with them; the data file is shown last.

        Returns:
            The unit's commit: this attempt's, or that of another attempt which was first.
        """
        folder = f"{self._attempts(unit)}/{attempt}"
        rejects = None
        if output.rejects is not None and output.rejects.num_rows:
            data = parquet_bytes(output.rejects.cast(schema.REJECTS), self.plan.lineage)
            rejects = self._put(f"{folder}.rejects.parquet", data, output.rejects.num_rows)
        record = self._put(f"{folder}{self.plan.extension}", memoryview(output.data), output.rows)
        beside = {name: self._put(f"{folder}/{name}", memoryview(data), 0) for name, data in output.beside.items()}
        faults.point("after_data_before_commit", unit)
        mine = Commit(
            unit=unit,
            attempt=attempt,
            data=record,
            rejects=rejects,
            seconds=output.seconds,
            num_frames=output.num_frames,
            numerics=numerics,
            notes=output.notes,
            beside=beside,
        )
        name = self._commit_name(unit)
        self.store.create(name, mine.to_json().encode())
        # Read back whatever create() said: after a lost answer, "taken" may mean taken by ourselves.
        winner = Commit.from_bytes(self.store.read(name), f"{self.uri}/{name}")
        faults.point("after_commit_before_publish", unit)
        if winner.attempt != attempt:
            self.store.delete(r.attempt_file for r in (record, rejects, *beside.values()) if r)
        self.publish(winner)
        faults.point("after_publish", unit)
        return winner

    def _put(self, name: str, data: memoryview, rows: int) -> FileRecord:
        self.store.write(name, data)
        return FileRecord(attempt_file=name, rows=rows, bytes=data.nbytes, sha256=sha256(data))

    def publish(self, commit: Commit) -> None:
        """Show a commit's files under their visible names; repeating it changes nothing."""
        redone = self.generation(commit.unit) > 0
        if redone and commit.rejects is None:
            self.store.delete([f"_rejects/{commit.unit}.parquet"])
        for record, visible in self._visible(commit):
            try:
                self.store.copy(record.attempt_file, visible)
            except FileNotFoundError:
                # Another process has published it and cleaned up; of a redone unit, the file may be that of before.
                there = self.store.exists(visible)
                if not there or (redone and sha256(self.store.read(visible)) != record.sha256):
                    self.look_again()
                    current = self.read_commit(commit.unit)
                    if current is None or current.attempt != commit.attempt:
                        # The unit has been opened anew since: what this commit showed is of before.
                        return
                    raise CorruptDatasetError(
                        f"{self.uri}/{visible} is committed but neither it nor {record.attempt_file} exists; "
                        f"delete {self._commit_name(commit.unit)} and {SUCCESS}, and run the stage again"
                    ) from None

    def _visible(self, commit: Commit) -> list[tuple[FileRecord, str]]:
        files = [(commit.data, self.data_file(commit.unit))]
        if commit.rejects:
            files.append((commit.rejects, f"_rejects/{commit.unit}.parquet"))
        return [*((record, name) for name, record in commit.beside.items()), *reversed(files)]

    def data_file(self, unit: str) -> str:
        """Name the visible data file of a unit."""
        return f"{unit}{self.plan.extension}"

    def claim_numerics(self, numerics: Mapping[str, str], mode: str) -> None:
        """Refuse to mix machines that may compute other bits, unless mixing was asked for.

        Args:
            numerics: Device, instruction set and library versions of this worker.
            mode: ``same`` or ``any``.

        Raises:
            PlanMismatchError: Mode is ``same`` and the dataset was begun with other numerics.
        """
        self.store.create(NUMERICS, canonical(dict(numerics)).encode())
        begun = json.loads(self.store.read(NUMERICS))
        differ = [key for key in sorted({*begun, *numerics}) if begun.get(key) != numerics.get(key)]
        if differ and mode == "same":
            what = "; ".join(f"{key}: {begun.get(key)!r} before, {numerics.get(key)!r} here" for key in differ)
            raise PlanMismatchError(
                f"{self.uri} was begun where other bits may result ({what}). "
                "Use such a machine, a new folder, or --numerics any to mix."
            )


def _a(kind: str) -> str:
    return f"{'an' if kind[0] in 'aeiou' else 'a'} {kind}"


def check_folder(store: Store, plan: Plan) -> None:
    """Refuse a folder that holds the work of another plan. Needs no Ray, changes nothing.

    Raises:
        PlanMismatchError: The plans differ; the message names the keys.
        DatasetError: The folder has data files that no plan explains.
    """
    try:
        found = Plan.from_bytes(store.read(PLAN), f"{store.uri}/{PLAN}")
    except FileNotFoundError:
        foreign = [name for name in store.names() if not name.startswith(("_", "."))]
        if foreign and not store.exists(PLAN):
            raise DatasetError(
                f"{store.uri} holds files that are not ours ({', '.join(foreign[:3])}); choose an empty folder"
            ) from None
        return check_folder(store, plan) if foreign else None  # another run began it between the two looks
    if found.kind != plan.kind:
        raise PlanMismatchError(
            f"{store.uri} holds {_a(found.kind)} dataset, and {_a(plan.kind)} dataset is to be made; use a new folder"
        )
    if differences := plan.differences(found):
        raise PlanMismatchError(
            f"{store.uri} was made with other settings; use a new folder or the old settings:\n  "
            + "\n  ".join(differences)
        )
