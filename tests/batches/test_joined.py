"""Tokens, features and labels of an utterance come together; what has no partner is named, nothing is lost."""

from dataclasses import replace

import numpy as np
import pytest
from made_features import write_features
from made_tokens import CLOCK, speak, write_manifest, write_tokens

from pipeline.batches.pieces import PieceSettings
from pipeline.batches.utterances import Utterances
from pipeline.errors import DatasetError, SettingsError

DIM = 3
LABELS = {
    "u000": {"text": "one", "speaker": "s0", "clean_uri": "/c/u000.wav"},
    "u001": {"text": "", "speaker": "s1"},
    "u003": {"speaker": "s0", "emotion": "calm", "language": "de", "split": "train"},
}


def features_of(utterance):
    """Features whose layers 3 and 5 tell utterance, frame and layer."""
    frames = np.arange(len(utterance.tokens))
    base = 100 * int(utterance.utterance_id[1:]) + frames[:, None] + np.zeros(DIM)
    return frames, base.astype(np.float16)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """Seven utterances in two shards; u002 has no tokens, u004 no features, u005 neither."""
    folder = tmp_path_factory.mktemp("joined")
    made = speak(folder / "audio", [0.5, 0.6, 0.7, 0.8, 0.55, 0.65, 0.75])
    write_manifest(folder / "manifest", made, labels=LABELS)
    write_tokens(folder / "tokens", [u for u in made if u.utterance_id not in ("u002", "u005")], per_shard=3)
    shards = [
        [(u.utterance_id, *features_of(u)) for u in part if u.utterance_id not in ("u004", "u005")]
        for part in (made[:4], made[4:])
    ]
    # A long recording has a row per stretch.
    name, frames, cell = shards[0][0]
    shards[0][:1] = [(name, frames[:9], cell[:9]), (name, frames[9:], cell[9:])]
    write_features(folder / "features", shards, layers=(3, 5))
    return folder, made


def opened(folder, *, tokens=True, features=False, layers=(3, 5), **settings):
    given = {"tokens": str(folder / "tokens"), "columns": ("layer_00",)} if tokens else {}
    given |= {"features": str(folder / "features"), "layers": layers} if features else {}
    return Utterances(PieceSettings(manifest=str(folder / "manifest"), clock=CLOCK, **given, **settings))


def test_labels_come_with_the_utterance_and_absent_ones_are_none(corpus):
    found = opened(corpus[0], labels=("text", "speaker", "clean_uri", "emotion", "language", "split"))
    labels = {piece.utterance_id: piece.labels for piece in found.pieces(found.units)}
    assert (labels["u000"]["text"], labels["u000"]["clean_uri"]) == ("one", "/c/u000.wav")
    assert (labels["u001"]["text"], labels["u001"]["emotion"]) == ("", None)
    assert [labels["u003"][name] for name in ("emotion", "language", "split")] == ["calm", "de", "train"]
    assert set(labels["u006"].values()) == {None}


def test_without_labels_asked_for_none_are_given(corpus):
    found = opened(corpus[0])
    assert [dict(piece.labels) for piece in found.pieces(found.units)] == [{}] * 5


def test_utterances_without_tokens_or_features_are_named(corpus):
    def unmatched(**what):
        found = opened(corpus[0], **what)
        return [list(shard.unmatched) for shard in found.shards(found.units)]

    assert unmatched() == [["u002"], ["u005"]]
    assert unmatched(tokens=False, features=True) == [[], ["u004", "u005"]]
    assert unmatched(features=True) == [["u002"], ["u004", "u005"]]


def test_tokens_and_features_of_an_utterance_are_side_by_side(corpus):
    folder, made = corpus
    found = opened(folder, features=True)
    pieces = list(found.pieces(found.units))
    assert [piece.utterance_id for piece in pieces] == ["u000", "u001", "u003", "u006"]
    for piece in pieces:
        utterance = made[int(piece.utterance_id[1:])]
        assert piece.num_frames == len(utterance.tokens)
        assert np.array_equal(piece.tokens[:, 0], utterance.tokens)
        assert piece.features.dtype == np.float16
        assert piece.features.shape == (piece.num_frames, 2, DIM)
        for layer in range(2):
            assert np.array_equal(piece.features[:, layer], features_of(utterance)[1])


def test_features_alone_make_pieces_and_tokens_alone_have_no_features(corpus):
    folder, made = corpus
    alone = opened(folder, tokens=False, features=True, layers=(5,))
    pieces = list(alone.pieces(alone.units))
    assert [piece.utterance_id for piece in pieces] == ["u000", "u001", "u002", "u003", "u006"]
    assert {piece.tokens.shape[1] for piece in pieces} == {0}
    assert all(piece.features.shape == (len(made[int(piece.utterance_id[1:])].tokens), 1, DIM) for piece in pieces)
    tokens = opened(folder)
    assert all(piece.features.shape == (piece.num_frames, 0, 0) for piece in tokens.pieces(tokens.units))


def test_a_long_utterance_is_cut_or_stays_whole_with_everything_that_belongs_to_it(corpus):
    folder, _ = corpus
    cut, whole = (opened(folder, features=True, labels=("speaker",), max_seconds=most) for most in (0.3, None))
    parts = [piece for piece in cut.pieces(["shard-00000"]) if piece.utterance_id == "u000"]
    (one,) = (piece for piece in whole.pieces(["shard-00000"]) if piece.utterance_id == "u000")
    assert [piece.num_frames for piece in parts] == [14, 10]
    assert [piece.first_frame for piece in parts] == [0, 14]
    assert not any(piece.whole for piece in parts)
    assert one.whole
    assert np.array_equal(np.concatenate([piece.tokens for piece in parts]), one.tokens)
    assert np.array_equal(np.concatenate([piece.features for piece in parts]), one.features)
    assert {piece.labels["speaker"] for piece in (*parts, one)} == {"s0"}


@pytest.fixture
def two(tmp_path):
    made = speak(tmp_path / "audio", [0.5, 0.6])
    write_manifest(tmp_path / "manifest", made)
    return tmp_path, made


def test_tokens_and_features_of_different_frames_are_refused_by_name(two):
    folder, made = two
    write_tokens(folder / "tokens", [made[0], replace(made[1], tokens=made[1].tokens[:-1])])
    write_features(folder / "features", [[(u.utterance_id, *features_of(u)) for u in made]])
    with pytest.raises(DatasetError, match="u001 has 28 frames of tokens and 29 frames of features"):
        list(opened(folder, features=True, layers=(3,)).pieces(["shard-00000"]))


def test_features_of_an_utterance_that_the_manifest_lacks_are_refused_by_name(two):
    folder, made = two
    write_features(folder / "features", [[("stranger", *features_of(made[0]))]])
    with pytest.raises(DatasetError, match="features of stranger"):
        list(opened(folder, tokens=False, features=True, layers=(3,)).pieces(["shard-00000"]))


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"columns": ("layer_09",)}, "not layer_09"),
        ({"columns": ()}, "columns says"),
        ({"tokens": None, "columns": ()}, "need tokens or features"),
        ({"labels": ("text", "singer")}, "singer are no label columns"),
        ({"layers": (3,)}, "layers says"),
    ],
)
def test_what_is_not_there_is_refused_when_it_is_opened(corpus, settings, told):
    folder, _ = corpus
    given = {"manifest": str(folder / "manifest"), "tokens": str(folder / "tokens"), "columns": ("layer_00",)}
    with pytest.raises(SettingsError, match=told):
        Utterances(PieceSettings(clock=CLOCK, **{**given, **settings}))


def test_a_sample_of_frames_and_layers_that_are_not_there_are_refused(corpus, tmp_path):
    folder, made = corpus
    with pytest.raises(SettingsError, match=r"not \[4\]"):
        opened(folder, tokens=False, features=True, layers=(4,))
    write_features(tmp_path / "features", [[("u000", np.arange(5), features_of(made[0])[1][:5])]], sampled=True)
    with pytest.raises(SettingsError, match="sample of the frames"):
        Utterances(
            PieceSettings(
                manifest=str(folder / "manifest"), clock=CLOCK, features=str(tmp_path / "features"), layers=(3,)
            )
        )
