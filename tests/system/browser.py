# SPDX-License-Identifier: Apache-2.0
"""Drives Debian's Chromium through chromedriver (WebDriver and CDP), for what only a browser can tell of the page."""

import base64
import http.client
import json
import urllib.parse

import harness


class Browser(harness.Process):
    """A headless Chromium with one window."""

    def __init__(self, folder, width=1280, height=900):
        super().__init__("chromedriver", folder)
        self.folder, self.port, self.session = folder, harness.free_port(), None
        self.width, self.height = width, height

    def start(self):
        self.spawn(["chromedriver", f"--port={self.port}"])
        self.wait_ready(lambda: self.answers())
        arguments = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
                     "--disable-background-networking", "--disable-component-update", "--hide-scrollbars",
                     f"--window-size={self.width},{self.height}", f"--user-data-dir={self.folder}/chromium"]
        self.session = self._ask("POST", "/session", {"capabilities": {"alwaysMatch": {
            "browserName": "chrome", "goog:chromeOptions": {"args": arguments},
            "goog:loggingPrefs": {"browser": "ALL", "performance": "ALL"}}}})["sessionId"]
        return self

    def stop(self):
        if self.session is not None:
            self._ask("DELETE", self._path(""))  # it ends Chromium too
            self.session = None
        self.kill()

    def answers(self):
        try:
            return self._ask("GET", "/status")["ready"]
        except OSError:
            return False

    def _path(self, what):
        return f"/session/{self.session}{what}"

    def _ask(self, method, path, body=None):
        client = http.client.HTTPConnection("127.0.0.1", self.port, timeout=harness.DEADLINE)
        try:
            client.request(method, path, None if body is None else json.dumps(body))
            value = json.loads(client.getresponse().read())["value"]
        finally:
            client.close()
        assert not (isinstance(value, dict) and "error" in value), value
        return value

    def open(self, url):
        self._ask("POST", self._path("/url"), {"url": url})

    def run(self, script, *arguments):
        """The value of a function's body in the page."""
        return self._ask("POST", self._path("/execute/sync"), {"script": script, "args": list(arguments)})

    def text(self, selector):
        """The text of what a selector finds, as a person sees it; None: nothing is there, or it is hidden."""
        return self.run("const e = document.querySelector(arguments[0]);"
                        "return e && e.checkVisibility() ? e.innerText : null", selector)

    def wait(self, script, *arguments):
        return harness.wait_until(lambda: self.run(script, *arguments),
                                  lambda: f"{script}\n{self.run('return document.body.innerText')}", interval=.1)

    def wait_text(self, selector, part):
        return harness.wait_until(lambda: (t := self.text(selector)) is not None and part in t and t,
                                  lambda: f"{part!r} in {selector}: {self.run('return document.body.innerText')}", interval=.1)

    def keys(self, text):
        """Presses keys; \\ue014 and the like are WebDriver's."""
        actions = [{"type": kind, "value": key} for key in text for kind in ("keyDown", "keyUp")]
        self._ask("POST", self._path("/actions"), {"actions": [{"type": "key", "id": "keys", "actions": actions}]})

    def cdp(self, command, **parameters):
        return self._ask("POST", self._path("/goog/cdp/execute"), {"cmd": command, "params": parameters})

    def set_width(self, width, height=844, mobile=False):
        self.cdp("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=mobile)

    def set_dark(self, dark):
        self.cdp("Emulation.setEmulatedMedia",
                 features=[{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}])

    def screenshot(self, path, height=None):
        """The whole page, or its upper part, as a PNG file."""
        size = self.run("return [innerWidth, document.documentElement.scrollHeight]")
        clip = {"x": 0, "y": 0, "width": size[0], "height": min(size[1], height or size[1]), "scale": 1}
        data = self.cdp("Page.captureScreenshot", format="png", captureBeyondViewport=True, clip=clip)["data"]
        path.write_bytes(base64.b64decode(data))

    def complaints(self):
        """What is in the console since the last call: errors, and what the policy has refused."""
        return [entry["message"] for entry in self._ask("POST", self._path("/se/log"), {"type": "browser"})
                if entry["level"] in ("SEVERE", "WARNING")]

    def hosts(self):
        """Which hosts have been asked for anything since the last call."""
        events = [json.loads(entry["message"])["message"]
                  for entry in self._ask("POST", self._path("/se/log"), {"type": "performance"})]
        urls = [event["params"]["request"]["url"] for event in events if event["method"] == "Network.requestWillBeSent"]
        return {urllib.parse.urlsplit(url).netloc for url in urls if not url.startswith(("data:", "about:", "chrome:"))}
