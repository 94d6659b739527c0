"""Which layers a vocoder hears, of those that the tokens have."""

from pipeline import schema
from pipeline.errors import SettingsError
from pipeline.vocoder.spec import VocoderSpec


def choose_columns(spec: VocoderSpec, there: tuple[str, ...], layers: tuple[int, ...]) -> tuple[str, ...]:
    """Choose what the vocoder hears.

    Args:
        spec: Of the vocoder.
        there: Its columns that the tokens have.
        layers: Those asked for; none: all that are there.

    Returns:
        Columns, residual stages with their layer, in the order of the vocoder.

    Raises:
        SettingsError: The vocoder or the tokens have not such a layer, the vocoder never saw such a set, or one is
            named twice.
    """
    wanted = there
    if len(set(layers)) < len(layers):
        raise SettingsError(f"a layer is heard once, got layers {', '.join(map(str, layers))}")
    if layers:
        names = {schema.layer_column(layer) for layer in layers}
        wanted = tuple(column for column in spec.columns if column.split("_q")[0] in names)
        if unknown := sorted(names - {column.split("_q")[0] for column in wanted}):
            raise SettingsError(f"the vocoder was trained on {', '.join(spec.columns)}, not on {', '.join(unknown)}")
        if absent := [column for column in wanted if column not in there]:
            raise SettingsError(f"the tokens have {', '.join(there)}, not {', '.join(absent)}")
    spec.present(wanted)
    return wanted
