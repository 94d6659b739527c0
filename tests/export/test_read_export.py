import json
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tokenizers
import transformers
from made_export import config_of, documents_of, tree
from made_tokens import NUM_CLUSTERS, write_corpus_of_tones

from pipeline import schema
from pipeline.errors import SettingsError
from pipeline.export.grouping import key_of
from pipeline.export.ids.vocabulary import BEGIN, END, SPEECH, TEXT, Vocabulary
from pipeline.export.read_export import read_export
from pipeline.export.shards import layout
from pipeline.export.shards.planning import Rows, ShardSettings, plan_shards
from pipeline.export.stage import export_tokens
from pipeline.status import run_status

COLUMNS = ("layer_03", "layer_07")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tones")
    made = write_corpus_of_tones(folder, [0.4 + number % 7 / 5 for number in range(40)], columns=COLUMNS)
    return folder, {one.utterance_id: one for one in made}


def vocabulary_of(output):
    return Vocabulary.from_json(json.loads((output / "vocabulary.json").read_text()), "")


def check(found, made, columns):
    """All frames of all utterances, each once."""
    seen = {}
    for stretch in found:
        assert set(stretch.tokens) == set(columns)
        seen.setdefault(stretch.utterance_id, {})[stretch.first_frame] = stretch.tokens
    assert set(seen) == set(made)
    for name, stretches in seen.items():
        for column in columns:
            joined = np.concatenate([stretches[first][column] for first in sorted(stretches)])
            shift = columns_shift(column)
            np.testing.assert_array_equal(joined, (made[name].tokens + shift) % NUM_CLUSTERS)


def columns_shift(column):
    return COLUMNS.index(column)


@pytest.mark.parametrize("source", ["sequences", "megatron", "parquet"])
@pytest.mark.parametrize(
    "settings",
    [
        {"layers": (7,)},
        {"layers": (3,), "deduplicate": True, "bpe_merges": 20},
        {"delays": (0, 2), "bpe_merges": 30},
        {"layers": (3, 7), "deduplicate": True, "delays": (1, 0), "max_document_ids": 16},
        {"order": "shuffled", "documents": "recording", "prefix": ("<|speech|>", "<|{speaker}|>"), "shard_ids": 1_000},
    ],
    ids=["one", "deduplicated-bpe", "delayed-bpe", "cut", "shuffled"],
)
def test_the_frame_tokens_come_back_exactly(corpus, tmp_path, settings, source):
    folder, made = corpus
    export_tokens(config_of(folder, tmp_path / "out", **settings))
    layers = settings.get("layers", (3, 7))
    check(read_export(str(tmp_path / "out"), source=source), made, [f"layer_{layer:02d}" for layer in layers])
    limit = settings.get("max_document_ids")
    if limit:
        lengths = [len(ids) for shard in documents_of(tmp_path / "out").values() for ids in shard]
        assert max(lengths) <= limit
        assert len(lengths) > len(made)


def test_documents_begin_with_their_prefix_and_recordings_join_their_segments(tmp_path):
    made = write_corpus_of_tones(tmp_path, [0.5] * 6, columns=COLUMNS)
    config = config_of(
        tmp_path,
        tmp_path / "out",
        layers=(3,),
        document_pattern="^(u00)",
        prefix=("<|speech|>", "<|{language}|>", "<|{layers}|>"),
        special_tokens=("<|mine|>",),
        valid_fraction=0.0,
    )
    export_tokens(config)
    vocabulary = vocabulary_of(tmp_path / "out")
    assert vocabulary.specials[3:] == ("<|mine|>", "<|speech|>", "<|unknown|>", "<|layer_03|>")
    ((ids,),) = documents_of(tmp_path / "out").values()
    opening = [vocabulary.special(name) for name in (BEGIN, "<|speech|>", "<|unknown|>", "<|layer_03|>")]
    tokens = np.concatenate([one.tokens for one in made]) + vocabulary.layer("layer_03").start
    assert ids == [*opening, *tokens.tolist(), vocabulary.special(END)]


def written_words(path, made):
    """Two words a second, pauses between them, for all utterances but the last."""
    rows = []
    for one in list(made.values())[:-1]:
        for place in range(int(len(one.tokens) / 25)):
            begin = place * 0.5
            rows.append((one.utterance_id, begin, begin + 0.4, f"w{place}"))
    columns = list(zip(*rows, strict=True))
    pq.write_table(pa.table([list(column) for column in columns], schema=schema.ALIGNMENT), path)


def written_text_tokenizer(folder):
    words = {"[UNK]": 0, **{f"w{place}": place + 1 for place in range(10)}}
    tokenizer = tokenizers.Tokenizer(tokenizers.models.WordLevel(words, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    folder.mkdir()
    tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "PreTrainedTokenizerFast"}))
    return folder


@pytest.mark.parametrize("merges", [0, 20])
def test_text_and_speech_take_turns_and_the_speech_comes_back(corpus, tmp_path, merges):
    folder, made = corpus
    written_words(tmp_path / "words.parquet", made)
    config = config_of(
        folder,
        tmp_path / "out",
        layers=(3,),
        deduplicate=True,
        words=str(tmp_path / "words.parquet"),
        text_tokenizer=str(written_text_tokenizer(tmp_path / "text")),
        span_words=1.5,
        loss_on="speech",
        bpe_merges=merges,
        formats=("megatron", "parquet", "nanotron"),
    )
    export_tokens(config)
    vocabulary = vocabulary_of(tmp_path / "out")
    assert vocabulary.text_size == 11
    changes = {vocabulary.special(SPEECH), vocabulary.special(TEXT)}
    text = 0
    for shard, documents in documents_of(tmp_path / "out").items():
        mask = np.fromfile(tmp_path / "out" / "megatron" / "part-000" / f"{shard}.mask.bin", np.uint8)
        ids = np.concatenate(documents)
        counted = (ids >= vocabulary.units_start) & ~np.isin(ids, list(changes))
        np.testing.assert_array_equal(mask.astype(bool), counted)
        text += int((ids < vocabulary.text_size).sum())
    assert text > 20
    heard = {name: np.full(len(one.tokens), -1) for name, one in made.items()}
    for stretch in read_export(str(tmp_path / "out"), source="megatron"):
        column = stretch.tokens["layer_03"]
        heard[stretch.utterance_id][stretch.first_frame : stretch.first_frame + len(column)] = column
    silent = 0
    for name, column in heard.items():
        there = column >= 0
        np.testing.assert_array_equal(column[there], made[name].tokens[there])
        silent += int((~there).sum())
    assert (heard[list(made)[-1]] >= 0).all()
    assert silent > 0


def test_what_cannot_be_read_back_is_refused(corpus, tmp_path):
    folder, _ = corpus
    export_tokens(config_of(folder, tmp_path / "out", formats=("olmo",)))
    with pytest.raises(SettingsError, match="source must be one of"):
        read_export(str(tmp_path / "out"), source="olmo")
    with pytest.raises(SettingsError, match="has part-000, not part-007"):
        read_export(str(tmp_path / "out"), part="part-007")


def test_units_of_one_layer_are_written_as_slamkit_and_fairseq_read_them(corpus, tmp_path):
    folder, made = corpus
    config = config_of(folder, tmp_path / "out", layers=(3,), formats=("slamkit", "fairseq"), valid_fraction=0.0)
    export_tokens(config)
    lines = (tmp_path / "out" / "fairseq" / "part-000" / "train-00000.km").read_text().splitlines()
    assert lines == [" ".join(map(str, one.tokens.tolist())) for one in made.values()]
    units = [line.split() for line in (tmp_path / "out" / "fairseq" / "dict.km.txt").read_text().splitlines()]
    assert [unit for unit, _ in units] == [str(number) for number in range(NUM_CLUSTERS)]
    assert documents_of(tmp_path / "out", "slamkit") == {"train-00000": [one.tokens.tolist() for one in made.values()]}


@pytest.mark.parametrize("form", ["slamkit", "fairseq"])
@pytest.mark.parametrize("settings", [{}, {"layers": (3,), "bpe_merges": 5}], ids=["two-layers", "bpe"])
def test_what_a_format_cannot_hold_is_refused_before_anything_is_written(corpus, tmp_path, form, settings):
    folder, _ = corpus
    with pytest.raises(SettingsError, match=form):
        export_tokens(config_of(folder, tmp_path / "out", formats=(form,), **settings))
    assert not (tmp_path / "out").exists()


def test_the_state_of_an_export_is_told_from_its_commits(corpus, tmp_path):
    folder, made = corpus
    export_tokens(config_of(folder, tmp_path / "out", order="shuffled"))
    states = {state.kind: state for state in run_status(str(tmp_path / "out"))}
    assert set(states) == {"sequences", "scattered", "export-megatron", "export-parquet"}
    assert all(state.finished and state.pending == 0 for state in states.values())
    assert states["sequences"].rows == states["export-megatron"].rows == len(made)


def test_the_card_tells_of_the_export(corpus, tmp_path):
    folder, made = corpus
    export_tokens(config_of(folder, tmp_path / "out", layers=(3,), deduplicate=True, corpus="tones"))
    card = json.loads((tmp_path / "out" / "card.json").read_text())
    frames = sum(len(one.tokens) for one in made.values())
    assert card["amounts"]["all"]["frames"] == frames
    assert card["amounts"]["all"]["utterances"] == len(made)
    runs = sum(1 + int((np.diff(one.tokens.astype(int)) != 0).sum()) for one in made.values())
    assert card["amounts"]["all"]["ids"] == runs
    written = sum(len(ids) for shard in documents_of(tmp_path / "out").values() for ids in shard)
    assert card["formats"]["megatron"]["ids"] == written == runs + 2 * len(made)
    assert card["lineage"]["part-000"]["encoder_sha256"] == "e" * 64
    assert card["shares"]["corpus"]["largest"][0][0] == "tones"
    assert "configs:" in (tmp_path / "out" / "README.md").read_text()
    assert transformers.AutoTokenizer.from_pretrained(tmp_path / "out" / "tokenizer").vocab_size == 128


def test_a_corpus_that_moves_keeps_the_names_and_sides_of_its_recordings(tmp_path):
    found = {}
    for place in ("here", "there/and/deeper"):
        write_corpus_of_tones(tmp_path / place, [0.4] * 30, columns=COLUMNS)
        config = config_of(tmp_path / place, tmp_path / place / "out", documents="recording", valid_fraction=0.5)
        export_tokens(config)
        table = pq.read_table(tmp_path / place / "out" / "megatron" / "part-000" / "valid-00000.meta.parquet")
        found[place] = table["document_id"].to_pylist()
    assert found["here"] == found["there/and/deeper"]
    assert 5 < len(found["here"]) < 25
    assert found["here"][0].endswith(".wav#channel 0")
    assert "/" not in found["here"][0]


def test_rows_that_are_scattered_first_make_the_same_files(corpus, tmp_path, monkeypatch):
    folder, _ = corpus
    settings = {"document_pattern": r"(\d)$", "shard_ids": 1_500, "valid_fraction": 0.0}
    plain = export_tokens(config_of(folder, tmp_path / "plain", **settings))
    assert "scattered" not in [report.stage for report in plain.stages]
    monkeypatch.setattr(layout, "SPREAD", 0)
    scattered = export_tokens(config_of(folder, tmp_path / "scattered", **settings))
    assert [report.units_done_now for report in scattered.stages if report.stage == "scattered"] == [1]
    files = {name: data for name, data in tree(tmp_path / "plain").items() if "part-000" in name}
    scattered = {name: data for name, data in tree(tmp_path / "scattered").items() if "part-000" in name}
    assert {name: scattered[name] for name in files} == files


def test_documents_all_over_the_corpus_are_scattered():
    count = 4_000
    speakers = np.random.default_rng(0).integers(0, 400, count).tolist()
    rows = Rows(
        unit=(np.arange(count) // 10).astype(np.int32),
        row=(np.arange(count) % 10).astype(np.int32),
        document=np.array([key_of(str(speaker)) for speaker in speakers], np.uint64),
        num_ids=np.full(count, 10),
        framing=np.full(count, 2),
        offset=np.zeros(count),
        valid=np.zeros(count, bool),
    )
    settings = ShardSettings(shard_ids=3_000)
    spread = layout._spread(rows, plan_shards(rows, settings))
    assert spread > layout.SPREAD
    together = replace(rows, document=np.array([key_of(str(number // 10)) for number in range(count)], np.uint64))
    assert layout._spread(together, plan_shards(together, settings)) < 1.1
