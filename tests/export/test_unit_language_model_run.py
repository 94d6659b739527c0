"""The example on Ray: from an export to a folder that transformers opens, whose bits are those that were reported."""

import json
import math
from dataclasses import replace

import pytest
import torch
from made_tokens import write_corpus_of_tones
from transformers import AutoModelForCausalLM

from examples.unit_language_model.packing import Corpus
from examples.unit_language_model.train import UnitLanguageModelConfig, prepare, train_language_model
from pipeline.errors import PlanMismatchError
from pipeline.export.ids.vocabulary import Vocabulary
from pipeline.export.settings import ExportTokensConfig
from pipeline.export.stage import export_tokens

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("local_ray")]


def config_of(folder, output, **changes):
    given = {"num_steps": 6, "warmup_steps": 1, "lr": 1e-2, "validate_every": 2, "checkpoint_every": 2, "log_every": 1}
    given |= {"width": 16, "num_layers": 1, "num_heads": 2, "block": 64, "batch_blocks": 4, "threads_per_worker": 1}
    return UnitLanguageModelConfig.of(export=str(folder / "export"), output=str(output), **(given | changes))


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tones")
    write_corpus_of_tones(folder, [0.3 + number % 5 / 10 for number in range(40)], columns=("layer_03", "layer_07"))
    given = {
        "tokens": str(folder / "tokens"),
        "manifest": str(folder / "manifest"),
        "formats": ("megatron",),
        "runner": "here",
    }
    given |= {"output": str(folder / "export"), "valid_fraction": 0.3, "deduplicate": True, "runner": "here"}
    export_tokens(ExportTokensConfig.of(**given))
    return folder


def test_the_folder_opens_and_needs_the_bits_that_were_reported(exported, tmp_path):
    config = config_of(exported, tmp_path / "model")
    report = train_language_model(config)
    model = AutoModelForCausalLM.from_pretrained(str(tmp_path / "model")).eval()
    vocabulary = Vocabulary.from_json(json.loads((exported / "export" / "vocabulary.json").read_text()), "")
    corpus, nats = Corpus(prepare(config).recipe.data.valid), []
    assert 0 < corpus.lengths.max() <= config.block
    for number in range(len(corpus)):
        ids = corpus.document(number).ids
        inputs = torch.tensor([[model.config.eos_token_id, *ids[:-1].tolist()]])
        with torch.no_grad():
            found = model(inputs).logits[0].log_softmax(-1)
        nats += [-found[place, id_].item() for place, id_ in enumerate(ids) if id_ < vocabulary.units_end]
    assert len(nats) == report.valid_ids
    assert report.best_nats == pytest.approx(sum(nats) / len(nats), rel=1e-4)
    assert report.bits["model, best step"] == pytest.approx(report.best_nats / math.log(2))
    assert report.bits["model, best step"] == min(bits for _, bits in report.curve)
    assert [step for step, _ in report.curve] == [2, 4, 6]
    assert {"bigram, card, held out", "bigram, training shards"} < set(report.bits)
    assert not (tmp_path / "model" / "_checkpoints").exists()
    before = (tmp_path / "model" / "model.safetensors").read_bytes()
    again = train_language_model(config)
    assert again == replace(report, wall_seconds=again.wall_seconds, workers="no worker, all was there")
    assert (tmp_path / "model" / "model.safetensors").read_bytes() == before
    with pytest.raises(PlanMismatchError, match="lr"):
        prepare(config.but(lr=1e-3))
