#!/usr/bin/env python3
"""A picture of the live page, `--admin`, when a command has done something to the server.

    page.py URL PICTURE.png SECONDS COMMAND...

The charts of the page begin when it is opened, so it is opened before COMMAND runs. Its cursor
stands SECONDS before the end of that. This takes Chromium with its driver, and tests/peers in
PYTHONPATH, where the tests have what drives it.
"""

import base64
import subprocess
import sys
import time

from browser import browser

WIDTH = 640
# Half of its eight charts, which is what there is room for beside text.
CHARTS = 4

# Before the command, so that there is a rate of nothing, and after it, so that its end is seen.
# The page asks once a second.
QUIET = 4

CHOOSE = """
    const [id, value, event] = arguments;
    document.getElementById(id).value = value;
    document.getElementById(id).dispatchEvent(new Event(event));
"""
BOTTOM = "return document.querySelectorAll('.chart')[arguments[0]].getBoundingClientRect().bottom"


def main():
    url, picture, seconds, *command = sys.argv[1:]
    with browser() as window:
        window.show(WIDTH, "light")
        window.open(url)
        window.run(CHOOSE, "span", 60, "change")
        time.sleep(QUIET)
        subprocess.run(command, check=True)
        time.sleep(QUIET)
        window.run(CHOOSE, "cursor", -QUIET - int(seconds), "input")
        bottom = window.run(BOTTOM, CHARTS - 1)
        clip = {"x": 0, "y": 0, "width": WIDTH, "height": bottom + 12, "scale": 1}
        shot = window.command("Page.captureScreenshot", clip=clip, captureBeyondViewport=True)
    with open(picture, "wb") as file:
        file.write(base64.b64decode(shot["data"]))


if __name__ == "__main__":
    main()
