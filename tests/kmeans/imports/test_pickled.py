"""Pickles that want more than to be a K-means: none of them runs anything, and each is refused by name."""

import builtins
import io
import json
import os
import pickle
import subprocess
import sys
import zlib
from pathlib import Path

import joblib
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.cluster import KMeans

from pipeline.errors import ForeignCodebookError
from pipeline.kmeans.imports import foreign
from pipeline.kmeans.imports.foreign import read_answer, read_foreign

ROOT = Path(__file__).parents[3]
CENTROIDS = np.arange(12, dtype=np.float32).reshape(4, 3)


class Calls:
    """Pickles as a call of a function."""

    def __init__(self, function, *args):
        self.call = function, args

    def __reduce__(self):
        return self.call


def text(value):
    return b"\x8c" + bytes([len(value)]) + value.encode()


def named(module, name, *args):
    """Write protocol 4 by hand: look a name up, dotted or not, and call it with some strings."""
    call = b"(" + b"".join(map(text, args)) + b"tR" if args else b""
    return b"\x80\x04" + text(module) + text(name) + b"\x93" + call + b"."


def refused(data):
    with pytest.raises(ForeignCodebookError) as caught:
        read_foreign(data, "km.bin")
    return str(caught.value)


def joblib_bytes(value, compress=0):
    file = io.BytesIO()
    joblib.dump(value, file, compress=compress)
    return file.getvalue()


def kmeans(**attributes):
    model = KMeans(4)
    model.cluster_centers_ = CENTROIDS
    vars(model).update(attributes)
    return model


@pytest.fixture
def mark(tmp_path):
    """Give a path that no pickle may bring into being."""
    path = tmp_path / "ran"
    yield str(path)
    assert not path.exists()


@pytest.mark.parametrize("protocol", [0, 1, 2, 4, 5])
@pytest.mark.parametrize(
    ("function", "args", "name"),
    [
        (os.system, ["touch {}"], "posix.system"),
        (eval, ["open('{}', 'w')"], "eval"),
        (exec, ["open('{}', 'w')"], "exec"),
        (open, ["{}", "w"], "io.open"),
        (os.mkdir, ["{}"], "posix.mkdir"),
        (subprocess.Popen, ["touch {}"], "Popen"),
        (builtins.__import__, ["os"], "__import__"),
        (getattr, [np.ndarray, "__class__"], "getattr"),
        (np.load, ["{}"], "numpy.load"),
        (np.fromfile, ["{}"], "fromfile"),
    ],
)
def test_functions_are_refused_by_name_and_not_run(mark, protocol, function, args, name):
    args = [part.format(mark) if isinstance(part, str) else part for part in args]
    data = pickle.dumps(Calls(function, *args), protocol)
    said = refused(data)
    assert name in said
    assert "nothing of it was run" in said
    assert name in refused(zlib.compress(data))


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("os", "system"),
        ("numpy.core.multiarray", "a.b"),
        ("numpy", "ndarray.__class__"),
        ("numpy", "dtype.__init__.__globals__"),
        ("numpy", "core.multiarray._reconstruct"),
        ("numpy.core.multiarray", "_reconstruct.__globals__"),
        ("sklearn.cluster._kmeans", "KMeans.__setstate__"),
        ("sklearn.cluster._kmeans", "KMeans.fit.__globals__.get"),
        ("sklearn.cluster", "KMeans"),
        ("joblib.numpy_pickle", "NumpyArrayWrapper.read"),
        ("joblib.numpy_pickle", "load"),
        ("joblib.numpy_pickle_compat", "NDArrayWrapper"),
        ("joblib.numpy_pickle_compat", "ZNDArrayWrapper"),
        ("numpy", "memmap"),
        ("pickle", "loads"),
        ("__main__", "Unpickler"),
        ("", ""),
    ],
)
def test_only_whole_names_of_the_list_are_known(mark, module, name):
    said = refused(named(module, name, f"touch {mark}"))
    assert f"it asks for {module}.{name}," in said


def test_a_payload_inside_a_real_model_is_refused(mark):
    for hidden in (Calls(os.system, f"touch {mark}"), {"deep": [(Calls(os.system, f"touch {mark}"),)]}):
        for data in (joblib_bytes(kmeans(extra=hidden)), joblib_bytes(kmeans(extra=hidden), 3)):
            assert "posix.system" in refused(data)


def test_object_arrays_are_refused_wherever_they_are(mark):
    """joblib and numpy read an array of objects by a second unpickling, which nothing restricts."""
    objects = np.array([Calls(os.system, f"touch {mark}")], dtype=object)
    file = io.BytesIO()
    np.save(file, objects, allow_pickle=True)
    assert "pickle in disguise" in refused(file.getvalue())
    for data in (joblib_bytes(kmeans(extra=objects)), joblib_bytes(objects), pickle.dumps(np.array([None]))):
        assert "an array of 'O8'" in refused(data)
    records = np.zeros(3, [("a", "f4"), ("b", "O")])
    assert "an array of 'V12'" in refused(pickle.dumps(records))


def wrapper(mark, **changes):
    """Write a joblib array by hand, its wrapper's attributes changed, no bytes behind it."""

    class NumpyArrayWrapper:
        pass

    NumpyArrayWrapper.__module__, NumpyArrayWrapper.__qualname__ = "joblib.numpy_pickle", "NumpyArrayWrapper"
    made = NumpyArrayWrapper()
    vars(made).update(subclass=np.ndarray, shape=(4, 3), order="C", dtype=np.dtype("f4"), allow_mmap=True)
    vars(made).update(changes)
    file = io.BytesIO()

    class Pickler(pickle._Pickler):
        def save_global(self, obj, name=None):
            if obj is NumpyArrayWrapper:
                self.write(b"cjoblib.numpy_pickle\nNumpyArrayWrapper\n")
            else:
                super().save_global(obj, name)

        dispatch = {**pickle._Pickler.dispatch, type: save_global}

    Pickler(file, 3).dump(made)
    return file.getvalue()[:-1] + CENTROIDS.tobytes() + b"."


def test_mmap_and_other_tricks_of_joblibs_wrapper_do_not_work(mark):
    np.testing.assert_array_equal(read_foreign(wrapper(mark), "km.bin").centroids, CENTROIDS)
    for changes in (
        {"subclass": np.memmap},
        {"subclass": np.matrix},
        {"shape": (-4, -3)},
        {"shape": (1 << 62, 1 << 62)},
        {"shape": (4, 1 << 30)},
        {"shape": [4, 3]},
        {"shape": 12},
        {"dtype": "f4"},
        {"dtype": np.dtype("O")},
        {"dtype": np.dtype("U3")},
        {"numpy_array_alignment_bytes": 16},
    ):
        refused(wrapper(mark, **changes))


def test_attributes_of_stand_ins_cannot_be_changed():
    state = b"}" + text("__code__") + text("x") + b"s"
    for module, name in (("_codecs", "encode"), ("numpy", "dtype"), ("sklearn.cluster._kmeans", "KMeans")):
        data = b"\x80\x04" + text(module) + text(name) + b"\x93" + state + b"b."
        refused(data)
        refused(data[:-2] + b"N" + state + b"\x86b.")


@pytest.mark.parametrize("code", [b"\x80\x04\x82\x01.", b"\x80\x04Pid.", b"\x80\x04\x97.", b"\x80\x04Q."])
def test_extension_codes_persistent_ids_and_foreign_buffers_are_refused(code):
    assert "no pickle, or a damaged one" in refused(code)


def test_memory_and_time_are_limited(monkeypatch):
    monkeypatch.setattr(foreign, "_MEMORY_BYTES", 256 << 20)
    bomb = zlib.compress(bytes(400 << 20), 1)
    assert "needs more memory" in refused(bomb)
    # A memo index of 2^31 makes pickle allocate 16 GiB.
    assert "needs more memory" in refused(b"\x80\x04Nr\x00\x00\x00\x80.")
    monkeypatch.setattr(foreign, "_SECONDS", 2)
    # The hash of a tuple of the same two tuples, forty deep, takes 2^40 steps.
    deep = b"\x80\x04}N" + b"".join(b"q%c0h%ch%c\x86" % (n, n, n) for n in range(40)) + b"Ns."
    said = refused(deep)
    assert "took longer" in said or "ended with status" in said


def test_the_process_that_reads_has_no_files_processes_or_imports_left():
    script = """
import os, socket, subprocess, sys
from pipeline.kmeans.imports import pickled
pickled.confine(4 << 30, 60)
tries = [lambda: os.system("true"), lambda: open("/etc/passwd"), lambda: subprocess.Popen(["true"]), os.fork,
         lambda: __import__("colorsys"), socket.socket, lambda: eval("1"), lambda: os.listdir("/")]
for number, attempt in enumerate(tries):
    try:
        attempt()
    except pickled.PickleRefused as error:
        print(error)
"""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True)
    assert len(done.stdout.splitlines()) == 8, done.stdout


def test_reading_a_model_imports_neither_sklearn_nor_joblib_nor_numpy(tmp_path):
    (tmp_path / "km.bin").write_bytes(joblib_bytes(kmeans()))
    script = f"""
import sys
sys.path.insert(0, {str(ROOT / "pipeline" / "kmeans" / "imports")!r})
import pickled
header, _ = pickled.read(open({str(tmp_path / "km.bin")!r}, "rb").read())
print(header["class"], sorted(set(sys.modules) & {{"sklearn", "joblib", "numpy"}}))
"""
    done = subprocess.run([sys.executable, "-I", "-S", "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["KMeans", "[]"]


def claim(size):
    """Write an answer whose header is well formed and whose numbers are not there."""
    array = {"name": "centroids", "dtype": "O" if size == 4 else "<f4", "shape": [size, 3], "order": "C"}
    header = json.dumps({"class": "KMeans", "format": "joblib", "inertia": None, "arrays": [array]}).encode()
    return len(header).to_bytes(4, "big") + header


@pytest.mark.parametrize(
    "answer",
    [b"", b"\xff\xff\xff\xff", b"\0\0\0\2{}", b"\0\0\0\4null", b'\0\0\0\x10{"arrays": [{}]}', claim(4), claim("x")],
)
def test_an_answer_that_is_none_is_refused(answer):
    with pytest.raises(ForeignCodebookError, match="no proper answer|holds object"):
        read_answer(answer, "km.bin")


def whole_files():
    file = io.BytesIO()
    np.save(file, CENTROIDS)
    flat = b"IxF2" + np.array([3], "<i4").tobytes() + np.array([4, 1 << 20, 1 << 20], "<i8").tobytes()
    flat += b"\1" + np.array([1], "<i4").tobytes() + np.array([12], "<u8").tobytes() + CENTROIDS.tobytes()
    model = kmeans()
    files = [pickle.dumps(model, protocol) for protocol in (2, 4, 5)]
    return [*files, joblib_bytes(model), joblib_bytes(model, 3), joblib_bytes(model, ("xz", 3)), file.getvalue(), flat]


FILES = whole_files()


def read_or_refuse(data):
    try:
        found = read_foreign(data, "km.bin")
    except ForeignCodebookError:
        return
    assert found.centroids.dtype == np.float32


@settings(max_examples=120, deadline=None)
@given(which=st.sampled_from(range(len(FILES))), data=st.data())
def test_damaged_files_are_read_or_refused_and_never_crash_the_reader(which, data):
    whole = FILES[which]
    damaged = bytearray(whole)
    for _ in range(data.draw(st.integers(0, 3))):
        bit = data.draw(st.integers(0, 8 * len(whole) - 1))
        damaged[bit // 8] ^= 1 << bit % 8
    cut = data.draw(st.one_of(st.just(len(whole)), st.integers(0, len(whole))))
    read_or_refuse(bytes(damaged[:cut]))


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=200), st.sampled_from([b"", b"\x80\x04", b"\x93NUMPY\1\0", b"IxF2", b"x\x9c", b"BZh9"]))
def test_arbitrary_bytes_are_refused(data, begin):
    read_or_refuse(begin + data)
