import threading

import pytest

from pipeline.errors import SettingsError, StorageError
from pipeline.store.storage import LocalStore, join, open_store, probe


@pytest.fixture
def store(tmp_path):
    return LocalStore(str(tmp_path / "root"))


def test_what_is_written_is_read_back_and_replaced_whole(store):
    store.write("a/b.bin", b"one")
    store.write("a/b.bin", b"second")
    assert store.read("a/b.bin") == b"second"
    assert store.names("a") == ["b.bin"]


def test_a_missing_name_is_file_not_found(store):
    with pytest.raises(FileNotFoundError):
        store.read("nothing")
    assert store.names("nowhere") == []
    assert not store.exists("nothing")


def test_of_many_creators_exactly_one_wins(store):
    barrier = threading.Barrier(8)
    won = []

    def race(number):
        barrier.wait()
        if store.create("_commits/x.json", str(number).encode()):
            won.append(number)

    threads = [threading.Thread(target=race, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    assert store.read("_commits/x.json") == str(won[0]).encode()


def test_without_hard_links_creation_is_still_exclusive(store, monkeypatch):
    import errno
    import os

    def refuse(*_args):
        raise OSError(errno.EPERM, "no hard links here")

    monkeypatch.setattr(os, "link", refuse)
    assert store.create("x", b"1")
    assert not store.create("x", b"2")
    store.copy("x", "y")
    store.copy("x", "y")
    assert store.read("x") == store.read("y") == b"1"


def test_a_copy_shows_the_same_bytes_and_survives_the_source(store):
    store.write("_attempts/a", b"data")
    store.copy("_attempts/a", "visible")
    store.copy("_attempts/a", "visible")
    store.delete_tree("_attempts")
    assert store.read("visible") == b"data"
    with pytest.raises(FileNotFoundError):
        store.copy("_attempts/a", "visible")


def test_writers_leave_no_temporary_files(store):
    store.write("a", b"1")
    store.create("a", b"2")
    store.create("b", b"2")
    store.copy("a", "c")
    store.copy("a", "c")
    assert store.tree("") == ["a", "b", "c"]


@pytest.mark.parametrize("put", ["write", "create", "create without hard links"])
def test_a_full_disk_is_told_in_one_sentence_and_leaves_nothing(store, monkeypatch, put):
    import errno
    import os

    name, _, bare = put.partition(" ")
    room = [None] if bare else []

    def fsync(_file):
        if not room:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        room.pop()

    def refuse(*_args):
        raise OSError(errno.EPERM, "no hard links here")

    monkeypatch.setattr(os, "fsync", fsync)
    if bare:
        monkeypatch.setattr(os, "link", refuse)
    with pytest.raises(StorageError, match=f"^{store.root} has no room for new .*free space .*same command again$"):
        getattr(store, name)("new", b"half")
    assert store.tree("") == []
    room += [None, None]
    getattr(store, name)("new", b"whole")
    assert (store.tree(""), store.read("new")) == (["new"], b"whole")


def test_a_store_that_creates_twice_is_refused_by_name(store):
    probe(store)

    class Forgetful(LocalStore):
        def create(self, name, data):
            self.write(name, data)
            return True

    with pytest.raises(StorageError, match="let one name be created twice"):
        probe(Forgetful(store.uri))


@pytest.mark.parametrize("uri", ["gs://bucket/x", "http://host/x", "s3://key:secret@bucket/x"])
def test_other_schemes_and_credentials_are_refused_without_showing_them(uri):
    with pytest.raises(SettingsError) as caught:
        open_store(uri)
    assert "secret" not in str(caught.value)


def test_join_keeps_schemes():
    assert join("s3://b/p/", "tokens") == "s3://b/p/tokens"
    assert join("/", "a") == "/a" or join("/", "a") == "//a"
