"""How other corpora name their files: one small function each, from a path to what it says.

Folders above those that a grammar names do not matter, so an archive may be unpacked at any depth. Ids are the
file names that the corpora's own papers use. A recording that a corpus is known to have damaged is an error like any
other: the message names it, and removing it is the remedy.
"""

from __future__ import annotations

import re
from pathlib import PurePath

from hmoe.base.errors import CorpusError
from hmoe.corpora.labels import COMMON, emotion
from hmoe.corpora.table import Misfit, PassedOver, Utterance

VOICES = ("m1", "m3", "f2", "f4")  # of the synthetic corpus, eSpeak NG's of Mandarin: two male, two female
SYNTHETIC_EMOTIONS = COMMON[:6]
MARKER = "manifest.csv"  # in the folder of the synthetic corpus once it is whole
EMODB = {
    "W": "anger",
    "L": "boredom",
    "E": "disgust",
    "A": "fear",
    "F": "happiness",
    "T": "sadness",
    "N": "neutral",
}
RAVDESS = ("neutral", "calm", "happiness", "sadness", "anger", "fear", "disgust", "surprise")
SAVEE = {
    "a": "anger",
    "d": "disgust",
    "f": "fear",
    "h": "happiness",
    "n": "neutral",
    "sa": "sadness",
    "su": "surprise",
}
CREMA_D = {"ANG": "anger", "DIS": "disgust", "FEA": "fear", "HAP": "happiness", "NEU": "neutral", "SAD": "sadness"}
ESD_SENTENCES = 350  # each said in five emotions; 0001 to 0010 speak Mandarin, 0011 to 0020 English


def synthetic(path: PurePath) -> Utterance:
    """`<voice>/<emotion>/<sentence>.wav`: `m1/anger/07.wav`."""
    if len(path.parts) != 3 or path.parts[0] not in VOICES or path.parts[1] not in SYNTHETIC_EMOTIONS:
        raise CorpusError(path, "not a file of the synthetic corpus", "remove it")
    voice, emotion, sentence = path.parts[0], path.parts[1], path.stem
    return Utterance(f"{voice}-{emotion}-{sentence}", voice, emotion, sentence)


def emodb(path: PurePath) -> Utterance:
    """Berlin (EmoDB): `03a01Wa.wav` is speaker, text, the German emotion's letter, version.

    Every emotion is said in the same ten sentences, a01 to b10 (Burkhardt et al., A Database of German Emotional
    Speech, Interspeech 2005; emodb.bilderbar.info/docu).
    """
    speaker, text, letter, _ = _parts(r"(\d\d)([ab]\d\d)([A-Z])([a-z])", path.stem, path, "03a01Wa.wav")
    return Utterance(path.stem, speaker, _code(EMODB, letter, path), text)


def ravdess(path: PurePath) -> Utterance:
    """RAVDESS: `03-01-06-01-02-01-12.wav` is modality, channel, emotion, intensity, statement, repetition, actor.

    Modality 01 is video with sound, 02 video alone, 03 sound alone: a take that has 01 has 03 too, with the same
    sound, so only 03 is an utterance. Channel 01 is speech, 02 song, which is passed over. Every emotion is said in
    the same two statements (Livingstone and Russo, PLoS ONE 13(5): e0196391, 2018; zenodo.org/records/1188976).
    """
    numbers = _parts(r"(\d\d)-(\d\d)-(\d\d)-(\d\d)-(\d\d)-(\d\d)-(\d\d)", path.stem, path, "03-01-06-01-02-01-12.wav")
    if numbers[0] in ("01", "02"):
        raise PassedOver(path, "the sound of a video, whose take is there as sound alone (03-...)", "remove it")
    if numbers[1] == "02":
        raise PassedOver(path, "song, not speech", "remove it, or list it in a CSV file: `--corpus csv`")
    if numbers[0] != "03" or numbers[1] != "01":
        raise CorpusError(path, f"unknown modality or channel {numbers[0]}-{numbers[1]}", "expected 03-01: rename it")
    codes = {f"{i:02d}": name for i, name in enumerate(RAVDESS, start=1)}
    return Utterance(path.stem, numbers[6], _code(codes, numbers[2], path), numbers[4])


def savee(path: PurePath) -> Utterance:
    """SAVEE: `DC/sa01.wav` or `DC_sa01.wav` is speaker, emotion, number.

    Each emotion has 15 sentences: 3 that are common to all (01 to 03), 2 of its own (04, 05), 10 generic ones that no
    other emotion has. Of the 30 neutral ones 3 are the common ones, and 12 repeat those that the other six emotions
    have for their own (Haq and Jackson, AVSP 2009; personal.ee.surrey.ac.uk/Personal/P.Jackson/SAVEE/Database.html).
    Which of the numbers from 04 on these are is not published. So these numbers, and 04 and 05 of the others, count
    as one sentence here, `specific`: two sides of a split never share one, but folds of sentences are uneven.
    """
    flat = f"{path.parent.name}_{path.stem}" if "_" not in path.stem else path.stem
    speaker, code, number = _parts(r"(DC|JE|JK|KL)_([a-z]+)(\d\d)", flat, path, "DC/sa01.wav or DC_sa01.wav")
    name = _code(SAVEE, code, path)
    if number <= "03":
        sentence = f"common-{number}"
    else:
        sentence = "specific" if number <= "05" or code == "n" else f"{code}{number}"
    return Utterance(f"{speaker}_{code}{number}", speaker, name, sentence)


def crema_d(path: PurePath) -> Utterance:
    """CREMA-D: `1001_DFA_ANG_XX.wav` is actor, sentence, emotion, intensity, of which `1040_ITH_SAD_X.wav` has half.

    Every emotion is said in the same 12 sentences (Cao et al., IEEE Transactions on Affective Computing 5(4), 2014;
    github.com/CheyneyComputerScience/CREMA-D).
    """
    actor, sentence, code, _ = _parts(r"(\d{4})_([A-Z]{3})_([A-Z]{3})_(\w\w?)", path.stem, path, "1001_DFA_ANG_XX.wav")
    return Utterance(path.stem, actor, _code(CREMA_D, code, path), sentence)


def esd(path: PurePath) -> Utterance:
    """ESD: `0001/Angry/0001_000351.wav`, with or without a folder `train`, `test` or `evaluation` below the emotion.

    The same 350 sentences of a language are said in each of five emotions, in one order, so that 000001, 000351, ...
    are one (Zhou et al., Seen and Unseen Emotional Style Transfer, ICASSP 2021; hltsingapore.github.io/ESD).
    Mandarin alone is a subset: `corpus.subset(corpus.table.speaker <= "0010")`.
    """
    speaker, number = _parts(r"(\d{4})_(\d{6})", path.stem, path, "0001/Angry/0001_000351.wav")
    folder = path.parent.parent if path.parent.name in ("train", "test", "evaluation") else path.parent
    language = "zh" if speaker <= "0010" else "en"
    sentence = (int(number) - 1) % ESD_SENTENCES + 1
    return Utterance(path.stem, speaker, emotion(folder.name, path), f"{language}-{sentence:03d}")


def folder(path: PurePath) -> Utterance:
    """Any tree `<emotion>/*.wav` or `<speaker>/<emotion>/*.wav`, with a name of `hmoe.corpora.labels` for a folder.

    Without folders of speakers the speaker is "unknown". A sentence is what the file's name says, so the same
    sentence in the same words must have the same name.
    """
    if len(path.parts) < 2:
        raise Misfit(path, "lies in no folder of an emotion", "expected EMOTION/*.wav or SPEAKER/EMOTION/*.wav")
    name = emotion(path.parts[-2], path)
    speaker = path.parts[-3] if len(path.parts) > 2 else "unknown"
    return Utterance(f"{speaker}-{name}-{path.stem}", speaker, name, path.stem)


def _parts(pattern: str, text: str, path: PurePath, example: str) -> tuple[str, ...]:
    match = re.fullmatch(pattern, text)
    if match is None:
        raise Misfit(path, "not named as this corpus's files are", f"expected a name like {example}")
    return match.groups()


def _code(codes: dict[str, str], code: str, path: PurePath) -> str:
    if code not in codes:
        known = ", ".join(f"{key} ({name})" for key, name in codes.items())
        raise CorpusError(path, f"unknown emotion {code!r}", f"known are {known}")
    return codes[code]
