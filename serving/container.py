"""The serving container's entry point: Triton on every address, with the current release, control closed.

Run as `python3 -m shopsight.serving.container REPOSITORY`. The secret that opens model control is given to no
client: to serve a new release, replace the container. The supervisor restarts a dead or hung model and a
server that ends.
"""

from __future__ import annotations

import sys
from pathlib import Path

from shopsight.serving.release import ReleaseError, current_release
from shopsight.serving.supervisor import Supervisor, end_in_order
from shopsight.serving.triton_environment import TritonMissingError, find_triton

EVERY_ADDRESS = "0.0.0.0"
PORTS = (8000, 8001, 8002)  # HTTP, gRPC, metrics


def replica(repository: Path) -> Supervisor:
    """Return a supervisor that serves a repository's current release to the network.

    Raises TritonMissingError unless Triton is the native one of a current container: the one that pip
    installs has known vulnerabilities and must stay on loopback. Raises ReleaseError if nothing is published.
    """
    triton = find_triton()
    if not triton.is_native:
        raise TritonMissingError(
            f"{triton.binary} must not face a network; run this in the serving container"
        )
    if current_release(repository) is None:
        raise ReleaseError(f"{repository} holds no release; mount one that 'shopsight publish' made")
    return Supervisor(repository, PORTS, lambda line: print(line, flush=True), EVERY_ADDRESS)


def main() -> None:
    """Serve until SIGTERM."""
    end_in_order()
    supervisor = replica(Path(sys.argv[1]))
    supervisor.start()
    try:
        supervisor.run()
    finally:
        supervisor.server.stop()


if __name__ == "__main__":
    main()
