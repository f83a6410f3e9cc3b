"""Speak sentences with eSpeak NG: `python espeak.py FOLDER` reads lines `NAME VOICE TEXT` and writes FOLDER/NAME.wav.

A script rather than a module, because the samples depend on what the process has spoken before: only a fresh process
that speaks the same lines in the same order makes the same samples.
"""

from __future__ import annotations

import ctypes
import os
import sys
import wave
from pathlib import Path

import espeakng_loader

SYNCHRONOUS = 2  # AUDIO_OUTPUT_SYNCHRONOUS: samples go to the callback, before espeak_Synth returns
UTF8 = 1  # espeakCHARS_UTF8
Callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)


def speak(lines: list[str], folder: Path) -> None:
    """Write one 16-bit mono WAV file a line, at eSpeak's own rate of 22,050 Hz."""
    folder = folder.resolve()
    library = ctypes.CDLL(espeakng_loader.get_library_path())
    # eSpeak cuts long paths, and a virtual environment may lie deep: so the path that it is given is ".".
    os.chdir(Path(espeakng_loader.get_data_path()).parent)
    rate = library.espeak_Initialize(SYNCHRONOUS, 0, b".", 0)
    if rate <= 0:
        raise SystemExit("eSpeak NG found no data of its own")
    chunks: list[bytes] = []

    def receive(samples: ctypes._Pointer, n: int, _: int | None) -> int:
        if n > 0:
            chunks.append(ctypes.string_at(samples, 2 * n))
        return 0

    callback = Callback(receive)  # kept by this name: the library holds only its address
    library.espeak_SetSynthCallback(callback)
    for seed, line in enumerate(lines):
        name, voice, text = line.split(maxsplit=2)
        chunks.clear()
        library.espeak_ng_SetRandSeed(ctypes.c_long(seed))
        if library.espeak_SetVoiceByName(voice.encode()):
            raise SystemExit(f"eSpeak NG has no voice {voice!r}")
        data = text.encode()
        library.espeak_Synth(data, ctypes.c_size_t(len(data) + 1), 0, 0, 0, UTF8, None, None)
        with wave.open(str(folder / f"{name}.wav"), "wb") as file:
            file.setparams((1, 2, rate, 0, "NONE", ""))
            file.writeframes(b"".join(chunks))


if __name__ == "__main__":
    speak(sys.stdin.buffer.read().decode().splitlines(), Path(sys.argv[1]))
