"""Codebooks of several features datasets are those of one that holds all their frames, however they are named."""

import json

import numpy as np
import pytest
import s3fs
import soundfile
from made_features import LINEAGE, write_features
from made_kills import KILLED, in_child

from pipeline import cli
from pipeline.audio.stage import BuildManifestConfig, build_manifest
from pipeline.errors import DatasetError, PlanMismatchError, SettingsError
from pipeline.features.settings import ExtractFeaturesConfig
from pipeline.features.stage import extract_features
from pipeline.kmeans.cards.settings import DescribeCodebooksConfig
from pipeline.kmeans.cards.stage import describe_codebooks
from pipeline.kmeans.fit.settings import FitKmeansConfig
from pipeline.kmeans.fit.stage import fit_kmeans, prepare
from pipeline.kmeans.read_codebooks import read_units
from pipeline.store.completion import success
from pipeline.store.dataset import Dataset, canonical, sha256

LAYERS = (3, 5)
INITS = ("k-means++", "k-means||", "random")


def shards_of(letter, num_shards, rows):
    """Give shards of one utterance each, of equal parts of the rows."""
    parts = np.array_split(rows, num_shards)
    return [[(f"{letter}{number}", np.arange(len(part)), part)] for number, part in enumerate(parts)]


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Datasets: a and b of different utterances, their union, and ``ids``, other rows under the ids of a."""
    folder = tmp_path_factory.mktemp("several")
    rng = np.random.default_rng(0)
    centers = 4 * rng.standard_normal((30, 8))
    rows = (centers[rng.integers(0, 30, 4000)] + rng.standard_normal((4000, 8))).astype(np.float16)
    a, b = shards_of("a", 3, rows[:1500]), shards_of("b", 2, rows[1500:3000])
    for name, shards in {"a": a, "b": b, "union": [*b, *a], "ids": shards_of("a", 3, rows[2500:])}.items():
        write_features(folder / name, shards, layers=LAYERS)
    return folder


def config(root, names, output, **settings):
    return FitKmeansConfig.of(
        features=tuple(str(root / name) for name in names),
        output=str(output),
        **{"num_clusters": (8,), "max_iterations": 5, **settings},
    )


def units(folder):
    return read_units(Dataset.open(str(folder), kind="codebooks"))


def fitted(root, names, output, **settings):
    """Fit, and give the bytes of each codebook."""
    fit_kmeans(config(root, names, output, **settings))
    return {unit: book.to_bytes() for unit, book in units(output).items()}


def numbers(folder):
    """Give what each codebook computed, without its lineage."""
    return {
        unit: (book.centroids.tobytes(), book.counts.tolist(), book.inertia.tolist())
        for unit, book in units(folder).items()
    }


@pytest.mark.parametrize(
    "settings",
    [
        *({"init": init, "num_quantizers": 2, "num_clusters": (8, 20)} for init in INITS),
        {"fraction": 0.5, "seed": 3},
        {"warm_start": (0.1, 0.4), "num_quantizers": 2},
    ],
)
def test_a_fit_on_two_datasets_is_the_fit_on_one_that_holds_their_frames(root, tmp_path, settings):
    fitted(root, ["a", "b"], tmp_path / "several", **settings)
    fitted(root, ["union"], tmp_path / "one", **settings)
    found = numbers(tmp_path / "several")
    assert found == numbers(tmp_path / "one")
    expected = 3000 * settings.get("fraction", 1)
    assert all(sum(counts) == pytest.approx(expected, rel=0.1) for _, counts, _ in found.values())


def test_given_codebooks_begin_a_fit_on_several_datasets(root, tmp_path):
    fitted(root, ["a"], tmp_path / "seeds", max_iterations=1)
    given = {"init_codebooks": str(tmp_path / "seeds")}
    fitted(root, ["a", "b"], tmp_path / "several", **given)
    fitted(root, ["union"], tmp_path / "one", **given)
    assert numbers(tmp_path / "several") == numbers(tmp_path / "one")


def test_recordings_of_two_corpora_give_the_codebooks_of_one_corpus_of_both(tmp_path):
    rng = np.random.default_rng(0)
    for number in range(8):
        audio = 0.1 * rng.standard_normal(int(16_000 * rng.uniform(0.3, 1.0))) * np.hanning(16)[number + 1]
        for corpus in ("both", "first" if number < 3 else "second"):
            (tmp_path / corpus).mkdir(exist_ok=True)
            soundfile.write(tmp_path / corpus / f"{number}.wav", audio, 16_000)
    for name in ("both", "first", "second"):
        corpus, manifest = str(tmp_path / name), str(tmp_path / f"{name}_manifest")
        build_manifest(BuildManifestConfig.of(corpus=corpus, layout="folder", output=manifest, shard_minutes=0.05))
        features = {"encoder": "mfcc", "layers": (0,), "num_workers": 1, "output": str(tmp_path / f"{name}_features")}
        extract_features(ExtractFeaturesConfig.of(manifest=manifest, **features))
    fitted(tmp_path, ["first_features", "second_features"], tmp_path / "several")
    fitted(tmp_path, ["both_features"], tmp_path / "one")
    assert numbers(tmp_path / "several") == numbers(tmp_path / "one")


@pytest.mark.parametrize("names", [("a", "b"), ("a", "ids")])
@pytest.mark.parametrize("init", INITS)
def test_order_of_names_workers_and_memory_change_no_byte(root, tmp_path, names, init):
    """K is odd, so that the choice of as many rows by hash parts two of equal hash where ids come in both."""
    settings = {"init": init, "num_clusters": (9,), "num_quantizers": 2, "seeding_frames_per_cluster": 3}
    expected = fitted(root, names, tmp_path / "1", num_workers=1, **settings)
    assert fitted(root, names[::-1], tmp_path / "other", num_workers=1, **settings) == expected
    assert fitted(root, names[::-1], tmp_path / "2", num_workers=2, memory_per_worker=1e-6, **settings) == expected


def test_frames_of_one_id_in_two_datasets_are_drawn_together(root, tmp_path):
    half = {"fraction": 0.5, "layers": (3,), "max_iterations": 1}
    fitted(root, ["a"], tmp_path / "one", **half)
    fitted(root, ["a", "ids"], tmp_path / "both", **half)
    fitted(root, ["a", "b"], tmp_path / "others", **half)
    one, both, others = (units(tmp_path / name)["layer_03_k8"].counts.sum() for name in ("one", "both", "others"))
    assert both == 2 * one != others


def test_one_dataset_is_planned_as_it_always_was(root, tmp_path):
    plan, digest = prepare(config(root, ["a"], tmp_path / "books")), success(Dataset.open(str(root / "a")))
    assert plan.content == {
        "data_version": 3,
        "input_sha256": digest["dataset_sha256"],
        "layers": [3, 5],
        "fraction": 1.0,
        "warm_start": [],
        "num_quantizers": 1,
        "max_iterations": 5,
        "tolerance": 1e-4,
        "init": "k-means++",
        "seeding_frames_per_cluster": 64,
        "seed": 0,
        "num_clusters": [8],
    }
    assert plan.lineage["input_sha256"] == digest["dataset_sha256"]
    assert "inputs" not in plan.lineage


def test_codebooks_of_several_datasets_name_each_of_them(root, tmp_path):
    fitted(root, ["b", "a"], tmp_path / "books")
    plan = Dataset.open(str(tmp_path / "books")).plan
    digests = sorted(success(Dataset.open(str(root / name)))["dataset_sha256"] for name in ("a", "b"))
    for said in (plan.content, plan.lineage, *(book.lineage for book in units(tmp_path / "books").values())):
        assert said["inputs"] == digests
        assert said["input_sha256"] == sha256(canonical(digests).encode())
    assert all(book.fitted_on == digests for book in units(tmp_path / "books").values())
    assert fit_kmeans(config(root, ["a", "b"], tmp_path / "books")).units_done_now == 0
    with pytest.raises(PlanMismatchError, match="inputs: folder has"):
        prepare(config(root, ["a"], tmp_path / "books"))


def test_a_card_says_of_each_dataset_that_the_codebook_was_fitted_on_it(root, tmp_path):
    books = tmp_path / "books"
    fitted(root, ["a", "b"], books, layers=(3,))
    said = {}
    for name in ("a", "b", "ids"):
        describe_codebooks(DescribeCodebooksConfig.of(codebooks=str(books), features=str(root / name)))
        card = json.loads((books / "_cards" / "layer_03_k8.json").read_bytes())
        said[name] = card["described"]["fitted_on_these"]
        text = (books / "_cards" / "layer_03_k8.md").read_text()
        assert ("one of the 2 features datasets that it was fitted on" in text) == said[name]
        assert ("It was fitted on 2 other features datasets." in text) != said[name]
        assert len(card["lineage"]["inputs"]) == 2
    assert said == {"a": True, "b": True, "ids": False}


def test_a_fit_on_several_datasets_that_was_killed_goes_on_to_the_same_bytes(root, tmp_path):
    settings = {"layers": (3,), "num_quantizers": 2, "runner": "here"}
    expected = fitted(root, ["a", "b"], tmp_path / "whole", **settings)
    kill = {"point": "after_checkpoint", "match": "layer_03_k8_q1", "action": "kill"}
    assert in_child(fit_kmeans, config(root, ["a", "b"], tmp_path / "killed", **settings), [kill]).code == KILLED
    assert (tmp_path / "killed" / "_checkpoints" / "layer_03_k8_q1.safetensors").is_file()
    assert fitted(root, ["b", "a"], tmp_path / "killed", **settings) == expected


@pytest.mark.ray
@pytest.mark.usefixtures("local_ray")
def test_ray_changes_no_byte_of_a_fit_on_several_datasets(root, tmp_path):
    settings = {"num_clusters": (8, 20), "init": "k-means||"}
    expected = fitted(root, ["a", "b"], tmp_path / "here", runner="here", **settings)
    assert fitted(root, ["b", "a"], tmp_path / "ray", runner="ray", num_workers=2, **settings) == expected


def test_a_dataset_on_disk_and_one_on_s3_are_fitted_on_together(root, tmp_path, bucket):
    expected = fitted(root, ["a", "b"], tmp_path / "disk")
    s3fs.S3FileSystem().put(str(root / "b"), "corpus/b", recursive=True)
    mixed = FitKmeansConfig.of(
        features=(f"{bucket}/b", str(root / "a")), output=f"{bucket}/books", num_clusters=(8,), max_iterations=5
    )
    fit_kmeans(mixed)
    assert {unit: book.to_bytes() for unit, book in units(f"{bucket}/books").items()} == expected


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("encoder_sha256", "f" * 64),
        ("normalize_waveform", True),
        ("sample_rate", 24_000),
        ("hop_length", 480),
        ("dtype", "bfloat16"),
    ],
)
def test_features_of_another_encoder_are_refused_by_name(root, tmp_path, monkeypatch, name, value):
    rows = np.random.default_rng(1).standard_normal((100, 8)).astype(np.float16)
    monkeypatch.setitem(LINEAGE, name, value)
    write_features(tmp_path / "other", shards_of("o", 1, rows), layers=LAYERS)
    with pytest.raises(SettingsError, match=rf"cannot be fitted on together, because they have {name} ") as refusal:
        fit_kmeans(config(root, ["a", tmp_path / "other", "b"], tmp_path / "books"))
    assert str(tmp_path / "other") in str(refusal.value)
    assert repr(value) in str(refusal.value)
    assert not (tmp_path / "books").exists()


def test_features_of_another_width_are_refused(root, tmp_path):
    rows = np.random.default_rng(1).standard_normal((100, 6)).astype(np.float16)
    write_features(tmp_path / "narrow", shards_of("n", 1, rows), layers=LAYERS)
    with pytest.raises(SettingsError, match=r"they have dim (6 and 8|8 and 6)\."):
        prepare(config(root, ["a", tmp_path / "narrow"], tmp_path / "books"))


def test_datasets_of_other_layers_are_fitted_on_in_those_that_are_named_and_in_all(root, tmp_path):
    rows = np.random.default_rng(1).standard_normal((100, 8)).astype(np.float16)
    write_features(tmp_path / "fewer", shards_of("f", 1, rows), layers=(5,))
    names = ["a", tmp_path / "fewer"]
    with pytest.raises(SettingsError, match="choose layers of both with --layers"):
        prepare(config(root, names, tmp_path / "books"))
    with pytest.raises(SettingsError, match=r"fewer has layers \[5\], not \[3\]"):
        prepare(config(root, names, tmp_path / "books", layers=(3, 5)))
    assert list(fitted(root, names, tmp_path / "books", layers=(5,))) == ["layer_05_k8"]


def test_the_same_data_twice_are_refused(root, tmp_path):
    rows = np.random.default_rng(1).standard_normal((100, 8)).astype(np.float16)
    for name in ("one", "copy"):
        write_features(tmp_path / name, shards_of("s", 1, rows), layers=LAYERS)
    with pytest.raises(SettingsError, match="hold the same data; name one of them"):
        prepare(config(tmp_path, ["one", root / "a", "copy"], tmp_path / "books"))


def test_a_dataset_that_is_not_finished_is_refused_beside_one_that_is(root, tmp_path):
    rows = np.random.default_rng(1).standard_normal((100, 8)).astype(np.float16)
    write_features(tmp_path / "half", shards_of("h", 1, rows), layers=LAYERS)
    (tmp_path / "half" / "_SUCCESS").unlink()
    with pytest.raises(DatasetError, match="half is not finished"):
        prepare(config(root, ["a", tmp_path / "half"], tmp_path / "books"))


def test_too_few_frames_are_counted_over_all_datasets(root, tmp_path):
    with pytest.raises(SettingsError, match="3000 frames, fewer than num_clusters 3001"):
        prepare(config(root, ["a", "b"], tmp_path / "books", num_clusters=(3001,)))
    assert prepare(config(root, ["a", "b"], tmp_path / "books", num_clusters=(3000,))).totals == {"frames": 3000}


@pytest.mark.parametrize(
    ("features", "sentence"),
    [
        ((), "one or more different datasets, got \\[\\]"),
        (("f", "f"), "one or more different datasets"),
        ("f", "a tuple of datasets, got the string 'f'"),
    ],
)
def test_features_are_a_tuple_of_different_datasets(features, sentence):
    with pytest.raises(SettingsError, match=sentence):
        FitKmeansConfig.of(features=features, output="o", num_clusters=(2,))


def test_the_command_line_takes_several_datasets_after_one_flag():
    words = ["--features", "a", "s3://b/c", "--num-clusters", "8", "--output", "o"]
    assert cli.parse(fit_kmeans, words, "").features == ("a", "s3://b/c")
