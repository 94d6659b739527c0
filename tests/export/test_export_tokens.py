import json

import numpy as np
import pytest
from made_export import config_of, documents_of, tree
from made_tokens import NUM_CLUSTERS, write_corpus_of_tones, write_manifest, write_tokens

from pipeline.errors import PlanMismatchError, SettingsError
from pipeline.export.grouping import on_valid_side
from pipeline.export.ids.vocabulary import BEGIN, END, Vocabulary
from pipeline.export.stage import export_tokens
from pipeline.store.dataset import Dataset
from pipeline.store.verification import VerifyDatasetConfig, verify_dataset

COLUMNS = ("layer_03", "layer_07")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tones")
    made = write_corpus_of_tones(folder, [0.3 + number % 3 / 10 for number in range(130)], columns=COLUMNS)
    return folder, made


def plain(made, vocabulary):
    """The ids of an utterance, counted by hand: layer 7 first, its tokens those of layer 3 plus one."""
    starts = [vocabulary.layer(column).start for column in ("layer_07", "layer_03")]
    ids = [[(t + 1) % NUM_CLUSTERS + starts[0], t + starts[1]] for t in made.tokens.tolist()]
    return [vocabulary.special(BEGIN), *np.array(ids).ravel().tolist(), vocabulary.special(END)]


def test_every_format_holds_the_documents_in_order(corpus, tmp_path):
    folder, made = corpus
    forms = ("megatron", "nanotron", "olmo", "parquet", "webdataset")
    report = export_tokens(config_of(folder, tmp_path / "out", formats=forms, valid_fraction=0.2, shard_ids=1_000))
    vocabulary = Vocabulary.from_json(json.loads((tmp_path / "out" / "vocabulary.json").read_text()), "")
    found = documents_of(tmp_path / "out")
    assert report.shards == len(found) > 3
    for side, valid in (("train", False), ("valid", True)):
        joined = [ids for shard, documents in found.items() if shard.startswith(side) for ids in documents]
        assert joined == [plain(one, vocabulary) for one in made if on_valid_side(one.utterance_id, 0.2) == valid]
    for form in forms[1:]:
        assert documents_of(tmp_path / "out", form) == found, form
    assert verify_dataset(VerifyDatasetConfig(dataset=str(tmp_path / "out"))).rows == len(made)


def test_run_again_an_export_does_nothing_and_shuffled_it_has_the_same_documents(corpus, tmp_path):
    folder, made = corpus
    settings = {"formats": ("megatron",), "order": "shuffled", "shard_ids": 1_000, "valid_fraction": 0.0}
    export_tokens(config_of(folder, tmp_path / "out", **settings))
    before = tree(tmp_path / "out")
    again = export_tokens(config_of(folder, tmp_path / "out", **settings))
    assert [report.units_done_now for report in again.stages] == [0, 0, 0]
    assert tree(tmp_path / "out") == before
    plain_order = export_tokens(config_of(folder, tmp_path / "plain", **(settings | {"order": "source"})))
    assert len(plain_order.stages) == 2
    shuffled, straight = (
        [ids for documents in documents_of(tmp_path / name).values() for ids in documents] for name in ("out", "plain")
    )
    assert shuffled != straight
    assert sorted(shuffled) == sorted(straight)
    other = export_tokens(config_of(folder, tmp_path / "other", **(settings | {"seed": 1})))
    assert other.shards == again.shards
    assert tree(tmp_path / "other") != before


def test_other_settings_in_the_same_folder_are_refused_by_name(corpus, tmp_path):
    folder, _ = corpus
    export_tokens(config_of(folder, tmp_path / "out", formats=("megatron",)))
    with pytest.raises(PlanMismatchError, match="deduplicate"):
        export_tokens(config_of(folder, tmp_path / "out", formats=("megatron",), deduplicate=True))
    export_tokens(config_of(folder, tmp_path / "out", formats=("olmo",)))
    assert documents_of(tmp_path / "out", "olmo") == documents_of(tmp_path / "out")


def test_a_second_corpus_becomes_a_part_and_the_first_stays(corpus, tmp_path):
    folder, made = corpus
    export_tokens(config_of(folder, tmp_path / "out", corpus="first"))
    before = {name: data for name, data in tree(tmp_path / "out").items() if "part-000" in name}
    more = write_corpus_of_tones(tmp_path / "more", [1.5] * 6, columns=COLUMNS, seed=1)
    with pytest.raises(SettingsError, match="6 utterances of .* are in part-000"):
        export_tokens(config_of(tmp_path / "more", tmp_path / "out"))
    renamed = [
        type(utterance)(f"new-{utterance.utterance_id}", *list(vars(utterance).values())[1:]) for utterance in more
    ]
    write_manifest(tmp_path / "new" / "manifest", renamed)
    write_tokens(tmp_path / "new" / "tokens", renamed, columns=COLUMNS)
    report = export_tokens(config_of(tmp_path / "new", tmp_path / "out", corpus="second"))
    assert report.part == "part-001"
    assert {name: data for name, data in tree(tmp_path / "out").items() if "part-000" in name} == before
    found = documents_of(tmp_path / "out", part="part-001")
    assert sum(map(len, found.values())) == 6
    again = export_tokens(config_of(folder, tmp_path / "out"))
    assert (again.part, [stage.units_done_now for stage in again.stages]) == ("part-000", [0, 0, 0])
    assert Dataset.open(str(tmp_path / "out"), kind="export").plan.units == []
    assert verify_dataset(VerifyDatasetConfig(dataset=str(tmp_path / "out"))).rows == len(made) + 6
