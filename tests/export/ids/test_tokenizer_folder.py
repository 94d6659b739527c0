import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from pipeline.errors import SettingsError
from pipeline.export.ids.tokenizer_folder import TextTokenizer, tokenizer_folder
from pipeline.export.ids.vocabulary import BEGIN, EMPTY, END, SPEECH, TEXT, Vocabulary

SIZES = {"layer_07": 50, "layer_12": 30, "layer_12_q1": 20}
SPECIALS = [SPEECH, TEXT, "speaker a b", "<|\u044f\u0437\u044b\u043a|>"]
SENTENCES = ["the digit is one", "the digit is two", "one and two is three"] * 5


def byte_level():
    """A text tokenizer as GPT-2's, which puts a token before each text."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=290, special_tokens=["<s>"], initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(SENTENCES, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    return tokenizer


def metaspace():
    """A text tokenizer as SentencePiece's unigram models."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    trainer = trainers.UnigramTrainer(vocab_size=60, special_tokens=["<unk>"], unk_token="<unk>", show_progress=False)
    tokenizer.train_from_iterator(SENTENCES, trainer)
    return tokenizer


def word_piece():
    """A text tokenizer as BERT's, which lowers its text."""
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece()
    trainer = trainers.WordPieceTrainer(vocab_size=80, special_tokens=["[UNK]", "[CLS]"], show_progress=False)
    tokenizer.train_from_iterator(SENTENCES, trainer)
    return tokenizer


def opened(folder, vocabulary, text=None):
    """Write a tokenizer folder and open it as its users do."""
    folder.mkdir(exist_ok=True)
    for name, content in tokenizer_folder(vocabulary, text).items():
        (folder / name).write_bytes(content)
    return AutoTokenizer.from_pretrained(folder)


def spelled(vocabulary, ids):
    names = vocabulary.names()
    return "".join(names[number - vocabulary.text_size] for number in ids)


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    vocabulary = Vocabulary.build(SIZES, num_merges=9, specials=SPECIALS)
    return vocabulary, opened(tmp_path_factory.mktemp("alone"), vocabulary)


def test_every_id_has_the_name_that_the_vocabulary_gives_it(alone):
    vocabulary, tokenizer = alone
    assert len(tokenizer) == vocabulary.size
    assert tokenizer.convert_ids_to_tokens(list(range(vocabulary.size))) == vocabulary.names()
    everything = list(range(vocabulary.size))
    assert tokenizer(spelled(vocabulary, everything)).input_ids == everything


@settings(max_examples=60)
@given(data=st.data())
def test_a_string_of_names_is_its_ids_and_back(alone, data):
    vocabulary, tokenizer = alone
    ids = data.draw(st.lists(st.integers(0, vocabulary.size - 1), max_size=40))
    text = spelled(vocabulary, ids)
    assert tokenizer(text).input_ids == ids
    assert tokenizer.decode(ids) == text
    names = vocabulary.names()
    assert tokenizer("\n ".join(names[number] for number in ids)).input_ids == ids


def test_documents_begin_and_end_with_tokens_that_nothing_adds(alone):
    vocabulary, tokenizer = alone
    assert (tokenizer.bos_token, tokenizer.eos_token, tokenizer.pad_token) == (BEGIN, END, EMPTY)
    assert tokenizer.bos_token_id == vocabulary.special(BEGIN)
    assert tokenizer(f"{BEGIN}<|layer_07_3|>{END}").input_ids == [tokenizer.bos_token_id, 3, tokenizer.eos_token_id]
    assert tokenizer("<|layer_07_3|>").input_ids == [3]
    assert set(tokenizer.all_special_ids) == {vocabulary.special(name) for name in vocabulary.specials}
    assert tokenizer.decode([3, vocabulary.special(EMPTY), 55], skip_special_tokens=True) == spelled(
        vocabulary, [3, 55]
    )


def test_batches_are_padded_with_the_empty_token(alone):
    vocabulary, tokenizer = alone
    batch = tokenizer([spelled(vocabulary, [1, 2, 3]), spelled(vocabulary, [4])], padding=True)
    empty = vocabulary.special(EMPTY)
    assert sorted(batch.input_ids[1]) == [4, empty, empty]
    assert sum(batch.attention_mask[1]) == 1
    assert "token_type_ids" not in batch


def test_what_is_no_token_is_an_error_where_there_is_no_text(alone):
    _, tokenizer = alone
    for wrong in ("hello", "<|layer_07_50|>", "<|layer_07_1|>x"):
        with pytest.raises(Exception, match="WordLevel"):
            tokenizer(wrong)


def test_ten_thousand_tokens_in_one_string_are_encoded(alone):
    vocabulary, tokenizer = alone
    ids = np.random.default_rng(0).integers(0, vocabulary.size, 10_000).tolist()
    assert tokenizer(spelled(vocabulary, ids)).input_ids == ids


def test_a_folder_that_transformers_saves_again_is_the_same(alone, tmp_path):
    vocabulary, tokenizer = alone
    tokenizer.save_pretrained(tmp_path)
    again = AutoTokenizer.from_pretrained(tmp_path)
    ids = list(range(vocabulary.size))
    assert again(spelled(vocabulary, ids)).input_ids == ids
    assert again.pad_token == EMPTY


@pytest.mark.parametrize("make", [byte_level, metaspace, word_piece])
@pytest.mark.parametrize("beyond", [0, 37])
def test_text_ids_stay_and_units_come_behind(make, beyond, tmp_path):
    text = TextTokenizer.from_bytes(make().to_str().encode(), "text")
    vocabulary = Vocabulary.build(SIZES, text_size=text.size + beyond, num_merges=9, specials=SPECIALS)
    tokenizer = opened(tmp_path / "ours", vocabulary, text)
    assert len(tokenizer) == vocabulary.size
    names = vocabulary.names()
    assert tokenizer.convert_tokens_to_ids(names) == list(range(vocabulary.text_size, vocabulary.size))
    said = text("the digit is three")
    assert tokenizer("the digit is three").input_ids == said.tolist()
    assert said.max() < text.size
    units = np.random.default_rng(0).integers(vocabulary.text_size, vocabulary.size, 200).tolist()
    mixed = f"{TEXT}one{SPEECH}{spelled(vocabulary, units)}{END}"
    ends = [vocabulary.special(name) for name in (TEXT, SPEECH, END)]
    assert tokenizer(mixed).input_ids == [ends[0], *text("one").tolist(), ends[1], *units, ends[2]]


def test_bytes_and_units_decode_to_the_string_they_came_from(tmp_path):
    text = TextTokenizer.from_bytes(byte_level().to_str().encode(), "text")
    vocabulary = Vocabulary.build(SIZES, text_size=text.size, specials=SPECIALS)
    tokenizer = opened(tmp_path / "ours", vocabulary, text)
    string = f"{BEGIN}{SPECIALS[3]}the digit is{SPEECH}<|layer_07_1|><|layer_12_q1_2|>{TEXT} two{END}"
    assert tokenizer.decode(tokenizer(string).input_ids) == string
    heard = "the digit is<|layer_07_1|><|layer_12_q1_2|> two"
    assert tokenizer.decode(tokenizer(string).input_ids, skip_special_tokens=True) == heard


def test_a_text_tokenizer_is_opened_from_its_folder_without_begin_cut_or_padding(tmp_path):
    backend = byte_level()
    backend.enable_truncation(3)
    backend.enable_padding(length=20, pad_token="<s>")
    PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<s>").save_pretrained(tmp_path)
    text = TextTokenizer.open(str(tmp_path))
    plain = byte_level()
    assert text("one and two is three").tolist() == plain.encode("one and two is three", add_special_tokens=False).ids
    assert text.size == plain.get_vocab_size()
    assert text("").tolist() == []
    assert TextTokenizer.from_bytes(text.to_bytes(), "again")("two").tolist() == text("two").tolist()


def test_gaps_among_text_ids_are_filled(tmp_path):
    words = {"one": 0, "two": 1, "four": 4, "[UNK]": 7, "nine": 9}
    backend = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    backend.add_special_tokens(["[UNK]", "<s>"])  # <s> gets id 5, the number of words
    text = TextTokenizer.from_bytes(backend.to_str().encode(), "words")
    assert text.size == 10
    vocabulary = Vocabulary.build(SIZES, text_size=12)
    tokenizer = opened(tmp_path / "ours", vocabulary, text)
    assert len(tokenizer) == vocabulary.size
    assert tokenizer("one four nine <s> ten <|layer_07_0|> <|layer_07_49|>").input_ids == [0, 4, 9, 5, 7, 12, 61]
    assert tokenizer.convert_ids_to_tokens([2, 6, 8, 11]) == [f"<|reserved_text_{n}|>" for n in (2, 6, 8, 11)]


def test_a_vocabulary_of_another_text_tokenizer_is_refused():
    text = TextTokenizer.from_bytes(byte_level().to_str().encode(), "s3://x/text")
    with pytest.raises(SettingsError, match=f"s3://x/text has ids up to {text.size - 1}.*text_size={text.size}"):
        tokenizer_folder(Vocabulary.build(SIZES, text_size=text.size - 1), text)
    with pytest.raises(SettingsError, match="name their text tokenizer"):
        tokenizer_folder(Vocabulary.build(SIZES, text_size=text.size))


def test_a_token_that_the_text_tokenizer_has_already_is_refused():
    backend = byte_level()
    backend.add_special_tokens([SPEECH])
    text = TextTokenizer.from_bytes(backend.to_str().encode(), "text")
    with pytest.raises(SettingsError, match=rf"<\|speech\|> has id {text.size - 1} in the tokenizer.*that name"):
        tokenizer_folder(Vocabulary.build(SIZES, text_size=text.size, specials=[SPEECH]), text)


@pytest.mark.parametrize("special", ["layer", "<|layer_07", "12", "|>"])
def test_special_tokens_that_lie_in_names_of_units_are_refused(special):
    with pytest.raises(SettingsError, match="lies in the name of another token"):
        tokenizer_folder(Vocabulary.build(SIZES, specials=[special]))


def test_what_is_no_text_tokenizer_is_refused(tmp_path):
    with pytest.raises(SettingsError, match="cannot be loaded"):
        TextTokenizer.open(str(tmp_path))


def test_the_same_vocabulary_gives_the_same_files():
    vocabulary = Vocabulary.build(SIZES, text_size=300, specials=SPECIALS)
    content = byte_level().to_str().encode()
    first, second = (tokenizer_folder(vocabulary, TextTokenizer.from_bytes(content, "text")) for _ in range(2))
    assert first == second
    assert json.loads(first["tokenizer.json"])["added_tokens"][-1]["id"] == vocabulary.size - 1
