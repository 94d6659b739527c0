"""The layouts of known corpora and toolkits, by name."""

from pipeline.audio.layouts.commonvoice import read_commonvoice
from pipeline.audio.layouts.emilia import read_emilia
from pipeline.audio.layouts.emodb import read_emodb
from pipeline.audio.layouts.fsdd import read_fsdd
from pipeline.audio.layouts.gigaspeech import gigaspeech_folder, read_gigaspeech
from pipeline.audio.layouts.iemocap import read_iemocap
from pipeline.audio.layouts.kaldi import read_kaldi
from pipeline.audio.layouts.layout import Layout
from pipeline.audio.layouts.lhotse import read_lhotse
from pipeline.audio.layouts.lhotse_shar import read_lhotse_shar
from pipeline.audio.layouts.librilight import read_librilight
from pipeline.audio.layouts.librispeech import read_librispeech
from pipeline.audio.layouts.libritts import read_libritts
from pipeline.audio.layouts.ljspeech import read_ljspeech
from pipeline.audio.layouts.manifests import manifest_folder
from pipeline.audio.layouts.mls import read_mls
from pipeline.audio.layouts.nemo import read_nemo
from pipeline.audio.layouts.nemo_shards import tar_folder
from pipeline.audio.layouts.peoples_speech import read_peoples_speech
from pipeline.audio.layouts.timit import read_timit
from pipeline.audio.layouts.vctk import read_vctk
from pipeline.audio.layouts.voicebank import read_clean, read_noisy
from pipeline.audio.layouts.voxceleb import read_voxceleb
from pipeline.audio.layouts.voxpopuli import read_voxpopuli
from pipeline.audio.walking import container_folder

CATALOGUE = {
    each.name: each
    for each in (
        Layout(name="librispeech", read=read_librispeech),
        Layout(name="mls", read=read_mls),
        Layout(name="vctk", read=read_vctk),
        Layout(name="ljspeech", read=read_ljspeech),
        Layout(name="librilight", read=read_librilight),
        Layout(name="libritts", read=read_libritts),
        Layout(name="fsdd", read=read_fsdd),
        Layout(name="emodb", read=read_emodb),
        Layout(name="voicebank", read=read_noisy),
        Layout(name="voicebank-clean", read=read_clean),
        Layout(name="timit", read=read_timit),
        Layout(name="iemocap", read=read_iemocap),
        Layout(name="voxceleb", read=read_voxceleb),
        Layout(name="commonvoice", read=read_commonvoice),
        Layout(name="gigaspeech", read=read_gigaspeech, folder=gigaspeech_folder),
        Layout(name="peoples-speech", read=read_peoples_speech),
        Layout(name="voxpopuli", read=read_voxpopuli),
        Layout(name="emilia", read=read_emilia, folder=container_folder),
        Layout(name="lhotse", read=read_lhotse, folder=manifest_folder),
        Layout(name="lhotse-shar", read=read_lhotse_shar),
        Layout(name="nemo", read=read_nemo, folder=tar_folder),
        Layout(name="kaldi", read=read_kaldi),
    )
}
