"""What every room needs: errors, files, seeds. Numba is given a folder before anything can import librosa."""

from hmoe.base.compiled import prepare

prepare()
