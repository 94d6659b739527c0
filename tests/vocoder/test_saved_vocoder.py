"""A vocoder's folder comes back as it was, and tokens of other codebooks are refused by name."""

import json
import subprocess
import sys

import pytest
import torch
from made_features import write_codebooks
from made_fusion import make_books
from made_vocoder import ARCHS, HOP, lineage, mask, spec, tokens, vocoder

from pipeline.errors import CodebookMismatchError, CorruptDatasetError, SchemaMismatchError, SettingsError
from pipeline.fusion.settings import FusionSettings
from pipeline.vocoder.saved import load_vocoder, read_spec, write_vocoder
from pipeline.vocoder.settings import VocoderSettings
from pipeline.vocoder.spec import vocoder_spec


def saved(folder, made, **others):
    speaks = vocoder(made)
    write_vocoder(str(folder), made, speaks.state_dict(), **others)
    return speaks


@torch.no_grad()
@pytest.mark.parametrize("arch", ARCHS)
@pytest.mark.parametrize("absent", ["masked", "learned"])
def test_a_saved_vocoder_speaks_as_before(arch, absent, tmp_path):
    made = spec(arch, absent_layers=absent, speaker_input="table", speakers=("a", "b"), duration_predictor=True)
    speaks = saved(tmp_path, made, training={"steps": 5})
    random = torch.random.get_rng_state()
    back = load_vocoder(str(tmp_path))
    assert torch.equal(torch.random.get_rng_state(), random)
    assert not back.training
    assert back.spec == made
    assert (back.sample_rate, back.hop_length) == (1000, HOP)
    given, voices = tokens(made), torch.tensor([1, 0])
    speaks.fold_weight_norm()
    assert torch.equal(back(given, mask(), None, voices), speaks(given, mask(), None, voices))
    assert read_spec(str(tmp_path)).training == {"steps": 5}


def test_folded_and_normed_weights_are_equal_bytes_and_half_as_many_in_float16(tmp_path):
    made = spec("hifigan")
    speaks = saved(tmp_path / "normed", made)
    speaks.fold_weight_norm()
    write_vocoder(str(tmp_path / "folded"), made, speaks.state_dict())
    write_vocoder(str(tmp_path / "half"), made, speaks.state_dict(), dtype="float16")
    sizes = {}
    for name in ("normed", "folded", "half"):
        sizes[name] = {path.name: path.read_bytes() for path in (tmp_path / name).iterdir()}
    assert sizes["normed"] == sizes["folded"]
    assert len(sizes["half"]["model.safetensors"]) < 0.7 * len(sizes["folded"]["model.safetensors"])
    back = load_vocoder(str(tmp_path / "half"))
    assert {weight.dtype for weight in back.state_dict().values()} == {torch.float32}
    with torch.no_grad():
        spoken = speaks(tokens(made), mask())
        assert float((back(tokens(made), mask()) - spoken).abs().max()) < 0.01 * float(spoken.abs().max())


def test_a_vocoder_that_began_as_centroids_is_read_without_their_codebooks(tmp_path):
    books = make_books()
    write_codebooks(tmp_path / "books", books)
    made = vocoder_spec(
        VocoderSettings(convnext_dim=16, convnext_hidden=24, convnext_blocks=1, n_fft=80),
        FusionSettings(embedding_init="centroids"),
        lineage(books),
        codebooks=str(tmp_path / "books"),
    )
    speaks = vocoder(made)
    assert torch.equal(speaks.fuser.inputs.table[:5], torch.from_numpy(books[0].centroids))
    write_vocoder(str(tmp_path / "saved"), made, speaks.state_dict())
    back = load_vocoder(str(tmp_path / "saved"))
    assert torch.equal(back.fuser.inputs.table, speaks.fuser.inputs.table)
    assert json.loads((tmp_path / "saved" / "config.json").read_text())["embedding_began_as"] == "centroids"


def test_tokens_of_other_codebooks_are_refused_by_name(tmp_path):
    saved(tmp_path, spec())
    made = read_spec(str(tmp_path)).spec
    assert made.check_tokens(lineage()) == ("layer_01", "layer_03", "layer_06")
    few = lineage(make_books()[1:])
    assert made.check_tokens(few) == ("layer_03", "layer_06")
    ours, other = lineage(), lineage(make_books(seed=9))
    mixed = {**ours, "codebooks": {**ours["codebooks"], "layer_03": other["codebooks"]["layer_03"]}}
    digests = other["codebooks"]["layer_03"][:12], ours["codebooks"]["layer_03"][:12]
    with pytest.raises(CodebookMismatchError, match=rf"codebook of layer_03: {digests[0]} there, {digests[1]} here\."):
        made.check_tokens(mixed)
    with pytest.raises(CodebookMismatchError, match="encoder dddddddddddd there"):
        made.check_tokens({**ours, "encoder_sha256": "d" * 64})
    with pytest.raises(SettingsError, match="the tokens have layer_09"):
        made.check_tokens({**ours, "codebooks": {"layer_09": "f" * 64}})


def test_what_is_no_whole_vocoder_is_refused(tmp_path):
    with pytest.raises(SettingsError, match=r"config\.json is not there"):
        load_vocoder(str(tmp_path / "nowhere"))
    saved(tmp_path, spec())
    weights, config = tmp_path / "model.safetensors", tmp_path / "config.json"
    text, data = config.read_text(), weights.read_bytes()
    weights.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(CorruptDatasetError, match=r"is not the file that config\.json names"):
        load_vocoder(str(tmp_path))
    weights.unlink()
    with pytest.raises(CorruptDatasetError, match=r"model\.safetensors is not there"):
        load_vocoder(str(tmp_path))
    for change, error in (({"format": "other"}, SchemaMismatchError), ({"schema_version": 0}, SchemaMismatchError)):
        config.write_text(json.dumps({**json.loads(text), **change}))
        with pytest.raises(error, match="describes no vocoder|schema version"):
            read_spec(str(tmp_path))
    config.write_text(text[:40])
    with pytest.raises(CorruptDatasetError, match="no whole JSON file"):
        read_spec(str(tmp_path))
    for change in ({"hop_length": 160}, {"sample_rate": 8000}, {"dim": 3}):
        config.write_text(json.dumps({**json.loads(text), **change}))
        with pytest.raises(CorruptDatasetError, match="was changed since it was written"):
            read_spec(str(tmp_path))
    lacking = json.loads(text)
    del lacking["codebooks"], lacking["config_sha256"]
    config.write_text(json.dumps(lacking))
    with pytest.raises(CorruptDatasetError, match="lacks what a vocoder's has"):
        read_spec(str(tmp_path))


def test_weights_that_do_not_fit_or_are_not_finite_are_never_written(tmp_path):
    made = spec()
    state = vocoder(made).state_dict()
    with pytest.raises(CorruptDatasetError, match="not those that its configuration describes"):
        write_vocoder(str(tmp_path), made, {k: v for k, v in state.items() if not k.endswith("head.bias")})
    state["generator.head.bias"] = torch.full_like(state["generator.head.bias"], 1e6)
    with pytest.raises(CorruptDatasetError, match=r"generator\.head\.bias .* not finite in float16"):
        write_vocoder(str(tmp_path), made, state, dtype="float16")
    assert list(tmp_path.iterdir()) == []


def test_what_a_vocoder_is_made_for_is_read_without_torch(tmp_path):
    saved(tmp_path, spec())
    read = "from pipeline.vocoder.saved import read_spec; read_spec(sys.argv[1])"
    code = f"import sys; {read}; print('torch' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "False"
