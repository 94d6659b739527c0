"""Noisy utterances and their clean partners become tokens of equal frames, of mixtures and of VoiceBank-DEMAND."""

import numpy as np
from made_mixtures import manifest_of, mixing, write_clean, write_noises, write_rooms

from pipeline.audio.clock import Clock
from pipeline.audio.loading import Manifest
from pipeline.audio.mixtures.stage import mix_corpus
from pipeline.batches.clean import CleanPieces, check_clean
from pipeline.batches.pieces import PieceSettings
from pipeline.batches.utterances import Utterances
from pipeline.tokens.settings import TokenizeCorpusConfig
from pipeline.tokens.stage import tokenize_corpus

CLOCK = Clock(sample_rate=16_000, hop_length=320, receptive_field=400)
LAYER = "layer_02"


def tokenized(manifest, tokens):
    """Make tokens with the encoder that ships, and give the utterances joined with them."""
    settings = {"encoder": "encoder-small", "codebooks": "encoder-small", "layers": (2,), "num_clusters": 100}
    tokenize_corpus(TokenizeCorpusConfig.of(manifest=manifest, output=str(tokens), runner="here", **settings))
    return Utterances(
        PieceSettings(manifest=manifest, clock=CLOCK, tokens=str(tokens), columns=(LAYER,), labels=("clean_uri",))
    )


def pairs_of(noisy, clean):
    """Give the tokens (T,) of each noisy utterance and of its partner."""
    assert check_clean(noisy.manifest, clean.manifest, CLOCK) == 0
    find = CleanPieces(clean)
    return [(piece, find(piece)) for piece in noisy.pieces(noisy.units)]


def agreement(pairs):
    return np.mean([np.mean(noisy.tokens == clean.tokens) for noisy, clean in pairs])


def test_mixtures_are_tokenized_as_any_corpus_and_agree_with_their_partners_the_more_the_less_noise_there_is(tmp_path):
    clean, noises, rooms = write_clean(tmp_path / "clean"), write_noises(tmp_path / "n"), write_rooms(tmp_path / "r")
    said = tokenized(clean, tmp_path / "clean_tokens")
    found = []
    for name, snr_db in (("loud", 0.0), ("faint", 40.0)):
        output = tmp_path / name
        mix_corpus(mixing(clean, noises, output, snrs=(snr_db,), passes=2))
        pairs = pairs_of(tokenized(f"{output}/_manifest", tmp_path / f"{name}_tokens"), said)
        assert len(pairs) == 12
        assert all(noisy.num_frames == partner.num_frames for noisy, partner in pairs)
        found.append(agreement(pairs))
    assert found[0] < found[1] < 1
    mix_corpus(mixing(clean, noises, tmp_path / "room", rooms=rooms, room_probability=1.0))
    assert check_clean(Manifest(f"{tmp_path}/room/_manifest"), said.manifest, CLOCK) == 0


def test_both_sides_of_voicebank_demand_are_tokenized_and_are_partners(speech_root, tmp_path):
    corpus = speech_root / "VoiceBank-DEMAND"
    manifests = {side: manifest_of(corpus, tmp_path / side, layout=side) for side in ("voicebank", "voicebank-clean")}
    noisy, clean = (tokenized(manifest, f"{manifest}_tokens") for manifest in manifests.values())
    pairs = pairs_of(noisy, clean)
    assert len(pairs) == 29
    assert all(noisy.utterance_id == partner.utterance_id for noisy, partner in pairs)
    assert 0.1 < agreement(pairs) < 0.9
