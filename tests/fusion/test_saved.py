"""A fuser comes back as it was saved, and one that was trained for something else is refused by what differs."""

import json
import subprocess
import sys

import pytest
import torch
from made_fusion import DIM, FUSIONS, features_spec, fuser, make_books, mask, tokens_spec, values

from pipeline.errors import CorruptDatasetError, SchemaMismatchError, SettingsError
from pipeline.fusion.saved import NAME, check_fuser, fuser_bytes, read_fuser, write_fuser
from pipeline.store.dataset import sha256

HASH = r"\w{12}"


def save(folder, spec, seed=3):
    made = fuser(spec, seed=seed)
    write_fuser(str(folder), spec, made.state_dict())
    return made


@torch.no_grad()
@pytest.mark.parametrize("kind", ["tokens", "features"])
@pytest.mark.parametrize("fusion", FUSIONS)
def test_a_saved_fuser_comes_back_to_the_bit(fusion, kind, tmp_path):
    def spec_of(**others):
        return tokens_spec(tmp_path, fusion, **others) if kind == "tokens" else features_spec(fusion, **others)

    made = save(tmp_path / "saved", spec_of(embedding_dim=6))
    for where in (tmp_path / "saved", tmp_path / "saved" / NAME):
        back = fuser(spec_of(embedding_dim=6, fuser=str(where)), seed=8)
        state = back.state_dict()
        assert list(state) == list(made.state_dict())
        assert all(torch.equal(tensor, state[name]) for name, tensor in made.state_dict().items())
        batch = values(made.spec)
        assert torch.equal(back(batch, mask()).values, made(batch, mask()).values)


def test_a_file_in_the_working_directory_is_found(tmp_path, monkeypatch):
    spec = tokens_spec(tmp_path)
    save(tmp_path, spec)
    monkeypatch.chdir(tmp_path)
    assert set(read_fuser(NAME, spec)) == set(read_fuser(".", spec)) == set(read_fuser(str(tmp_path), spec))


def test_the_lineage_says_what_a_fuser_was_made_for_and_its_hash_is_that_of_the_file(tmp_path):
    spec = tokens_spec(tmp_path, scorer_dim=5)
    save(tmp_path / "saved", spec)
    data = (tmp_path / "saved" / NAME).read_bytes()
    saved = check_fuser(str(tmp_path / "saved"), spec)
    assert saved.sha256 == sha256(data)
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    assert list(header["__metadata__"]) == ["strata"]
    assert json.loads(header["__metadata__"]["strata"]) == saved.lineage
    books = make_books()
    assert saved.lineage == {
        "kind": "fuser",
        "schema_version": 2,
        "encoder_sha256": "e" * 64,
        "input": "tokens",
        "fusion": "attention",
        "fusion_layer": None,
        "layers": ["layer_01", "layer_03", "layer_06"],
        "num_clusters": {"layer_01": 5, "layer_03": 7, "layer_06": 4},
        "codebooks": {book.column: book.sha256 for book in books},
        "embedding_dim": DIM,
        "scorer_dim": 5,
        "embedding_init": "random",
        "freeze_embedding": False,
    }


def test_equal_fusers_are_equal_bytes(tmp_path):
    spec = tokens_spec(tmp_path)
    made = fuser(spec)
    assert fuser_bytes(spec, made.state_dict()) == fuser_bytes(spec, dict(reversed(made.state_dict().items())))


def refusal(saved, spec):
    with pytest.raises(SettingsError) as told:
        check_fuser(saved, spec)
    with pytest.raises(SettingsError) as read:
        fuser(spec.__class__(**{**vars(spec), "settings": spec.settings.but(fuser=saved)}))
    assert str(read.value) == str(told.value)
    return str(told.value)


def test_a_fuser_of_other_codebooks_is_refused_by_the_layers_that_differ(tmp_path):
    books, others = make_books(), make_books(seed=9)
    save(tmp_path / "saved", tokens_spec(tmp_path))
    told = refusal(str(tmp_path / "saved"), tokens_spec(tmp_path, books=[books[0], others[1], books[2]]))
    assert (
        f"codebooks of layer_03: {books[1].sha256[:12]} there, {others[1].sha256[:12]} here. Give it what it was"
        in told
    )
    assert "layer_01" not in told
    assert "num_clusters" not in told


def test_a_fuser_of_other_layers_k_fusion_or_width_is_refused_by_name(tmp_path):
    save(tmp_path / "saved", tokens_spec(tmp_path))
    saved = str(tmp_path / "saved")
    bigger = tokens_spec(tmp_path, books=make_books(sizes=(5, 9, 4)))
    assert "num_clusters of layer_03: 7 there, 9 here; codebooks of layer_03: " in refusal(saved, bigger)
    turned = tokens_spec(tmp_path, columns=("layer_06", "layer_03", "layer_01"))
    assert "layers: layer_01, layer_03, layer_06 there, layer_06, layer_03, layer_01 here" in refusal(saved, turned)
    fewer = refusal(saved, tokens_spec(tmp_path, columns=("layer_01", "layer_03")))
    assert "layers: layer_01, layer_03, layer_06 there, layer_01, layer_03 here. " in fewer
    mean = refusal(saved, tokens_spec(tmp_path, "mean"))
    assert "fusion: attention there (--fusion attention), mean here" in mean
    wide = refusal(saved, tokens_spec(tmp_path, embedding_dim=6))
    assert "embedding_dim: 8 there (--embedding-dim 8), 6 here; scorer_dim: 8 there (--scorer-dim 8), 6 here" in wide
    save(tmp_path / "one", tokens_spec(tmp_path, "single"))
    other = tokens_spec(tmp_path, "mean").settings.but(fusion="single", fusion_layer="layer_06")
    spec = tokens_spec(tmp_path)
    spec = spec.__class__(**{**vars(spec), "settings": other})
    assert "fusion_layer: layer_03 there, layer_06 here" in refusal(str(tmp_path / "one"), spec)


def test_a_fuser_of_features_is_none_of_tokens_and_belongs_to_its_encoder(tmp_path):
    save(tmp_path / "features", features_spec())
    save(tmp_path / "tokens", tokens_spec(tmp_path))
    assert "was trained on features, and this task gives it tokens" in refusal(
        str(tmp_path / "features"), tokens_spec(tmp_path)
    )
    assert "was trained on tokens, and this task gives it features" in refusal(
        str(tmp_path / "tokens"), features_spec()
    )
    spec = features_spec()
    other = spec.__class__(**{**vars(spec), "encoder_sha256": "d" * 64})
    assert f"encoder_sha256: {'e' * 12} there, {'d' * 12} here" in refusal(str(tmp_path / "features"), other)


def test_what_is_no_fuser_is_refused_in_one_sentence(tmp_path):
    spec = tokens_spec(tmp_path)
    with pytest.raises(SettingsError, match=rf"nowhere/{NAME} is not there; fuser names a saved fuser"):
        read_fuser(str(tmp_path / "nowhere"), spec)
    book = tmp_path / make_books()[0].sha256[:8] / "layer_01_k5.safetensors"
    with pytest.raises(SchemaMismatchError, match="layer_01_k5.safetensors is no fuser of Strata"):
        read_fuser(str(book), spec)
    made = save(tmp_path / "saved", spec)
    path = tmp_path / "saved" / NAME
    data = path.read_bytes()
    for damaged in (b"", data[:5], data[:40], data[:-10], b"\xff" * 100):
        path.write_bytes(damaged)
        with pytest.raises(CorruptDatasetError, match="is no whole safetensors file"):
            read_fuser(str(path), spec)
    path.write_bytes(fuser_bytes(spec, {"inputs.table": made.inputs.table}))
    with pytest.raises(CorruptDatasetError, match="does not hold what its lineage says"):
        fuser(tokens_spec(tmp_path, fuser=str(path)))


def test_a_fuser_is_saved_in_a_bucket_and_comes_back(bucket, tmp_path):
    spec = tokens_spec(tmp_path)
    made = save(f"{bucket}/task", spec)
    for where in (f"{bucket}/task", f"{bucket}/task/{NAME}"):
        back = fuser(tokens_spec(tmp_path, fuser=where), seed=8)
        assert torch.equal(back.inputs.table, made.inputs.table)
    other = tokens_spec(tmp_path, "mean")
    assert "fusion: attention there" in refusal(f"{bucket}/task", other)
    with pytest.raises(SettingsError, match="is not there; fuser names a saved fuser"):
        read_fuser(f"{bucket}/nowhere", spec)


def test_a_fuser_is_checked_without_torch(tmp_path):
    code = "import sys; import pipeline.fusion.saved, pipeline.fusion.spec; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
