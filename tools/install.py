"""`pip install`, by uv, which takes seconds where pip takes minutes: its arguments are those of both.

uv reads none of pip's settings. A machine whose packages come from a mirror or a folder tells pip so, and what pip was
told is passed on here. Where uv cannot do it, pip does.
"""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

OPTIONS = {
    "index-url": "--default-index",
    "extra-index-url": "--index",
    "find-links": "--find-links",
    "constraint": "--constraint",
    "trusted-host": "--allow-insecure-host",
}
"""What pip calls a setting of one or more values, and uv's option for each of them."""
VARIABLES = {"cert": "SSL_CERT_FILE", "proxy": "ALL_PROXY", "timeout": "UV_HTTP_TIMEOUT"}


def settings() -> dict[str, str]:
    """What pip was told in files and in the environment, of which the latter counts more, as pip has it."""
    listed = subprocess.run([sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=True)
    lines = [line.partition("=") for line in listed.stdout.splitlines()]
    found = {}
    for section in ("global.", "install.", ":env:."):
        for name, _, value in lines:
            if name.startswith(section):
                found[name.removeprefix(section).removeprefix("default-")] = ast.literal_eval(value)
    return found


def options(told: dict[str, str]) -> list[str]:
    """uv's options that say the same, of any index the best version, as pip takes it; and the build of torch.

    From PyPI, `pip install torch` on Linux means a CUDA build of several GB. Where a folder holds a wheel of torch, it
    is that one; everywhere else uv chooses the build that fits this machine.
    """
    told = {name: value.split() for name, value in told.items()}
    # A folder that is not there is nothing to pip, and an error to uv.
    folders = {link: Path(link.removeprefix("file://")) for link in told.get("find-links", [])}
    told["find-links"] = [link for link, folder in folders.items() if folder.exists() or link.startswith("http")]
    given = [part for name, option in OPTIONS.items() for value in told.get(name, []) for part in (option, value)]
    if told.get("no-index", ["no"])[0].lower() in ("1", "true", "yes", "on"):
        given.append("--no-index")
    torch = any(list(folder.glob("torch-*.whl")) for folder in folders.values())
    return ["--index-strategy", "unsafe-best-match", *given, *([] if torch else ["--torch-backend", "auto"])]


def main(*arguments: str) -> int:
    told = settings()
    variables = {variable: told[name] for name, variable in VARIABLES.items() if name in told}
    uv = [sys.executable, "-m", "uv", "pip", "install", "--quiet", "--python", sys.executable]
    uv.append("--compile-bytecode")  # as pip does: where Python may write none, each start would compile all again
    if subprocess.run([*uv, *options(told), *arguments], env=variables | os.environ).returncode == 0:
        return 0
    print("uv could not install it, see above. pip tries, which takes some minutes.", file=sys.stderr)
    return subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", *arguments]).returncode


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
