"""A vocoder speaks every set of layers, alone as in a batch, in pieces as whole."""

import itertools

import pytest
import torch
from made_vocoder import ARCHS, HOP, LENGTHS, mask, spec, tokens, vocoder

from pipeline.errors import SettingsError
from pipeline.fusion.settings import FusionSettings
from pipeline.vocoder.pieces import speak_in_pieces, spoken_pieces
from pipeline.vocoder.settings import VocoderSettings

SUBSETS = [torch.tensor(kept) for kept in itertools.product((False, True), repeat=3) if any(kept)]
FORMS = [(arch, absent) for arch in ARCHS for absent in ("masked", "learned")]


@torch.no_grad()
@pytest.mark.parametrize(("arch", "absent"), FORMS)
def test_every_set_of_layers_is_spoken_and_its_absent_ids_reach_nothing(arch, absent):
    made = spec(arch, absent_layers=absent)
    speaks, given = vocoder(made), tokens(made)
    heard = set()
    for present in SUBSETS:
        spoken = speaks.speak(given, mask(), present)
        assert spoken.waveform.shape == (2, HOP * max(LENGTHS))
        assert bool(spoken.waveform.isfinite().all())
        other = torch.where(present, given, torch.tensor(10**6))
        again = speaks.speak(other, mask(), present)
        assert torch.equal(again.waveform, spoken.waveform)
        assert torch.equal(again.weights, spoken.weights)
        gone = spoken.weights[..., ~present]
        assert bool((gone[mask()] > 0).all() if absent == "learned" else (gone == 0).all())
        heard.add(tuple(spoken.waveform.flatten().tolist()))
    assert len(heard) == len(SUBSETS) == 7


@torch.no_grad()
@pytest.mark.parametrize(("arch", "absent"), FORMS)
def test_no_layer_at_all_is_refused(arch, absent):
    made = spec(arch, absent_layers=absent)
    present = torch.tensor([[True, False, False], [False, False, False]])
    with pytest.raises(ValueError, match=r"row\(s\) 1 .* no layer"):
        vocoder(made)(tokens(made), mask(), present)


@torch.no_grad()
@pytest.mark.parametrize("arch", ARCHS)
def test_an_utterance_is_the_same_in_a_batch_and_alone_and_silent_in_its_padding(arch):
    made = spec(arch)
    speaks, given = vocoder(made), tokens(made)
    given[1, LENGTHS[1] :] = -7
    present = torch.tensor([[True, False, True], [False, True, True]])
    batch = speaks(given, mask(), present)
    for row, length in enumerate(LENGTHS):
        alone = speaks(given[row : row + 1, :length], torch.ones(1, length, dtype=torch.bool), present[row])
        torch.testing.assert_close(batch[row : row + 1, : HOP * length], alone, atol=1e-5, rtol=1e-5)
        assert alone.abs().mean() > 1e-3
    assert bool((batch[1, HOP * LENGTHS[1] :] == 0).all())


@torch.no_grad()
@pytest.mark.parametrize("arch", ARCHS)
@pytest.mark.parametrize("piece_frames", [1, 7, 64, 500])
def test_pieces_join_to_the_whole(arch, piece_frames):
    made = spec(arch)
    speaks = vocoder(made)
    given = tokens(made, (150,))
    whole = speaks(given, mask((150,)))[0]
    joined = speak_in_pieces(speaks, given[0], piece_frames=piece_frames)
    assert joined.shape == whole.shape
    torch.testing.assert_close(joined, whole, atol=1e-5, rtol=1e-5)


@torch.no_grad()
@pytest.mark.parametrize("arch", ARCHS)
def test_a_frame_hears_no_further_than_its_context(arch):
    made = spec(arch)
    speaks = vocoder(made)
    given = tokens(made, (151,))
    changed = given.clone()
    changed[0, 75] = (changed[0, 75] + 1) % 4
    moved = (speaks(given, mask((151,))) != speaks(changed, mask((151,))))[0].reshape(151, HOP).any(dim=1)
    reached = moved.nonzero().flatten() - 75
    assert -speaks.context_frames <= int(reached.min()) < -1
    assert 1 < int(reached.max()) <= speaks.context_frames
    # The bound is of use only where it is near: pieces pay for it.
    assert int(reached.max()) >= speaks.context_frames / 2


def test_a_piece_that_forgets_its_context_is_noticed():
    made = spec()
    speaks = vocoder(made)
    given = tokens(made, (60,))[0]
    whole = speak_in_pieces(speaks, given)
    speaks.context_frames = 2
    cut = speak_in_pieces(speaks, given, piece_frames=20)
    assert float((cut - whole).abs().max()) > 1e-3
    with pytest.raises(ValueError, match="piece_frames must be at least 1"):
        next(spoken_pieces(speaks, given, piece_frames=0))


@pytest.mark.parametrize("arch", ARCHS)
def test_gradients_reach_all_that_learns_and_no_absent_layer(arch):
    made = spec(arch, speaker_input="table", speakers=("a", "b"))
    speaks = vocoder(made).train()
    waveform = speaks(tokens(made), mask(), torch.tensor([True, False, True]), torch.tensor([0, 1]))
    waveform.square().mean().backward()
    still = {name for name, weight in speaks.named_parameters() if weight.grad is None or not weight.grad.any()}
    assert still == set()
    rows = speaks.fuser.inputs.table.grad.abs().sum(dim=1)
    assert bool((rows[5:12] == 0).all())
    assert bool((rows[:5] > 0).all())


@torch.no_grad()
@pytest.mark.parametrize("arch", ARCHS)
def test_folded_weight_norm_speaks_the_same(arch):
    made = spec(arch)
    speaks = vocoder(made)
    before = speaks(tokens(made), mask())
    normed = any("parametrizations" in name for name in speaks.state_dict())
    speaks.fold_weight_norm()
    speaks.fold_weight_norm()
    assert normed == (arch == "hifigan")
    assert not any("parametrizations" in name for name in speaks.state_dict())
    torch.testing.assert_close(speaks(tokens(made), mask()), before, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_the_speaker_is_added_given_as_a_vector_or_looked_up():
    given = tokens(spec())
    table = spec(speaker_input="table", speakers=("ann", "bob"))
    speaks = vocoder(table)
    ann, bob = (speaks(given, mask(), None, torch.tensor([who, who])) for who in (0, 1))
    assert not torch.allclose(ann, bob)
    assert torch.equal(speaks(given, mask(), None, torch.tensor([0, 1]))[1], bob[1])
    speaks.speaker.table.weight.zero_()
    plain = vocoder(spec())
    plain.load_state_dict({k: v for k, v in speaks.state_dict().items() if not k.startswith("speaker.")})
    assert torch.equal(speaks(given, mask(), None, torch.tensor([0, 1])), plain(given, mask()))
    vector = vocoder(spec(speaker_input="vector", speaker_dim=6))
    voice = torch.randn(2, 6, generator=torch.Generator().manual_seed(3))
    quiet = vector(given, mask(), None, voice)
    torch.testing.assert_close(vector(given, mask(), None, 5 * voice), quiet)
    assert not torch.allclose(vector(given, mask(), None, -voice), quiet)


@pytest.mark.parametrize(
    ("others", "speaker", "message"),
    [
        ({}, torch.zeros(2, 6), "one voice"),
        ({"speaker_input": "vector", "speaker_dim": 6}, None, "needs a speaker"),
        ({"speaker_input": "vector", "speaker_dim": 6}, torch.zeros(2, 5), "width 6"),
        ({"speaker_input": "table", "speakers": ("a", "b")}, torch.zeros(2, 6), "speaker ids"),
    ],
)
def test_a_speaker_that_does_not_fit_is_refused(others, speaker, message):
    made = spec(**others)
    with pytest.raises(ValueError, match=message):
        vocoder(made)(tokens(made), mask(), None, speaker)


def test_ids_past_the_codebook_are_refused():
    made = spec()
    given = tokens(made)
    given[0, 3, 1] = 7
    with pytest.raises(ValueError, match="token 7 at row 0, frame 3, layer 1 of the input is not in 0 to 6"):
        vocoder(made)(given, mask())


def test_a_hop_that_the_generator_cannot_give_is_refused_by_name():
    with pytest.raises(SettingsError, match=r"hop of 20 samples and upsample_rates \(5, 2\) give 10.*product is 20"):
        spec("hifigan", upsample_rates=(5, 2), upsample_kernels=(11, 4))
    for n_fft in (38, 81):
        with pytest.raises(SettingsError, match=f"n_fft {n_fft} does not fit the encoder's hop of 20"):
            spec(n_fft=n_fft)


@torch.no_grad()
@pytest.mark.parametrize(
    ("arch", "hop", "others"),
    [
        ("hifigan", 15, {"upsample_rates": (5, 3), "upsample_kernels": (10, 4)}),
        ("hifigan", 6, {"upsample_rates": (2, 3), "upsample_kernels": (3, 8)}),
        ("istft", 15, {"n_fft": 31}),
        ("istft", 15, {"n_fft": 61}),
    ],
)
def test_other_hops_give_exactly_as_many_samples(monkeypatch, arch, hop, others):
    monkeypatch.setattr("made_vocoder.HOP", hop)
    made = spec(arch, **others)
    speaks = vocoder(made)
    given = tokens(made, (9, 4))
    waveform = speaks(given, mask((9, 4)))
    assert waveform.shape == (2, 9 * hop)
    alone = speaks(given[1:, :4], mask((4,)))
    torch.testing.assert_close(waveform[1:, : 4 * hop], alone, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    ("others", "message"),
    [
        ({"arch": "wavenet"}, "arch must be one of"),
        ({"upsample_rates": (5, 4)}, "must be as many"),
        ({"upsample_kernels": (3, 8, 8, 4, 4)}, "leaves gaps"),
        ({"upsample_channels": 48}, "multiple of 32"),
        ({"convnext_kernel": 4}, "must be odd"),
        ({"convnext_dim": 0}, "convnext_dim must be at least 1"),
        ({"duration_dropout": 1.0}, r"must be in \[0, 1\)"),
    ],
)
def test_sizes_that_cannot_work_are_refused(others, message):
    with pytest.raises(SettingsError, match=message):
        VocoderSettings(**others)


def test_a_set_of_layers_that_was_never_heard_is_refused():
    made = spec()
    assert made.present(["layer_06", "layer_01"]) == (True, False, True)
    with pytest.raises(SettingsError, match="no layer is given"):
        made.present([])
    with pytest.raises(SettingsError, match="trained on layer_01, layer_03, layer_06, not on layer_09"):
        made.present(["layer_09"])
    fixed = spec(layer_dropout=False)
    assert fixed.present(fixed.columns) == (True, True, True)
    with pytest.raises(SettingsError, match="never saw layer_03"):
        fixed.present(["layer_03"])
    with pytest.raises(SettingsError, match="absent_layers learned is of fusion attention"):
        spec(absent_layers="learned", fusing=FusionSettings(fusion="mean", embedding_dim=12))
