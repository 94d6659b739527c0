"""Tars and Parquet tables of recordings, made on the spot."""

import io
import tarfile

import pyarrow as pa
import pyarrow.parquet as pq
import soundfile
from made_audio import RATE, noise


def encoded(samples, name="a.flac", rate=RATE, **kwargs):
    """Encode samples as a file of that name would be."""
    file = io.BytesIO()
    soundfile.write(
        file, samples, rate, format={"opus": "OGG", "oga": "OGG"}.get(name[-4:], name[-4:].strip(".")), **kwargs
    )
    return file.getvalue()


def write_tar(path, members, **kwargs):
    """Write (name, bytes) or TarInfo members, in order."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", **kwargs) as tar:
        for member in members:
            if isinstance(member, tarfile.TarInfo):
                tar.addfile(member)
            else:
                info = tarfile.TarInfo(member[0])
                info.size = len(member[1])
                tar.addfile(info, io.BytesIO(member[1]))
    return path


def recordings(count=4, seconds=0.5):
    """Make FLAC recordings by name."""
    return {
        f"{number:03d}.flac": encoded(noise(int(seconds * RATE) + 100 * number, seed=number)) for number in range(count)
    }


def write_table(path, cells, /, row_group_size=100, **columns):
    """Write a table as ``datasets`` does: cells are (bytes or None, path or None), or None."""
    path.parent.mkdir(parents=True, exist_ok=True)
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    rows = [None if cell is None else dict(zip(("bytes", "path"), cell, strict=True)) for cell in cells]
    pq.write_table(pa.table({"audio": pa.array(rows, kind), **columns}), path, row_group_size=row_group_size)
    return path
