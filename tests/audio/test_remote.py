import http.server
import os
import threading
import urllib.parse
from pathlib import Path

import numpy as np
import pytest
import s3fs
import soundfile

from pipeline.audio.decode import DecodeLimits, Decoder
from pipeline.errors import AudioDecodeError, StorageError

RATE = 16_000
SAMPLES = (3000 * np.sin(np.arange(6 * RATE))).astype(np.int16)


class Objects(http.server.BaseHTTPRequestHandler):
    """As much of S3 as reading objects takes: HEAD and ranged GET of path-style keys, and lists; and its faults."""

    protocol_version = "HTTP/1.1"
    content: dict[str, bytes] = {}
    statuses: dict[str, int] = {}
    gets: list[str] = []
    faults: list[tuple[int, str]] = []
    """What is answered before anything else, one request after the other; the last one stays where it says so."""
    for_ever = False
    failed = 0

    def do_GET(self):
        path = self.path.split("?")[0]
        if self.faults:
            status, code = self.faults[0] if self.for_ever else self.faults.pop(0)
            Objects.failed += bool(status)
            if status:
                self._answer(status, f"<Error><Code>{code}</Code><Message>made</Message></Error>".encode())
                return
        if "list-type=2" in self.path:
            keys = "".join(
                f"<Contents><Key>{key.removeprefix('/corpus/')}</Key><Size>{len(body)}</Size></Contents>"
                for key, body in sorted(self.content.items())
                if "prefix=" not in self.path or key.startswith(f"/corpus/{self._prefix()}")
            )
            self._answer(200, f"<ListBucketResult><Name>corpus</Name>{keys}</ListBucketResult>".encode())
            return
        body = self.content.get(path)
        status = self.statuses.get(path, 200 if body is not None else 404)
        if status == 200 and self.command == "GET":
            self.gets.append(path)
        total = len(body or b"")
        if status == 200 and "Range" in self.headers:
            first, last = self.headers["Range"].removeprefix("bytes=").split("-")
            body = body[int(first) : int(last) + 1]
            status = 206
        body = body if status in (200, 206) else b""
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("ETag", '"one"')
        self.send_header("Last-Modified", "Sun, 01 Jan 2023 00:00:00 GMT")
        if status == 206:
            self.send_header("Content-Range", f"bytes {first}-{int(first) + len(body) - 1}/{total}")
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def _prefix(self):
        asked = urllib.parse.parse_qs(urllib.parse.urlsplit(self.path).query)
        return asked.get("prefix", [""])[0]

    def _answer(self, status, body):
        self.send_response(status)
        # An answer to HEAD has no body, so no code.
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    do_HEAD = do_GET

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def objects(tmp_path_factory):
    """A server of objects on loopback; S3 clients of this process are led to it."""
    path = tmp_path_factory.mktemp("objects") / "a.flac"
    soundfile.write(path, SAMPLES, RATE)
    Objects.content.update(
        {
            "/corpus/a.flac": path.read_bytes(),
            "/corpus/b.flac": path.read_bytes(),
            "/corpus/empty.wav": b"",
            "/corpus/secret.wav": b"x",
        }
    )
    Objects.statuses.update({"/corpus/secret.wav": 403, "/corpus/broken.wav": 501})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Objects)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    old = dict(os.environ)
    os.environ.update(
        AWS_ACCESS_KEY_ID="any",
        AWS_SECRET_ACCESS_KEY="any",
        AWS_DEFAULT_REGION="us-east-1",
        AWS_ENDPOINT_URL=f"http://127.0.0.1:{server.server_address[1]}",
    )
    # fsspec keeps one instance for equal arguments, and the endpoint of an older one came from another environment.
    s3fs.S3FileSystem.clear_instance_cache()
    yield Objects
    os.environ.clear()
    os.environ.update(old)
    s3fs.S3FileSystem.clear_instance_cache()
    server.shutdown()
    server.server_close()


def segment(decoder, uri, second):
    place = {"offset_samples": second * RATE, "num_samples": RATE, "sample_rate": RATE, "channel": None}
    return decoder.decode(uri, **place, utterance_id="u")


def test_segments_of_one_object_download_it_once(objects):
    objects.gets.clear()
    with Decoder(sample_rate=RATE, roots=["s3://corpus"]) as decoder:
        assert decoder.probe("s3://corpus/a.flac").num_samples == len(SAMPLES)
        for second in range(6):
            expected = SAMPLES[second * RATE : (second + 1) * RATE]
            assert np.array_equal(segment(decoder, "s3://corpus/a.flac", second), expected)
    assert objects.gets == ["/corpus/a.flac"]


def test_close_gives_the_disk_space_back(objects):
    before = {os.readlink(link) for link in Path("/proc/self/fd").iterdir() if link.is_symlink()}
    decoder = Decoder(sample_rate=RATE)
    decoder.probe("s3://corpus/a.flac")
    decoder.close()
    after = {os.readlink(link) for link in Path("/proc/self/fd").iterdir() if link.is_symlink()}
    assert not [name for name in after - before if "deleted" in name]


@pytest.mark.parametrize(
    ("key", "reason"),
    [("nowhere.wav", "missing"), ("empty.wav", "empty"), ("secret.wav", "unreadable")],
)
def test_a_fault_of_an_object_is_a_reason(objects, key, reason):
    with Decoder(sample_rate=RATE) as decoder, pytest.raises(AudioDecodeError) as caught:
        decoder.probe(f"s3://corpus/{key}")
    assert caught.value.reason == reason


def test_an_object_over_the_limit_is_not_downloaded(objects):
    objects.gets.clear()
    with (
        Decoder(sample_rate=RATE, limits=DecodeLimits(max_file_bytes=1000)) as decoder,
        pytest.raises(AudioDecodeError, match="too_long"),
    ):
        decoder.probe("s3://corpus/a.flac")
    assert objects.gets == []


def test_a_failing_store_is_not_the_fault_of_the_recording(objects):
    with Decoder(sample_rate=RATE) as decoder, pytest.raises(StorageError, match="broken.wav"):
        decoder.probe("s3://corpus/broken.wav")


CREDENTIALS = [
    *((403, code) for code in ("ExpiredToken", "RequestTimeTooSkewed", "InvalidAccessKeyId", "SignatureDoesNotMatch")),
    *((400, code) for code in ("ExpiredToken", "TokenRefreshRequired", "InvalidToken")),
    (403, "AccessDenied"),
    (404, "NoSuchKey"),
    (404, "NoSuchBucket"),
]


@pytest.fixture
def faults(objects, monkeypatch):
    """Sets what the server answers first."""

    def answer(*some, for_ever=False):
        Objects.faults, Objects.for_ever, Objects.failed = list(some), for_ever, 0

    monkeypatch.setattr("pipeline.audio.doubts._WAITS", (0.01,) * 5)
    yield answer
    answer()


@pytest.mark.parametrize("fault", CREDENTIALS)
@pytest.mark.parametrize("after", [0, 1, 2])
def test_one_answer_that_denies_costs_no_recording(objects, faults, fault, after):
    """The first request is a HEAD, whose refusal has no code; then bytes are got."""
    with Decoder(sample_rate=RATE, roots=["s3://corpus"]) as decoder:
        faults(*[(0, "")] * after, fault)
        assert np.array_equal(segment(decoder, "s3://corpus/a.flac", 1), SAMPLES[RATE : 2 * RATE])
        assert segment(decoder, "s3://corpus/a.flac", 5).shape == (RATE,)


@pytest.mark.parametrize("fault", CREDENTIALS)
@pytest.mark.parametrize("seen", [False, True])
def test_answers_that_deny_everything_are_errors_of_the_store(objects, faults, fault, seen):
    with Decoder(sample_rate=RATE, roots=["s3://corpus"]) as decoder:
        if seen:
            decoder.probe("s3://corpus/b.flac")
        faults(fault, for_ever=True)
        with pytest.raises(StorageError, match="says nothing of the recording"):
            decoder.probe("s3://corpus/a.flac")
        assert Objects.failed > 3
        faults()
        assert decoder.probe("s3://corpus/a.flac").num_samples == len(SAMPLES)


def test_a_missing_or_denied_object_is_believed_by_the_sight_of_another(objects, faults):
    for seen in (False, True):
        with Decoder(sample_rate=RATE, roots=["s3://corpus"]) as decoder:
            if seen:
                decoder.probe("s3://corpus/a.flac")
            for key, reason in (("nowhere.wav", "missing"), ("secret.wav", "unreadable")):
                with pytest.raises(AudioDecodeError) as caught:
                    decoder.probe(f"s3://corpus/{key}")
                assert caught.value.reason == reason
