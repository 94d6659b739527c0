"""Cards of small exports, made by hand."""

from made_sequences import sequences, stretch

from pipeline.export.cards.card import FormatFacts, make_card
from pipeline.export.cards.ngrams import IdSample, measure
from pipeline.export.cards.statistics import Statistics
from pipeline.export.ids.patterns import Pattern
from pipeline.export.ids.vocabulary import Vocabulary

VOCABULARY = Vocabulary.build({"layer_01": 4, "layer_02": 2})
PATTERN = Pattern(columns=("layer_01", "layer_02"), delays=(0, 0), deduplicate=True)
FACTS = FormatFacts(
    files=4, bytes=1234, documents=2, ids=99, shards=2, largest_imbalance=0.01, sides=["train", "valid"]
)
LINEAGE = {"part-000": {"encoder": "facebook/hubert-base-ls960", "codebooks": {"layer_01": "ab", "layer_02": "cd"}}}


def tokens(first, second):
    return {"layer_01": first, "layer_02": second}


def rows():
    """100 frames of a second and 50 of another speaker: 2 s and 1 s of audio."""
    return [
        stretch("a", tokens([0, 0, 1, 1] * 25, [0] * 100), PATTERN, VOCABULARY, speaker="s", language="en-US"),
        stretch("b", tokens([2, 3] * 25, [1] * 50), PATTERN, VOCABULARY, speaker="t", language="de", valid=True),
    ]


def card_of(statistics, **changed):
    given = {
        "vocabulary": VOCABULARY,
        "pattern": PATTERN,
        "bpe": None,
        "ngrams": None,
        "formats": {"parquet": FACTS},
        "rejects": {"manifest": {"too_short": 3}, "tokens": {}},
        "lineage": LINEAGE,
    }
    return make_card("corpus", statistics, **(given | changed))


def counted(table_rows=None, corpus="part-000"):
    return Statistics.of(sequences(rows() if table_rows is None else table_rows), VOCABULARY, PATTERN, corpus)


def ngrams():
    return measure(IdSample.of(sequences(rows()), VOCABULARY, 1 << 64), VOCABULARY.used)
