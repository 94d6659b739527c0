"""Clean partners: a noisy utterance and its clean recording have the same frames, or are refused by name."""

from dataclasses import replace

import numpy as np
import pytest
from made_tokens import CLOCK, speak, write_corpus_of_tones, write_manifest, write_tokens

from pipeline.audio.loading import Manifest
from pipeline.batches.clean import CleanPieces, check_clean
from pipeline.batches.pieces import PieceSettings
from pipeline.batches.utterances import Utterances
from pipeline.errors import DatasetError, SettingsError

SECONDS = [0.5, 0.9, 1.4, 0.7, 64.0, 0.6]


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    """Six pairs; clean recordings come in another order and in other shards than the noisy ones."""
    folder = tmp_path_factory.mktemp("pairs")
    clean = write_corpus_of_tones(folder / "clean", SECONDS, per_shard=2)
    noisy = [replace(one, utterance_id=f"noisy-{one.utterance_id}") for one in clean[::-1]]
    noisy = [replace(one, tokens=(one.tokens + 3) % 8) for one in noisy]
    labels = {f"noisy-{one.utterance_id}": {"clean_uri": one.path} for one in clean}
    labels["noisy-u003"] = {}
    write_manifest(folder / "noisy/manifest", noisy, per_shard=4, labels=labels)
    write_tokens(folder / "noisy/tokens", noisy, per_shard=4)
    return folder, clean


def opened(folder, **settings):
    return Utterances(
        PieceSettings(
            manifest=str(folder / "manifest"),
            clock=CLOCK,
            tokens=str(folder / "tokens"),
            columns=("layer_00",),
            labels=("clean_uri",),
            **settings,
        )
    )


@pytest.mark.parametrize("max_seconds", [60.0, None])
def test_the_tokens_of_a_partner_are_frame_by_frame_those_of_the_clean_recording(pairs, max_seconds):
    folder, clean = pairs
    noisy, partners = (opened(folder / name, max_seconds=max_seconds) for name in ("noisy", "clean"))
    find = CleanPieces(partners)
    by_id = {one.utterance_id: one for one in clean}
    pieces = [piece for piece in noisy.pieces(noisy.units) if piece.labels["clean_uri"] is not None]
    assert len(pieces) == (5 if max_seconds is None else 6)
    for piece in pieces:
        partner = find(piece)
        own = by_id[piece.utterance_id.removeprefix("noisy-")].tokens[piece.first_frame :][: piece.num_frames]
        assert np.array_equal(partner.tokens[:, 0], own)
        assert np.array_equal(piece.tokens[:, 0], (own + 3) % 8)
        assert partner.place["uri"] == piece.labels["clean_uri"]


def test_utterances_without_a_partner_are_counted_on_the_driver_and_refused_in_a_batch(pairs):
    folder, _ = pairs
    noisy, clean = (Manifest(str(folder / name / "manifest")) for name in ("noisy", "clean"))
    assert check_clean(noisy, clean, CLOCK) == 1
    utterances = opened(folder / "noisy")
    alone = next(piece for piece in utterances.pieces(utterances.units) if piece.utterance_id == "noisy-u003")
    with pytest.raises(DatasetError, match="noisy-u003 has the clean_uri None"):
        CleanPieces(opened(folder / "clean"))(alone)


def test_partners_of_other_lengths_or_none_are_refused_by_name_on_the_driver(tmp_path):
    clean = write_corpus_of_tones(tmp_path / "clean", [0.5, 0.9])
    noisy = speak(tmp_path / "audio", [0.5, 0.8, 0.7])
    labels = {"u000": {"clean_uri": clean[0].path}, "u001": {"clean_uri": clean[1].path}, "u002": {"clean_uri": "/x"}}
    write_manifest(tmp_path / "noisy", noisy, labels=labels)
    write_manifest(tmp_path / "silent", noisy)
    manifests = {name: Manifest(str(tmp_path / name)) for name in ("noisy", "silent", "clean/manifest")}
    with pytest.raises(SettingsError, match=r"^2 utterances .*u001.*44 frames, not 39.*u002: /x \(not there"):
        check_clean(manifests["noisy"], manifests["clean/manifest"], CLOCK)
    with pytest.raises(SettingsError, match="no utterance has a clean_uri"):
        check_clean(manifests["silent"], manifests["clean/manifest"], CLOCK)


def test_partners_of_other_lengths_are_refused_in_a_batch_too(tmp_path):
    clean = write_corpus_of_tones(tmp_path / "clean", [0.5])
    write_corpus_of_tones(tmp_path / "noisy", [0.6], labels={"u000": {"clean_uri": clean[0].path}})
    noisy = opened(tmp_path / "noisy")
    (piece,) = noisy.pieces(noisy.units)
    with pytest.raises(DatasetError, match="u000@0 has 29 frames, its clean recording .* has 24"):
        CleanPieces(opened(tmp_path / "clean"))(piece)


def test_an_utterance_of_a_file_that_holds_several_is_named_by_uri_and_id(tmp_path):
    (one,) = speak(tmp_path / "audio", [0.5])
    second = replace(one, utterance_id="second", tokens=(one.tokens + 1) % 8)
    write_manifest(tmp_path / "manifest", [one, second])
    write_tokens(tmp_path / "tokens", [one, second])
    noisy = [replace(one, utterance_id=name) for name in ("plain", "first", "last", "other")]
    names = {"plain": one.path, "first": f"{one.path}#u000", "last": f"{one.path}#second", "other": "/x#second"}
    labels = {name: {"clean_uri": uri} for name, uri in names.items()}
    write_manifest(tmp_path / "noisy" / "manifest", noisy, labels=labels)
    write_tokens(tmp_path / "noisy" / "tokens", noisy)
    utterances, find = opened(tmp_path / "noisy"), CleanPieces(opened(tmp_path))
    pieces = {piece.utterance_id: piece for piece in utterances.pieces(utterances.units)}
    assert find(pieces["first"]).tokens[:, 0].tolist() == one.tokens.tolist()
    assert find(pieces["last"]).tokens[:, 0].tolist() == second.tokens.tolist()
    with pytest.raises(SettingsError, match=r"several utterances of .*u000 and second; a clean_uri .* ends in # and"):
        find(pieces["plain"])
    with pytest.raises(DatasetError, match="/x#second', which is no recording"):
        find(pieces["other"])
    both = (Manifest(str(tmp_path / "noisy" / "manifest")), Manifest(str(tmp_path / "manifest")))
    with pytest.raises(SettingsError, match="several utterances of"):
        check_clean(*both, CLOCK)
