"""A CPU without instructions for bfloat16 is told of before it computes in it."""

import logging

import pytest

from pipeline.features.encoders.demo_encoder import build_small_encoder
from pipeline.features.encoders.encoder import SslEncoder
from pipeline.work import machine

OLD, NEW, ARM = {"avx2", "fma"}, {"avx2", "avx512f", "avx512_bf16"}, {"asimd", "bf16"}


@pytest.mark.parametrize(
    ("flags", "device", "dtype", "told"),
    [
        (OLD, "cpu", "bfloat16", True),
        (OLD, "cpu", "float32", False),
        (OLD, "cuda", "bfloat16", False),
        (NEW, "cpu", "bfloat16", False),
        (ARM, "cpu", "bfloat16", False),
        (set(), "cpu", "bfloat16", False),
    ],
)
def test_only_a_cpu_that_is_known_to_lack_it_is_told_of(monkeypatch, caplog, flags, device, dtype, told):
    monkeypatch.setattr(machine, "_flags", lambda: flags)
    machine.warn_of_bfloat16(device, dtype)
    assert ("--dtype float32" in caplog.text) == told


def test_an_encoder_says_so_when_it_is_loaded(monkeypatch, caplog, tmp_path):
    monkeypatch.setattr(machine, "_flags", lambda: OLD)
    build_small_encoder(tmp_path, hidden_size=32, num_layers=1, num_heads=2, conv_size=16)
    with caplog.at_level(logging.WARNING):
        SslEncoder.from_pretrained(str(tmp_path), layers=[1], dtype="bfloat16")
    assert "no instructions for bfloat16" in caplog.text


def test_instruction_sets_stay_those_by_which_datasets_are_told_apart(monkeypatch):
    monkeypatch.setattr(machine, "_flags", lambda: {"sse2", "avx2", "avx512f", "avx512_bf16", "bf16"})
    assert machine.instructions() == ["avx2", "avx512_bf16", "avx512f"]
