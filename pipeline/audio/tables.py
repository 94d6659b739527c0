"""The layout parquet: audio inside the cells of Parquet files, of which only the other columns are read here.

Understands the Audio column of Hugging Face ``datasets``: struct<bytes, path>, and a plain binary column. A cell
without bytes but with a path is a file, relative to the corpus folder. Columns named as in listings are labels.
Cost: the labels; the audio too for a row group in which some cells are null and others not. Memory: 1,000 rows.
"""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.audio.candidate import Candidate, locate, printable
from pipeline.audio.cells import audio_leaf, cells, open_table
from pipeline.audio.listings import COLUMNS, KNOWN_COLUMNS, read_id, read_labels, read_segment
from pipeline.audio.manifest import encode_id
from pipeline.audio.walking import container_folder
from pipeline.errors import AudioDecodeError, ManifestError
from pipeline.passed_over import PassedOver, UnreadColumns
from pipeline.schema import Reason

_BATCH = 1000


def read_tables(
    corpus: str, files: Sequence[str], audio_column: str | None, passed_over: PassedOver
) -> Iterator[Candidate]:
    """Read Parquet files into candidates, in the order of the files and of their rows.

    Args:
        corpus: What was asked for; ids and paths begin at its folder.
        files: Absolute local paths or S3 URIs.
        audio_column: Column of the audio; None where just one holds audio.
        passed_over: Counts columns that are not read.

    Returns:
        Candidates. A file that is cut or damaged, or has no column of audio, is one with a problem among those of the
        others, and so is a damaged row group.

    Raises:
        ManifestError: The store does not give a file, it is not clear which column is audio, or there are no rows.
    """
    folder = container_folder(corpus)
    lost: list[str] = []
    given = 0
    for file in files:
        for candidate in _read_table(file, folder, audio_column, passed_over, lost):
            given += 1
            yield candidate
    if given == len(lost):
        raise ManifestError(lost[0] if lost else f"the Parquet files of {corpus} have no rows")


def _read_table(
    file: str, folder: str, audio_column: str | None, passed_over: PassedOver, lost: list[str]
) -> Iterator[Candidate]:
    """Read one file; what of it cannot be read is said in ``lost`` too."""
    name = file.removeprefix(folder.rstrip("/") + "/").removeprefix("s3://")[: -len(".parquet")]

    def rejected(what: str, error: AudioDecodeError) -> Candidate:
        lost.append(error.detail)
        return Candidate(
            utterance_id=encode_id(f"{name}/@lost{what}"),
            uri=printable(file),
            problem=(str(error.reason), error.detail),
        )

    try:
        table = open_table(file)
        column, leaf = _audio_column(table.schema_arrow, file, audio_column)
    except (OSError, ValueError, pa.ArrowException, AudioDecodeError) as error:
        yield rejected("", _damage(error, printable(file)))
        return
    with table:
        labels = _label_columns(table.schema_arrow, column)
        read = {field: [name for name in names if name in labels] for field, names in COLUMNS.items()}
        unread = UnreadColumns({**read, "audio": [column]})
        unread.see(dict.fromkeys(table.schema_arrow.names))
        first = 0
        for group in range(table.num_row_groups):
            row, size = 0, table.metadata.row_group(group).num_rows
            try:
                for values, has_bytes in zip(_labels(table, column, group), _filled(table, leaf, group), strict=True):
                    place = {"member": column, "row_group": group, "row": row} if has_bytes else {}
                    yield _candidate(file, folder, f"{name}/{first + row}", values, column, place)
                    unread.see(values)
                    row += 1
            except (OSError, ValueError, pa.ArrowException) as error:
                what = f"rows {first + row} to {first + size - 1} of {printable(file)} are lost: the row group"
                yield rejected(str(group), _damage(error, what))
            first += size
        unread.count(passed_over, file)


def _damage(error: Exception, what: str) -> AudioDecodeError:
    """Tell a damaged file from a store that does not give it.

    Raises:
        ManifestError: The store failed: what it holds may be whole.
    """
    if isinstance(error, AudioDecodeError):
        return error
    # Arrow says with OSError, but without a number, that bytes are not what they should be.
    if isinstance(error, OSError) and (type(error) is not OSError or error.errno is not None):
        raise ManifestError(f"{what} cannot be read as Parquet: {error}") from error
    return AudioDecodeError(Reason.UNREADABLE, f"{what} cannot be read as Parquet, it is cut or damaged: {error}")


def _audio_column(schema: pa.Schema, file: str, wanted: str | None) -> tuple[str, str]:
    """Find the column of audio, and its leaf of bytes.

    Raises:
        AudioDecodeError: This file has none; others may.
        ManifestError: It has several, and none was asked for.
    """
    if len(set(schema.names)) < len(schema.names):
        raise AudioDecodeError(Reason.BAD_ROW, f"{printable(file)} names a column twice: {', '.join(schema.names)}")
    found = {name: leaf for name in schema.names if (leaf := audio_leaf(schema, name))}
    if wanted is None and len(found) > 1:
        raise ManifestError(
            f"{printable(file)} has several columns of bytes: {', '.join(found)}; name one with --audio-column"
        )
    column = wanted or next(iter(found), "")
    if column not in found:
        raise AudioDecodeError(
            Reason.BAD_ROW,
            f"{printable(file)} has no column {wanted or ''} of audio (struct<bytes, path> or binary); it has "
            f"{', '.join(f'{field.name}: {field.type}' for field in schema)[:500]}. For a table of paths use the "
            "layout listing",
        )
    return column, found[column]


def _label_columns(schema: pa.Schema, column: str) -> list[str]:
    """Name the columns that hold labels: paths of audio elsewhere than in its column are not of this layout."""
    known = KNOWN_COLUMNS - set(COLUMNS["uri"])
    return [name for name in schema.names if name in known and name != column and not audio_leaf(schema, name)]


def _labels(table: pq.ParquetFile, column: str, group: int) -> Iterator[Mapping[str, Any]]:
    """Give the other columns of a row group, and the path inside the audio column."""
    schema = table.schema_arrow
    wanted = _label_columns(schema, column)
    kind = schema.field(column).type
    if pa.types.is_struct(kind) and kind.get_field_index("path") >= 0:
        wanted.append(f"{column}.path")
    if not wanted:
        return iter([{}] * table.metadata.row_group(group).num_rows)
    batches = table.iter_batches(batch_size=_BATCH, row_groups=[group], columns=wanted)
    return (row for batch in batches for row in batch.to_pylist())


def _filled(table: pq.ParquetFile, leaf: str, group: int) -> Iterator[bool]:
    """Say for each row of a group whether its cell has bytes, from the statistics where they tell."""
    place = table.metadata.row_group(group)
    columns = (place.column(index) for index in range(place.num_columns))
    statistics = next(column.statistics for column in columns if column.path_in_schema == leaf)
    if statistics is not None and statistics.has_null_count and statistics.null_count in (0, place.num_rows):
        return itertools.repeat(statistics.null_count == 0, place.num_rows)
    return (cell is not None for cell in cells(table, leaf, group))


def _candidate(
    file: str, folder: str, number: str, values: Mapping[str, Any], column: str, place: dict[str, Any]
) -> Candidate:
    given = None
    row = {name: value for name, value in values.items() if name != column}
    try:
        given = read_id(row)
        uri = file
        if not place:
            path = (values.get(column) or {}).get("path")
            if not path:
                raise AudioDecodeError(Reason.EMPTY, "the cell is null")
            uri = locate(path, folder)
        labels = {**read_labels(row, folder), **read_segment(row)}
        return Candidate(utterance_id=encode_id(given or number), uri=uri, **place, **labels)
    except AudioDecodeError as error:
        return Candidate(
            utterance_id=encode_id(given or number),
            uri=printable(file),
            problem=(str(error.reason), f"row {number.rpartition('/')[2]}: {error.detail}"),
        )
