"""Reads the centroids out of a pickled scikit-learn K-means without running any of it.

A pickle is a program: it may call whatever it can name. Here it can name only the stand-ins below, which keep what
they are given and call nothing. scikit-learn, joblib and numpy are never imported, so files of any of their versions
open. ``importing.py`` starts this file as a process of its own, ``python -I -S pickled.py MEMORY_BYTES SECONDS``: no
installed package is on its path, limits are set before the first byte is read, and an audit hook then forbids it
files, processes, sockets and imports, should a stand-in ever be tricked.

In: the file, on stdin. Out: a 4-byte big-endian length, that many bytes of JSON, and the numbers it lists, raw. A file
that is refused gives JSON with the one key ``refused``, a sentence.
Memory: the file and, where it is compressed, what it unpacks to; arrays are views of that.
"""

import bz2
import json
import lzma
import math
import pickle
import resource
import struct
import sys
import zlib
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

ESTIMATORS = ("KMeans", "MiniBatchKMeans")

_ESTIMATOR_MODULES = ("_kmeans", "_k_means", "k_means_")
_NUMBERS = {"b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8"}
_MAX_ITEMS = 1 << 40
_UNPACKERS: Mapping[str, tuple[bytes, Callable[[], Any]]] = {
    "gzip": (b"\x1f\x8b", lambda: zlib.decompressobj(31)),
    "zlib": (b"x", zlib.decompressobj),
    "bz2": (b"BZh", bz2.BZ2Decompressor),
    "xz": (b"\xfd7zXZ", lzma.LZMADecompressor),
    "lzma": (b"]\x00", lzma.LZMADecompressor),
}
_UNREADABLE = {
    b"\x04\x22\x4d\x18": "it is compressed with lz4, which is not read here; save it again with another compression",
    b"ZF": "it was written by joblib before 0.10; open it there and save it again with a newer joblib",
}


class PickleRefused(Exception):
    """A file that is not, or not only, a K-means; the message is a clause about "it"."""


class Ignored:
    """Stands for what a K-means carries and nobody here reads, as the state of its random generator."""

    __slots__ = ()

    def __new__(cls, *args: Any, **kwargs: Any) -> "Ignored":
        """Take any arguments and drop them."""
        return super().__new__(cls)

    def __setstate__(self, state: Any) -> None:
        """Drop the state."""


class Number:
    """Stands for ``numpy.dtype``: a plain number, as ``<f8``. Raises Refused for objects, records and text."""

    __slots__ = ("code", "order")

    def __init__(self, code: Any, *flags: Any) -> None:
        if not isinstance(code, str) or code not in _NUMBERS:
            raise PickleRefused(f"it holds an array of {code!r}, and only arrays of plain numbers are read")
        self.code = code
        self.order = "<"

    def __setstate__(self, state: Any) -> None:
        """Take the byte order, and refuse the fields of a record."""
        if not isinstance(state, tuple) or len(state) < 5 or any(part is not None for part in state[2:5]):
            raise PickleRefused("it holds an array whose dtype is not a plain number")
        self.order = ">" if state[1] == ">" else "<"

    @property
    def size(self) -> int:
        """Bytes of one number."""
        return int(self.code[1:])


class Array:
    """Stands for ``numpy.ndarray``: shape, dtype and order, and a view of the bytes."""

    __slots__ = ("data", "dtype", "order", "shape")
    form = "pickle"

    def __init__(self) -> None:
        self.fill((0,), Number("f8"), "C", b"")

    def fill(self, shape: Any, dtype: Any, order: Any, data: Any) -> None:
        """Take the parts, refusing those that do not belong together."""
        size = num_bytes(shape, dtype)
        if not isinstance(data, bytes | bytearray | memoryview) or len(data) != size:
            raise PickleRefused(f"it holds an array of shape {shape} with other than its {size} bytes")
        self.shape, self.dtype, self.order, self.data = shape, dtype, "F" if order == "F" else "C", data

    def __setstate__(self, state: Any) -> None:
        """Take numpy's (version, shape, dtype, is_fortran, data)."""
        if not isinstance(state, tuple) or len(state) != 5:
            raise PickleRefused("it holds an array in a form that is not numpy's")
        self.fill(state[1], state[2], "F" if state[3] is True else "C", state[4])

    def scalar(self) -> float | None:
        """Give the value of an array of no dimensions, None where it is not a float."""
        formats = {"f4": "f", "f8": "d"}
        if self.shape != () or self.dtype.code not in formats:
            return None
        return float(struct.unpack(self.dtype.order + formats[self.dtype.code], self.data)[0])


def num_bytes(shape: Any, dtype: Any) -> int:
    """Count the bytes of an array, refusing what is no shape or no dtype."""
    good = isinstance(shape, tuple) and len(shape) <= 8 and all(type(n) is int and 0 <= n <= _MAX_ITEMS for n in shape)
    if not good or not isinstance(dtype, Number):
        raise PickleRefused("it holds an array without a proper shape and dtype")
    count: int = math.prod(shape)
    return count * dtype.size


class Estimator:
    """Stands for ``KMeans`` and ``MiniBatchKMeans``: its attributes by name."""

    __slots__ = ("state",)
    name = ""

    def __init__(self) -> None:
        self.state: dict[str, Any] = {}

    def __setstate__(self, state: Any) -> None:
        """Take the attributes."""
        if not isinstance(state, dict):
            raise PickleRefused("it holds a K-means without attributes")
        self.state = state


class Calling:
    """A function that a pickle may call, with no attribute that it could change."""

    __slots__ = ("_function",)

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function

    def __call__(self, *args: Any) -> Any:
        """Call it."""
        return self._function(*args)

    def __setstate__(self, state: Any) -> NoReturn:
        """Refuse."""
        raise PickleRefused("it changes a function")


class Stream:
    """The unpacked file. Without ``peek``, so that pickle reads no further than it must: arrays follow inline."""

    def __init__(self, data: bytes) -> None:
        self._data = memoryview(data)
        self._position = 0

    def view(self, count: int) -> memoryview:
        """Give the next bytes without copying them."""
        if count > len(self._data) - self._position:
            raise PickleRefused("it is truncated")
        self._position += count
        return self._data[self._position - count : self._position]

    def read(self, count: int) -> bytes:
        """Give the next bytes, fewer at the end."""
        return bytes(self.view(min(count, len(self._data) - self._position)))

    def readline(self) -> bytes:
        """Give the rest of a line; text of old protocols, never long here."""
        rest = bytes(self._data[self._position : self._position + 4096])
        return self.read(rest.find(b"\n") + 1 or len(rest))


def _reconstruct(kind: Any, shape: Any, code: Any) -> Array:
    return Array()


def _from_buffer(data: Any, dtype: Any, shape: Any, order: Any) -> Array:
    array = Array()
    array.fill(shape, dtype, order, data)
    return array


def _scalar(dtype: Any, data: Any) -> Array:
    return _from_buffer(data, dtype, (), "C")


def _latin1(text: Any, encoding: Any) -> bytes:
    """Stand for ``_codecs.encode``, which carries bytes in protocol 2."""
    if not isinstance(text, str) or encoding != "latin1":
        raise PickleRefused("it encodes text")
    return text.encode("latin1")


def _inline_array(stream: Stream) -> type[Array]:
    """Stand for joblib's NumpyArrayWrapper, whose bytes follow it in the file. Its mmap hints are not looked at."""

    class InlineArray(Array):
        __slots__ = ()
        form = "joblib"

        def __setstate__(self, state: Any) -> None:
            if not isinstance(state, dict) or state.get("subclass") is not Array:
                raise PickleRefused("it holds an array in a form that is not joblib's")
            if state.get("numpy_array_alignment_bytes") is not None:
                stream.view(stream.view(1)[0])
            shape, dtype = state.get("shape"), state.get("dtype")
            self.fill(shape, dtype, state.get("order"), stream.view(num_bytes(shape, dtype)))

    return InlineArray


def stand_ins(stream: Stream) -> Mapping[tuple[str, str], Any]:
    """List all that a pickle may name, and what it gets; keys are compared whole, so no dotted name matches."""
    table: dict[tuple[str, str], Any] = {
        ("_codecs", "encode"): Calling(_latin1),
        ("joblib.numpy_pickle", "NumpyArrayWrapper"): _inline_array(stream),
        ("sklearn.externals.joblib.numpy_pickle", "NumpyArrayWrapper"): _inline_array(stream),
        ("numpy", "dtype"): Number,
        ("numpy", "ndarray"): Array,
        ("numpy.random", "__RandomState_ctor"): Ignored,
        ("numpy.random._pickle", "__randomstate_ctor"): Ignored,
        ("numpy.random._pickle", "__bit_generator_ctor"): Ignored,
        ("numpy.random._mt19937", "MT19937"): Ignored,
        ("numpy.random.bit_generator", "SeedSequence"): Ignored,
        ("numpy.random.bit_generator", "__pyx_unpickle_SeedSequence"): Ignored,
    }
    for core in ("numpy.core", "numpy._core"):
        table[f"{core}.multiarray", "_reconstruct"] = Calling(_reconstruct)
        table[f"{core}.multiarray", "scalar"] = Calling(_scalar)
        table[f"{core}.numeric", "_frombuffer"] = Calling(_from_buffer)
    for name in ESTIMATORS:
        kind = type(name, (Estimator,), {"__slots__": (), "name": name})
        table.update({(f"sklearn.cluster.{module}", name): kind for module in _ESTIMATOR_MODULES})
    return table


class Unpickler(pickle.Unpickler):
    """pickle's own, for which nothing exists but the stand-ins."""

    def __init__(self, stream: Stream) -> None:
        super().__init__(stream)
        self._known = stand_ins(stream)

    def find_class(self, module: str, name: str) -> Any:
        """Give a stand-in, or refuse the name."""
        try:
            return self._known[module, name]
        except KeyError:
            wanted = f"{module}.{name}"[:200]
            raise PickleRefused(f"it asks for {wanted}, which no K-means needs; nothing of it was run") from None


def unpack(data: bytes) -> tuple[bytes, str]:
    """Undo joblib's compression.

    Returns:
        The pickle, and how it was compressed: none, gzip, zlib, bz2, xz or lzma.
    """
    for magic, why in _UNREADABLE.items():
        if data.startswith(magic):
            raise PickleRefused(why)
    for name, (magic, make) in _UNPACKERS.items():
        if data.startswith(magic):
            unpacker = make()
            try:
                found = unpacker.decompress(data)
            except (zlib.error, lzma.LZMAError, OSError, ValueError, EOFError) as error:
                raise PickleRefused(f"its {name} compression is damaged ({error})") from error
            if not unpacker.eof:
                raise PickleRefused(f"its {name} compression ends too early: it is truncated")
            return found, name
    return data, "none"


def read(data: bytes) -> tuple[dict[str, Any], list[Any]]:
    """Read a pickled K-means.

    Args:
        data: The file.

    Returns:
        What is in it (``class``, ``format``, ``inertia`` and the list ``arrays``), and the bytes of each array.

    Raises:
        Refused: It names what no K-means needs, or is none, or is damaged.
    """
    pickled, compression = unpack(data)
    try:
        found = Unpickler(Stream(pickled)).load()
    except (PickleRefused, MemoryError):
        raise
    except Exception as error:
        raise PickleRefused(f"it is no pickle, or a damaged one ({type(error).__name__}: {error})") from error
    if isinstance(found, Array):
        return _answer("ndarray", compression, {"centroids": found}, None)
    if not isinstance(found, Estimator):
        raise PickleRefused("it is a pickle, but of no K-means")
    if "cluster_centers_" not in found.state:
        raise PickleRefused(f"its {found.name} has no cluster_centers_: it was saved before it was fitted")
    counts = found.state.get("_counts", found.state.get("counts_"))
    arrays = {"centroids": found.state["cluster_centers_"], "counts": counts}
    return _answer(found.name, compression, arrays, found.state.get("inertia_"))


def _answer(
    kind: str, compression: str, found: Mapping[str, Any], inertia: Any
) -> tuple[dict[str, Any], list[bytes | bytearray | memoryview]]:
    arrays = {name: array for name, array in found.items() if isinstance(array, Array)}
    if "centroids" not in arrays:
        raise PickleRefused(f"the cluster_centers_ of its {kind} are no array")
    listed = [
        {"name": name, "dtype": array.dtype.order + array.dtype.code, "shape": array.shape, "order": array.order}
        for name, array in arrays.items()
    ]
    value = inertia.scalar() if isinstance(inertia, Array) else inertia
    form = arrays["centroids"].form + ("" if compression == "none" else f", {compression}")
    if not isinstance(value, float) or not math.isfinite(value):
        value = None
    header = {"class": kind, "format": form, "inertia": value, "arrays": listed}
    return header, [array.data for array in arrays.values()]


def confine(memory_bytes: int, seconds: int) -> None:
    """Give up what this process will not need: memory, time, files, other processes. There is no way back."""
    limits = {
        resource.RLIMIT_AS: memory_bytes,
        resource.RLIMIT_CPU: seconds,
        resource.RLIMIT_FSIZE: memory_bytes,
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_NOFILE: 3,
    }
    for kind, limit in limits.items():
        ceiling = resource.getrlimit(kind)[1]
        lower = limit if ceiling == resource.RLIM_INFINITY else min(limit, ceiling)
        resource.setrlimit(kind, (lower, lower))

    def refuse(event: str, args: Any) -> None:
        raise PickleRefused(f"it tried {event}")

    sys.addaudithook(refuse)


def main() -> None:
    """Answer for the file on stdin."""
    confine(int(sys.argv[1]), int(sys.argv[2]))
    parts: list[Any] = []
    try:
        header, parts = read(sys.stdin.buffer.read())
    except PickleRefused as error:
        header = {"refused": str(error)}
    except MemoryError:
        header = {"refused": "it needs more memory than a codebook could"}
    text = json.dumps(header).encode()
    for part in (struct.pack(">I", len(text)), text, *parts):
        sys.stdout.buffer.write(part)
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
