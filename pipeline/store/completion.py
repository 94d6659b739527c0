"""The end of a dataset: all commits in one table, ``_SUCCESS``, nothing left over; and its state at any time.

Reads commits only, so it tells the truth of a run that is going on elsewhere, or was killed.
"""

import contextlib
import itertools
import json
import logging
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline import faults, schema
from pipeline.errors import CorruptDatasetError, DatasetError, PipelineError, TooManyRejectsError
from pipeline.passed_over import NOTE, PassedOver
from pipeline.store.commits import AT_ONCE, Commit
from pipeline.store.dataset import PLAN, SHARDS, SUCCESS, Dataset, Json, canonical, parquet_bytes, sha256
from pipeline.store.generations import attempts_folder
from pipeline.store.storage import PROBES, TEMPORARY, join

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Status:
    """How far a dataset has come, from its commits.

    Attributes:
        uri: The dataset.
        kind: Its kind.
        units: Units planned.
        done: Units committed.
        rows: Rows in committed data files.
        rejects: Rows in committed rejects files.
        seconds: Seconds of audio in committed rows.
        total_rows: Rows that the input has; 0 when unknown.
        total_seconds: Seconds of audio that the input has; 0 when unknown.
        num_frames: Frames in committed rows.
        num_bytes: Bytes of committed data.
        finished: Whether the folder is whole (``_SUCCESS``).
        reasons: Rejects by reason.
        numerics: The numerics of the committed units, each with its count.
        notes: Sums of the numbers that units noted.
        passed_over: What their readers passed over, as ``PassedOver.to_json`` gives it.
    """

    uri: str
    kind: str
    units: int
    done: int
    rows: int
    rejects: int
    seconds: float
    total_rows: int
    total_seconds: float
    num_frames: int
    num_bytes: int
    finished: bool
    reasons: Mapping[str, int]
    numerics: Mapping[str, int]
    notes: Mapping[str, float]
    passed_over: Mapping[str, Json] = field(default_factory=dict)

    @property
    def pending(self) -> int:
        """Units still without a commit."""
        return self.units - self.done


class Account:
    """Adds commits up as they are read: the state of a dataset, and its shard table. It holds no commit.

    Args:
        dataset: The dataset.
    """

    def __init__(self, dataset: Dataset) -> None:
        self._dataset = dataset
        self._generation = len(dataset.redos)
        self._reasons: Counter[str] = Counter()
        self._notes: Counter[str] = Counter()
        self._numerics: Counter[str] = Counter()
        self._passed_over = PassedOver()
        self._beside = 0
        self._tables = [schema.SHARDS.empty_table()]
        self._shown = _Shown(dataset)
        self._hidden: list[Commit] = []

    @classmethod
    def of(cls, dataset: Dataset, *, to_finish: bool = True) -> "Account":
        """Read the commits of a dataset and, to finish it, see which of their files are shown."""
        account, commits = cls(dataset), dataset.each_commit()
        while some := list(itertools.islice(commits, AT_ONCE)):
            account.add(some)
            if to_finish:
                account._hidden += [commit for commit in some if not account._shown.shows(commit)]
        return account

    def add(self, commits: Sequence[Commit]) -> None:
        """Count some commits, the next in plan order."""
        self._tables.append(shard_table(self._dataset, commits))
        for commit in commits:
            self._reasons.update(commit.notes.get("reasons", {}))
            self._notes.update({k: v for k, v in commit.notes.items() if isinstance(v, int | float)})
            self._numerics[canonical(commit.numerics)] += 1
            self._beside += sum(file.bytes for file in commit.beside.values())
            self._passed_over.merge(PassedOver.of(commit.notes.get(NOTE, {})))

    def status(self) -> Status:
        """Summarise what was counted."""
        dataset, table = self._dataset, self.table()
        rows, rejects, frames, size = (
            sum(table[name].to_pylist()) for name in ("num_rows", "num_rejects", "num_frames", "num_bytes")
        )
        return Status(
            uri=dataset.uri,
            kind=dataset.plan.kind,
            units=len(dataset.plan.units),
            done=table.num_rows,
            rows=rows,
            rejects=rejects,
            seconds=sum(table["seconds"].to_pylist()),
            total_rows=int(dataset.plan.totals.get("rows", 0)),
            total_seconds=dataset.plan.totals.get("seconds", 0.0),
            num_frames=frames,
            num_bytes=size + self._beside,
            finished=dataset.finished(),
            reasons=dict(sorted(self._reasons.items())),
            numerics=dict(self._numerics),
            notes=dict(self._notes),
            passed_over=self._passed_over.to_json(),
        )

    def table(self) -> pa.Table:
        """Give the rows of ``_shards.parquet``."""
        return pa.concat_tables(self._tables)

    def is_whole(self) -> bool:
        """Whether every unit was counted, and none was opened anew since."""
        return self._generation == len(self._dataset.redos) and self.table().num_rows == len(self._dataset.plan.units)

    def show(self) -> None:
        """Show the files that were not shown when their commits were read.

        Raises:
            CorruptDatasetError: A committed file has vanished.
        """
        for commit in self._hidden:
            self._dataset.publish(commit)


class _Shown:
    """Which files of commits are shown, by one listing of each folder."""

    def __init__(self, dataset: Dataset) -> None:
        self._dataset = dataset
        self._folders: dict[str, set[str]] = {}

    def shows(self, commit: Commit) -> bool:
        """Whether all files of a commit are; of a redone unit they may be those of before."""
        names = [self._dataset.data_file(commit.unit)] + [f"_rejects/{commit.unit}.parquet"] * bool(commit.rejects)
        return all(map(self._has, [*names, *commit.beside])) and not self._dataset.generation(commit.unit)

    def _has(self, name: str) -> bool:
        folder, _, file = name.rpartition("/")
        if folder not in self._folders:
            self._folders[folder] = set(self._dataset.store.names(folder))
        return file in self._folders[folder]


def status(dataset: Dataset) -> Status:
    """Summarise a dataset from its commits."""
    return Account.of(dataset, to_finish=False).status()


def shard_table(dataset: Dataset, commits: Sequence[Commit]) -> pa.Table:
    """Lay commits out as rows of ``_shards.parquet``."""
    rows = [
        {
            "unit": commit.unit,
            "file": dataset.data_file(commit.unit),
            "num_rows": commit.data.rows,
            "num_rejects": commit.num_rejects,
            "seconds": commit.seconds,
            "num_frames": commit.num_frames,
            "num_bytes": commit.data.bytes,
            "sha256": commit.data.sha256,
            "rejects_sha256": commit.rejects.sha256 if commit.rejects else None,
            "numerics": canonical(commit.numerics),
        }
        for commit in commits
    ]
    return pa.Table.from_pylist(rows, schema=schema.SHARDS)


def finish(dataset: Dataset, *, account: Account | None = None, extra: Mapping[str, Json] | None = None) -> str:
    """Make a dataset whole: publish what is not yet visible, write the shard table and ``_SUCCESS``, clean up.

    Safe to repeat and to run in two processes at once: each writes the same bytes.

    Args:
        dataset: A dataset all of whose units are committed.
        account: What its commits say, where they were read a moment ago.
        extra: Further facts for ``_SUCCESS``, as the hash of a manifest's index.

    Returns:
        The dataset's hash: of its content key and of every committed data and rejects file.

    Raises:
        DatasetError: Units are still pending.
        CorruptDatasetError: A committed file has vanished.
    """
    dataset.look_again()
    if pending := dataset.pending():
        raise DatasetError(
            f"{dataset.uri} lacks {len(pending)} of {len(dataset.plan.units)} units, first {pending[0]}; "
            "run the job again, it will do just those"
        )
    store = dataset.store
    if account is None or not account.is_whole():
        account = Account.of(dataset)
    account.show()
    faults.point("before_shard_table", dataset.uri)
    table = account.table().combine_chunks()
    store.write(SHARDS, parquet_bytes(table, dataset.plan.lineage))
    columns = [table[name].to_pylist() for name in ("unit", "sha256", "rejects_sha256")]
    content = [list(row) for row in zip(*columns, strict=True)]
    digest = sha256(canonical([dataset.plan.content, content]).encode())
    faults.point("after_shard_table_before_success", dataset.uri)
    redone = {"redone": len(dataset.redos)} if dataset.redos else {}
    mark = {"dataset_sha256": digest, "units": table.num_rows, **redone, **(extra or {})}
    store.write(SUCCESS, canonical(mark).encode())
    faults.point("after_success_before_cleanup", dataset.uri)
    clean_up(dataset)
    return digest


def clean_up(dataset: Dataset) -> None:
    """Remove the attempts of this generation and those before, and what killed processes and probes left."""
    for generation in range(len(dataset.redos) + 1):
        dataset.store.delete_tree(attempts_folder(generation))
    dataset.store.delete_tree(PROBES)
    dataset.store.delete(name for name in dataset.store.names() if name.startswith(TEMPORARY))


@contextlib.contextmanager
def unless_finished(dataset: Dataset) -> Iterator[None]:
    """Let work on a dataset fail where another run has finished the dataset meanwhile, and go on.

    Whoever finishes a dataset removes what only its making needs: scratch datasets, checkpoints, attempts. A run
    beside it that misses them has nothing left to do: equal plans give equal bytes, so the dataset is its own.

    Raises:
        PipelineError: The work failed, and the dataset is not finished.
    """
    try:
        yield
    except (PipelineError, OSError) as error:
        if not dataset.finished():
            raise
        logger.info("another run has finished %s; this one goes on after: %s", dataset.uri, error)


def success(dataset: Dataset) -> dict[str, Json]:
    """Read ``_SUCCESS``: ``dataset_sha256``, ``units`` and what the stage added.

    Raises:
        DatasetError: The dataset is not finished.
        CorruptDatasetError: The file is damaged.
    """
    try:
        found = json.loads(dataset.store.read(SUCCESS))
    except FileNotFoundError:
        raise DatasetError(f"{dataset.uri} is not finished: it has no {SUCCESS}") from None
    except ValueError as error:
        raise CorruptDatasetError(f"{dataset.uri}/{SUCCESS} is damaged ({error}); run the job again") from error
    return dict(found)


def read_shard_table(dataset: Dataset) -> pa.Table:
    """Read ``_shards.parquet`` of a finished dataset."""
    with dataset.store.open(SHARDS) as file:
        return pq.read_table(file)


def nested(dataset: Dataset) -> list[str]:
    """Name the datasets below a dataset's folder, sorted: exports and cross-validations have them, others none."""
    if dataset.plan.kind not in ("export", "cross_validation"):
        return []
    found = [name.removesuffix(f"/{PLAN}") for name in dataset.store.tree("") if name.endswith(f"/{PLAN}")]
    return [join(dataset.uri, name) for name in sorted(found)]


def check_rejects(now: Status, max_reject_fraction: float) -> None:
    """Stop a stage that rejects too much.

    Raises:
        TooManyRejectsError: The share of rejected utterances is over the limit, or none is left.
    """
    total = now.total_rows or now.rows + now.rejects
    counts = ", ".join(f"{reason} {count}" for reason, count in now.reasons.items())
    if total and now.rejects > max_reject_fraction * total:
        raise TooManyRejectsError(
            f"{now.rejects} of {total} utterances were rejected ({counts}), more than max_reject_fraction "
            f"{max_reject_fraction:g} allows; see {now.uri}/_rejects, mend the corpus or raise the limit"
        )
    if now.pending == 0 and now.rows == 0 and now.rejects:
        raise TooManyRejectsError(f"all {now.rejects} utterances were rejected ({counts}); see {now.uri}/_rejects")
