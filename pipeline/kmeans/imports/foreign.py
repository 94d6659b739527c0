"""Codebooks that other programs saved: scikit-learn's K-means as a pickle, ``.npy``, faiss's flat index.

A pickle is opened by ``pickled.py`` in a process of its own that runs none of it and answers with plain numbers; the
other formats are plain numbers already. Nothing here needs scikit-learn, joblib or faiss.

Centroids become float32, because distances are computed between float16 features and float32 centroids. Those that
were float64 are rounded once, to nearest; a token can differ from the other program's only where two centroids are
equally near up to that rounding, 6e-8 of a centroid's size.
Memory: the file three times. Shapes: K clusters, D width.
"""

import io
import json
import math
import os
import struct
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.errors import ForeignCodebookError
from pipeline.kmeans.codebook import MAX_CLUSTERS, Codebook

MAX_FILE_BYTES = 1 << 30
"""Largest file that is read; 65,536 centroids of width 1024 in float64 are half of it."""

_MEMORY_BYTES = 4 << 30
_SECONDS = 120
_CHILD = Path(__file__).with_name("pickled.py")
_MAX_HEADER_BYTES = 1 << 20
_COUNT_LIMIT = 2.0**53
_FLAT_HEADER = "<4siqqqBi"
_FLAT_L2, _FLAT_OTHERS = b"IxF2", (b"IxFI", b"IxFl")
_OTHERS = {
    b"PK": "a zip: of torch.save, or .npz. Save the centroids alone with numpy.save",
    b"\x89HDF": "HDF5. Save the centroids alone with numpy.save",
}


@dataclass(frozen=True, kw_only=True, eq=False)
class ForeignCodebook:
    """Centroids as another program saved them.

    Attributes:
        centroids: float32 (K, D), finite, K in 2 to 65,536.
        counts: int64 (K,), the rows of each cluster that the program counted; zeros where it did not say.
        inertia: float64 (1,), its last inertia; (0,) where it did not say.
        origin: ``format``, ``class`` and ``dtype`` of what was in the file.
    """

    centroids: np.ndarray
    counts: np.ndarray
    inertia: np.ndarray
    origin: Mapping[str, str]

    def as_codebook(self, layer: int, lineage: Mapping[str, Any]) -> Codebook:
        """Give the codebook of a layer.

        Args:
            layer: Encoder layer whose features were clustered.
            lineage: As ``Codebook`` wants it.
        """
        return Codebook(
            layer=layer,
            centroids=self.centroids,
            counts=self.counts,
            inertia=self.inertia,
            lineage={**lineage, "layer": layer},
        )


def read_foreign(data: bytes, source: str) -> ForeignCodebook:
    """Read a codebook file; its first bytes tell the format, not its name.

    Args:
        data: The file.
        source: Its path or URI, for messages.

    Raises:
        ForeignCodebookError: It is in no format that is read here, is damaged, holds more than a K-means (a pickle
            that asks for other classes or functions; none of them is run), or no possible centroids.
    """
    for magic, what in _OTHERS.items():
        if data.startswith(magic):
            raise _refusal(source, f"it is {what}")
    if data.startswith(b"\x93NUMPY"):
        return _checked(_read_npy(data, source), {"format": "npy", "class": "ndarray"}, source)
    if data.startswith(b"I"):
        return _checked(_read_faiss(data, source), {"format": "faiss", "class": "IndexFlat"}, source)
    return read_answer(_ask_child(data, source), source)


def _refusal(source: str, why: str) -> ForeignCodebookError:
    return ForeignCodebookError(
        f"{source} cannot be imported: {why}. Read are K-means of scikit-learn (pickle or joblib), "
        ".npy of (K, D) floats, and faiss IndexFlatL2"
    )


def _read_npy(data: bytes, source: str) -> np.ndarray:
    """Parse the header only; the numbers are a view of the file, so a header that lies costs nothing."""
    stream = io.BytesIO(data)
    try:
        version = np.lib.format.read_magic(stream)
        read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, is_fortran, dtype = read_header(stream)
    # The header is a Python literal, and numpy's reader lets what ast and tokenize raise through.
    except Exception as error:
        raise _refusal(source, f"its .npy header is damaged ({type(error).__name__})") from error
    if dtype.hasobject:
        raise _refusal(source, "its array holds Python objects, a pickle in disguise; nothing of it was run")
    return _array(memoryview(data)[stream.tell() :], dtype, shape, "F" if is_fortran else "C", source)


def _read_faiss(data: bytes, source: str) -> np.ndarray:
    """Read the vectors of a flat index: a header, their number of floats, and the floats."""
    kind, begin = data[:4], struct.calcsize(_FLAT_HEADER) + 8
    if kind not in (_FLAT_L2, *_FLAT_OTHERS) or len(data) < begin:
        name = "".join(chr(byte) if 32 < byte < 127 else "?" for byte in kind)
        raise _refusal(source, f"it begins as faiss index {name!r}, not as a flat one whose vectors are the centroids")
    _, dim, rows, _, _, _, metric = struct.unpack_from(_FLAT_HEADER, data)
    (count,) = struct.unpack_from("<Q", data, begin - 8)
    if kind != _FLAT_L2 or metric != 1:
        raise _refusal(source, "it searches by another metric than L2, and tokens are nearest by Euclidean distance")
    if rows < 0 or dim < 0 or count != rows * dim:
        raise _refusal(source, f"its header names {rows} vectors of {dim} and {count} floats: it is damaged")
    return _array(memoryview(data)[begin:], np.dtype("<f4"), (rows, dim), "C", source)


def _array(data: memoryview, dtype: np.dtype[Any], shape: Any, order: Any, source: str) -> np.ndarray:
    """Make an array of all bytes of ``data``, or refuse."""
    if dtype.kind not in "fiu" or dtype.itemsize > 8:
        raise _refusal(source, f"it holds {dtype}, not floats")
    sizes = isinstance(shape, tuple | list) and all(type(size) is int and size >= 0 for size in shape)
    if not sizes or math.prod(shape) * dtype.itemsize != len(data):
        raise _refusal(source, f"it is truncated or damaged: {len(data)} bytes for {dtype} {str(shape)[:80]}")
    values: np.ndarray = np.frombuffer(data, dtype).reshape(shape, order="F" if order == "F" else "C")
    return values


def read_answer(answer: bytes, source: str) -> ForeignCodebook:
    """Read what the process that opened a pickle answered, believing nothing of it.

    Args:
        answer: As ``pickled.py`` writes it.
        source: The pickle's path or URI, for messages.

    Raises:
        ForeignCodebookError: It refused the file, gave no proper answer, or found no possible centroids.
    """
    length = int.from_bytes(answer[:4], "big")
    try:
        if length > _MAX_HEADER_BYTES:
            raise ValueError
        header = json.loads(answer[4 : 4 + length])
        if "refused" in header:
            raise _refusal(source, _printable(header["refused"]))
        arrays, begin = {}, 4 + length
        for entry in header["arrays"]:
            dtype = np.dtype(str(entry["dtype"]))
            end = begin + math.prod(entry["shape"]) * dtype.itemsize
            arrays[entry["name"]] = _array(memoryview(answer)[begin:end], dtype, entry["shape"], entry["order"], source)
            begin = end
        origin = {key: _printable(header[key]) for key in ("format", "class")}
        centroids, inertia = arrays["centroids"], header["inertia"]
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError) as error:
        raise _refusal(source, "the process that opened it gave no proper answer") from error
    return _checked(centroids, origin, source, counts=arrays.get("counts"), inertia=inertia)


def _ask_child(data: bytes, source: str) -> bytes:
    # No secret of this process's environment is any business of the child.
    environment = {key: os.environ[key] for key in ("LD_LIBRARY_PATH",) if key in os.environ}
    with tempfile.TemporaryFile() as answer:
        try:
            status = subprocess.run(
                [sys.executable, "-I", "-S", str(_CHILD), str(_MEMORY_BYTES), str(_SECONDS)],
                input=data,
                stdout=answer,
                stderr=subprocess.DEVNULL,
                env=environment,
                timeout=_SECONDS,
                check=False,
            ).returncode
        except subprocess.TimeoutExpired:
            raise _refusal(source, f"opening it took longer than {_SECONDS} s") from None
        if status:
            raise _refusal(source, f"the process that opened it ended with status {status}: it is damaged, or hostile")
        answer.seek(0)
        return answer.read()


def _printable(text: Any) -> str:
    return "".join(character if " " <= character <= "~" else "?" for character in str(text)[:400])


def _checked(
    centroids: np.ndarray,
    origin: Mapping[str, str],
    source: str,
    *,
    counts: np.ndarray | None = None,
    inertia: Any = None,
) -> ForeignCodebook:
    """Refuse what cannot be a codebook, and bring the rest into our number formats."""
    if centroids.ndim != 2 or centroids.dtype.kind != "f":
        raise _refusal(source, f"centroids are floats of shape (K, D), it holds {centroids.dtype} {centroids.shape}")
    num_clusters, dim = centroids.shape
    if not 2 <= num_clusters <= MAX_CLUSTERS or dim < 1:
        raise _refusal(source, f"it has {num_clusters} centroids of width {dim}; a codebook has 2 to {MAX_CLUSTERS}")
    with np.errstate(over="ignore"):
        rounded = np.ascontiguousarray(centroids, np.float32)
    if not np.isfinite(rounded).all():
        raise _refusal(source, "its centroids hold values that are not finite, or too large for float32")
    good = isinstance(inertia, float) and math.isfinite(inertia) and inertia >= 0
    return ForeignCodebook(
        centroids=rounded,
        counts=_whole_counts(counts, num_clusters),
        inertia=np.array([inertia] if good else [], np.float64),
        origin={**origin, "dtype": str(centroids.dtype.newbyteorder("="))},
    )


def _whole_counts(counts: np.ndarray | None, num_clusters: int) -> np.ndarray:
    """Give counts as int64 (K,). scikit-learn keeps them as floats, and weighted fits have fractions: then zeros."""
    if counts is not None and counts.shape == (num_clusters,):
        values = counts.astype(np.float64)
        if (np.isfinite(values) & (values >= 0) & (values < _COUNT_LIMIT) & (values == np.rint(values))).all():
            return values.astype(np.int64)
    return np.zeros(num_clusters, np.int64)
