import numpy as np
import torch
from safetensors.torch import load_file

from bench.contenders import _usual
from bench.workload import build_model
from pipeline.features.encoders import shipped
from pipeline.features.encoders.encoder import SslEncoder


def test_loops_that_people_use_compute_float16_weights_in_float32(tmp_path):
    build_model(shipped.NAME, tmp_path)
    assert {tensor.dtype for tensor in load_file(tmp_path / "model.safetensors").values()} == {torch.float16}
    network, extractor = _usual({"encoder": str(tmp_path), "threads": 1})
    waveform = np.random.default_rng(0).normal(0, 0.1, 16_000).astype(np.float32)
    values = extractor(waveform, sampling_rate=16_000, return_tensors="pt").input_values
    with torch.inference_mode():
        states = network(values, output_hidden_states=True).hidden_states
    (ours_LTD,) = SslEncoder.from_pretrained(str(tmp_path), layers=[3]).encode([waveform])
    assert states[3].dtype == torch.float32
    np.testing.assert_allclose(states[3][0].numpy(), ours_LTD[0], atol=1e-4)
