"""Missing is a fact about a recording only while something else of its roots is there."""

import errno
import os
import threading
import time

import pytest
from made_audio import RATE, decode, noise, reason_of, wav

from pipeline.audio.decode import Decoder
from pipeline.audio.doubts import Doubts
from pipeline.errors import AudioDecodeError, StorageError
from pipeline.schema import Reason

OF_THE_STORE = [
    getattr(errno, name)
    for name in (
        *("EMFILE", "ENFILE", "ENOMEM", "EIO", "ESTALE", "ENOTCONN", "ETIMEDOUT", "EAGAIN", "EBUSY", "ENODEV"),
        *("EHOSTDOWN", "EHOSTUNREACH", "ECONNRESET", "EREMOTEIO", "ENOLCK", "EINTR", "ESHUTDOWN", "EKEYEXPIRED"),
    )
]


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch):
    monkeypatch.setattr("pipeline.audio.doubts._WAITS", (0.05,) * 5)


@pytest.fixture
def corpus(tmp_path):
    folder = tmp_path / "share" / "corpus"
    (folder / "speaker").mkdir(parents=True)
    wav(folder / "a.wav", noise(8_000))
    wav(folder / "speaker" / "b.wav", noise(4_000))
    return folder


def failing(number, times):
    left = [times]

    def call():
        left[0] -= 1
        if left[0] >= 0:
            raise OSError(number, os.strerror(number))
        return "read"

    return call


@pytest.mark.parametrize("number", OF_THE_STORE)
def test_an_error_of_the_system_is_tried_again_and_then_stops_the_run(corpus, number):
    doubts = Doubts([str(corpus)])
    assert doubts.read(str(corpus / "a.wav"), "a", failing(number, 3)) == "read"
    with pytest.raises(StorageError, match="says nothing of the recording"):
        doubts.read(str(corpus / "a.wav"), "a", failing(number, 99))


@pytest.mark.parametrize("number", [errno.ENOENT, errno.EACCES])
def test_one_answer_that_a_file_is_not_there_is_not_believed(corpus, number):
    doubts = Doubts([str(corpus)])
    assert doubts.read(str(corpus / "a.wav"), "a", failing(number, 1)) == "read"
    with pytest.raises(AudioDecodeError):
        doubts.read(str(corpus / "a.wav"), "a", failing(number, 99))


def renamed(corpus):
    corpus.rename(corpus.parent / "away")
    return lambda: (corpus.parent / "away").rename(corpus)


def unmounted(corpus):
    back = renamed(corpus)
    corpus.mkdir()

    def mount():
        corpus.rmdir()
        back()

    return mount


def relinked(corpus):
    """The root is a link, and it is gone for a moment."""
    real = corpus.parent / "real"
    corpus.rename(real)
    return lambda: corpus.symlink_to(real)


AWAY = [renamed, unmounted, relinked]


@pytest.mark.parametrize("leave", AWAY)
def test_a_corpus_that_is_away_stops_the_run_and_rejects_nothing(corpus, leave):
    with Decoder(sample_rate=RATE, roots=[str(corpus)]) as decoder:
        back = leave(corpus)
        for name in ("a.wav", "speaker/b.wav"):
            with pytest.raises(StorageError, match="what is committed stays"):
                decode(decoder, corpus / name, count=4_000, rate=RATE)
        back()
        assert len(decode(decoder, corpus / "a.wav")) == 8_000


@pytest.mark.parametrize("leave", [renamed, unmounted])
def test_a_corpus_that_is_away_for_a_moment_is_waited_for(corpus, leave):
    with Decoder(sample_rate=RATE, roots=[str(corpus)]) as decoder:
        back = leave(corpus)
        threading.Timer(0.1, back).start()
        assert len(decode(decoder, corpus / "a.wav", count=8_000, rate=RATE)) == 8_000


@pytest.mark.parametrize("leave", AWAY)
@pytest.mark.parametrize("times", [1, 2, 4])
def test_a_corpus_that_comes_back_after_a_read_has_failed_loses_no_recording(corpus, leave, times):
    back, failed = leave(corpus), []

    def call():
        try:
            return (corpus / "a.wav").read_bytes()
        except FileNotFoundError:
            failed.append(1)
            if len(failed) == times:
                back()
            raise

    assert Doubts([str(corpus)]).read(str(corpus / "a.wav"), "a", call)[:4] == b"RIFF"
    assert len(failed) == times


def test_a_share_below_the_root_that_is_away_stops_the_run_once_something_of_it_was_read(corpus):
    (corpus.parent / "list.csv").write_text("uri\n")
    with Decoder(sample_rate=RATE, roots=[str(corpus.parent)]) as decoder:
        decode(decoder, corpus / "a.wav")
        back = renamed(corpus)
        with pytest.raises(StorageError):
            decode(decoder, corpus / "speaker" / "b.wav", count=4_000, rate=RATE)
        back()
        assert len(decode(decoder, corpus / "speaker" / "b.wav")) == 4_000


def test_a_file_that_is_gone_from_a_corpus_that_is_there_is_missing_at_once(corpus):
    with Decoder(sample_rate=RATE, roots=[str(corpus)]) as decoder:
        decode(decoder, corpus / "a.wav")
        began = time.monotonic()
        assert reason_of(decoder.probe, str(corpus / "nowhere.wav")) == Reason.MISSING
        assert reason_of(decoder.probe, str(corpus / "no" / "folder" / "x.wav")) == Reason.MISSING
        # A segment of a recording that was read before.
        (corpus / "a.wav").unlink()
        assert reason_of(decoder.probe, str(corpus / "a.wav")) == Reason.MISSING
        assert time.monotonic() - began < 0.5


def test_a_root_that_may_not_be_read_stops_the_run_and_one_file_that_may_not_is_unreadable(corpus):
    user = os.geteuid()
    for folder in [corpus, *corpus.parents]:
        if not folder.stat().st_mode & 0o001:
            folder.chmod(0o755)
    (corpus / "speaker" / "b.wav").chmod(0)
    with Decoder(sample_rate=RATE, roots=[str(corpus)]) as decoder:
        decode(decoder, corpus / "a.wav")
        if user == 0:
            os.seteuid(65_534)
        try:
            assert reason_of(decoder.probe, str(corpus / "speaker" / "b.wav")) == Reason.UNREADABLE
            os.seteuid(user)
            corpus.chmod(0)
            os.seteuid(65_534 if user == 0 else user)
            with pytest.raises(StorageError):
                decoder.probe(str(corpus / "a.wav"))
        finally:
            os.seteuid(user)
            corpus.chmod(0o755)
