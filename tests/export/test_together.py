"""Speakers on one side of the split alone: documents that share some go together, or the export is refused."""

import logging

import numpy as np
import pyarrow.parquet as pq
import pytest
from made_export import config_of, tree
from made_tokens import speak, write_corpus_of_tones, write_manifest, write_tokens

from pipeline.errors import SettingsError
from pipeline.export.grouping import Grouping, Together, key_of, on_valid_side
from pipeline.export.stage import export_tokens
from pipeline.export.together import SpokenDocument, put_together, shares_speakers

PATTERN = r"^(.+)-[^-]+$"
SPEAKERS = [f"s{number}" for number in range(60)]


def documents(pairs, seconds=1.0):
    return [SpokenDocument(document_id=name, speaker=speaker, seconds=seconds) for name, speaker in pairs]


def sides(pairs, fraction=0.5, earlier=None):
    """Give the side of every document and of every speaker."""
    together = put_together(documents(pairs), fraction, earlier or {})
    found, heard = {}, {}
    for name, speaker in pairs:
        moved = together.side(key_of(name))
        own = on_valid_side(name if speaker is None else f"speaker {speaker}", fraction)
        valid = own if moved is None else moved
        assert found.setdefault(name, valid) == valid, "the utterances of a document are on one side"
        if speaker is not None:
            heard.setdefault(speaker, set()).add(valid)
    return found, heard, together


@pytest.mark.parametrize("seed", range(20))
def test_no_speaker_is_on_both_sides_whatever_documents_they_share(seed):
    rng = np.random.default_rng(seed)
    pairs = []
    for number in range(40):
        for speaker in rng.choice(SPEAKERS, rng.integers(1, 3), replace=False):
            pairs.append((f"d{number}", None if rng.random() < 0.1 else str(speaker)))
    found, heard, together = sides(pairs)
    assert all(len(each) == 1 for each in heard.values())
    assert set(found.values()) == {True, False}
    rng.shuffle(pairs)
    assert sides([(str(name), speaker) for name, speaker in pairs])[2] == together


def test_documents_of_one_speaker_lie_where_they_always_did():
    pairs = [(f"d{number}", f"s{number % 7}") for number in range(40)] + [("alone", None), ("shared", "s50")]
    assert not put_together(documents(pairs), 0.3, {})


def test_an_utterance_without_a_speaker_goes_with_its_document():
    """Its document went where its first row went, whoever else spoke in it."""
    for number in range(20):
        pairs = [(f"d{number}", None), (f"d{number}", f"s{number}"), ("other", f"s{number}"), ("third", "z")]
        found, _, _ = sides(pairs)
        assert found[f"d{number}"] == found["other"] == on_valid_side(f"speaker s{number}", 0.5)


def test_the_share_on_the_validation_side_is_about_the_one_asked_for():
    pairs = [(f"d{number}", f"s{number}-{voice}") for number in range(4000) for voice in range(2)]
    found, _, _ = sides(pairs, fraction=0.2)
    assert abs(sum(found.values()) / len(found) - 0.2) < 0.03


def test_a_group_of_more_than_half_of_the_audio_is_trained_on():
    for number in range(10):
        pairs = [(f"d{place}", name) for place in range(8) for name in (f"host{number}", f"p{place}")]
        found, _, _ = sides([*pairs, *((f"e{place}", f"q{number}-{place}") for place in range(6))])
        assert not any(found[f"d{place}"] for place in range(8))


def test_a_host_of_all_conversations_leaves_nothing_to_split():
    pairs = [(f"conv{number}", name) for number in range(12) for name in (f"p{number}", "host")]
    with pytest.raises(SettingsError, match=r"12 of 12 documents \(100\.0% of the audio\).*--documents utterance"):
        put_together(documents(pairs), 0.5, {})


def test_a_speaker_of_an_earlier_part_keeps_the_side():
    pairs = [("d", "a"), ("d", "b"), ("e", "c"), ("f", "g")]
    for valid in (True, False):
        found, heard, _ = sides(pairs, earlier={"b": valid, "c": not valid})
        assert found["d"] == valid
        assert found["e"] == (not valid)
        assert heard["a"] == {valid}
    for both in ({"a": True, "b": False}, {"a": None}):
        with pytest.raises(SettingsError, match="earlier parts"):
            put_together(documents(pairs), 0.5, both)


def test_where_every_document_has_one_speaker_by_its_nature_nothing_is_read():
    assert [shares_speakers(Grouping(by=by)) for by in ("utterance", "speaker", "recording", "split")] == [
        False,
        False,
        True,
        True,
    ]
    assert shares_speakers(Grouping(pattern=PATTERN))


def test_a_side_is_found_by_the_hash_of_the_document():
    keys = sorted(key_of(str(number)) for number in range(100))
    packed = [np.array(part, "<u8").tobytes() for part in (keys[:50], keys[50:])]
    together = Together(train=packed[0], valid=packed[1])
    assert [together.side(key) for key in keys] == [False] * 50 + [True] * 50
    assert together.side(key_of("other")) is None
    assert not Together()


def conversations(folder, pairs, seed=0):
    """Write conversations: each utterance is called by its conversation, a dash and a number."""
    spoken = speak(folder / "audio", [0.3] * len(pairs), seed=seed)
    made = [
        type(one)(f"{name}-{number}", *list(vars(one).values())[1:])
        for number, (one, (name, _)) in enumerate(zip(spoken, pairs, strict=True))
    ]
    labels = {one.utterance_id: {"speaker": speaker} for one, (_, speaker) in zip(made, pairs, strict=True)}
    write_manifest(folder / "manifest", made, labels=labels)
    write_tokens(folder / "tokens", made)
    return folder


def exported(folder, output, **settings):
    settings = {"document_pattern": PATTERN, "split_by_speaker": True, "valid_fraction": 0.5} | settings
    return export_tokens(config_of(folder, output, formats=("megatron",), **settings))


def heard(output, *parts):
    """Give the speakers of each side, of documents as the formats have them."""
    found = {"train": set(), "valid": set()}
    for part in parts or ("part-000",):
        for path in sorted((output / "megatron" / part).glob("*.meta.parquet")):
            found[path.name.split("-")[0]] |= set(pq.read_table(path)["speaker"].to_pylist())
    return found


PAIRS = [(f"conv{number}", name) for number in range(24) for name in (f"p{number}", f"host{number % 8}", f"p{number}")]


def test_an_export_has_every_speaker_on_one_side(tmp_path, caplog):
    folder = conversations(tmp_path / "a", PAIRS)
    with caplog.at_level(logging.INFO):
        exported(folder, tmp_path / "out")
    found = heard(tmp_path / "out")
    assert found["train"]
    assert found["valid"]
    assert not found["train"] & found["valid"]
    assert "share speakers" in caplog.text
    exported(folder, tmp_path / "again")
    for kind in ("sequences", "megatron"):
        assert tree(tmp_path / "again" / kind) == tree(tmp_path / "out" / kind)


def test_a_part_that_comes_later_keeps_speakers_on_their_sides(tmp_path):
    exported(conversations(tmp_path / "a", PAIRS), tmp_path / "out")
    more = [(f"more{number}", name) for number in range(24) for name in (f"q{number}", f"host{number % 8}")]
    exported(conversations(tmp_path / "b", more, seed=1), tmp_path / "out")
    found = heard(tmp_path / "out", "part-000", "part-001")
    assert not found["train"] & found["valid"]
    across = [("z", f"host{number}") for number in range(8)]
    with pytest.raises(SettingsError, match="earlier parts of this export have them on both sides"):
        exported(conversations(tmp_path / "c", across, seed=2), tmp_path / "out")


def test_an_export_of_one_host_is_refused_before_anything_is_written(tmp_path):
    pairs = [(f"conv{number}", name) for number in range(12) for name in (f"p{number}", "host")]
    folder = conversations(tmp_path / "a", pairs)
    with pytest.raises(SettingsError, match="leaves nothing to split"):
        exported(folder, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    exported(folder, tmp_path / "apart", document_pattern=None)
    found = heard(tmp_path / "apart")
    assert not found["train"] & found["valid"]


def test_an_export_whose_documents_share_nobody_has_the_plan_that_it_always_had(tmp_path):
    names = {f"u{number:03d}": {"speaker": f"s{number % 5}"} for number in range(20)}
    write_corpus_of_tones(tmp_path / "a", [0.3] * 20, labels=names)
    exported(tmp_path / "a", tmp_path / "out", document_pattern=None, documents="recording")
    plan = (tmp_path / "out" / "sequences" / "part-000" / "_plan.json").read_text()
    assert "together" not in plan
