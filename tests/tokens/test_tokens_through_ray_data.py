"""Tokens through Ray Data and back: the recipe of docs/datasets.md keeps lists of uint16, whatever their lengths."""

import re
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from made_tokens import speak, write_tokens

DOCS = Path(__file__).parents[2] / "docs" / "datasets.md"


def recipe():
    """Give the recipe as the docs have it."""
    blocks = re.findall(r"```python\n(.*?)```", DOCS.read_text(), re.DOTALL)
    return next(block for block in blocks if "map_batches" in block)


@pytest.mark.ray
@pytest.mark.parametrize("seconds", [[0.3, 0.5, 0.4], [0.4, 0.4, 0.4]], ids=["other-lengths", "equal-lengths"])
def test_the_recipe_of_the_docs_keeps_the_type_of_tokens(tmp_path, local_ray, seconds):
    made = speak(tmp_path / "audio", seconds)
    write_tokens(tmp_path / "out" / "tokens", made, columns=("layer_06",))
    # Workers of a Ray that runs already have another working directory.
    exec(compile(recipe().replace('"out/', f'"{tmp_path}/out/'), str(DOCS), "exec"), {})
    written = pq.read_table(tmp_path / "out" / "shifted")
    assert written.schema.field("layer_06").type == pa.list_(pa.uint16())
    assert written.num_rows == len(made)
    found = dict(zip(written["utterance_id"].to_pylist(), written["layer_06"].to_pylist(), strict=True))
    assert found == {one.utterance_id: (one.tokens + 1).tolist() for one in made}
    assert pc.list_value_length(written["layer_06"]).to_pylist() == written["num_frames"].to_pylist()
