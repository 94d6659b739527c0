import dataclasses

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline import schema
from pipeline.audio.alignment import Alignment
from pipeline.errors import CorruptDatasetError, SettingsError
from pipeline.export.ids.bpe import train
from pipeline.export.ids.interleaving import NO_WORDS, Interleaver, Words, loss_mask, speech_sequences, words_of
from pipeline.export.ids.patterns import Pattern, UnitSequence, decode
from pipeline.export.ids.vocabulary import BEGIN, END, SPEECH, TEXT, Vocabulary

RATE = 50.0
SIZES = {"layer_07": 6, "layer_12": 4}
VOCABULARY = Vocabulary.build(SIZES, text_size=128, specials=[SPEECH, TEXT])
PATTERNS = [
    Pattern(columns=("layer_07",), delays=(0,)),
    Pattern(columns=("layer_07",), delays=(0,), deduplicate=True),
    Pattern(columns=("layer_07", "layer_12"), delays=(0, 2)),
    Pattern(columns=("layer_12", "layer_07"), delays=(1, 0), deduplicate=True),
]


def letters(text):
    """A text tokenizer: ids are the characters' numbers."""
    return np.array([ord(letter) for letter in text])


def interleaver(pattern=PATTERNS[0], *, mean=2.0, seed=0, **changes):
    return dataclasses.replace(
        Interleaver(
            pattern=pattern,
            vocabulary=VOCABULARY,
            frame_rate=RATE,
            text_ids=letters,
            mean_span_words=mean,
            seed=seed,
        ),
        **changes,
    )


def speak(num_frames, seed=0):
    rng = np.random.default_rng(seed)
    return {name: rng.integers(0, k, num_frames).repeat(2)[:num_frames] for name, k in SIZES.items()}


def said(*intervals):
    """Words from (start, end, label)."""
    starts, ends, labels = zip(*intervals, strict=True)
    return Words(starts=np.array(starts, float), ends=np.array(ends, float), labels=labels)


def even_words(count, *, frames_each=10):
    """Words that touch, each as many frames long."""
    times = np.arange(count + 1) * frames_each / RATE
    return Words(starts=times[:-1], ends=times[1:], labels=tuple(f"w{n}" for n in range(count)))


@st.composite
def utterances(draw):
    """Tokens and words of an utterance: pauses between words, some words shorter than a frame."""
    pauses_and_words = draw(st.lists(st.tuples(st.integers(0, 80), st.integers(0, 300)), min_size=1, max_size=14))
    intervals, now = [], 0
    for number, (pause, length) in enumerate(pauses_and_words):
        begin = now + pause
        now = begin + length
        intervals.append((begin / 1000, now / 1000, f"w{number}"))
    num_frames = max(1, int(now / 1000 * RATE) + draw(st.integers(-1, 20)))
    return speak(num_frames, draw(st.integers(0, 99))), said(*intervals)


@settings(max_examples=120)
@given(
    utterance=utterances(),
    pattern=st.sampled_from(PATTERNS),
    seed=st.integers(0, 1000),
    mean=st.sampled_from([1.0, 1.5, 4.0]),
)
def test_no_word_and_no_frame_is_lost_and_each_is_where_it_was(utterance, pattern, seed, mean):
    tokens, words = utterance
    spans = interleaver(pattern, mean=mean, seed=seed)("u", tokens, words)
    assert [word for span in spans for word in span.words] == list(words.labels)
    assert all(span.words and span.num_frames for span in spans)
    begins = np.cumsum([0, *(span.num_frames for span in spans)])
    assert [span.first_frame for span in spans] == begins[:-1].tolist()
    assert begins[-1] == len(tokens["layer_07"])
    assert all(a.speech != b.speech for a, b in zip(spans, spans[1:], strict=False))
    for span in spans:
        inner = UnitSequence(ids=span.ids[1:], durations=span.durations)
        if span.speech:
            assert span.ids[0] == VOCABULARY.special(SPEECH)
            found = decode(inner, pattern, VOCABULARY)
            for column in pattern.columns:
                part = tokens[column][span.first_frame : span.first_frame + span.num_frames]
                assert found[column].tolist() == part.tolist()
            assert pattern.num_ids(span.num_kept) == len(span.ids) - 1
        else:
            assert span.ids[0] == VOCABULARY.special(TEXT)
            assert "".join(map(chr, span.ids[1:])) == " ".join(span.words)
            assert span.num_kept == 0


@settings(max_examples=60)
@given(utterance=utterances(), pattern=st.sampled_from(PATTERNS), seed=st.integers(0, 1000))
def test_the_speech_comes_back_out_of_documents(utterance, pattern, seed):
    tokens, words = utterance
    spans = interleaver(pattern, seed=seed)("u", tokens, words)
    begin, end = ([VOCABULARY.special(name)] for name in (BEGIN, END))
    ids = np.concatenate([begin, *(span.ids for span in spans), end, begin, *(span.ids for span in spans), end])
    durations = np.concatenate([span.durations for span in spans] * 2) if pattern.deduplicate else None
    found = speech_sequences(VOCABULARY.check(ids), durations, pattern, VOCABULARY)
    heard = [span for span in spans if span.speech]
    assert len(found) == 2 * len(heard)
    for span, sequence in zip(heard * 2, found, strict=True):
        back = decode(sequence, pattern, VOCABULARY)
        for column in pattern.columns:
            part = tokens[column][span.first_frame : span.first_frame + span.num_frames]
            assert back[column].tolist() == part.tolist()


def test_durations_that_are_not_those_of_the_speech_are_refused():
    pattern = PATTERNS[1]
    spans = interleaver(pattern)("u", speak(60), even_words(6))
    ids = np.concatenate([span.ids for span in spans])
    durations = np.concatenate([span.durations for span in spans])
    assert len(durations)
    for wrong in (durations[:-1], np.r_[durations, 1]):
        with pytest.raises(CorruptDatasetError, match="kept frames"):
            speech_sequences(ids, wrong, pattern, VOCABULARY)


def switches(spans):
    return [(span.speech, span.words) for span in spans]


def test_the_draws_of_an_utterance_depend_on_its_name_and_the_seed_alone():
    words, tokens = even_words(30), speak(300)
    first = switches(interleaver()("a", tokens, words))
    assert switches(interleaver()("a", speak(300, seed=5), words)) == first
    assert switches(interleaver()("b", tokens, words)) != first
    assert switches(interleaver(seed=1)("a", tokens, words)) != first
    busy = interleaver()
    busy("b", tokens, words)
    assert switches(busy("a", tokens, words)) == first


def test_draws_are_the_same_in_every_version():
    spans = interleaver(mean=3.0, seed=7)("103-1240-0000", speak(100), even_words(10))
    assert [(span.speech, len(span.words)) for span in spans] == [(False, 4), (True, 6)]


def test_spans_have_as_many_words_on_average_as_asked_for_and_begin_either_way():
    for mean in (1.0, 3.0):
        make = interleaver(mean=mean)
        found = [make(f"u{n}", speak(2000), even_words(200)) for n in range(60)]
        assert np.mean([len(span.words) for spans in found for span in spans]) == pytest.approx(mean, rel=0.08)
        assert 15 < sum(spans[0].speech for spans in found) < 45


def test_frames_of_pauses_belong_to_the_word_before_and_the_first_ones_to_the_first_word():
    words = said((0.2, 0.4, "one"), (0.8, 1.0, "two"), (1.0, 1.1, "three"))
    spans = interleaver(mean=1.0)("u", speak(70), words)
    assert [(span.words, span.first_frame, span.num_frames) for span in spans] == [
        (("one",), 0, 40),
        (("two",), 40, 10),
        (("three",), 50, 20),
    ]


def test_labels_without_letters_are_pauses():
    words = said((0.0, 0.2, ""), (0.2, 0.4, "one"), (0.4, 0.6, " "), (0.6, 0.8, "two"))
    spans = interleaver(mean=1.0)("u", speak(40), words)
    assert [(span.words, span.first_frame) for span in spans] == [(("one",), 0), (("two",), 30)]


def test_a_word_that_would_have_no_frame_stays_with_its_neighbour():
    words = said((0.0, 0.2, "one"), (0.2, 0.201, "a"), (0.201, 0.4, "two"), (0.41, 0.42, "end"))
    spans = interleaver(mean=1.0)("u", speak(20), words)
    assert [span.words for span in spans] == [("one",), ("a", "two", "end")]


def test_an_utterance_without_words_is_all_speech():
    (span,) = interleaver()("u", speak(20), NO_WORDS)
    assert span.speech
    assert (span.first_frame, span.num_frames, span.words) == (0, 20, ())
    assert interleaver()("u", speak(0), NO_WORDS) == ()


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (said((0.5, 0.6, "b"), (0.1, 0.2, "a")), "word 1 of utterance u7, 'a' at 0.1 to 0.2 s, begins before the one"),
        (said((0.1, 0.5, "a"), (0.47, 0.6, "b")), "begins before the one before it has ended"),
        (said((-0.03, 0.2, "a")), "begins before the utterance"),
        (said((0.3, 0.2, "a")), "ends before it begins"),
        (said((0.1, 0.2, "a"), (0.3, float("nan"), "b")), "word 1 .* ends before it begins"),
        (said((0.9, 1.05, "a")), "ends past the utterance; its 50 frames last 1.000 s"),
    ],
)
def test_words_that_cannot_be_are_refused_by_utterance(words, problem):
    with pytest.raises(SettingsError, match=problem):
        interleaver()("u7", speak(50), words)


def test_words_off_by_rounding_are_taken():
    words = said((-0.02, 0.2, "a"), (0.18, 0.5, "b"), (0.5, 1.04, "c"))
    spans = interleaver(mean=1.0)("u", speak(50), words)
    assert [(span.first_frame, span.num_frames) for span in spans] == [(0, 9), (9, 16), (25, 25)]


def test_words_of_an_utterance_without_frames_are_refused():
    with pytest.raises(SettingsError, match="u has 1 words and no frames"):
        interleaver()("u", speak(0), said((0.0, 0.01, "a")))


def test_loss_masks_count_what_they_say():
    spans = interleaver(mean=1.0)("u", speak(40), even_words(4))
    for span in spans:
        num_ids = len(span.ids)
        assert loss_mask(speech=span.speech, num_ids=num_ids, loss="all").all()
        for loss in ("speech", "text"):
            mask = loss_mask(speech=span.speech, num_ids=num_ids, loss=loss)
            assert mask.tolist() == [False] + [span.speech == (loss == "speech")] * (num_ids - 1)
    with pytest.raises(SettingsError, match="loss must be all, speech, text"):
        loss_mask(speech=True, num_ids=1, loss="units")


def test_merges_stay_within_spans_and_change_neither_text_nor_frames():
    bare = dataclasses.replace(VOCABULARY, bpe=None)
    pattern = PATTERNS[0]
    tokens = {"layer_07": np.tile([0, 1, 2, 3], 50), "layer_12": np.zeros(200, int)}
    bpe = train([tokens["layer_07"] + 128] * 2, bare, 6)
    vocabulary = bpe.added_to(bare)
    spans = interleaver(pattern, vocabulary=vocabulary, mean=1.0)("u", tokens, even_words(20))
    merged = bpe.encode_many([span.ids for span in spans])
    joined = np.concatenate(merged)
    assert len(joined) < sum(len(span.ids) for span in spans)
    for span, ids in zip(spans, merged, strict=True):
        assert ids[0] == vocabulary.special(SPEECH if span.speech else TEXT)
        assert span.speech or ids.tolist() == span.ids.tolist()
    found = speech_sequences(bpe.decode(joined), None, pattern, vocabulary)
    heard = [span for span in spans if span.speech]
    assert [len(sequence.ids) for sequence in found] == [span.num_frames for span in heard]


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"mean_span_words": 0.5}, "mean_span_words must be at least 1"),
        ({"mean_span_words": float("nan")}, "mean_span_words must be at least 1"),
        ({"vocabulary": Vocabulary.build(SIZES, specials=[SPEECH, TEXT])}, "name a text tokenizer"),
        ({"vocabulary": Vocabulary.build(SIZES, text_size=9, specials=[SPEECH])}, r"no special token '<\|text\|>'"),
    ],
)
def test_settings_that_cannot_work_are_refused(changes, problem):
    with pytest.raises(SettingsError, match=problem):
        interleaver(**changes)


def test_text_ids_outside_the_vocabulary_are_refused():
    make = interleaver(mean=1.0, text_ids=lambda text: [128])
    with pytest.raises(SettingsError, match="text ids of u lie outside 0 to 127"):
        make("u", speak(40), even_words(4))


def test_words_are_collected_from_a_file_in_any_order(tmp_path):
    rows = ["b,0.5,0.9,two", "a,0.3,0.4,you", "c,0.0,0.1,no", 'a,0.0,0.2,"how, then"', "b,0.0,0.5,"]
    (tmp_path / "words.csv").write_text("utterance_id,start_seconds,end_seconds,label\n" + "\n".join(rows) + "\n")
    found = words_of(Alignment(str(tmp_path / "words.csv")).batches(), ["a", "b", "absent"])
    assert sorted(found) == ["a", "b"]
    assert found["a"].labels == ("how, then", "you")
    assert found["a"].starts.tolist() == [0.0, 0.3]
    assert found["b"].labels == ("", "two")
    assert found["b"].ends.tolist() == [0.5, 0.9]
    assert words_of([pa.RecordBatch.from_pylist([], schema.ALIGNMENT)], ["a"]) == {}
