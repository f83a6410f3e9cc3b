"""Work that a GPU is given as a whole: CUDA graphs.

A training step of the models here is some two thousand small operations, each of which Python and PyTorch take longer
to launch than the card to compute. A recorded step is launched at once.

Why not `torch.compile`: it traces a model of this kind for a minute, again for every length of a batch, and breaks at
each LSTM; a recording takes as long as a step. Recordings are of exact shapes, so nothing is padded further, dropout
draws what it would have drawn, and the same kernels give the same results.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from hmoe.base.errors import TrainingError

Work = Callable[[], Tensor]


class Recorded:
    """`recorded(work, *given)` is `work(*given)`, replayed where tensors of such shapes and equal numbers were met.

    The first call of a shape is run as it is: kernels are compiled, transforms planned, moments made. The second is
    recorded. Later ones copy the tensors to where the recording reads them, and no Python runs: what `work` does may
    depend on nothing but the contents of tensors that stay where they are, and may not wait for the device. The result
    is overwritten by the next call. On a CPU a recording is the work itself, so that all but the graph is the same.
    Raises TrainingError if the work cannot be recorded.
    """

    def __init__(self, device: str) -> None:
        self.recorder = CUDAGraphs(device) if torch.device(device).type == "cuda" else Calls()
        self.met: set[tuple] = set()
        self.recordings: dict[tuple, tuple[tuple[Tensor | int, ...], Callable[[], None], Tensor]] = {}

    def __call__(self, work: Callable[..., Tensor], *given: Tensor | int) -> Tensor:
        key = tuple(each.shape if isinstance(each, Tensor) else each for each in given)
        if key not in self.met:
            self.met.add(key)
            return self.recorder.first(lambda: work(*given))
        if key not in self.recordings:
            own = tuple(each.clone() if isinstance(each, Tensor) else each for each in given)
            try:
                self.recordings[key] = (own, *self.recorder.record(lambda: work(*own)))
            except torch.OutOfMemoryError:
                raise
            except RuntimeError as error:
                why = f"cannot be recorded as a CUDA graph ({str(error).partition(chr(10))[0]})"
                raise TrainingError("a training step", why, "leave --graphs out") from error
        own, replay, result = self.recordings[key]
        for mine, new in zip(own, given, strict=True):
            if isinstance(mine, Tensor):
                mine.copy_(new)
        replay()
        return result


class Calls:
    """A recording without a recorder: the work is done again."""

    def first(self, work: Work) -> Tensor:
        return work()

    def record(self, work: Work) -> tuple[Callable[[], None], Tensor]:
        """How to do the work again, and where its result is then."""
        result = torch.zeros(())
        return lambda: result.copy_(work()), result


class CUDAGraphs:
    """CUDA graphs that share their memory: they are replayed one after the other."""

    def __init__(self, device: str) -> None:
        self.stream, self.pool = torch.cuda.Stream(device), torch.cuda.graph_pool_handle()

    def first(self, work: Work) -> Tensor:
        """On the stream of the recordings, as what is made there must be found there."""
        here = torch.cuda.current_stream(self.stream.device)
        self.stream.wait_stream(here)
        with torch.cuda.stream(self.stream):
            result = work()
        here.wait_stream(self.stream)
        return result

    def record(self, work: Work) -> tuple[Callable[[], None], Tensor]:
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, self.pool, self.stream):
            result = work()
        return graph.replay, result
