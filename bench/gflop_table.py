"""Print what encoders cost: GFLOP for a second of audio by model and top layer, and hours of audio an H100-hour.

    python bench/gflop_table.py [--seconds 15] [--json FILE]

The hours are arithmetic from the published peak of an H100 SXM in dense bfloat16, 989 TFLOP/s; nothing here was
measured on one. The counts are those of pipeline/features/encoders/flops.py, which the tests compare with torch's
counter.
"""

import argparse
import json
from pathlib import Path
from typing import Any

from pipeline.features.encoders.flops import gflop_per_second

H100_BF16 = 989e3
"""GFLOP/s, dense, from NVIDIA's data sheet."""


def models() -> dict[str, Any]:
    """Give the configurations of the published sizes."""
    import transformers

    large = {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "intermediate_size": 4096}
    extra = {"hidden_size": 1280, "num_hidden_layers": 48, "num_attention_heads": 16, "intermediate_size": 5120}
    return {
        "HuBERT base": transformers.HubertConfig(),
        "HuBERT large": transformers.HubertConfig(**large),
        "HuBERT xlarge": transformers.HubertConfig(**extra),
        "WavLM base+": transformers.WavLMConfig(),
        "WavLM large": transformers.WavLMConfig(**large),
        "wav2vec 2.0 base": transformers.Wav2Vec2Config(),
        "wav2vec 2.0 large": transformers.Wav2Vec2Config(**large),
        "wav2vec 2.0 conformer large": transformers.Wav2Vec2ConformerConfig(**large),
        "w2v-BERT 2.0": transformers.Wav2Vec2BertConfig(),
    }


def rows(seconds: float) -> list[dict[str, Any]]:
    """Count every model at a quarter, half, three quarters and all of its depth."""
    found = []
    for name, config in models().items():
        for quarter in (1, 2, 3, 4):
            layer = config.num_hidden_layers * quarter // 4
            gflop = gflop_per_second(config, top_layer=layer, seconds=seconds)
            found.append(
                {
                    "model": name,
                    "top_layer": layer,
                    "gflop_per_second": round(gflop, 1),
                    "hours_per_h100_hour_at_20": round(0.2 * H100_BF16 / gflop),
                    "hours_per_h100_hour_at_40": round(0.4 * H100_BF16 / gflop),
                }
            )
    return found


def main() -> None:
    """Print the table, and write it as JSON where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=15.0, help="length of an utterance")
    parser.add_argument("--json", type=Path, help="file for the rows")
    given = parser.parse_args()
    found = rows(given.seconds)
    print(f"Utterances of {given.seconds:g} s. Hours are arithmetic: 20 and 40 % of 989 TFLOP/s, not measured.\n")
    print("| model | top layer | GFLOP a second of audio | hours an H100-hour at 20 % | at 40 % |")
    print("|---|---|---|---|---|")
    for row in found:
        print(
            f"| {row['model']} | {row['top_layer']} | {row['gflop_per_second']} "
            f"| {row['hours_per_h100_hour_at_20']:,} | {row['hours_per_h100_hour_at_40']:,} |"
        )
    if given.json is not None:
        given.json.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
