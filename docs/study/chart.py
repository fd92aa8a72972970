#!/usr/bin/env python3
"""Takes one chart out of the report of `evmux compare`, as a picture of its own, on stdout.

    chart.py report.html TITLE >picture.svg

The chart stays as the report has drawn it. Its title and its legend, which are text of the page
there, become text of the picture; colours follow the page's style, in light and in dark.
"""

import sys
import xml.etree.ElementTree as ET
from html.parser import HTMLParser

WIDTH, TITLE, ROW = 480, 26, 22
# The width of a letter, at most, of the size that can be read on a phone.
LETTER = 9.3
STYLE = """
svg { font-family: system-ui, sans-serif; }
@media (max-width: 400px) { svg text { font-size: 15px; } }
svg .title { font-size: 13px; font-weight: 600; }
"""


class Report(HTMLParser):
    """The style of a report, and its figures as trees."""

    # It knows letters of one case only; SVG does not.
    NAMES = {"viewbox": "viewBox"}
    VOID = {"meta", "link"}

    def __init__(self, text):
        super().__init__()
        self.style, self.figures, self.open = "", [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        if tag in self.VOID:
            return
        element = ET.Element(tag, {self.NAMES.get(name, name): value for name, value in attributes})
        if tag == "figure":
            self.figures.append(element)
        elif self.open:
            self.open[-1].append(element)
        self.open.append(element)

    def handle_endtag(self, tag):
        if self.open and self.open[-1].tag == tag:
            self.open.pop()

    def handle_data(self, text):
        element = self.open[-1] if self.open else None
        if element is None:
            return
        if element.tag == "style":
            self.style += text
        if len(element):
            element[-1].tail = (element[-1].tail or "") + text
        else:
            element.text = (element.text or "") + text


def picture(report, figure):
    """The drawing of a figure, with room for its title above and its legend below."""
    svg = figure.find("svg")
    title = "".join(figure.find("figcaption").itertext())
    height = float(svg.get("viewBox").split()[3])
    legend, x, y = [], 8, height + ROW / 2
    for item in figure.iterfind("ul/li"):
        name = "".join(item.itertext())
        width = 28 + LETTER * len(name) + 8
        if x > 8 and x + width > WIDTH:
            x, y = 8, y + ROW
        group = ET.Element("g", {"class": item.get("class")})
        group.set("transform", f"translate({x:g} {y - 6:g})")
        ET.SubElement(group, "polyline", points="0,6 22,6")
        group.append(item.find("svg/path"))
        ET.SubElement(group, "text", x="28", y="10").text = name
        legend.append(group)
        x += width
    bottom = y + ROW / 2 if legend else height
    box = {"x": "0", "y": str(-TITLE), "width": str(WIDTH), "height": str(bottom + TITLE)}

    whole = ET.Element("svg", xmlns="http://www.w3.org/2000/svg", role="img")
    whole.set("viewBox", " ".join(box.values()))
    whole.set("width", box["width"])
    whole.set("height", box["height"])
    for element in list(svg):
        if element.tag in ("title", "desc"):
            svg.remove(element)
            element.attrib.clear()
            whole.append(element)
    ET.SubElement(whole, "style").text = report.style + STYLE
    ET.SubElement(whole, "rect", box, fill="var(--paper)")
    ET.SubElement(whole, "text", {"x": "8", "y": "-9", "class": "title"}).text = title
    whole.extend(list(svg) + legend)
    return whole


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    path, title = sys.argv[1:]
    with open(path, encoding="utf-8") as file:
        report = Report(file.read())
    for figure in report.figures:
        if "".join(figure.find("figcaption").itertext()) == title:
            print(ET.tostring(picture(report, figure), encoding="unicode"))
            return
    titles = ["".join(figure.find("figcaption").itertext()) for figure in report.figures]
    sys.exit(f"chart.py: {path} has no chart {title!r} but {titles}")


if __name__ == "__main__":
    main()
