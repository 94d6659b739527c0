"""Cards, from recordings on: labels of a manifest, splits, two seeds, numbers of workers."""

import json
import shutil

import numpy as np
import pytest
import soundfile
from made_corpus import data_bytes

from pipeline import cli
from pipeline.audio.stage import BuildManifestConfig, build_manifest
from pipeline.errors import SettingsError
from pipeline.features.settings import ExtractFeaturesConfig
from pipeline.features.stage import extract_features
from pipeline.kmeans.cards.settings import DescribeCodebooksConfig
from pipeline.kmeans.cards.stage import describe_codebooks, prepare
from pipeline.kmeans.fit.settings import FitKmeansConfig
from pipeline.kmeans.fit.stage import fit_kmeans
from pipeline.store.verification import VerifyDatasetConfig, verify_dataset

DIGITS, SPEAKERS, TAKES = 2, ("ann", "bob"), (0, 1, 7, 8, 9)


def write_spoken_digits(folder):
    """Write recordings named like FSDD's: the digit is the pitch, the speaker the loudness; takes 0 and 1 are test."""
    rng = np.random.default_rng(0)
    folder.mkdir()
    for digit in range(DIGITS):
        for loud, speaker in enumerate(SPEAKERS, start=1):
            for take in TAKES:
                time = np.arange(int(8000 * rng.uniform(0.4, 1.2))) / 8000
                tone = 0.2 * loud * np.sin(2 * np.pi * (200 + 900 * digit) * time)
                audio = tone + 0.01 * rng.standard_normal(len(time))
                soundfile.write(folder / f"{digit}_{speaker}_{take}.wav", audio, 8000)
    return folder


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A manifest of several shards, MFCC of all its frames, codebooks of two seeds."""
    root = tmp_path_factory.mktemp("cards")
    corpus = write_spoken_digits(root / "corpus")
    build_manifest(
        BuildManifestConfig.of(corpus=str(corpus), layout="fsdd", output=str(root / "manifest"), shard_minutes=0.05)
    )
    features = ExtractFeaturesConfig.of(
        manifest=str(root / "manifest"), output=str(root / "features"), encoder="mfcc", layers=(0,), num_workers=1
    )
    assert extract_features(features).units >= 3
    for seed in (0, 1):
        fit = FitKmeansConfig.of(
            features=(str(root / "features"),),
            output=str(root / f"books{seed}"),
            num_clusters=(12,),
            seed=seed,
            num_workers=1,
        )
        fit_kmeans(fit)
    return root


def config(root, **changes):
    return DescribeCodebooksConfig.of(
        **{
            "codebooks": str(root / "books0"),
            "features": str(root / "features"),
            "manifest": str(root / "manifest"),
            "labels": ("speaker", "text"),
            "splits": ("test",),
            "compare": str(root / "books1"),
            "num_workers": 2,
            **changes,
        }
    )


def test_cards_are_the_same_for_one_and_two_workers_and_tell_of_speech(run, tmp_path):
    shutil.copytree(run / "books0", tmp_path / "one")
    describe_codebooks(config(run))
    describe_codebooks(config(run, codebooks=str(tmp_path / "one"), num_workers=1))
    for ending in ("json", "md"):
        name = f"_cards/layer_00_k12.{ending}"
        assert (tmp_path / "one" / name).read_bytes() == (run / "books0" / name).read_bytes()
    card = json.loads((run / "books0" / "_cards" / "layer_00_k12.json").read_bytes())
    assert card["described"]["utterances"] == DIGITS * len(SPEAKERS) * 2
    assert card["described"]["fitted_on_these"]
    assert sum(card["codes"]) == card["use"]["frames"] == sum(n * many for n, many in card["runs"]["lengths"])
    assert card["explained_variance"] > 0.5
    # The digits are two pitches here: codes tell them apart, and tell nothing of labels that were drawn.
    assert card["labels"]["text"]["values"] == DIGITS
    assert card["labels"]["text"]["share_of_label"] > 0.9
    assert card["labels"]["text"]["share_of_label_drawn"] < 0.6
    assert 0.3 < card["stability"]["matched_agreement"] <= 1


def test_cards_disturb_neither_the_codebooks_nor_their_checks(run, tmp_path):
    shutil.copytree(run / "books0", tmp_path / "books", ignore=shutil.ignore_patterns("_cards"))
    (tmp_path / "books" / "_report.json").write_text("of the fit")
    before = data_bytes(tmp_path / "books")
    flags = ["--codebooks", str(tmp_path / "books"), "--features", str(run / "features"), "--num-workers", "1"]
    cli.run(describe_codebooks, description="cards", args=flags)
    assert (tmp_path / "books" / "_cards" / "layer_00_k12.json").is_file()
    assert (tmp_path / "books" / "_report.json").read_text() == "of the fit"
    assert data_bytes(tmp_path / "books") == before
    assert verify_dataset(VerifyDatasetConfig(dataset=str(tmp_path / "books"))).faults == []
    again = FitKmeansConfig.of(
        features=(str(run / "features"),), output=str(tmp_path / "books"), num_clusters=(12,), num_workers=1
    )
    assert fit_kmeans(again).units_done_now == 0
    assert (tmp_path / "books" / "_cards" / "layer_00_k12.json").is_file()


def test_a_codebook_agrees_with_itself(run, tmp_path):
    shutil.copytree(run / "books0", tmp_path / "books")
    describe_codebooks(
        config(run, codebooks=str(tmp_path / "books"), compare=str(run / "books0"), labels=(), splits=())
    )
    card = json.loads((tmp_path / "books" / "_cards" / "layer_00_k12.json").read_bytes())
    assert (card["stability"]["matched_agreement"], card["stability"]["nmi"]) == (1, 1)
    # All frames are those fitted on: the last iteration's inertia can only have fallen since.
    assert card["use"]["frames"] == card["fitting"]["use"]["frames"]
    assert card["distances"]["mean_square"] * card["use"]["frames"] <= card["fitting"]["inertia"][-1] * (1 + 1e-8)


def test_labels_splits_and_manifests_that_are_not_there_are_refused(run, tmp_path):
    with pytest.raises(SettingsError, match=r"no utterance in splits dev; it has test, train"):
        prepare(config(run, splits=("dev",)))
    with pytest.raises(SettingsError, match=r"no values in the columns emotion"):
        prepare(config(run, labels=("emotion",)))
    other = BuildManifestConfig.of(corpus=str(run / "corpus"), layout="folder", output=str(tmp_path / "manifest"))
    build_manifest(other)
    with pytest.raises(SettingsError, match="made from another manifest"):
        prepare(config(run, manifest=str(tmp_path / "manifest"), labels=(), splits=()))
