"""An export that has no room: one sentence, nothing half visible, and with room the same bytes as ever."""

import re
import subprocess

import pytest
from made_export import config_of, tree
from made_export_kills import export_in_child, names
from made_tokens import write_corpus_of_tones

SETTINGS = {"order": "shuffled", "shard_ids": 150, "formats": ("megatron", "parquet", "webdataset")}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("corpus")
    write_corpus_of_tones(folder, [0.5 + number % 3 / 10 for number in range(48)], per_shard=12)
    return folder


def config(corpus, folder):
    return config_of(corpus, folder / "export", **SETTINGS)


@pytest.fixture(scope="module")
def whole(corpus, tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    assert export_in_child(config(corpus, folder))[:2] == (0, None)
    return folder / "export"


def assert_told(message, output, why):
    """One sentence: which folder has no room, and what to do."""
    said = (
        rf"StorageError: {re.escape(str(output))}\S* has no room for \S+ \({why}\); .*free space.*run the same command"
    )
    assert re.match(said, message or "nothing"), message
    assert "\n" not in message


def assert_whole(output, truth):
    for name, data in tree(output).items():
        assert data == truth.get(name), name


@pytest.mark.parametrize("share", [0.0, 0.5, 0.9])
def test_an_export_that_may_not_write_a_large_file_stops_and_completes_when_it_may(corpus, whole, tmp_path, share):
    truth, output = tree(whole), tmp_path / "export"
    sizes = sorted({len(data) for data in truth.values()})
    limit = sizes[int(share * len(sizes))] - 1
    # Three times: the last one does the unit in a child process, which may not either.
    for _ in range(3):
        code, message, _ = export_in_child(config(corpus, tmp_path), most_file_bytes=limit)
        assert code == 0
        assert_told(message, output, "File too large")
        assert_whole(output, truth)
        assert [name for name in names(output) if "_tmp-" in name] == []
    assert export_in_child(config(corpus, tmp_path))[:2] == (0, None)
    assert tree(output) == truth
    assert names(output) == names(whole)


@pytest.fixture
def disk(tmp_path):
    """A disk of 60 KiB, and how it grows."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=60k", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("only root may mount a small disk")
    yield (
        folder,
        lambda kilobytes: subprocess.run(
            ["mount", "-o", f"remount,size={kilobytes}k", str(folder)], check=True, capture_output=True
        ),
    )
    subprocess.run(["umount", str(folder)], check=True)


def test_an_export_on_a_full_disk_stops_and_completes_when_it_has_grown(corpus, whole, disk):
    folder, grow = disk
    truth, output = tree(whole), folder / "export"
    failures, message, size = 0, "not yet run", 60
    while message:
        code, message, _ = export_in_child(config(corpus, folder))
        assert code == 0
        assert_whole(output, truth)
        if message:
            failures += 1
            assert_told(message, output, "No space left on device")
            size += 60
            grow(size)
    assert failures > 3
    assert tree(output) == truth
    assert names(output) == names(whole)
