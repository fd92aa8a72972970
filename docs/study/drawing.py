"""The pieces of a timeline as SVG: rows of bars, marks, lines, curves, an axis, a legend.

What is drawn is told by a name; here stands how each name looks, and which words explain it. Text
is as large as can be read, on a phone too: each piece says what it would like to say, the longest
first, and what there is room for is said, in each of two sizes of letters.
"""

import math
import re
import xml.etree.ElementTree as ET
from collections import defaultdict, namedtuple

# Units of the picture: pixels, where there is room for all of them.
WIDTH, LEFT, RIGHT = 640, 10, 630
TITLE, ROW, TICK, STRIP, MARK, CURVE, GAP = 24, 24, 6, 15, 11, 56, 8
# The height of letters, and that on a phone, where the picture has half of its width.
TEXT, NARROW = 13, 20
# The width of a letter in its height, in the widest of the fonts that browsers take here.
LETTER = 0.62
# Colours on white and on black.
GREY, INK = ("#737b85", "#8b949e"), ("#1b1f24", "#e8ebee")
BLUE, GREEN, VIOLET = ("#1f5fbf", "#7db2ff"), ("#1d7a3a", "#6fd08c"), ("#7a3fb0", "#c9a2ff")
BROWN, TEAL, PINK = ("#8a6100", "#e6c25a"), ("#00707a", "#5fd0da"), ("#b0246f", "#ff8cc3")
RED = ("#b3401a", "#ff9c73")

# What a style class stands for, and, of a mark, its shape: nobody has to tell colours apart.
Kind = namedtuple("Kind", "style colours words shape", defaults=[""])

SLICES = {
    "turn": Kind("turn", GREY, "a turn of the loop"),
    "wait": Kind("wait", GREY, "waits in the kernel"),
    "accept": Kind("accept", TEAL, "accepts clients"),
    "run": Kind("run", BLUE, "runs a connection"),
    "call": Kind("call", BLUE, "a call, its wait included"),
    "datagrams": Kind("datagrams", BROWN, "answers datagrams"),
    "messages": Kind("messages", PINK, "reads messages"),
    "timers": Kind("timers", GREEN, "looks at deadlines"),
}
STAGES = {
    "connecting": Kind("connecting", TEAL, "connecting"),
    "idle": Kind("idle", GREY, "idle: nothing is begun"),
    "receiving": Kind("receiving", TEAL, "receiving: a part has come"),
    "sending": Kind("sending", BROWN, "sending: answers wait"),
    "paused": Kind("paused", RED, "paused: not read from"),
    "flushing": Kind("flushing", VIOLET, "flushing: the last answers"),
    "lingering": Kind("lingering", PINK, "lingering: until its end"),
}
MARKS = {
    "partial send": Kind("partial", BROWN, "a partial send", "m0-5l5 9h-10z"),
    "paused": Kind("pause", RED, "reading is paused", "m-4-5h3v10h-3zm5 0h3v10h-3z"),
    "resumed": Kind("resume", GREEN, "reading is resumed", "m-4-5l9 5l-9 5z"),
    "spent budget": Kind("budget", PINK, "a budget is spent", "m0-5l5 5l-5 5l-5-5z"),
    "closed": Kind(
        "closed", INK, "closed", "m-5-3l2-2l3 3l3-3l2 2l-3 3l3 3l-2 2l-3-3l-3 3l-2-2l3-3z"
    ),
}
CURVES = {
    "waiting bytes": Kind("bytes", BROWN, ""),
    "open connections": Kind("open", BLUE, ""),
}
# Where a run or a call of a connection has ended that brought it bytes, or took some.
MOVED = Kind("moved", BLUE, "received or sent")
# A newer server may have more to say than is known here.
OTHER = Kind("other", GREY, "something else", "m-4-4h8v8h-8z")

LIGHT = "--paper: #fff; --ink: #1b1f24; --faint: #57606a; --line: #e1e5ea;"
DARK = "--paper: #14171b; --ink: #e8ebee; --faint: #a3adb8; --line: #2b3139;"
STYLE = """
svg { color-scheme: light dark; }
text { font: %dpx system-ui, sans-serif; fill: var(--ink); dominant-baseline: central; }
.head { font-weight: 600; } .faint { fill: var(--faint); } .n { display: none; }
.ground { fill: var(--paper); } .grid { stroke: var(--line); fill: none; }
.bar { fill: var(--c); fill-opacity: .2; stroke: var(--c); stroke-width: .8; }
.wait.bar, .idle.bar { fill-opacity: .06; }
.dense, .mark { fill: var(--c); }
.turn.dense { fill-opacity: .4; } .wait.dense { fill-opacity: .1; }
.thin { stroke: var(--c); stroke-opacity: .35; fill: none; } .moved.thin { stroke-opacity: 1; }
.curve { stroke: var(--c); stroke-width: 1.5; fill: none; }
.area { fill: var(--c); fill-opacity: .2; }
@media (max-width: 460px) {
  text { font-size: %dpx; } .w { display: none; } .n { display: inline; }
}""" % (TEXT, NARROW)

# What took time and what did not, at microseconds of the trace.
Slice = namedtuple("Slice", "name begin end args")
Mark = namedtuple("Mark", "name at connection")


class Picture:
    """The picture, which grows downwards. It shows from `before` to `after` its moment 0, in
    microseconds."""

    def __init__(self, title, before, after):
        self.svg = ET.Element("svg", xmlns="http://www.w3.org/2000/svg", role="img")
        ET.SubElement(self.svg, "title").text = title
        self.style = ET.SubElement(self.svg, "style")
        self.ground = ET.SubElement(self.svg, "rect", {"class": "ground"}, width="100%")
        self.into, self.y, self.used = self.svg, GAP, {}
        self.zero, self.before, self.after = 0, before, after
        self.grid, self.top = None, 0

    def begin_panel(self, title, zero):
        """What follows has its 0 at `zero`."""
        self.zero = zero
        self.group(title)
        self.line([title, title.split(", ")[-1]], style="head")
        self.grid, self.top = ET.SubElement(self.into, "path", {"class": "grid"}), self.y

    def end_panel(self):
        """Below it stand the times, and lines go through it."""
        self.into = self.svg
        step, lines = step_of(self.before + self.after), ""
        for index in range(math.ceil(-self.before / step), math.floor(self.after / step) + 1):
            x = self.place(self.zero + index * step)
            lines += f"M{digits(x)} {self.top}V{self.y}"
            words = time(index * step, step)
            room = 2 * min(x - LEFT, RIGHT - x)
            self.text(x, self.y + TITLE / 2, [words], room, "faint", "middle")
        self.grid.set("d", lines)
        self.y += TITLE + GAP

    def begin_track(self, name, words):
        self.group(name)
        self.line(words)

    def end_track(self):
        self.y += GAP

    def row(self, slices, kinds, words, high=ROW):
        """Bars side by side. What is narrower than two pixels fills as much of its pixels as it
        took of their time: else a loop that wakes for a moment now and then would look busy."""
        bars, columns, texts = defaultdict(str), {}, []
        for slice in slices:
            x, to = self.place(slice.begin), self.place(slice.end)
            if to < LEFT or x > RIGHT:
                continue
            kind = self.kind(kinds, slice.name)
            if not self.is_wide(slice):
                spread(x, to, columns.setdefault(kind.style, defaultdict(float)))
                continue
            x, to = max(x, LEFT), min(to, RIGHT)
            bars[kind.style] += f"M{digits(x)} {self.y}h{digits(to - x)}v{high}h{digits(x - to)}z"
            texts.append((x, to, words(slice)))
        for style, shape in bars.items():
            self.path(f"{style} bar", shape)
        filled = defaultdict(int)
        # What a thread did stands at the bottom, that it waited above it.
        for style, shares in sorted(columns.items(), key=lambda column: column[0] == "wait"):
            self.path(f"{style} dense", self.dense(shares, filled, high))
        for x, to, candidates in texts:
            self.text((x + to) / 2, self.y + high / 2, candidates, to - x - 6, anchor="middle")
        self.y += high

    def dense(self, shares, filled, high):
        """The shares of pixels as columns, above those that stand there already."""
        runs = []
        for x, share in sorted(shares.items()):
            if not LEFT <= x < RIGHT:
                continue
            height = min(max(2, 2 * round(share * high / 2)), high - filled[x])
            run = (self.y + high - filled[x], height)
            filled[x] += height
            if runs and runs[-1][1:] == [x, run]:
                runs[-1][1] = x + 1
            else:
                runs.append([x, x + 1, run])
        return "".join(f"M{x} {y}h{to - x}v{-tall}h{x - to}z" for x, to, (y, tall) in runs)

    def moved(self, times, high=TICK):
        """A tick each time that a connection has received or sent."""
        runs = []
        for x in sorted(map(self.place, times)):
            if LEFT < x < RIGHT:
                join(runs, x - 0.7, x + 0.7)
        if runs:
            self.used[MOVED.style] = MOVED
            self.strokes(MOVED.style, runs, self.y + high / 2, high)
        self.y += high

    def marks(self, marks, kinds):
        """Marks below a row; kinds that would cover each other are below each other. Of one kind
        there is one in each few pixels."""
        places = defaultdict(list)
        for x, name in sorted((self.place(mark.at), mark.name) for mark in marks):
            if LEFT < x < RIGHT and (not places[name] or x - places[name][-1] >= MARK):
                places[name].append(x)
        strips = []
        for name, own in places.items():
            if not own:
                continue
            index = 0
            while index < len(strips) and not are_apart(own, strips[index]):
                index += 1
            strips[index:] = strips[index:] or [[]]
            strips[index] += own
            kind, y = self.kind(kinds, name), self.y + STRIP * (index + 0.5)
            self.path(f"{kind.style} mark", "".join(f"M{digits(x)} {y}{kind.shape}" for x in own))
        self.y += STRIP * len(strips)

    def strokes(self, style, runs, y, high):
        shape = "".join(f"M{digits(x)} {y}h{digits(to - x)}" for x, to in runs)
        self.path(f"{style} thin", shape, {"stroke-width": digits(high)})

    def lines(self, tracks, kinds, what):
        """A line for each of many tracks, for their outermost slices."""
        if not tracks:
            return
        pitch = min(max(200 // len(tracks), 2), 6)
        self.into = self.svg
        self.line([f"{len(tracks)} more {what}, a line for each", f"{len(tracks)} more {what}"])
        for track in tracks:
            self.group(track.name)
            shapes = defaultdict(list)
            for slice in nested(track.slices)[0] if track.slices else []:
                x, to = max(self.place(slice.begin), LEFT), min(self.place(slice.end), RIGHT)
                if to < LEFT or x > RIGHT:
                    continue
                join(shapes[self.kind(kinds, slice.name).style], x, max(to, x + 0.5))
            for style, runs in shapes.items():
                self.strokes(style, runs, self.y + pitch / 2, pitch * 0.8)
            self.moved(track.moved, pitch)
        self.y += GAP

    def curve(self, name, samples):
        """A counter, as steps from its bottom line."""
        show = size if "bytes" in name else lambda value: f"{value:,.0f}"
        places = [(self.place(at), value) for at, value in samples]
        value = next((value for x, value in reversed(places) if x < LEFT), 0)
        places = [(x, value) for x, value in places if LEFT <= x <= RIGHT]
        most = max([value] + [value for _, value in places])
        self.group(name)
        self.line([f"{name}: at most {show(most)}", f"{name} ≤ {show(most)}"])
        bottom, kind = self.y + CURVE, CURVES.get(name, OTHER)
        self.used[kind.style] = kind

        def height(value):
            return digits(bottom - (CURVE - 4) * value / max(most, 1))

        columns = defaultdict(list)
        for x, value_there in places:
            columns[digits(x)].append(value_there)
        shape = f"M{LEFT} {height(value)}"
        for x, values in columns.items():
            # Of many in one place the extremes, and the one from which it goes on.
            shape += f"H{x}V{height(min(values))}"
            if len(values) > 1:
                shape += f"V{height(max(values))}V{height(values[-1])}"
        shape += f"H{RIGHT}"
        self.path(f"{kind.style} area", f"{shape}V{bottom}H{LEFT}z")
        self.path(f"{kind.style} curve", shape)
        self.y += CURVE + GAP

    def legend(self):
        """What the colours and marks in this picture mean, in two columns."""
        self.group("legend")
        kinds = [kind for kind in self.used.values() if kind.words]
        for index, kind in enumerate(kinds):
            x = LEFT + (RIGHT - LEFT) / 2 * (index % 2)
            middle = self.y + TITLE / 2
            if kind.shape:
                self.path(f"{kind.style} mark", f"M{digits(x + 8)} {middle}{kind.shape}")
            else:
                look = "dense" if kind is MOVED else "bar"
                self.path(f"{kind.style} {look}", f"M{digits(x)} {middle - 7}h16v14h-16z")
            words = [kind.words, kind.words.split(":")[0], kind.words.split(",")[0]]
            self.text(x + 24, middle, words, (RIGHT - LEFT) / 2 - 26)
            self.y += TITLE if index % 2 or index == len(kinds) - 1 else 0

    def finish(self):
        """The text of the picture."""
        self.legend()
        self.y += GAP
        self.svg.set("viewBox", f"0 0 {WIDTH} {digits(self.y)}")
        self.svg.set("width", str(WIDTH))
        self.svg.set("height", digits(self.y))
        self.ground.set("height", digits(self.y))
        schemes = []
        for scheme, colours in enumerate([LIGHT, DARK]):
            classes = "".join(
                f" .{kind.style} {{ --c: {kind.colours[scheme]}; }}" for kind in self.used.values()
            )
            schemes.append(f"svg {{ {colours} }}{classes}")
        light, dark = schemes
        self.style.text = f"{light}\n@media (prefers-color-scheme: dark) {{ {dark} }}{STYLE}"
        return ET.tostring(self.svg, encoding="unicode")

    # Its pieces.

    def is_wide(self, slice):
        return self.place(slice.end) - self.place(slice.begin) >= 2

    def place(self, at):
        share = (at - self.zero + self.before) / (self.before + self.after)
        return LEFT + share * (RIGHT - LEFT)

    def kind(self, kinds, name):
        kind = kinds.get(name, OTHER)
        self.used[kind.style] = kind
        return kind

    def group(self, title):
        self.into = ET.SubElement(self.svg, "g")
        ET.SubElement(self.into, "title").text = title

    def path(self, style, shape, attributes={}):
        ET.SubElement(self.into, "path", {"class": style, "d": shape, **attributes})

    def line(self, candidates, style=""):
        """A line of text, as wide as the picture."""
        self.text(LEFT, self.y + TITLE / 2, candidates, RIGHT - LEFT, style)
        self.y += TITLE

    def text(self, x, y, candidates, room, style="", anchor="start"):
        """The first of `candidates` that there is room for, in each of the two sizes of letters."""
        wide, narrow = (
            next((text for text in candidates if width(text, height) <= room), None)
            for height in (TEXT, NARROW)
        )
        both = [(wide, "")] if wide == narrow else [(wide, "w"), (narrow, "n")]
        for text, size_class in both:
            if text is not None:
                place = {"x": digits(x), "y": digits(y)}
                classes = f"{style} {size_class}".strip()
                place |= {"class": classes} if classes else {}
                place |= {"text-anchor": anchor} if anchor != "start" else {}
                ET.SubElement(self.into, "text", place).text = text


def clean(text):
    """Without what XML does not allow: the file may be anybody's."""
    return re.sub("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", "\ufffd", str(text))


def nested(slices):
    """By how many others each is enclosed: those of none, of one, and so on."""
    levels, ends = [], []
    for slice in sorted(slices, key=lambda slice: (slice.begin, -slice.end)):
        while ends and ends[-1] <= slice.begin:
            ends.pop()
        if len(ends) == len(levels):
            levels.append([])
        levels[len(ends)].append(slice)
        ends.append(slice.end)
    return levels


def join(runs, x, to):
    """Adds a stroke. What is within a pixel of the last one is not to be told apart from it."""
    if runs and x - runs[-1][1] < 1:
        runs[-1][1] = max(to, runs[-1][1])
    else:
        runs.append([x, to])


def are_apart(some, others):
    return all(abs(x - other) >= MARK for x in some for other in others)


def spread(x, to, shares):
    """Adds to each pixel between `x` and `to` the share of it that lies between them."""
    while True:
        border = min(math.floor(x) + 1, to)
        shares[math.floor(x)] += max(border - x, 0)
        if border >= to:
            return
        x = border


def width(text, height):
    return LETTER * height * len(text)


def digits(number):
    """A tenth of a pixel is enough."""
    return f"{number:.1f}".removesuffix(".0")


def size(number):
    for unit in ("B", "KiB", "MiB"):
        if number < 1024:
            break
        number /= 1024
    else:
        unit = "GiB"
    return f"{number:.1f}".removesuffix(".0") + f" {unit}"


def took(slice):
    micros = slice.end - slice.begin
    for unit in ("µs", "ms"):
        if micros < 1000:
            break
        micros /= 1000
    else:
        unit = "s"
    return f"{micros:.3g} {unit}" if micros < 100 else f"{micros:.0f} {unit}"


def step_of(span):
    """At most six of it are in the span, so that a phone has room for what is written at each: 1, 2 or
    5 of a power of ten."""
    ten = 10 ** math.floor(math.log10(span / 6))
    return next(step * ten for step in (1, 2, 5, 10) if step * ten >= span / 6)


def time(micros, step):
    """In a unit in which the step has a digit or two."""
    unit, name = (1e6, "s") if step >= 1e5 else (1e3, "ms") if step >= 100 else (1, "µs")
    return f"{micros / unit:.3g} {name}".replace("-", "−") if micros else "0"
