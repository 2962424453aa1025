"""What is done once for a server, and not by each worker: by the one that comes first, while the others wait.

It is for the start of a worker, when waiting holds nobody up. A worker that dies while it is at it leaves it to the
next one; a worker that is started again later finds it done.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from sipwright.script.store import Store

# Nobody is waited for any longer. A worker that died is known at once.
LONGEST = 600.0
LOOK_INTERVAL = 0.005
_HOLDER = "once"


def once(store: Store, name: str, do: Callable[[], object]) -> None:
    """Call `do` unless it was done by that name on this server; when this returns it is done.

    What `do` raises passes through, and it counts as not done. `store` keeps what was done, as `is_done` tells.
    """
    while not is_done(store, name):
        if not store.lock(name, _HOLDER, LONGEST):
            time.sleep(LOOK_INTERVAL)
            continue
        try:
            if not is_done(store, name):
                do()
                store.set(name, 1, None, renew=True)
        finally:
            store.unlock(name, _HOLDER)


def is_done(store: Store, name: str) -> bool:
    """Tell whether something was done once on this server."""
    return store.get(name) is not None
