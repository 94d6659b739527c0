"""Padding: rows keep their values, what is past their ends is the fill alone, and no network with a mask hears it."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from pipeline.batches.collate import pad_rows

ROWS = st.integers(0, 3).flatmap(
    lambda width: st.lists(
        st.integers(0, 9).flatmap(lambda length: npst.arrays(np.uint16, (length, width))), min_size=1, max_size=6
    )
)


@given(rows=ROWS, more=st.integers(0, 4), fill=st.sampled_from([0, 7]))
def test_rows_come_back_exactly_and_the_rest_is_fill(rows, more, fill):
    longest = max(map(len, rows)) + more
    found = pad_rows(rows, fill=fill, num_frames=longest)
    assert found.values.shape == (len(rows), longest, rows[0].shape[1])
    assert found.values.dtype == np.uint16
    assert found.lengths.tolist() == [len(row) for row in rows]
    assert found.mask.sum(axis=1).tolist() == found.lengths.tolist()
    for row, values, mask in zip(rows, found.values, found.mask, strict=True):
        assert np.array_equal(values[mask], row)
        assert (values[~mask] == fill).all()
        assert not np.diff(mask.astype(int)).clip(min=0).any()


def test_tensors_have_names_and_tokens_become_integers_that_embeddings_take():
    tokens = [np.array([[1, 60_000]], np.uint16), np.array([[2, 3], [4, 5]], np.uint16)]
    found = pad_rows(tokens).tensors("tokens")
    assert found["tokens"].dtype == torch.int64
    assert found["tokens"].tolist() == [[[1, 60_000], [0, 0]], [[2, 3], [4, 5]]]
    assert found["tokens_lengths"].tolist() == [1, 2]
    assert found["tokens_mask"].tolist() == [[True, False], [True, True]]
    assert pad_rows([np.ones((3, 2), np.float16)]).tensors("features")["features"].dtype == torch.float16


@pytest.mark.parametrize(
    "rows",
    [
        [np.zeros((3, 2)), np.zeros((3, 1))],
        [np.zeros(3, np.float32), np.zeros(3, np.int64)],
        [np.zeros(5)],
    ],
)
def test_rows_that_do_not_fit_together_are_refused(rows):
    with pytest.raises(ValueError, match="do not fit"):
        pad_rows(rows, num_frames=4)


class Tagger(torch.nn.Module):
    """A small network of everything through which padding leaks if it is let: attention, recurrence, pooling, loss."""

    def __init__(self):
        super().__init__()
        self.embed = torch.nn.Embedding(10, 8)
        self.attend = torch.nn.MultiheadAttention(8, 2, batch_first=True)
        self.recur = torch.nn.LSTM(8, 8, batch_first=True, bidirectional=True)
        self.score = torch.nn.Linear(32, 5)

    def forward(self, tokens, tokens_lengths, tokens_mask):
        hidden = self.embed(tokens[..., 0])
        hidden = hidden + self.attend(hidden, hidden, hidden, key_padding_mask=~tokens_mask, need_weights=False)[0]
        packed = torch.nn.utils.rnn.pack_padded_sequence(hidden, tokens_lengths, batch_first=True, enforce_sorted=False)
        states = torch.nn.utils.rnn.pad_packed_sequence(
            self.recur(packed)[0], batch_first=True, total_length=tokens.shape[1]
        )[0]
        pooled = (states * tokens_mask[..., None]).sum(1, keepdim=True) / tokens_lengths[:, None, None]
        return self.score(torch.cat([states, pooled.expand_as(states)], dim=2)).log_softmax(dim=2)


def ctc_and_gradients(network, rows, texts, num_frames, rubbish=0):
    """Give the CTC loss of each row and the gradients of their sum; padding holds ``rubbish``."""
    padded = pad_rows(rows, fill=rubbish, num_frames=num_frames)
    given = padded.tensors("tokens")
    targets = pad_rows(texts)
    network.zero_grad()
    losses = torch.nn.functional.ctc_loss(
        network(**given).transpose(0, 1),
        torch.from_numpy(targets.values),
        given["tokens_lengths"],
        torch.from_numpy(targets.lengths),
        reduction="none",
    )
    losses.sum().backward()
    return losses.detach(), [parameter.grad.clone() for parameter in network.parameters()]


def test_nothing_of_a_padded_frame_reaches_a_ctc_loss_or_its_gradients():
    torch.manual_seed(0)
    network = Tagger()
    rng = np.random.default_rng(0)
    rows = [rng.integers(0, 10, (length, 2)).astype(np.uint16) for length in (9, 14, 23, 17)]
    texts = [rng.integers(1, 5, length) for length in (3, 5, 2, 4)]
    losses, gradients = ctc_and_gradients(network, rows, texts, 23)
    rubbish, other = ctc_and_gradients(network, rows, texts, 23, rubbish=9)
    assert torch.equal(losses, rubbish)
    assert all(torch.equal(one, two) for one, two in zip(gradients, other, strict=True))
    # More padding, and none.
    wider, _ = ctc_and_gradients(network, rows, texts, 40)
    torch.testing.assert_close(wider, losses, rtol=1e-5, atol=1e-5)
    alone = [ctc_and_gradients(network, [row], [text], len(row)) for row, text in zip(rows, texts, strict=True)]
    torch.testing.assert_close(torch.cat([loss for loss, _ in alone]), losses, rtol=1e-5, atol=1e-5)
    for place, gradient in enumerate(gradients):
        torch.testing.assert_close(sum(found[place] for _, found in alone), gradient, rtol=1e-4, atol=1e-5)


def test_without_its_mask_the_same_network_hears_padding():
    """Else the test above would prove nothing."""
    torch.manual_seed(0)
    network = Tagger()
    rows = [np.full((length, 1), 3, np.uint16) for length in (4, 9)]
    given = pad_rows(rows, fill=7).tensors("tokens")
    heard = network(given["tokens"], torch.tensor([9, 9]), torch.ones(2, 9, dtype=torch.bool))
    masked = network(**given)
    assert (heard - masked)[0, :4].abs().max() > 1e-3
    torch.testing.assert_close(heard[1], masked[1])
