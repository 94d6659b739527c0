"""What is fetched from a real S3 server (SeaweedFS), counted on the wire."""

import os
import socket
import threading
from urllib.parse import urlsplit

import numpy as np
import pytest
from made_audio import RATE, noise
from made_containers import encoded, write_table, write_tar

from pipeline.audio.corpora import read_corpus
from pipeline.audio.decode import DecodeLimits, Decoder
from pipeline.audio.places import Place
from pipeline.passed_over import PassedOver

SOUNDS = [noise(20_000 + 1_000 * seed, seed=seed) for seed in range(24)]
LONG = noise(8_000_000)
KIB = 1 << 10


class Wire:
    """Passes connections on to a server and counts the bytes that it answers with."""

    def __init__(self, address):
        self.received = 0
        self._address = address
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = socket.create_connection(self._address)
            for source, sink in ((client, server), (server, client)):
                threading.Thread(target=self._pass, args=(source, sink, source is server), daemon=True).start()

    def _pass(self, source, sink, counted):
        try:
            while data := source.recv(1 << 16):
                self.received += len(data) if counted else 0
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            pass

    def close(self):
        self._listener.close()

    def cost(self, call):
        before = self.received
        result = call()
        return result, self.received - before


@pytest.fixture(scope="module")
def wire(bucket, tmp_path_factory):
    """The server behind a counter, with long recordings, tars and a table in its bucket."""
    import s3fs

    folder = tmp_path_factory.mktemp("made")
    for name in ("long.wav", "long.flac"):
        (folder / name).write_bytes(encoded(LONG, name))
    flacs = [encoded(sound) for sound in SOUNDS]
    for shard in range(2):
        pairs = [(f"{seed:02d}.flac", flacs[seed]) for seed in range(12 * shard, 12 * shard + 12)]
        texts = [(f"{seed:02d}.txt", b"words") for seed in range(12 * shard, 12 * shard + 12)]
        members = [member for both in zip(pairs, texts, strict=True) for member in both]
        write_tar(folder / "tars" / f"s-{shard}.tar", members)
    write_table(folder / "tables" / "t.parquet", [(flac, None) for flac in flacs], row_group_size=12)
    s3fs.S3FileSystem().put(str(folder), f"{bucket}/ranges", recursive=True)
    s3fs.S3FileSystem.clear_instance_cache()
    direct = os.environ["AWS_ENDPOINT_URL"]
    counter = Wire((urlsplit(direct).hostname, urlsplit(direct).port))
    os.environ["AWS_ENDPOINT_URL"] = counter.url
    yield counter
    os.environ["AWS_ENDPOINT_URL"] = direct
    s3fs.S3FileSystem.clear_instance_cache()
    counter.close()


def place(offset, count):
    return {"offset_samples": offset, "num_samples": count, "sample_rate": RATE, "channel": None, "utterance_id": "u"}


@pytest.mark.parametrize("name", ["long.wav", "long.flac"])
def test_a_header_costs_the_head_of_an_object_and_a_segment_its_own_bytes(bucket, wire, name):
    uri = f"{bucket}/ranges/{name}"
    with Decoder(sample_rate=RATE, roots=[bucket]) as decoder:
        info, fetched = wire.cost(lambda: decoder.probe(uri))
        assert info.num_samples == len(LONG)
        assert fetched < 150 * KIB
    with Decoder(sample_rate=RATE, roots=[bucket]) as decoder:
        samples, fetched = wire.cost(lambda: decoder.decode(uri, **place(5_000_000, 160_000)))
        assert np.array_equal(samples, LONG[5_000_000:5_160_000])
        assert fetched < 1600 * KIB
        samples, fetched = wire.cost(lambda: decoder.decode(uri, **place(5_000_000, 160_000)))
        assert np.array_equal(samples, LONG[5_000_000:5_160_000])
        assert fetched == 0


def test_a_whole_recording_is_fetched_once_and_a_stream_as_far_as_it_goes(bucket, wire):
    size = len(encoded(LONG, "long.flac"))
    uri = f"{bucket}/ranges/long.flac"
    with Decoder(sample_rate=RATE, roots=[bucket]) as decoder:
        pieces, fetched = wire.cost(lambda: list(decoder.stream(uri, **place(0, 2_800_000))))
    assert np.array_equal(np.concatenate(pieces), LONG[:2_800_000])
    assert 0.3 * size < fetched < 0.8 * size
    with Decoder(sample_rate=RATE, roots=[bucket], limits=DecodeLimits(max_seconds=600)) as decoder:
        samples, fetched = wire.cost(lambda: decoder.decode(uri, **place(0, len(LONG))))
    assert np.array_equal(samples, LONG)
    assert size < fetched < 1.01 * size


def test_tars_are_listed_by_their_headers_and_members_fetched_alone(bucket, wire):
    found, fetched = wire.cost(
        lambda: list(read_corpus(f"{bucket}/ranges/tars", "webdataset", passed_over=PassedOver()))
    )
    assert [one.utterance_id for one in found] == [f"s-{seed // 12}._{seed:02d}" for seed in range(24)]
    assert {one.text for one in found} == {"words"}
    assert fetched < 24 * 22 * KIB
    with Decoder(sample_rate=RATE, roots=[bucket]) as decoder:
        for seed in (3, 4, 20):
            one = found[seed]
            part = Place(member=one.member, byte_offset=one.byte_offset, num_bytes=one.num_bytes)
            count = len(SOUNDS[seed])
            samples, fetched = wire.cost(lambda: decoder.decode(one.uri, part=part, **place(0, count)))  # noqa: B023
            assert np.array_equal(samples, SOUNDS[seed])
            assert one.num_bytes < fetched < one.num_bytes + 4 * KIB


def test_cells_of_a_table_cost_their_row_group_once(bucket, wire):
    found = list(read_corpus(f"{bucket}/ranges/tables", "parquet", passed_over=PassedOver()))
    size = sum(len(encoded(sound)) for sound in SOUNDS)

    def read_all(decoder):
        for seed, one in enumerate(found):
            part = Place(member=one.member, row_group=one.row_group, row=one.row)
            samples = decoder.decode(one.uri, part=part, **place(0, len(SOUNDS[seed])))
            assert np.array_equal(samples, SOUNDS[seed])

    with Decoder(sample_rate=RATE, roots=[bucket]) as decoder:
        assert wire.cost(lambda: read_all(decoder))[1] < size * 1.2 + 256 * KIB
