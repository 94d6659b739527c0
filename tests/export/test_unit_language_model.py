"""The example that trains a language model on an export: its blocks, its bits, and what it learns."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from made_documents import made_shard, spelling, write_files
from made_export_card import card_of, counted, ngrams
from made_training import config_of, optimizer_of, settings_of
from transformers import GPT2Config, GPT2LMHeadModel

from examples.unit_language_model.packing import IGNORED, Corpus, Epoch, window, windows
from examples.unit_language_model.recipe import IDS, NETWORK, BlockSource, DataSettings, LanguageModelRecipe
from examples.unit_language_model.train import UnitLanguageModelConfig, card_bits, ngram_bits, prepare
from pipeline.errors import DatasetError, SettingsError
from pipeline.export.cards.ngrams import IdSample, measure
from pipeline.export.formats import megatron
from pipeline.export.formats.arrays import Documents
from pipeline.export.ids.vocabulary import BEGIN, END
from pipeline.export.shards.parts import Part, claim_part
from pipeline.store.completion import finish
from pipeline.store.dataset import Dataset, Output, Plan
from pipeline.store.storage import open_store
from pipeline.training.checkpoint import published
from pipeline.training.loop import Loop
from pipeline.training.world import World

LENGTHS = st.lists(st.lists(st.integers(0, 30), max_size=3), max_size=6)
END_ID = spelling().vocabulary.special(END)


def corpus_of(folder, *shards):
    """Write shards and open them as one corpus."""
    for number, made in enumerate(shards):
        write_files(folder, f"train-{number:05d}", "megatron", made)
    return Corpus([(str(folder), f"train-{number:05d}") for number in range(len(shards))])


def epoch_of(corpus, *, length=8, seed=0, epoch=0):
    return Epoch(corpus, length=length, end=END_ID, seed=seed, epoch=epoch)


def joined(epoch, name):
    """Put blocks together along the documents."""
    return np.concatenate([np.zeros(0, int), *(getattr(epoch.block(n), name) for n in range(len(epoch.blocks)))])


@settings(max_examples=40, deadline=None)
@given(shards=st.lists(LENGTHS, min_size=1, max_size=3), length=st.integers(2, 40), seed=st.integers(0, 9))
def test_every_id_of_every_document_is_the_target_of_exactly_one_block(tmp_path_factory, shards, length, seed):
    made = [made_shard(lengths, seed=number) for number, lengths in enumerate(shards)]
    corpus = corpus_of(tmp_path_factory.mktemp("shards"), *made)
    epoch = epoch_of(corpus, length=length, seed=seed)
    targets, inputs, rows = (joined(epoch, name) for name in ("targets", "inputs", "rows"))
    total = sum(len(one.documents.ids) for one in made)
    assert sorted(epoch.blocks) == list(range(-(-total // length)))
    assert (targets[total:] == IGNORED).all()
    assert not rows[total:].any()
    # Documents are whole and in a row: each is cut off where the last one ended.
    left = sorted(ids.tolist() for one in made for ids in one.ids)
    place = 0
    while place < total:
        size = targets[place:total].tolist().index(END_ID) + 1
        left.remove(targets[place : place + size].tolist())
        place += size
    assert left == []
    assert inputs[:total].tolist() == [END_ID, *targets[: total - 1].tolist()][:total]
    assert rows[:total].tolist() == [id_ < spelling().vocabulary.units_end for id_ in targets[:total].tolist()]


@settings(max_examples=40, deadline=None)
@given(lengths=LENGTHS, length=st.integers(2, 40))
def test_every_id_counts_in_one_window_with_half_a_block_before_it_or_all_there_is(tmp_path_factory, lengths, length):
    made = made_shard(lengths)
    corpus = corpus_of(tmp_path_factory.mktemp("shards"), made)
    for number, ids in enumerate(made.ids):
        document, found = corpus.document(number), np.full(len(ids), IGNORED)
        for start in windows(length, len(ids)):
            block = window(document, start, length=length, end=END_ID)
            counted = np.flatnonzero(block.targets != IGNORED)
            assert (found[start + counted] == IGNORED).all()
            assert start == 0 or counted.min() >= length // 2
            assert block.inputs[0] == (ids[start - 1] if start else END_ID)
            shown = min(length, len(ids) - start)
            assert block.inputs[1:shown].tolist() == ids[start : start + shown - 1].tolist()
            found[start + counted] = block.targets[counted]
        assert found.tolist() == ids.tolist()


def test_order_follows_from_seed_and_epoch(tmp_path):
    corpus = corpus_of(tmp_path, made_shard([[9, 4], [7], [12], [3, 3, 3]] * 5))
    orders = {}
    for seed, epoch in ((0, 0), (0, 1), (1, 0)):
        first, again = (epoch_of(corpus, seed=seed, epoch=epoch) for _ in range(2))
        assert first.blocks.tolist() == again.blocks.tolist()
        assert joined(first, "targets").tolist() == joined(again, "targets").tolist()
        orders[seed, epoch] = (tuple(first.blocks), tuple(joined(first, "targets")))
    assert len({order for order, _ in orders.values()}) == len({targets for _, targets in orders.values()}) == 3
    assert len({tuple(sorted(targets)) for _, targets in orders.values()}) == 1


def test_an_epoch_is_as_much_as_its_documents_have_ids_to_learn(tmp_path):
    made = made_shard([[40], [5, 6], [17, 2]])
    corpus_of(tmp_path, made)
    source = BlockSource(data_of(tmp_path, block=7))
    recipe, drawn = recipe_of(data_of(tmp_path, block=7), made.spelling.vocabulary), source.tickets(None)
    tickets = []
    while not tickets or tickets[-1].epoch == 0:
        tickets.append(next(drawn)[0])
    amounts = [recipe.amount(source.load(ticket, 0)) for ticket in tickets if ticket.epoch == 0]
    assert sum(amounts) == sum(len(ids) for ids in made.ids)


def test_no_loss_is_taken_where_the_export_wants_none(tmp_path):
    made = made_shard([[30], [20, 9]], masked=True)
    corpus = corpus_of(tmp_path, made_shard([[4]]), made)
    epoch = epoch_of(corpus, length=6)
    targets, rows = joined(epoch, "targets"), joined(epoch, "rows")
    mask = made.documents.loss_mask
    unmasked = len(made_shard([[4]]).documents.ids)
    assert (targets != IGNORED).sum() == mask.sum() + unmasked
    assert not (rows & (targets == IGNORED)).any()
    learned = np.concatenate([corpus.document(number).learned for number in (1, 2)])
    assert learned.tolist() == mask.tolist()


def data_of(folder, **changes):
    given = {"train": (), "valid": (), "block": 8, "batch_blocks": 3, "noise": 0.0, "end": END_ID, "seed": 0}
    return DataSettings(**{**given, **{"train": ((str(folder), "train-00000"),), **changes}})


def recipe_of(data, vocabulary, *, width=32, num_layers=2, **optimizer):
    network = {"n_embd": width, "n_layer": num_layers, "n_head": 2, "n_positions": data.block}
    network |= {"bos_token_id": vocabulary.special(BEGIN), "eos_token_id": vocabulary.special(END)}
    network |= {"vocab_size": vocabulary.size}
    return LanguageModelRecipe(
        data=data,
        network=network | dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), 0.0),
        optimizer=optimizer_of(**optimizer),
    )


def test_tickets_go_on_at_their_cursor_and_hold_each_block_once_an_epoch(tmp_path):
    corpus = corpus_of(tmp_path, made_shard([[9, 4], [7], [12]] * 3))
    source = BlockSource(data_of(tmp_path))
    count = len(epoch_of(corpus).blocks)
    drawn, tickets = [], source.tickets(None)
    while not drawn or drawn[-1][0].epoch < 2:
        drawn.append(next(tickets))
    for epoch in (0, 1):
        blocks = [block for ticket, _ in drawn if ticket.epoch == epoch for block in ticket.blocks]
        assert sorted(blocks) == list(range(count))
    for place in range(len(drawn) - 1):
        going_on = next(BlockSource(data_of(tmp_path)).tickets(json.loads(json.dumps(drawn[place][1]))))
        assert going_on == drawn[place + 1]


def test_an_export_without_training_documents_is_refused(tmp_path):
    corpus_of(tmp_path, made_shard([]))
    with pytest.raises(DatasetError, match="hold no document"):
        next(BlockSource(data_of(tmp_path)).tickets(None))


def test_noise_replaces_inputs_in_training_alone_and_no_targets(tmp_path):
    corpus_of(tmp_path, made_shard([[200]] * 20))
    shards = ((str(tmp_path), "train-00000"),)
    settings = data_of(tmp_path, valid=shards, block=64, batch_blocks=16)
    plain, noisy = BlockSource(settings), BlockSource(replace(settings, noise=0.25))
    ticket, _ = next(plain.tickets(None))
    expected, found, again = plain.load(ticket, 5), noisy.load(ticket, 5), noisy.load(ticket, 5)
    changed = (found["inputs"] != expected["inputs"]).float().mean().item()
    assert 0.2 < changed < 0.25
    assert torch.equal(found["targets"], expected["targets"])
    assert torch.equal(found["inputs"], again["inputs"])
    assert not torch.equal(found["inputs"], noisy.load(ticket, 6)["inputs"])
    for ticket in plain.validation()["validation"]:
        assert torch.equal(plain.load(ticket, -1)["inputs"], noisy.load(ticket, -1)["inputs"])


def test_a_model_that_says_uniform_needs_log2_of_the_vocabulary_for_every_id(tmp_path):
    made = made_shard([[30], [20, 9], [1], []])
    corpus_of(tmp_path, made)
    data = data_of(tmp_path, valid=((str(tmp_path), "train-00000"),))
    recipe, source = recipe_of(data, made.spelling.vocabulary), BlockSource(data)
    model = recipe.build()[NETWORK].eval()
    torch.nn.init.zeros_(model.model.lm_head.weight)
    bits = math.log2(made.spelling.vocabulary.size)
    drawn = source.tickets(None)
    training = [ticket for ticket, _ in (next(drawn) for _ in range(20)) if ticket.epoch == 0]
    for tickets in (training, source.validation()["validation"]):
        nats, frames, bits_found, ids = 0.0, 0.0, 0.0, 0.0
        for ticket in tickets:
            batch = source.load(ticket, 0)
            with torch.no_grad():
                sums = model(**batch)
            nats, ids = nats + sums[IDS].item(), ids + recipe.counts("model", batch)[IDS].item()
            frames += sums["rows_bits"].count.item()
            bits_found += sums["rows_bits"].value.item()
            assert sums["rows_nats"].value.item() == pytest.approx(sums["rows_bits"].value.item() * math.log(2))
        # 60 frames, and a begin and an end for each of 4 documents.
        assert (ids, frames) == (68, 60)
        assert bits_found / 60 == pytest.approx(bits)
        assert nats / 68 == pytest.approx(bits * math.log(2))


CHAIN = {"order": 2, "states": 12, "sure": 0.9}


def markov_shard(num_documents, seed):
    """Make documents whose ids follow from the two before them, nine times of ten."""
    given, rng = spelling(num_clusters=CHAIN["states"]), np.random.default_rng(seed)
    vocabulary, documents = given.vocabulary, []
    rule = np.random.default_rng(7).integers(0, CHAIN["states"], (CHAIN["states"],) * 2)
    for _ in range(num_documents):
        ids = rng.integers(0, CHAIN["states"], 62).tolist()
        for place in range(2, 62):
            if rng.random() < CHAIN["sure"]:
                ids[place] = int(rule[ids[place - 2], ids[place - 1]])
        documents.append([vocabulary.special(BEGIN), *ids, vocabulary.special(END)])
    meta = made_shard([[62]] * num_documents, given=given).documents.meta
    flat = np.concatenate(documents).astype(vocabulary.dtype)
    return replace(
        made_shard([], given=given),
        documents=Documents(ids=flat, ends=np.arange(1, num_documents + 1) * 64, meta=meta),
    )


@pytest.fixture(scope="module")
def markov(tmp_path_factory):
    folder = tmp_path_factory.mktemp("markov")
    for name, made in (("train-00000", markov_shard(150, 0)), ("valid-00000", markov_shard(20, 1))):
        write_files(folder, name, "megatron", made)
    return folder


def test_a_small_model_learns_what_bigrams_cannot_see(tmp_path, markov):
    """Each id follows from the two before: a model that looks one back is far from a model that looks two back."""
    vocabulary = spelling(num_clusters=CHAIN["states"]).vocabulary
    shards = {side: ((str(markov), f"{side}-00000"),) for side in ("train", "valid")}
    data = data_of(markov, **shards, block=32, batch_blocks=16, end=vocabulary.special(END))
    given = settings_of(
        num_steps=250, validate_every=50, checkpoint_every=250, batches_per_step=1, best_by="validation_rows_bits"
    )
    recipe = recipe_of(data, vocabulary, lr=5e-3, warmup_steps=20)
    torch.set_num_threads(1)
    world = World(rank=0, size=1, device=torch.device("cpu"))
    progress = Loop(recipe, given, open_store(str(tmp_path)), world).run()
    lines = [line for line in progress.history if "validation_rows_bits" in line]
    bits = ngram_bits(Corpus(shards["train"]), Corpus(shards["valid"]), vocabulary.used)
    found = min(line["validation_rows_bits"] for line in lines)
    assert found < bits["unigram, training shards"] - 1
    assert found < bits["bigram, training shards"] - 0.3
    assert lines[-1]["validation_rows_bits"] == pytest.approx(lines[-1]["validation_rows_nats"] / math.log(2))
    # The weights that are kept say the same of ids that plain transformers are given, one document at a time.
    model = GPT2LMHeadModel(GPT2Config(**recipe_of(data, vocabulary).network)).eval()
    checkpoint = published(open_store(str(tmp_path)))
    assert checkpoint.progress.history[-1]["validation_rows_bits"] == found
    weights = checkpoint.weights(NETWORK)
    model.load_state_dict({name.removeprefix("model."): tensor for name, tensor in weights.items()})
    corpus, nats = Corpus(shards["valid"]), []
    for number in range(len(corpus)):
        ids = torch.from_numpy(corpus.document(number).ids)
        with torch.no_grad():
            first = model(ids[None, :31]).logits[0].log_softmax(-1)
        nats += [-first[place, ids[place + 1]].item() for place in range(30)]
    assert np.mean(nats) / math.log(2) < bits["bigram, training shards"] - 0.3


def test_ngrams_of_the_shards_price_the_ids_as_the_card_does(tmp_path):
    """The card counts rows and this example documents: learned from and priced alike, their bits are the same."""
    halves = [made_shard([[40, 7], [30], [3, 3]] * 6, seed=seed) for seed in (0, 1)]
    folders = [tmp_path / "first", tmp_path / "second"]
    for folder, made in zip(folders, halves, strict=True):
        folder.mkdir()
        corpus_of(folder, made)
    corpora = [Corpus([(str(folder), "train-00000")]) for folder in folders]
    parts = []
    for half, made in enumerate(halves):
        starts, meta = made.documents.starts, made.documents.meta.to_pylist()
        ids = [made.documents.ids[starts[row["document"]] + row["start"] :][: row["num_ids"]] for row in meta]
        ends = np.cumsum([len(each) for each in ids])
        flat = np.concatenate(ids).astype(np.int32)
        parts.append(IdSample(ids=flat, ends=ends, second_half=np.full(len(ids), bool(half))))
    used = halves[0].spelling.vocabulary.used
    held_out = measure(IdSample.total(parts), used).held_out
    ways = [ngram_bits(*corpora, used), ngram_bits(*reversed(corpora), used)]
    weights = [len(part.ids) for part in reversed(parts)]
    for name, expected in (("unigram", held_out.unigram_bits), ("bigram", held_out.bigram_bits)):
        bits = [way[f"{name}, training shards"] for way in ways]
        assert np.average(bits, weights=weights) == pytest.approx(expected)


def test_bits_of_the_card_are_read_as_they_are_written(tmp_path):
    measured = ngrams()
    (tmp_path / "card.json").write_bytes(card_of(counted(), ngrams=measured).to_json())
    assert card_bits(tmp_path / "card.json") == pytest.approx(
        {
            "unigram, card, plain": measured.orders[0].bits,
            "bigram, card, plain": measured.orders[1].bits,
            "unigram, card, held out": measured.held_out.unigram_bits,
            "bigram, card, held out": measured.held_out.bigram_bits,
        },
        rel=1e-8,
    )
    (tmp_path / "card.json").write_bytes(card_of(counted()).to_json())
    assert card_bits(tmp_path / "card.json") == {}
    assert card_bits(tmp_path / "absent.json") == {}


def write_export(folder, *names):
    """Write an export whose Megatron files are these shards, each of a few documents."""
    given = spelling()
    folder.mkdir()
    (folder / "vocabulary.json").write_bytes(given.vocabulary.to_bytes())
    part = Part(name="part-000", corpus="made", tokens_sha256="t" * 64, manifest_sha256=None, lineage={}, rejects={})
    part = claim_part(open_store(str(folder)), part)
    plan = Plan(kind="export-megatron", content={}, lineage={}, units=list(names), extension=megatron.EXTENSION)
    dataset = Dataset.create(str(folder / "megatron" / part.name), plan)
    for name in names:
        made = made_shard([[5, 6], [7]], given=given)
        data, *beside = megatron.write(made.documents, given).items()
        dataset.commit(
            name,
            dataset.announce(name),
            Output(data=data[1], rows=2, beside={f"{name}{ending}": content for ending, content in beside}),
            {},
        )
    finish(dataset)
    return str(folder)


def test_an_export_is_taken_apart_by_sides_and_refused_where_one_is_missing(tmp_path):
    whole = write_export(tmp_path / "whole", "train-00000", "train-00001", "valid-00000")
    config = UnitLanguageModelConfig(export=whole, output=str(tmp_path / "model"))
    data = prepare(config).recipe.data
    assert [name for _, name in data.train] == ["train-00000", "train-00001"]
    assert [name for _, name in data.valid] == ["valid-00000"]
    assert [len(Corpus(side)) for side in (data.train, data.valid)] == [4, 2]
    for names in (["train-00000"], ["valid-00000"]):
        one_side = write_export(tmp_path / names[0], *names)
        with pytest.raises(DatasetError, match="needs shards of train and valid"):
            prepare(replace(config, export=one_side))
    with pytest.raises(DatasetError, match="is no export"):
        prepare(replace(config, export=str(tmp_path)))
    with pytest.raises(SettingsError, match="local folder"):
        prepare(replace(config, export="s3://bucket/export"))
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"width": 30}, "multiple of num_heads"),
        ({"block": 1}, "block must be at least 2"),
        ({"noise": 1.0}, r"noise must be in \[0, 1\)"),
        ({"validate_every": 0}, "validate_every must be at least 1"),
        ({"warmup_steps": 1_000}, "warmup_steps 1000 must be below num_steps 1000"),
    ],
)
def test_settings_that_cannot_work_are_refused(changes, said):
    with pytest.raises(SettingsError, match=said):
        config_of(
            UnitLanguageModelConfig,
            **{"num_steps": 1_000, "warmup_steps": 100, **changes},
            export="export",
            output="model",
        )
