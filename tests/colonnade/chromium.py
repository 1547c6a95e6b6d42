"""A page in Debian's chromium, driven by the DevTools protocol: what it logs, what it asks the network for."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from websockets.sync.client import connect
from websockets.sync.connection import Connection

FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--window-size=1200,900",
    "--disable-dev-shm-usage",
    "--remote-debugging-port=0",
)


class Page:
    """One tab; `events` holds whatever the browser told of it."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._session: str | None = None
        self._sent = 0
        self.events: list[dict[str, Any]] = []
        target = self.send("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.send(f"{domain}.enable")

    def send(self, method: str, **params: object) -> dict[str, Any]:
        """Send a command and return its result; events that come meanwhile are kept."""
        self._sent += 1
        message = {"id": self._sent, "method": method, "params": params}
        self._connection.send(json.dumps(message | ({"sessionId": self._session} if self._session else {})))
        while (reply := self._receive()).get("id") != self._sent:
            pass
        if "error" in reply:
            raise RuntimeError(f"{method}: {reply['error']}")
        return dict(reply["result"])

    def open(self, url: str) -> None:
        """Go to an address and wait until it is loaded."""
        self.events.clear()
        self.send("Page.navigate", url=url)
        while not self.of("Page.loadEventFired"):
            self._receive()

    def run(self, script: str) -> Any:  # JSON of any form
        """Return what a script comes to, once its promise, if any, is kept."""
        done = self.send("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in done:
            raise RuntimeError(f"{script}: {done['exceptionDetails']}")
        return done["result"].get("value")

    def of(self, method: str) -> list[dict[str, Any]]:
        """Return the events of one kind."""
        return [event["params"] for event in self.events if event["method"] == method]

    def complaints(self) -> list[dict[str, Any]]:
        """Return every error: of the console, of the browser (policy, network), and those that nobody caught."""
        console = [one for one in self.of("Runtime.consoleAPICalled") if one["type"] in ("error", "assert")]
        logged = [one["entry"] for one in self.of("Log.entryAdded") if one["entry"]["level"] == "error"]
        return [*console, *logged, *self.of("Runtime.exceptionThrown")]

    def requests(self) -> list[str]:
        """Return the addresses of all requests."""
        return [one["request"]["url"] for one in self.of("Network.requestWillBeSent")]

    def _receive(self) -> dict[str, Any]:
        message: dict[str, Any] = json.loads(self._connection.recv(timeout=3000))
        if "method" in message:
            self.events.append(message)
        return message


@contextmanager
def chromium_page(binary: str, folder: Path) -> Iterator[Page]:
    """Start a browser whose profile lies in a folder, and end it."""
    command = [binary, *FLAGS, f"--user-data-dir={folder / 'profile'}", "about:blank"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as browser:
        assert browser.stderr is not None
        try:
            lines = (line for line in browser.stderr if line.startswith("DevTools listening on "))
            with connect(next(lines).split()[-1], max_size=None, compression=None) as connection:
                yield Page(connection)
        finally:
            browser.terminate()
            browser.communicate(timeout=300)
