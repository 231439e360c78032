"""A small client of WebDriver, with which tests look at report pages in a real browser; Chromium where it is installed.

Commands of the protocol are sent to chromedriver as JSON, so no package is needed for it.
"""

import base64
import json
import shutil
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

DRIVER = shutil.which("chromedriver")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
ARGUMENTS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-3d-apis",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--hide-scrollbars",
)
STARTED = "started successfully on port "
"""Words of chromedriver before the number of its port."""
PATIENCE = 30
"""Seconds after which the browser counts as broken."""
ELEMENT = "element-6066-11e4-a52e-4f735466cecf"


class Browser:
    """A tab of a browser.

    Args:
        port: port of chromedriver.
        arguments: further arguments of Chromium.
    """

    def __init__(self, port: int, arguments: Sequence[str], preferences: dict[str, Any]):
        self.at = f"http://127.0.0.1:{port}"
        options = {"binary": CHROMIUM, "args": [*ARGUMENTS, *arguments], "prefs": preferences}
        wanted = {"capabilities": {"alwaysMatch": {"browserName": "chrome", "goog:chromeOptions": options}}}
        self.at += f"/session/{self._send('POST', '/session', wanted)['sessionId']}"

    def open(self, path: Path, width: int = 1300, height: int = 1400) -> None:
        """Open a file in a window of a size."""
        self._send("POST", "/window/rect", {"width": width, "height": height})
        self._send("POST", "/url", {"url": path.resolve().as_uri()})

    def run(self, script: str, *given: Any) -> Any:
        """Return what the body of a function returns in the page."""
        return self._send("POST", "/execute/sync", {"script": script, "args": list(given)})

    def until(self, script: str, *given: Any) -> Any:
        """Wait until the body of a function returns something true, and return it."""
        end = time.monotonic() + PATIENCE
        while not (found := self.run(script, *given)):
            assert time.monotonic() < end, f"never became true: {script}"
            time.sleep(0.02)
        return found

    def wheel(self, selector: str, times: int, pixels: int = 120) -> None:
        """Turn the wheel over the middle of an element, by so many notches of some pixels towards the user."""
        down = pixels if times > 0 else -pixels
        turn = {"type": "scroll", "x": 0, "y": 0, "deltaX": 0, "deltaY": down, "duration": 0}
        turns = [{**turn, "origin": self._find(selector)}] * abs(times)
        self._act([{"type": "wheel", "id": "wheel", "actions": turns}])

    def drag(self, selector: str, right: int, down: int) -> None:
        """Press the mouse in the middle of an element, move it by so many pixels, and let it go."""
        first = {"type": "pointerMove", "x": 0, "y": 0, "origin": self._find(selector)}
        last = {"type": "pointerMove", "x": right, "y": down, "origin": "pointer", "duration": 0}
        moves = [first, {"type": "pointerDown", "button": 0}, last, {"type": "pointerUp", "button": 0}]
        self._act([{"type": "pointer", "id": "mouse", "actions": moves}])

    def click(self, selector: str) -> None:
        """Click in the middle of an element."""
        self.drag(selector, 0, 0)

    def press(self, selector: str, keys: str) -> None:
        """Focus an element and press keys."""
        self.run("document.querySelector(arguments[0]).focus()", selector)
        pressed = [{"type": kind, "value": key} for key in keys for kind in ("keyDown", "keyUp")]
        self._act([{"type": "key", "id": "keys", "actions": pressed}])

    def screenshot(self, selector: str | None = None) -> bytes:
        """Return the window, or an element, as PNG."""
        place = f"/element/{self._find(selector)[ELEMENT]}/screenshot" if selector else "/screenshot"
        return base64.b64decode(self._send("GET", place))

    def close(self) -> None:
        """Close the browser."""
        self._send("DELETE", "")

    def _find(self, selector: str) -> dict[str, str]:
        self.run("document.querySelector(arguments[0]).scrollIntoView({block: 'center'})", selector)
        found: dict[str, str] = self._send("POST", "/element", {"using": "css selector", "value": selector})
        return found

    def _act(self, actions: list[dict[str, Any]]) -> None:
        self._send("POST", "/actions", {"actions": actions})

    def _send(self, verb: str, place: str, content: Any = None) -> Any:
        body = None if content is None else json.dumps(content).encode()
        request = urllib.request.Request(self.at + place, body, {"Content-Type": "application/json"}, method=verb)
        try:
            with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
                return json.load(answer)["value"]
        except urllib.error.HTTPError as error:
            raise AssertionError(json.load(error)["value"]["message"]) from None


@contextmanager
def driver() -> Iterator[int]:
    """Start chromedriver at a free port, which is yielded."""
    assert DRIVER
    with tempfile.NamedTemporaryFile("w+") as told:
        process = subprocess.Popen([DRIVER, "--port=0"], stdout=told, stderr=subprocess.STDOUT)
        try:
            end = time.monotonic() + PATIENCE
            while STARTED not in (words := Path(told.name).read_text(encoding="utf-8")):
                assert time.monotonic() < end and process.poll() is None, f"chromedriver does not start: {words}"
                time.sleep(0.02)
            yield int(words.split(STARTED)[1].split(".")[0])
        finally:
            process.terminate()
            process.wait()


@contextmanager
def browsing(port: int, *arguments: str, scripts: bool = True) -> Iterator[Browser]:
    """Open a browser with a profile of its own, which is removed afterwards.

    Args:
        port: port of chromedriver.
        arguments: further arguments of Chromium.
        scripts: whether pages may run scripts.
    """
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        allowed = {} if scripts else {"profile.managed_default_content_settings.javascript": 2}
        browser = Browser(port, [f"--user-data-dir={profile}", *arguments], allowed)
        try:
            yield browser
        finally:
            browser.close()
