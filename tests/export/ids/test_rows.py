import numpy as np
import pyarrow as pa
import pytest

from pipeline import schema
from pipeline.errors import CorruptDatasetError, SettingsError
from pipeline.export.grouping import Grouping, key_of, on_valid_side
from pipeline.export.ids.patterns import Pattern
from pipeline.export.ids.prefix import Prefix, fields_of, special_tokens
from pipeline.export.ids.rows import Naming, PlainEncoder, labels_of, sequence_rows
from pipeline.export.ids.vocabulary import Vocabulary

PATTERN = Pattern(columns=("layer_07",), delays=(0,), deduplicate=True)
VOCABULARY = Vocabulary.build({"layer_07": 10}, specials=["<|unknown|>", "<|en|>", "<|speech|>"])


def tokens_of(utterances):
    cells = {
        "utterance_id": list(utterances),
        "num_frames": [len(tokens) for tokens in utterances.values()],
        "layer_07": list(utterances.values()),
    }
    return pa.table(cells).cast(schema.tokens(["layer_07"]))


def label(name, **known):
    row = dict.fromkeys(schema.MANIFEST.names)
    row |= {"utterance_id": name, "uri": "/data/a/" + name, "offset_samples": 16_000, "num_samples": 8_000}
    return row | {"sample_rate": 16_000, "shard": 0} | known


def rows_of(utterances, labels=None, *, prefix=(), max_ids=0, **naming):
    settings = {"grouping": Grouping(), "valid_fraction": 0.5, "split_by_speaker": False} | naming
    return sequence_rows(
        tokens_of(utterances),
        labels,
        columns=PATTERN.columns,
        encode=PlainEncoder(pattern=PATTERN, vocabulary=VOCABULARY, max_ids=max_ids),
        naming=Naming(prefix=Prefix.of(prefix, PATTERN.columns, VOCABULARY), **settings),
        vocabulary=VOCABULARY,
        frame_rate=50.0,
    ).to_pylist()


def test_a_row_says_what_its_ids_stand_for():
    manifest = pa.Table.from_pylist([label("u1", speaker="s", language="en", text="hi")], schema=schema.MANIFEST)
    labels = labels_of(manifest, ["/data"])
    assert labels["u1"]["recording"] == "a/u1"
    (row,) = rows_of({"u1": [3, 3, 3, 4]}, labels, prefix=("<|speech|>", "<|{language}|>"))
    assert np.frombuffer(row["ids"], "<u2").tolist() == [3, 4]
    assert np.frombuffer(row["durations"], "<i4").tolist() == [3, 1]
    assert (row["num_frames"], row["num_kept"], row["num_ids"]) == (4, 2, 2)
    assert (row["offset_seconds"], row["seconds"]) == (1.0, 0.08)
    assert (row["speaker"], row["language"], row["text"]) == ("s", "en", "hi")
    assert row["document"] == key_of("u1")
    assert row["prefix"] == [VOCABULARY.special("<|speech|>"), VOCABULARY.special("<|en|>")]


def test_all_of_a_speaker_is_on_one_side_where_that_is_asked_for():
    names = [f"u{number}" for number in range(60)]
    labels = {name: label(name, speaker=f"s{number % 6}") for number, name in enumerate(names)}
    utterances = {name: [1, 2] for name in names}
    together = rows_of(utterances, labels, split_by_speaker=True)
    sides = {}
    for row in together:
        sides.setdefault(row["speaker"], set()).add(row["valid"])
    assert all(len(found) == 1 for found in sides.values())
    apart = rows_of(utterances, labels)
    assert [row["valid"] for row in apart] == [on_valid_side(name, 0.5) for name in names]
    # Who speaks is not known: the document decides.
    nameless = rows_of(utterances, {name: label(name) for name in names}, split_by_speaker=True)
    assert [row["valid"] for row in nameless] == [row["valid"] for row in apart]


def test_a_long_utterance_becomes_several_rows_in_order():
    found = rows_of({"u1": list(range(7))}, max_ids=3)
    assert [row["first_frame"] for row in found] == [0, 3, 6]
    assert [row["num_frames"] for row in found] == [3, 3, 1]
    assert {row["document_id"] for row in found} == {"u1"}


def test_an_utterance_that_the_manifest_lacks_is_refused():
    with pytest.raises(CorruptDatasetError, match="no utterance u2"):
        rows_of({"u2": [1]}, {"u1": label("u1")})


def test_an_utterance_without_frames_has_no_row():
    assert [row["utterance_id"] for row in rows_of({"u1": [], "u2": [1]})] == ["u2"]


def test_special_tokens_are_named_by_the_values_of_the_manifest():
    templates = ("<|speech|>", "<|{language}|>", "<|{layers}|>")
    found = special_tokens(templates, ("layer_12", "layer_03"), {"language": ["en", "de", "en"]})
    assert found == ("<|speech|>", "<|unknown|>", "<|de|>", "<|en|>", "<|layer_12+layer_03|>")
    assert fields_of(templates) == ["language"]
    for wrong in ("<|{text}|>", "<|{language}{speaker}|>"):
        with pytest.raises(SettingsError, match="may name one of"):
            fields_of([wrong])
    with pytest.raises(SettingsError, match="more than 65,536 values"):
        special_tokens(("<|{speaker}|>",), (), {"speaker": map(str, range(65_537))})
    with pytest.raises(SettingsError, match="no special token '<|fr|>'"):
        Prefix.of(("<|{language}|>",), (), VOCABULARY).ids({"language": "fr"})
