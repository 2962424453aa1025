"""What becomes of a command that fails: it is counted, and the log says so, but not a line for each."""

from __future__ import annotations

from sipwright.errors import StoreError
from sipwright.script.services import Services

# How often the log tells of writes of a table that fail.
LOG_SECONDS = 10.0


class Failures:
    """The failures of one table. With `raises`, they end the script that asked, as an error."""

    __slots__ = ("_is_quiet", "_name", "_quietly", "_raises", "_services", "count")

    def __init__(self, name: str, services: Services, *, raises: bool) -> None:
        self._name = name
        self._services = services
        self._raises = raises
        self._is_quiet = False
        self._quietly = 0
        self.count = 0

    def read(self, reason: object) -> None:
        """Take note of a reading that failed. StoreError: the script is to end with it.

        No line in the log: that the server is away is there already, and the script sees that it got nothing.
        """
        self.count += 1
        if self._raises:
            raise StoreError(f"htable {self._name}: {reason}")

    def write(self, reason: object) -> bool:
        """Take note of a writing that failed while the script waited for it; False. StoreError as for `read`."""
        self.written(reason)
        if self._raises:
            raise StoreError(f"htable {self._name}: {reason}")
        return False

    def written(self, reason: object) -> None:
        """Take note of a writing that failed when nobody waited for it."""
        self.count += 1
        if self._is_quiet:
            self._quietly += 1
            return
        self._services.log.error("htable %s: not written: %s", self._name, reason)
        self._be_quiet()

    def _be_quiet(self) -> None:
        self._is_quiet = True
        self._services.timers.start(LOG_SECONDS, self._tell)

    def _tell(self, _argument: None) -> None:
        self._is_quiet = False
        if self._quietly:
            self._services.log.error(
                "htable %s: %d more values were not written in the last %d s", self._name, self._quietly, LOG_SECONDS
            )
            self._quietly = 0
            self._be_quiet()
