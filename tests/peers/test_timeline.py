"""What docs/study/timeline.py draws: of fresh traces, and what is kept there."""

import contextlib
import json
import pathlib
import re
import subprocess
import sys
import tempfile
import unittest
import xml.etree.ElementTree as ET

from evmux import Server, UnderEachModel, receive_all

STUDY = pathlib.Path(__file__).resolve().parents[2] / "docs" / "study"
SVG = "{http://www.w3.org/2000/svg}"


def draw(*arguments):
    return subprocess.run(
        [sys.executable, "-B", STUDY / "timeline.py", *arguments], capture_output=True, text=True
    )


def tracks(path):
    """The names of all tracks of a trace: its threads, its connections, its counters."""
    events = json.loads(pathlib.Path(path).read_text())["traceEvents"]
    names = {event["args"]["name"] for event in events if event["name"] == "thread_name"}
    for event in events:
        if event["ph"] == "C" or event["ph"] == "b" and event["name"].startswith("connection "):
            names.add(event["name"])
    return names


def lost(text):
    """What of a picture is outside of it, is too small, or covers other text."""
    root = ET.fromstring(text)
    left, top, width, height = map(float, root.get("viewBox").split())
    style = root.find(f"{SVG}style").text
    sizes = re.findall(r"font(?:-size)?: ([0-9.]+)px", style)
    found = [f"letters of {size}" for size in sizes if float(size) < 11]
    # The size on a phone is that of the second rule.
    wide, *narrow = map(float, re.findall(r"\btext \{ font(?:-size)?: ([0-9.]+)px", style))
    for size, hidden in [(wide, "n"), *((size, "w") for size in narrow)]:
        lines = {}
        for text in root.iter(f"{SVG}text"):
            if hidden in (text.get("class") or "").split():
                continue
            # A letter of these fonts is no wider than this on average.
            length = 0.6 * size * len(text.text)
            back = {"middle": length / 2, "end": length}.get(text.get("text-anchor"), 0)
            begin, y = float(text.get("x")) - back, float(text.get("y"))
            if not (left <= begin and begin + length <= left + width):
                found.append(f"beyond an edge at size {size}: {text.text}")
            if not top + size / 2 <= y <= top + height - size / 2:
                found.append(f"above or below at size {size}: {text.text}")
            lines.setdefault(y, []).append((begin, begin + length, text.text))
        for texts in lines.values():
            texts.sort()
            for (_, end, one), (begin, _, other) in zip(texts, texts[1:]):
                if begin < end:
                    found.append(f"at size {size}: {one} and {other}")
    for path in root.iter(f"{SVG}path"):
        for x, y in re.findall(r"M(-?[0-9.]+) (-?[0-9.]+)", path.get("d")):
            if not (left <= float(x) <= left + width and top <= float(y) <= top + height):
                found.append(f"outside: {path.get('d')[:40]}")
    return found


class Timelines(UnderEachModel):
    def test_every_track_of_a_trace_is_drawn_and_no_text_is_cut(self):
        with tempfile.TemporaryDirectory() as folder:
            path = f"{folder}/trace.json"

            def claim(server):
                with contextlib.ExitStack() as open_ones:
                    # All at once, so that a model with a thread for each has twelve.
                    clients = [open_ones.enter_context(server.connect()) for _ in range(12)]
                    for client in clients:
                        client.sendall(b"x" * 100_000)
                        client.shutdown(1)
                        self.assertEqual(len(receive_all(client)), 100_000)
                server.terminate()
                server.wait()
                named = tracks(path)
                self.assertGreaterEqual(len(named), 14)
                for options in [
                    [],
                    ["--busiest", "2"],
                    ["--connections", "3,12"],
                    ["--at", "closed", "--nth", "-1", "--before", "1", "--after", "0.1"],
                ]:
                    with self.subTest(options=options):
                        drawn = draw(*options, path)
                        self.assertEqual((drawn.returncode, drawn.stderr), (0, ""))
                        root = ET.fromstring(drawn.stdout)
                        titles = {title.text for title in root.iter(f"{SVG}title")}
                        self.assertLessEqual(named, titles)
                        self.assertEqual(lost(drawn.stdout), [])
                        self.assertLess(len(drawn.stdout), 60_000)

            self.under_each_model("echo", claim, "--trace", path)

    def test_two_traces_have_one_scale(self):
        with tempfile.TemporaryDirectory() as folder:
            paths = [f"{folder}/{name}.json" for name in ("first", "second")]
            for path in paths:
                with Server("upper", "epoll", "--trace", path) as server:
                    with server.connect() as connection:
                        connection.sendall(b"word")
                        self.assertEqual(connection.recv(4), b"WORD")
            drawn = draw("--after", "5", *paths)
            self.assertEqual((drawn.returncode, drawn.stderr), (0, ""))
            ticks = re.findall(r"<text [^>]*>4 ms<", drawn.stdout)
            places = {re.search(' x="([0-9.]+)"', tick).group(1) for tick in ticks}
            self.assertEqual((len(ticks), len(places)), (2, 1))
            self.assertEqual(lost(drawn.stdout), [])

    def test_what_cannot_be_drawn_is_one_line(self):
        event = {"ph": "X", "name": "turn", "tid": 1, "ts": 1, "dur": 1}
        empty = {"otherData": {"server": "a"}, "traceEvents": []}
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder, "trace.json")
            for document, options in [
                ("", []),
                ("[]", []),
                ("{}", []),
                (json.dumps({**empty, "traceEvents": [event]}), []),
                (json.dumps(empty), ["--at", "run"]),
                (json.dumps(empty), ["--connections", "1", "--after", "1"]),
                (json.dumps(empty), ["--after", "0"]),
            ]:
                with self.subTest(document=document, options=options):
                    path.write_text(document)
                    drawn = draw(*options, path)
                    self.assertEqual((drawn.returncode, drawn.stdout), (1, ""))
                    self.assertRegex(drawn.stderr, r"\Atimeline\.py: [^\n]+\n\Z")
            self.assertEqual(draw(f"{folder}/nothing.json").returncode, 1)

    def test_what_a_foreign_trace_holds_is_text_only(self):
        name = "</title><script>\x00\x1b&"
        events = [
            {"ph": "M", "name": "thread_name", "tid": 1, "ts": 0, "args": {"name": name}},
            {"ph": "X", "name": name, "tid": 1, "ts": 1, "dur": 90},
            {"ph": "i", "name": name, "tid": 1, "ts": 2},
            {"ph": "C", "name": name, "tid": 1, "ts": 2, "args": {"value": 7}},
        ]
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder, "trace.json")
            path.write_text(json.dumps({"otherData": {"server": name}, "traceEvents": events}))
            drawn = draw("--after", "0.1", path)
            self.assertEqual((drawn.returncode, drawn.stderr), (0, ""))
            self.assertEqual(lost(drawn.stdout), [])
            self.assertNotIn("<script", drawn.stdout)


class Kept(unittest.TestCase):
    def test_no_text_of_a_timeline_of_the_study_is_cut_or_covered(self):
        pictures = {path.name: path.read_text() for path in STUDY.glob("*.svg")}
        # Those of the report's charts are looked at in Chromium, which knows their letters.
        timelines = {name: text for name, text in pictures.items() if "<title>service " in text}
        self.assertGreater(len(timelines), 5)
        for name, text in timelines.items():
            with self.subTest(name=name):
                self.assertEqual(lost(text), [])


if __name__ == "__main__":
    unittest.main()
