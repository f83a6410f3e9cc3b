"""Whether torch can compute on a device."""

from __future__ import annotations

from hmoe.base.errors import ConfigError


def usable(device: str | None, where: str = "--device") -> str | None:
    """`device`, if torch can compute there; asked before hours of features rather than after.

    Raises ConfigError, of the parameter `where`, if it cannot.
    """
    if device in (None, "cpu"):
        return device
    import torch

    try:
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError):  # a device unknown to torch, or one it was built without
        raise ConfigError(where, f"got {device!r}", "give cpu, or cuda where torch sees a GPU") from None
    return device
