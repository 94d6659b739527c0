"""The whole walk from audio inside tars and tables: the same tokens as from the plain files."""

import tarfile

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from made_containers import write_table, write_tar
from made_corpus import data_bytes, write_corpus

from pipeline.audio.decode import DecodeLimits
from pipeline.audio.loading import Manifest, ShardLoader
from pipeline.audio.manifest import encode_id
from pipeline.audio.stage import BuildManifestConfig, build_manifest, prepare
from pipeline.errors import SettingsError
from pipeline.passed_over import PassedOver
from pipeline.run import RunPipelineConfig, run_pipeline
from pipeline.store.verification import VerifyDatasetConfig, verify_dataset
from pipeline.tokens.settings import TokenizeCorpusConfig
from pipeline.tokens.stage import tokenize_corpus
from pipeline.work.payload import pack, unpack


@pytest.fixture(scope="module")
def encoder(small_encoder):
    return small_encoder(kind="hubert", stem="group", stable=False)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """The same eight recordings as files, in two tars, and in a table, with the same ids."""
    root = tmp_path_factory.mktemp("corpora")
    files = sorted(write_corpus(root / "made", num_files=8).iterdir(), key=lambda file: file.name)
    shards = {"s-0": files[:5], "s-1": files[5:]}
    for shard, held in shards.items():
        write_tar(root / "tars" / f"{shard}.tar", [(file.name, file.read_bytes()) for file in held])
        (root / "plain" / shard).mkdir(parents=True)
        for file in held:
            file.rename(root / "plain" / shard / file.name)
    ids = [f"{shard}/{file.stem}" for shard, held in shards.items() for file in held]
    cells = [((root / "plain" / f"{name}.wav").read_bytes(), "x") for name in ids]
    write_table(root / "tables" / "t.parquet", cells, row_group_size=3, id=ids)
    return root


LAYOUTS = {"plain": "folder", "tables": "parquet", "tars": "webdataset"}


@pytest.fixture(scope="module")
def manifests(corpus, tmp_path_factory):
    folder = tmp_path_factory.mktemp("manifests")
    for name, layout in LAYOUTS.items():
        settings = {"layout": layout, "shard_minutes": 0.1, "num_workers": 1, "max_reject_fraction": 0.0}
        build_manifest(BuildManifestConfig.of(corpus=str(corpus / name), output=str(folder / name), **settings))
    return folder


def test_tars_and_tables_give_the_tokens_of_the_plain_files(corpus, manifests, encoder, tmp_path):
    settings = {"encoder": str(encoder), "layers": (1, 3), "max_reject_fraction": 0.0}
    run_pipeline(
        RunPipelineConfig.of(
            corpus=str(corpus / "plain"),
            layout="folder",
            output=str(tmp_path),
            num_clusters=8,
            max_iterations=4,
            shard_minutes=0.1,
            **settings,
        )
    )
    expected = data_bytes(tmp_path / "tokens")
    assert len(pq.read_table(tmp_path / "tokens")) == 8
    plain = rows_of(tmp_path / "tokens")
    for name in ("tables", "tars"):
        manifest, output = str(manifests / name), tmp_path / name
        tokenize_corpus(
            TokenizeCorpusConfig.of(
                manifest=manifest, codebooks=str(tmp_path / "codebooks"), output=str(output), **settings
            )
        )
        assert verify_dataset(VerifyDatasetConfig(dataset=str(output))).faults == []
        assert rows_of(output) == plain
        assert data_bytes(output).keys() == expected.keys()


def rows_of(tokens):
    return pq.read_table(tokens, columns=["utterance_id", "num_frames", "layer_01", "layer_03"]).to_pylist()


def test_shards_hold_the_samples_of_the_plain_files_sent_or_streamed(manifests):
    limits = DecodeLimits()
    for unit in Manifest(str(manifests / "plain")).units:
        plain = ShardLoader(manifest=str(manifests / "plain"), sample_rate=16_000, limits=limits, max_row_seconds=60)(
            unit
        )
        for name in ("tables", "tars"):
            kind = {"manifest": str(manifests / name), "sample_rate": 16_000, "limits": limits}
            sent = ShardLoader(**kind, max_row_seconds=60)(unit)
            streamed = ShardLoader(**kind, max_row_seconds=0.01)
            late = unpack(pack(streamed(unit)))
            for one, two, three in zip(plain, sent, late, strict=True):
                assert one.utterance_id == two.utterance_id == three.utterance_id
                assert three.samples is None
                assert np.array_equal(one.samples, two.samples)
                assert np.array_equal(one.samples, np.concatenate([*streamed.stream(three.source, PassedOver())]))


def test_every_bad_member_is_one_reject_with_its_reason(corpus, tmp_path):
    sound = (corpus / "plain" / "s-0" / "000.wav").read_bytes()
    link = tarfile.TarInfo("link.wav")
    link.type, link.linkname = tarfile.SYMTYPE, "a.wav"
    members = [("a.wav", sound), ("b.wav", b""), ("c.wav", b"a text and no audio"), link, ("../d.wav", sound)]
    members += [("a.wav", sound), ("e.json", b"?"), ("e.wav", sound), ("z.wav", sound)]
    path = write_tar(tmp_path / "corpus" / "s.tar", members)
    with tarfile.open(path) as tar:
        inside_last = tar.getmember("z.wav").offset_data + 100
    path.write_bytes(path.read_bytes()[:inside_last])
    report = build_manifest(
        BuildManifestConfig.of(corpus=str(path.parent), layout="webdataset", output=str(tmp_path / "m"), num_workers=1)
    )
    rejects = pq.read_table(tmp_path / "m" / "_rejects").to_pylist()
    assert report.rows == 1
    assert {(row["utterance_id"], row["reason"]) for row in rejects} == {
        *(("s._b", "empty"), ("s._c", "not_audio"), ("s._link", "not_a_file"), (encode_id("s/../d"), "bad_row")),
        *(("s._a", "duplicate_id"), ("s._e", "bad_row"), ("s._z", "truncated"), (encode_id("s/@lost"), "truncated")),
    }
    row = pq.read_table(tmp_path / "m", columns=["member", "byte_offset", "num_bytes", "row_group", "row"]).to_pylist()[
        0
    ]
    assert row == {"member": "a.wav", "byte_offset": 512, "num_bytes": len(sound), "row_group": None, "row": None}


def test_a_column_of_audio_is_a_setting_of_tables_alone(tmp_path):
    with pytest.raises(SettingsError, match="audio_column"):
        BuildManifestConfig.of(corpus="c", layout="folder", output="o", audio_column="a")
    pq.write_table(pa.table({"a": [b"x"], "b": [b"y"]}), tmp_path / "t.parquet")
    config = BuildManifestConfig.of(
        corpus=str(tmp_path / "t.parquet"), layout="parquet", output=str(tmp_path / "m"), audio_column="b"
    )
    assert prepare(config).pieces[0]["member"].to_pylist() == ["b"]
