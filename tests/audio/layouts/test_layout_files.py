"""Text files of corpora open plain or packed; what is damaged is named."""

import gzip

import pytest

from pipeline.audio.layouts.files import opened
from pipeline.errors import ManifestError


def test_a_packed_file_is_read_as_the_plain_one(tmp_path):
    (tmp_path / "a.tsv").write_bytes(b"one\ntwo\n")
    (tmp_path / "a.tsv.gz").write_bytes(gzip.compress(b"one\ntwo\n"))
    for name in ("a.tsv", "a.tsv.gz"):
        with opened(f"{tmp_path}/{name}") as file:
            assert file.read() == b"one\ntwo\n"


@pytest.mark.parametrize("damage", ["cut", "changed", "plain"])
def test_a_damaged_packed_file_is_named(tmp_path, damage):
    packed = bytearray(gzip.compress(bytes(range(256)) * 40, mtime=0))
    changed = bytes(packed[:40]) + b"\xff" * 60 + bytes(packed[100:])
    content = {"cut": bytes(packed[:-20]), "changed": changed, "plain": b"no gzip"}[damage]
    (tmp_path / "a.gz").write_bytes(content)
    with pytest.raises(ManifestError, match="a.gz cannot be read"), opened(f"{tmp_path}/a.gz") as file:
        file.read()


def test_an_absent_file_is_named(tmp_path):
    with pytest.raises(ManifestError, match=f"there is no file {tmp_path}/a.gz"), opened(f"{tmp_path}/a.gz"):
        pass
