"""A headless Chromium, driven as the W3C's WebDriver says, with nothing but the standard library."""

import base64
import contextlib
import json
import subprocess
import urllib.request

from evmux import PATIENCE

TAB, LEFT = "\ue004", "\ue012"


class Browser:
    """One session of `chromedriver` with one window."""

    def __init__(self, url):
        self.driver, self.url = url, f"{url}/session"
        arguments = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
        arguments += ["--no-first-run", "--disable-background-networking"]
        options = {"binary": "/usr/bin/chromium", "args": arguments}
        wanted = {"browserName": "chrome", "goog:chromeOptions": options}
        wanted["goog:loggingPrefs"] = {"browser": "ALL", "performance": "ALL"}
        session = self.post("", {"capabilities": {"alwaysMatch": wanted}})["sessionId"]
        self.url += f"/{session}"

    def post(self, path, body):
        request = urllib.request.Request(
            self.url + path, json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=2 * PATIENCE) as response:
            return json.load(response)["value"]

    def open(self, url):
        self.post("/url", {"url": url})

    def run(self, script, *arguments):
        """What the body of a function returns in the page."""
        return self.post("/execute/sync", {"script": script, "args": arguments})

    def text(self, selector):
        return self.run("return document.querySelector(arguments[0])?.innerText ?? ''", selector)

    def press(self, key):
        actions = [{"type": "keyDown", "value": key}, {"type": "keyUp", "value": key}]
        self.post("/actions", {"actions": [{"type": "key", "id": "keys", "actions": actions}]})

    def command(self, name, **parameters):
        """One of Chromium's own."""
        return self.post("/goog/cdp/execute", {"cmd": name, "params": parameters})

    def show(self, width, scheme):
        """In a window so wide, in `light` or `dark`."""
        self.command(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=900,
            deviceScaleFactor=1,
            mobile=width < 600,
        )
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.command("Emulation.setEmulatedMedia", features=features)

    def screenshot(self, path):
        picture = self.command("Page.captureScreenshot", captureBeyondViewport=True)["data"]
        with open(path, "wb") as file:
            file.write(base64.b64decode(picture))

    def console(self):
        """What the page complained of since this was asked last."""
        return [entry["message"] for entry in self.post("/se/log", {"type": "browser"})]

    def requests(self):
        """What the browser asked for since this was asked last."""
        entries = self.post("/se/log", {"type": "performance"})
        messages = [json.loads(entry["message"])["message"] for entry in entries]
        sent = [m["params"] for m in messages if m["method"] == "Network.requestWillBeSent"]
        return [parameters["request"]["url"] for parameters in sent]

    def close(self):
        request = urllib.request.Request(self.url, method="DELETE")
        urllib.request.urlopen(request, timeout=PATIENCE).close()


@contextlib.contextmanager
def browser():
    """A browser, until the end of the block."""
    driver = subprocess.Popen(
        ["chromedriver", "--port=0"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    try:
        for line in driver.stdout:
            if "started successfully on port" in line:
                port = line.rstrip().rstrip(".").rsplit(" ", 1)[1]
                break
        else:
            raise AssertionError("chromedriver has ended")
        window = Browser(f"http://127.0.0.1:{port}")
        try:
            yield window
        finally:
            window.close()
    finally:
        driver.terminate()
        driver.wait(timeout=PATIENCE)
        driver.stdout.close()
