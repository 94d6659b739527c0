"""The layouts of known corpora and toolkits, by name."""

from pipeline.audio.layouts.emodb import read_emodb
from pipeline.audio.layouts.fsdd import read_fsdd
from pipeline.audio.layouts.layout import Layout
from pipeline.audio.layouts.librispeech import read_librispeech
from pipeline.audio.layouts.voicebank import read_clean, read_noisy

CATALOGUE = {
    each.name: each
    for each in (
        Layout(name="librispeech", read=read_librispeech),
        Layout(name="fsdd", read=read_fsdd),
        Layout(name="emodb", read=read_emodb),
        Layout(name="voicebank", read=read_noisy),
        Layout(name="voicebank-clean", read=read_clean),
    )
}
