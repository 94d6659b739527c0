"""Word times and document patterns that meet nothing; at 5237d84 an export went through without a word of text."""

import json
from dataclasses import replace

import pytest
import tokenizers
from made_export import config_of, documents_of, tree
from made_tokens import speak, write_manifest, write_tokens

from pipeline.audio.manifest import encode_id
from pipeline.errors import ManifestError, PlanMismatchError, SettingsError
from pipeline.export.stage import export_tokens
from pipeline.store.dataset import Dataset

NAMES = [f"spk{number % 2}/utt{number}" for number in range(6)]


@pytest.fixture
def corpus(tmp_path):
    """Six utterances of a folder of two speakers, whose ids encode their paths."""
    made = [
        replace(one, utterance_id=encode_id(name))
        for one, name in zip(speak(tmp_path / "c" / "audio", [2.0] * 6), NAMES, strict=True)
    ]
    manifest = write_manifest(tmp_path / "c" / "manifest", made)
    digest = json.loads(manifest.store.read("_SUCCESS"))["dataset_sha256"]
    write_tokens(tmp_path / "c" / "tokens", made, input_sha256=digest)
    return tmp_path / "c"


def words_of(path, names):
    rows = [f"{name},{start},{start + 0.4},w{place}" for name in names for place, start in enumerate((0.1, 0.6, 1.1))]
    path.write_text("utterance_id,start_seconds,end_seconds,label\n" + "\n".join(rows) + "\n")
    return str(path)


@pytest.fixture
def text(tmp_path):
    known = {"[UNK]": 0, **{f"w{place}": place + 1 for place in range(3)}}
    tokenizer = tokenizers.Tokenizer(tokenizers.models.WordLevel(known, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    (tmp_path / "text").mkdir()
    tokenizer.save(str(tmp_path / "text" / "tokenizer.json"))
    (tmp_path / "text" / "tokenizer_config.json").write_text('{"tokenizer_class": "PreTrainedTokenizerFast"}')
    return str(tmp_path / "text")


def export(corpus, output, **settings):
    return export_tokens(config_of(corpus, output, formats=("megatron",), **settings))


def test_words_by_path_are_those_by_id(corpus, text, tmp_path):
    by_path = {"words": words_of(tmp_path / "path.csv", NAMES), "text_tokenizer": text, "span_words": 1.0}
    by_id = by_path | {"words": words_of(tmp_path / "id.csv", [encode_id(name) for name in NAMES])}
    report = export(corpus, tmp_path / "a", **by_path)
    assert report.matched == {"words": 6}
    assert ("words", "met 6 of 6 utterances (100.0%)") in report.lines()
    assert report.passed_over == {}
    export(corpus, tmp_path / "b", **by_id)
    written = documents_of(tmp_path / "a")
    assert written == documents_of(tmp_path / "b")
    # Text is there: ids of words are 1 to 3.
    assert any(0 < number < 4 for documents in written.values() for ids in documents for number in ids)


@pytest.mark.parametrize("names", [["other/utt0"], ["utt0", "utt1"]])
def test_words_that_name_no_utterance_are_refused_before_anything_is_written(corpus, text, tmp_path, names):
    words = words_of(tmp_path / "words.csv", names)
    with pytest.raises(SettingsError, match=rf"name no utterance of these tokens: they have '{names[0]}', the tokens"):
        export(corpus, tmp_path / "out", words=words, text_tokenizer=text)
    assert not (tmp_path / "out").exists()


def test_the_share_that_has_words_and_what_was_not_met_stand_in_the_report_each_time(corpus, text, tmp_path):
    settings = {"words": words_of(tmp_path / "w.csv", [*NAMES[:3], "far/away"]), "text_tokenizer": text}
    first, again = (export(corpus, tmp_path / "out", **settings) for _ in range(2))
    for report in (first, again):
        assert (report.utterances, report.matched) == (6, {"words": 3})
        assert ("words", "met 3 of 6 utterances (50.0%)") in report.lines()
        assert report.to_json()["passed_over"] == {
            "unmatched_ids": {"count": 1, "example": "far/away", "names": {"words": 1}},
            "without_words": {"count": 3, "example": "spk0._utt4"},
        }
    with pytest.raises(ManifestError, match=r"(?s)unmatched_ids: 1 .*far/away.*without_words: 3, as spk0\._utt4"):
        export(corpus, tmp_path / "strict", strict=True, **settings)
    assert not (tmp_path / "strict").exists()


def test_a_pattern_of_paths_names_the_documents_of_encoded_ids(corpus, tmp_path):
    report = export(corpus, tmp_path / "a", document_pattern="^([^/]+)/", valid_fraction=0.0)
    assert report.matched == {"document_pattern": 6}
    export(corpus, tmp_path / "b", document_pattern=r"^([^.]+)\._", valid_fraction=0.0)
    assert sum(map(len, documents_of(tmp_path / "a").values())) == 2
    assert documents_of(tmp_path / "a") == documents_of(tmp_path / "b")


def test_a_pattern_that_finds_nothing_is_refused_before_anything_is_written(corpus, tmp_path):
    with pytest.raises(SettingsError, match=r"in no utterance_id .* first is 'spk0\._utt0', which encodes 'spk0/utt0'"):
        export(corpus, tmp_path / "out", document_pattern="^speaker-([0-9]+)")
    assert not (tmp_path / "out").exists()


def test_the_share_that_a_pattern_finds_stands_in_the_report(corpus, tmp_path):
    report = export(corpus, tmp_path / "out", document_pattern=r"^(spk0)\.")
    assert report.matched == {"document_pattern": 3}
    assert report.passed_over == {"unmatched_pattern": {"count": 3, "example": "spk1._utt1"}}
    with pytest.raises(ManifestError, match=r"unmatched_pattern: 3, as spk1\._utt1"):
        export(corpus, tmp_path / "strict", document_pattern=r"^(spk0)\.", strict=True)


def test_exports_by_ids_go_on_and_one_that_met_nothing_in_silence_is_refused(corpus, text, tmp_path):
    """Contents of plans are as they were, but for exports whose bytes are others now."""
    settings = {"text_tokenizer": text, "span_words": 1.0}
    export(corpus, tmp_path / "a", words=words_of(tmp_path / "id.csv", map(encode_id, NAMES)), **settings)
    export(corpus, tmp_path / "b", words=words_of(tmp_path / "path.csv", NAMES), **settings)
    contents = [Dataset.open(str(tmp_path / name / "sequences/part-000")).plan.content for name in "ab"]
    assert "plain_names" not in contents[0]
    assert contents[1]["plain_names"] == ["words"]
    # What 5237d84 wrote has no such key, and no text.
    plan = tmp_path / "b" / "sequences/part-000/_plan.json"
    before = json.loads(plan.read_text())
    del before["content"]["plain_names"]
    plan.write_text(json.dumps(before))
    with pytest.raises(PlanMismatchError, match="plain_names"):
        export(corpus, tmp_path / "b", words=str(tmp_path / "path.csv"), **settings)


def test_nothing_is_looked_for_without_words_and_pattern(corpus, tmp_path):
    report = export(corpus, tmp_path / "out")
    assert (report.matched, report.passed_over) == ({}, {})
    assert tree(tmp_path / "out" / "megatron")


@pytest.mark.parametrize("settings", [{"documents": "speaker"}, {"split_by_speaker": True}])
def test_labels_that_no_utterance_has_are_refused_and_those_that_some_lack_are_counted(tmp_path, settings):
    """At 5237d84 each utterance became a document, or a side, by itself."""
    made = speak(tmp_path / "c" / "audio", [2.0] * 6)
    for folder, labels in (("c", {"u000": {"speaker": "s"}, "u003": {"speaker": "s"}}), ("d", {})):
        manifest = write_manifest(tmp_path / folder / "manifest", made, labels=labels)
        digest = json.loads(manifest.store.read("_SUCCESS"))["dataset_sha256"]
        write_tokens(tmp_path / folder / "tokens", made, input_sha256=digest)
    (setting,) = settings
    report = export(tmp_path / "c", tmp_path / "out", **settings)
    assert report.matched == {setting: 2}
    assert report.passed_over == {"without_label": {"count": 4, "example": "u001", "names": {"speaker": 4}}}
    with pytest.raises(SettingsError, match=f"{setting} reads the speaker, which no utterance"):
        export(tmp_path / "d", tmp_path / "other", **settings)
    assert not (tmp_path / "other").exists()
