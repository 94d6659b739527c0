"""Joined utterances: their samples are those of the pieces and zeros, whatever the pieces lie in, always alike."""

import tarfile

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile
from made_audio import noise, wav
from made_corpus import data_bytes

from pipeline import faults
from pipeline.audio.concatenation.joining import Joining
from pipeline.audio.concatenation.settings import ConcatenateCorpusConfig
from pipeline.audio.concatenation.stage import concatenate_corpus
from pipeline.audio.decode import DecodeLimits, Decoder, to_float32
from pipeline.audio.loading import Manifest, ShardLoader, decoded_lengths
from pipeline.audio.pieces import decode_arguments, decode_place
from pipeline.audio.stage import BuildManifestConfig, build_manifest
from pipeline.batches.pieces import Piece
from pipeline.batches.waveforms import Waveforms
from pipeline.errors import ManifestError, PlanMismatchError, SettingsError
from pipeline.features.encoders.info import describe
from pipeline.features.settings import ExtractFeaturesConfig
from pipeline.features.stage import extract_features
from pipeline.kmeans.fit.settings import FitKmeansConfig
from pipeline.kmeans.fit.stage import fit_kmeans
from pipeline.passed_over import PassedOver
from pipeline.seeds import rng
from pipeline.store.verification import VerifyDatasetConfig, verify_dataset
from pipeline.tokens.settings import TokenizeCorpusConfig
from pipeline.tokens.stage import tokenize_corpus

FORMATS = (("wav", 16_000), ("flac", 16_000), ("flac", 22_050), ("wav", 8_000), ("ogg", 44_100), ("mp3", 16_000))


def write(folder, speakers=("ann", "bob"), each=8):
    """Write short recordings of several containers and rates, and their listing."""
    folder.mkdir(parents=True)
    lines = ["uri,utterance_id,speaker,text,split,emotion,offset,duration"]
    for who in speakers:
        for number in range(each):
            ending, rate = FORMATS[number % len(FORMATS)]
            name = f"{who}-{number}.{ending}"
            soundfile.write(folder / name, noise(4_001 + 97 * number, seed=number) / 32768, rate)
            split = "test" if number % 2 else "train"
            cut = "0.05,0.1" if number == 2 else ","
            lines.append(f"{name},{who}-{number},{who},word{number},{split},{'sad' if who == 'ann' else number},{cut}")
    (folder / "listing.csv").write_text("\n".join(lines) + "\n")
    return folder / "listing.csv"


def manifest_of(corpus, output, layout="listing"):
    build_manifest(BuildManifestConfig.of(corpus=str(corpus), layout=layout, output=str(output), runner="here"))
    return output


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    root = tmp_path_factory.mktemp("source")
    return manifest_of(write(root / "audio"), root / "manifest")


def join(source, output, **changes):
    settings = {"per_utterance": (2, 3), "silence_seconds": (0.01, 0.05), **changes}
    return concatenate_corpus(ConcatenateCorpusConfig.of(manifest=str(source), output=str(output), **settings))


def rows_of(folder):
    manifest = Manifest(str(folder))
    return [row for unit in manifest.units for row in manifest.rows(unit).to_pylist()]


def expected(row, roots, rate=16_000):
    """Decode each piece of a row by itself, and lay silences and pieces side by side."""
    parts = []
    with Decoder(sample_rate=rate, roots=roots) as decoder:
        for piece in row["pieces"]:
            parts.append(np.zeros(int(piece["silence_samples"] * rate / piece["sample_rate"] + 0.5), np.float32))
            alone = to_float32(decoder.decode(**decode_arguments(piece)))
            whole = int(piece["num_samples"] * rate / piece["sample_rate"] + 0.5)
            parts.append(np.r_[alone, np.zeros(whole - len(alone), np.float32)])
    return np.concatenate(parts)


def load(folder, max_row_seconds=100.0, **limits):
    manifest = Manifest(str(folder))
    loader = ShardLoader(
        manifest=str(folder), sample_rate=16_000, limits=DecodeLimits(**limits), max_row_seconds=max_row_seconds
    )
    return loader, [utterance for unit in manifest.units for utterance in loader(unit)]


def test_samples_are_those_of_the_pieces_and_zeros_whole_in_stretches_and_cut_out(source, tmp_path):
    join(source, tmp_path / "joined")
    manifest = Manifest(str(tmp_path / "joined"))
    rows = rows_of(tmp_path / "joined")
    _, whole = load(tmp_path / "joined")
    loader, late = load(tmp_path / "joined", max_row_seconds=0.0)
    lengths = np.concatenate([decoded_lengths(manifest.rows(unit), 16_000) for unit in manifest.units])
    assert len(rows) == len(whole) > 4
    assert {piece["sample_rate"] for row in rows for piece in row["pieces"]} == {8_000, 16_000, 22_050, 44_100}
    for row, utterance, streamed, length in zip(rows, whole, late, lengths, strict=True):
        wanted = expected(row, manifest.roots)
        assert wanted.any()
        np.testing.assert_array_equal(to_float32(utterance.samples), wanted)
        stretches = list(loader.stream(streamed.source, PassedOver()))
        np.testing.assert_array_equal(np.concatenate([to_float32(part) for part in stretches]), wanted)
        assert len(wanted) == length
        with Decoder(sample_rate=16_000, roots=manifest.roots) as decoder:
            for start, stop in ((0, 10), (length // 3, length // 2), (1_000, length)):
                part = decode_place(decoder, row, start=start, stop=int(stop))
                np.testing.assert_array_equal(to_float32(part), wanted[start:stop])


def test_members_of_tars_are_pieces_too(tmp_path):
    folder = tmp_path / "tars"
    folder.mkdir()
    with tarfile.open(folder / "a.tar", "w") as tar:
        for number in range(6):
            tar.add(wav(tmp_path / f"{number}.flac", noise(3_000 + number, seed=number)), f"{number}.flac")
    source = manifest_of(folder, tmp_path / "manifest", "webdataset")
    join(source, tmp_path / "joined", by=())
    _, found = load(tmp_path / "joined")
    rows = rows_of(tmp_path / "joined")
    assert sorted(piece["member"] for row in rows for piece in row["pieces"]) == [f"{n}.flac" for n in range(6)]
    for row, utterance in zip(rows, found, strict=True):
        np.testing.assert_array_equal(to_float32(utterance.samples), expected(row, [str(folder)]))


def test_labels_say_what_all_pieces_have_and_texts_stand_side_by_side(source, tmp_path):
    join(source, tmp_path / "joined")
    for row in rows_of(tmp_path / "joined"):
        ids = [piece["utterance_id"] for piece in row["pieces"]]
        assert row["utterance_id"] == "._".join(ids)
        assert {name.split("-")[0] for name in ids} == {row["speaker"]}
        assert row["text"] == " ".join(f"word{name.split('-')[1]}" for name in ids)
        assert {"test" if int(name.split("-")[1]) % 2 else "train" for name in ids} == {row["split"]}
        assert row["emotion"] == ("sad" if row["speaker"] == "ann" else None)
        assert row["num_samples"] / row["sample_rate"] == pytest.approx(
            sum((p["num_samples"] + p["silence_samples"]) / p["sample_rate"] for p in row["pieces"]), abs=1e-3
        )
        assert row["pieces"][0]["silence_samples"] == 0
        assert all(0.01 <= p["silence_samples"] / p["sample_rate"] <= 0.0501 for p in row["pieces"][1:])


def test_each_utterance_is_used_once_a_pass_and_ids_stay_apart(source, tmp_path):
    join(source, tmp_path / "joined", passes=5)
    rows = rows_of(tmp_path / "joined")
    used = [piece["utterance_id"] for row in rows for piece in row["pieces"]]
    assert sorted(used) == sorted(5 * [row["utterance_id"] for row in rows_of(source)])
    assert len({row["utterance_id"] for row in rows}) == len(rows)


def test_the_seed_and_nothing_else_decides(source, tmp_path):
    for name, seed in (("one", 1), ("again", 1), ("other", 2)):
        join(source, tmp_path / name, seed=seed)
    assert data_bytes(tmp_path / "one") == data_bytes(tmp_path / "again") != data_bytes(tmp_path / "other")
    with pytest.raises(PlanMismatchError, match="seed"):
        join(source, tmp_path / "one", seed=2)
    assert verify_dataset(VerifyDatasetConfig(dataset=str(tmp_path / "one"))).rows == len(rows_of(tmp_path / "one"))


@pytest.mark.parametrize("point", ["before_shard_table", "after_shard_table_before_success"])
def test_a_run_that_ended_halfway_goes_on_to_the_same_bytes(source, tmp_path, monkeypatch, point):
    join(source, tmp_path / "whole")

    def end(name, *_):
        if name == point:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(faults, "point", end)
        with pytest.raises(KeyboardInterrupt):
            join(source, tmp_path / "halfway")
    assert not (tmp_path / "halfway" / "_SUCCESS").exists()
    join(source, tmp_path / "halfway")
    assert data_bytes(tmp_path / "halfway") == data_bytes(tmp_path / "whole")


def test_a_manifest_without_pieces_has_no_such_column(source):
    assert "pieces" not in pq.read_schema(next(source.glob("*.parquet"))).names


def test_what_is_wrong_with_a_piece_names_the_piece(tmp_path):
    source = manifest_of(write(tmp_path / "audio", ("ann",), 2), tmp_path / "manifest")
    join(source, tmp_path / "joined", by=("speaker",), per_utterance=(1, 2))
    (tmp_path / "audio" / "ann-1.flac").unlink()
    loader, found = load(tmp_path / "joined")
    bad = [utterance for utterance in found if utterance.problem is not None]
    assert [utterance.problem[0] for utterance in bad] == ["missing"]
    assert "piece 1 of 1, ann-1 of " in bad[0].problem[1]


def test_a_joined_utterance_over_the_limit_is_too_long_whatever_its_pieces(source, tmp_path):
    join(source, tmp_path / "joined")
    _, found = load(tmp_path / "joined", max_seconds=0.3)
    rows = rows_of(tmp_path / "joined")
    long = [row["num_samples"] / row["sample_rate"] > 0.3 for row in rows]
    assert any(long)
    assert [u.problem is not None and u.problem[0] == "too_long" for u in found] == long


def test_utterances_that_are_left_over_are_counted_and_refused_by_strict(source, tmp_path):
    report = join(source, tmp_path / "joined", per_utterance=(3, 3))
    assert report.passed_over["too_few_to_join"]["count"] == 4
    assert report.passed_over["too_few_to_join"]["names"] == {
        "ann test": 1, "ann train": 1, "bob test": 1, "bob train": 1,
    }  # fmt: skip
    with pytest.raises(ManifestError, match="too_few_to_join"):
        join(source, tmp_path / "strict", per_utterance=(3, 3), strict=True)
    assert not (tmp_path / "strict").exists()


def test_bad_input_is_one_sentence_before_anything_is_written(source, tmp_path):
    join(source, tmp_path / "joined")
    with pytest.raises(SettingsError, match="joined utterances, which are not joined again"):
        join(tmp_path / "joined", tmp_path / "twice")
    with pytest.raises(SettingsError, match="no utterance with language"):
        join(source, tmp_path / "out", by=("language",))
    with pytest.raises(SettingsError, match="no 90 utterances that agree in speaker and split"):
        join(source, tmp_path / "out", per_utterance=(90, 99))
    for wrong in ({"per_utterance": (3, 2)}, {"silence_seconds": (0.2, 0.1)}, {"passes": 0}, {"by": ("digit",)}):
        with pytest.raises(SettingsError, match=next(iter(wrong))):
            join(source, tmp_path / "out", **wrong)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("least", "most"), [(1, 1), (4, 7), (5, 5), (3, 4)])
def test_no_more_are_left_over_than_must_be(least, most):
    for count in range(60):
        sizes = Joining(least=least, most=most, silence_seconds=(0, 0)).parted(count, rng(count))
        assert all(least <= size <= most for size in sizes)
        reachable = {0}
        for _ in range(count):
            reachable |= {held + size for held in reachable for size in range(least, most + 1) if held + size <= count}
        assert sum(sizes) == max(reachable)


@pytest.mark.parametrize("longest", [30.0, 0.4])
def test_a_joined_corpus_is_encoded_and_tokenised_whole_and_streamed(source, tmp_path, longest):
    join(source, tmp_path / "joined")
    encoding = {"manifest": str(tmp_path / "joined"), "encoder": "encoder-small", "runner": "here"}
    encoding |= {"window_seconds": longest, "window_margin_seconds": longest / 4, "max_row_minutes": longest / 60}
    features = ExtractFeaturesConfig.of(
        output=str(tmp_path / "features"), layers=(2,), sample_frames=100, stratify_by="speaker", **encoding
    )
    assert extract_features(features).num_frames == 100
    fit_kmeans(
        FitKmeansConfig.of(
            features=(features.output,), output=str(tmp_path / "books"), num_clusters=(4,), layers=(2,), runner="here"
        )
    )
    tokens = TokenizeCorpusConfig.of(output=str(tmp_path / "tokens"), codebooks=str(tmp_path / "books"), **encoding)
    assert tokenize_corpus(tokens).rejects == 0
    assert verify_dataset(VerifyDatasetConfig(dataset=tokens.output)).faults == []
    counts = {row["utterance_id"]: row["num_frames"] for row in pq.read_table(tokens.output).to_pylist()}
    clock = describe("encoder-small", layers=(2,), revision=None, normalize_waveform=None).clock
    roots = Manifest(str(tmp_path / "joined")).roots
    rows = rows_of(tmp_path / "joined")
    assert counts == {row["utterance_id"]: clock.num_frames(len(expected(row, roots))) for row in rows}


def test_training_hears_the_same_samples_whole_and_cropped(source, tmp_path):
    join(source, tmp_path / "joined")
    clock = describe("encoder-small", layers=(2,), revision=None, normalize_waveform=None).clock
    manifest = Manifest(str(tmp_path / "joined"))
    waveforms = Waveforms(clock, tuple(manifest.roots), normalize=False, cache_bytes=0)
    for row in rows_of(tmp_path / "joined")[:3]:
        wanted = expected(row, manifest.roots)
        frames = clock.num_frames(len(wanted))
        whole = piece_of(row, manifest.place_columns, first_frame=0, num_frames=frames, whole=True)
        np.testing.assert_array_equal(waveforms(whole), wanted)
        crop = piece_of(row, manifest.place_columns, first_frame=frames // 3, num_frames=frames // 2, whole=False)
        first = frames // 3 * clock.hop_length
        np.testing.assert_array_equal(waveforms(crop), wanted[first : first + clock.num_samples(frames // 2)])
    waveforms.close()


def piece_of(row, columns, *, num_frames, **where):
    return Piece(
        utterance_id=row["utterance_id"],
        num_frames=num_frames,
        tokens=np.zeros((num_frames, 0), np.uint16),
        features=np.zeros((num_frames, 0, 0), np.float16),
        labels={},
        place={name: row[name] for name in columns},
        **where,
    )


def test_digits_become_numbers_of_one_speaker(speech_root, tmp_path):
    if not (speech_root / "fsdd").is_dir():
        pytest.skip("no FSDD here; set STRATA_TEST_DATA")
    source = manifest_of(speech_root / "fsdd", tmp_path / "manifest", "fsdd")
    join(source, tmp_path / "joined", per_utterance=(4, 7))
    rows = rows_of(tmp_path / "joined")
    used = pa.array([piece["utterance_id"] for row in rows for piece in row["pieces"]])
    assert len(used) == len(used.unique()) == len(rows_of(source))
    assert {len(row["text"].split()) for row in rows} == {4, 5, 6, 7}
    _, found = load(tmp_path / "joined")
    assert all(utterance.problem is None for utterance in found)
