from dataclasses import replace

import pytest
import yaml
from huggingface_hub import DatasetCard
from hypothesis import given, settings
from hypothesis import strategies as st
from made_export_card import FACTS, PATTERN, VOCABULARY, card_of, counted, ngrams, tokens
from made_sequences import sequences, stretch
from markdown_it import MarkdownIt

from pipeline.cards.text import plain
from pipeline.export.cards.commands import commands, size_category
from pipeline.export.cards.markdown import render
from pipeline.export.cards.statistics import Statistics
from pipeline.export.ids.vocabulary import Vocabulary

MARKDOWN = MarkdownIt("commonmark", {"html": True}).enable("table")


def front_matter_of(text):
    return yaml.safe_load(text.split("---\n")[1])


def test_front_matter_says_what_the_hub_wants():
    found = front_matter_of(render(card_of(counted()), plots=False))
    assert found["pretty_name"] == "corpus"
    assert found["language"] == ["de", "en"]
    assert found["size_categories"] == ["n<1K"]
    assert found["task_categories"] == ["text-generation"]
    assert found["configs"] == [
        {
            "config_name": "default",
            "data_files": [
                {"split": "train", "path": "parquet/*/train-*.parquet"},
                {"split": "validation", "path": "parquet/*/valid-*.parquet"},
            ],
        }
    ]


def test_a_side_without_shards_is_no_split():
    text = render(card_of(counted(), formats={"parquet": replace(FACTS, sides=["train"])}), plots=False)
    assert [entry["split"] for entry in front_matter_of(text)["configs"][0]["data_files"]] == ["train"]
    for formats in ({"olmo": FACTS}, {"parquet": replace(FACTS, sides=[])}):
        assert "configs" not in front_matter_of(render(card_of(counted(), formats=formats), plots=False))


def test_the_hubs_own_reader_takes_the_card():
    text = render(card_of(counted(), ngrams=ngrams()), plots=True)
    found = DatasetCard(text)
    assert found.data.pretty_name == "corpus"
    assert found.data.language == ["de", "en"]
    assert found.data.configs[0]["data_files"][1]["split"] == "validation"
    assert found.text.strip().startswith("# corpus")


@pytest.mark.parametrize(
    ("documents", "category"),
    [(0, "n<1K"), (999, "n<1K"), (1000, "1K<n<10K"), (10**9, "1B<n<10B"), (10**12 - 1, "100B<n<1T"), (10**12, "n>1T")],
)
def test_size_categories_are_those_of_the_hub(documents, category):
    assert size_category(documents) == category


def test_a_value_that_is_no_language_code_is_not_given_as_one():
    table_rows = [
        stretch(name, tokens([0], [0]), PATTERN, VOCABULARY, language=name)
        for name in ["English", "pt_BR", "fra", "en\n- x", "e"]
    ]
    assert front_matter_of(render(card_of(counted(table_rows)), plots=False))["language"] == ["fra", "pt"]


HOSTILE = [
    "<script>alert(1)</script>",
    "a | b | c",
    "[here](https://example.org)",
    "![x](https://example.org/x.png)",
    "`code` *strong* __strong__ ~~gone~~ $x$",
    "<!-- hidden",
    "&lt;b&gt;",
    "\\<b>\\|",
    "line\nbreak\r\n## heading",
    "---\nlicense: x\n---",
    "\u202eright to left\x00\x1b[31m",
    "<https://example.org>",
    "</td></table>",
]


def card_saying(text):
    table_rows = [stretch("a", tokens([0], [0]), PATTERN, VOCABULARY, speaker=text, language=text)]
    card = card_of(
        Statistics.of(sequences(table_rows), VOCABULARY, PATTERN, text),
        lineage={text: {text: [text, {"x": text}]}},
        rejects={text: {text: 1}},
        formats={text: FACTS, "parquet": FACTS},
    )
    return replace(card, name=text)


def inline_of(markdown):
    return [child for token in MARKDOWN.parse(markdown) for child in token.children or []]


def check_nothing_but_text(text):
    markdown = render(card_saying(text), plots=False).split("---\n", 2)[2]
    expected = render(card_saying("harmless"), plots=False).split("---\n", 2)[2]
    kinds, wanted = ([token.type for token in MARKDOWN.parse(found)] for found in (markdown, expected))
    assert kinds == wanted
    inline, wanted = (
        [child.type for child in inline_of(found) if child.type not in ("text", "text_special")]
        for found in (markdown, expected)
    )
    assert inline == wanted


@pytest.mark.parametrize("text", HOSTILE)
def test_text_of_data_stays_text(text):
    check_nothing_but_text(text)


@settings(max_examples=50, deadline=None)
@given(st.text(st.characters(codec="utf-8"), min_size=1, max_size=30).filter(lambda text: plain(text)))
def test_any_text_of_data_stays_text(text):
    check_nothing_but_text(text)


@settings(max_examples=100, deadline=None)
@given(st.text(st.characters(codec="utf-8"), max_size=30))
def test_any_name_is_a_name_in_the_front_matter(text):
    card = replace(card_of(counted()), name=text)
    assert front_matter_of(render(card, plots=False))["pretty_name"] == plain(text)


def test_each_format_is_opened_by_a_command_of_its_own():
    names = ["megatron", "nanotron", "olmo", "parquet", "webdataset", "slamkit", "fairseq"]
    facts = {name: FACTS for name in names} | {"unheard": FACTS}
    found = {name: text for name, _, text in commands(card_of(counted(), formats=facts))}
    assert sorted(found) == sorted(names)
    assert "--train-data-path $(ls megatron/*/train-*.idx | sed 's/\\.idx$//')" in found["megatron"]
    assert "--valid-data-path" in found["megatron"]
    assert "token_size=2" in found["nanotron"]
    # OLMo-core looks into folders for two stars alone.
    assert "olmo/**/train-*.npy" in found["olmo"]
    assert 'split="validation"' in found["parquet"]
    for name in ("nanotron", "olmo", "parquet", "webdataset"):
        compile(found[name], name, "exec")


def test_commands_leave_out_a_side_without_shards():
    facts = dict.fromkeys(["megatron", "slamkit"], replace(FACTS, sides=["valid"]))
    for _, _, text in commands(card_of(counted(), formats=facts)):
        assert "train-" not in text
        assert "valid-" in text


def test_wide_ids_are_opened_as_wide_ids():
    vocabulary = Vocabulary.build({"layer_01": 4, "layer_02": 2}, text_size=70_000)
    table = sequences([stretch("a", tokens([0, 1], [0, 1]), PATTERN, vocabulary)])
    card = card_of(
        Statistics.of(table, vocabulary, PATTERN, "part"),
        vocabulary=vocabulary,
        formats=dict.fromkeys(["nanotron", "olmo"], FACTS),
    )
    found = {name: text for name, _, text in commands(card)}
    assert "token_size=4" in found["nanotron"]
    assert "uint32" in found["olmo"]


def test_the_tables_show_the_numbers():
    text = render(card_of(counted(), ngrams=ngrams()), plots=True)
    assert "in 2 utterances, which make 2 documents, as 200 discrete tokens" in text
    assert "Layers layer\\_01, layer\\_02: frame by frame, in this order, frames that repeat" in text
    assert "| utterances | 1 | 1 | 2 |" in text
    assert "| ids | 66.67 |" in text
    assert "| manifest | too\\_short | 3 |" in text
    assert "| part-000 | encoder | facebook/hubert-base-ls960 |" in text
    assert "| s | 0.0005556 | 66.67 % | 100 |" in text
    assert "| layer\\_01 | 4 | 100 | 0 | 2.0000 | 4 | 25.00 % |" in text
    assert "![Lengths of utterances](_card/lengths.png)" in text
    assert "matplotlib was not installed" in render(card_of(counted()), plots=False)


def test_speakers_beyond_the_table_are_counted_in_it():
    table_rows = [
        stretch(f"{number}", tokens([0, 1], [0, 1]), PATTERN, VOCABULARY, speaker=f"speaker{number}")
        for number in range(25)
    ]
    text = render(card_of(counted(table_rows)), plots=False)
    assert "25 known." in text
    assert "| 5 others | 5.556e-05 | 20.00 % | 20 |" in text
