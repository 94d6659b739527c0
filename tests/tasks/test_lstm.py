"""The BiLSTM of recognition against torch's own over packed sequences."""

import torch
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from pipeline.tasks.blocks.lstm import BiLstm

DIM, WIDTH, LENGTHS = 7, 5, torch.tensor([3, 11, 1, 8])


def packed_twin(ours):
    """Make torch's bidirectional LSTM of the same weights."""
    twin = torch.nn.LSTM(DIM, WIDTH, len(ours.forwards), bidirectional=True, batch_first=True)
    weights = {}
    for layer, (ahead, back) in enumerate(zip(ours.forwards, ours.backwards, strict=True)):
        for end, part in (("", ahead), ("_reverse", back)):
            weights |= {name.replace("_l0", f"_l{layer}{end}"): each for name, each in part.state_dict().items()}
    twin.load_state_dict(weights)
    return twin


def test_outputs_and_gradients_equal_those_of_packed_sequences():
    torch.manual_seed(0)
    ours = BiLstm(DIM, layers=2, width=WIDTH, dropout=0.0)
    twin = packed_twin(ours)
    mask = torch.arange(11) < LENGTHS[:, None]
    one, other = (torch.randn(4, 11, DIM, generator=torch.Generator().manual_seed(1)).requires_grad_() for _ in "ab")
    found = ours(one, mask)
    packed = pack_padded_sequence(other, LENGTHS, batch_first=True, enforce_sorted=False)
    expected = pad_packed_sequence(twin(packed)[0], batch_first=True)[0]
    towards = torch.randn(found.shape)
    (found * towards).sum().backward()
    (expected * towards).sum().backward()
    worst = max(float((found - expected).detach().abs().max()), float((one.grad - other.grad).abs().max()))
    print(f"max abs error against packed sequences, outputs and gradients: {worst:.1e}")
    assert worst < 1e-6
    assert not found[~mask].any()


def test_dropout_acts_between_layers_in_training_alone():
    torch.manual_seed(0)
    frames, mask = torch.randn(2, 6, DIM), torch.ones(2, 6, dtype=torch.bool)
    alone = BiLstm(DIM, layers=1, width=WIDTH, dropout=0.5)
    assert torch.equal(alone(frames, mask), alone(frames, mask))
    deep = BiLstm(DIM, layers=2, width=WIDTH, dropout=0.5)
    assert not torch.equal(deep(frames, mask), deep(frames, mask))
    deep.eval()
    assert torch.equal(deep(frames, mask), deep(frames, mask))
