"""The serving container's entry point: Triton on every address, with the current release, control closed.

Run as `python3 -m serving.container REPOSITORY`. Nobody is given the secret that opens model control: a
replica takes a new release by being replaced.
"""

from __future__ import annotations

import os
import secrets
import sys
from pathlib import Path

from serving.release import ReleaseError, current_release
from serving.server_process import Ports, server_arguments
from serving.triton_environment import TritonMissingError, find_triton
from serving.verify import verify_served

EVERY_ADDRESS = "0.0.0.0"
PORTS = Ports(http=8000, grpc=8001, metrics=8002)


def container_command(repository: Path) -> list[str]:
    """Return the command that serves a repository's current release to the network.

    Raises TritonMissingError where Triton is not the native one of a current container: the one that pip
    installs has known vulnerabilities and stays on loopback. Raises ReleaseError when nothing is published,
    or when a file is not what was published.
    """
    triton = find_triton()
    if not triton.is_native:
        raise TritonMissingError(
            f"{triton.binary} must not face a network; run this in the serving container"
        )
    release = current_release(repository)
    if release is None:
        raise ReleaseError(f"{repository} holds no release; mount one that 'shopsight publish' made")
    verify_served(repository, release)
    arguments = server_arguments(
        repository.absolute(),
        PORTS,
        server_id=f"shopsight-{secrets.token_hex(6)}",
        secret=secrets.token_urlsafe(32),
        address=EVERY_ADDRESS,
    )
    models = [model for level in release.levels() for model in level]
    arguments.append("--disable-auto-complete-config")  # ours are complete
    return [str(triton.binary), *arguments, *(f"--load-model={model}" for model in models)]


def main() -> None:
    """Become the server."""
    command = container_command(Path(sys.argv[1]))
    os.execv(command[0], command)


if __name__ == "__main__":
    main()
