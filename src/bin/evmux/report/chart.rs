//! Charts as inline SVG, which can be read without seeing them: each has a title and a
//! description, each point says its figures, and lines differ by their marks as well as by colour.

use maud::{Markup, html};

/// A chart of lines over a common axis.
pub(crate) struct Chart<'a> {
    pub(crate) title: &'a str,
    /// What it shows, for who cannot see it.
    pub(crate) description: String,
    pub(crate) x: Axis<'a>,
    pub(crate) y: Axis<'a>,
    pub(crate) series: Vec<Series>,
}

pub(crate) struct Axis<'a> {
    pub(crate) name: &'a str,
    pub(crate) scale: Scale,
    /// How a number is shown.
    pub(crate) show: fn(f64) -> String,
}

#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Scale {
    /// From zero.
    Linear,
    Logarithmic,
}

pub(crate) struct Series {
    pub(crate) name: String,
    /// Which colour and mark it has: the same in every chart.
    pub(crate) style: usize,
    pub(crate) points: Vec<Point>,
}

pub(crate) struct Point {
    pub(crate) x: f64,
    /// The median.
    pub(crate) y: f64,
    /// Each repetition.
    pub(crate) dots: Vec<f64>,
    pub(crate) text: String,
}

/// Styles that differ; further series begin again, and are told apart by their points' texts.
pub(crate) const STYLES: usize = 8;

const WIDTH: f64 = 480.0;
const HEIGHT: f64 = 300.0;
const LEFT: f64 = 62.0;
const RIGHT: f64 = 24.0;
const TOP: f64 = 12.0;
const BOTTOM: f64 = 46.0;

impl Chart<'_> {
    /// The figure; empty when there is nothing to show.
    pub(crate) fn draw(&self, id: &str) -> Markup {
        let points = || self.series.iter().flat_map(|series| &series.points);
        if points().next().is_none() {
            return html! {};
        }
        let xs = Range::of(self.x.scale, points().map(|point| point.x));
        let ys = Range::of(
            self.y.scale,
            points().flat_map(|point| point.dots.iter().copied().chain([point.y])),
        );
        let place_x = |x: f64| LEFT + xs.place(x) * (WIDTH - LEFT - RIGHT);
        let place_y = |y: f64| HEIGHT - BOTTOM - ys.place(y) * (HEIGHT - TOP - BOTTOM);
        html! {
            figure {
                figcaption { (self.title) }
                svg viewBox=(format!("0 0 {WIDTH} {HEIGHT}")) role="img"
                    aria-labelledby=(format!("{id}-title {id}-text")) {
                    title id=(format!("{id}-title")) { (self.title) }
                    desc id=(format!("{id}-text")) { (self.description) }
                    @for tick in ys.ticks() {
                        @let y = place_y(tick);
                        line.grid x1=(LEFT) x2=(WIDTH - RIGHT) y1=(round(y)) y2=(round(y)) {}
                        text.tick x=(LEFT - 6.0) y=(round(y + 4.0)) text-anchor="end" {
                            ((self.y.show)(tick))
                        }
                    }
                    @for tick in xs.ticks() {
                        @let x = place_x(tick);
                        line.grid x1=(round(x)) x2=(round(x)) y1=(TOP) y2=(HEIGHT - BOTTOM) {}
                        text.tick x=(round(x)) y=(HEIGHT - BOTTOM + 17.0) text-anchor="middle" {
                            ((self.x.show)(tick))
                        }
                    }
                    text.axis x=((LEFT + WIDTH - RIGHT) / 2.0) y=(HEIGHT - 8.0)
                        text-anchor="middle" { (self.x.name) }
                    text.axis transform=(format!("translate(13 {}) rotate(-90)",
                        (TOP + HEIGHT - BOTTOM) / 2.0)) text-anchor="middle" { (self.y.name) }
                    @for series in &self.series {
                        g class=(format!("s{}", series.style % STYLES)) {
                            polyline points=(path(series, place_x, place_y)) {}
                            @for point in &series.points {
                                @for dot in &point.dots {
                                    circle.dot cx=(round(place_x(point.x)))
                                        cy=(round(place_y(*dot))) r="1.8" {}
                                }
                                path.mark d=(mark(series.style, place_x(point.x),
                                    place_y(point.y))) {
                                    title { (series.name) ": " (point.text) }
                                }
                            }
                        }
                    }
                }
                (legend(&self.series))
            }
        }
    }
}

fn path(series: &Series, x: impl Fn(f64) -> f64, y: impl Fn(f64) -> f64) -> String {
    let place = |point: &Point| format!("{},{}", round(x(point.x)), round(y(point.y)));
    series.points.iter().map(place).collect::<Vec<_>>().join(" ")
}

fn legend(series: &[Series]) -> Markup {
    html! {
        ul.legend {
            @for series in series {
                li class=(format!("s{}", series.style % STYLES)) {
                    svg viewBox="0 0 22 12" aria-hidden="true" {
                        line x1="0" x2="22" y1="6" y2="6" {}
                        path.mark d=(mark(series.style, 11.0, 6.0)) {}
                    }
                    (series.name)
                }
            }
        }
    }
}

/// A shape round a place, another one for each style.
fn mark(style: usize, x: f64, y: f64) -> String {
    let (x, y) = (round(x), round(y));
    match style % 6 {
        0 => format!("M{x} {y}m-4 0a4 4 0 1 0 8 0a4 4 0 1 0-8 0"),
        1 => format!("M{x} {y}m-3.6-3.6h7.2v7.2h-7.2z"),
        2 => format!("M{x} {y}m0-5l4.6 8h-9.2z"),
        3 => format!("M{x} {y}m0-5l4.6 5l-4.6 5l-4.6-5z"),
        4 => format!("M{x} {y}m-4.6-3.4h9.2l-4.6 8z"),
        _ => format!("M{x} {y}m-1.4-5h2.8v3.6h3.6v2.8h-3.6v3.6h-2.8v-3.6h-3.6v-2.8h3.6z"),
    }
}

/// A tenth of a pixel is enough, and a page of thousands of points is smaller for it.
fn round(number: f64) -> f64 {
    (number * 10.0).round() / 10.0
}

/// What an axis spans.
struct Range {
    scale: Scale,
    least: f64,
    most: f64,
}

impl Range {
    fn of(scale: Scale, values: impl Iterator<Item = f64>) -> Self {
        let values = values.filter(|value| value.is_finite());
        match scale {
            Scale::Linear => {
                let most = values.fold(0.0, f64::max);
                let step = step(most);
                let most = (most / step).ceil().max(1.0) * step;
                Self { scale, least: 0.0, most }
            }
            Scale::Logarithmic => {
                let (mut least, mut most) = (f64::INFINITY, 0.0_f64);
                for value in values.filter(|value| *value > 0.0) {
                    (least, most) = (least.min(value), most.max(value));
                }
                if least > most {
                    (least, most) = (1.0, 10.0);
                }
                let down = 10_f64.powf(least.log10().floor());
                let up = 10_f64.powf(most.log10().ceil());
                Self { scale, least: down, most: if up > down { up } else { down * 10.0 } }
            }
        }
    }

    /// From 0 to 1.
    fn place(&self, value: f64) -> f64 {
        match self.scale {
            Scale::Linear => value / self.most,
            Scale::Logarithmic => {
                let (least, most) = (self.least.log10(), self.most.log10());
                (value.max(self.least).log10() - least) / (most - least)
            }
        }
    }

    fn ticks(&self) -> Vec<f64> {
        match self.scale {
            Scale::Linear => {
                let step = step(self.most);
                (0..=(self.most / step).round() as u32).map(|n| f64::from(n) * step).collect()
            }
            Scale::Logarithmic => {
                let decades = (self.most / self.least).log10().round() as i32;
                (0..=decades).map(|n| self.least * 10_f64.powi(n)).collect()
            }
        }
    }
}

/// 1, 2 or 5 of a power of ten, so that about five of it reach `most`.
fn step(most: f64) -> f64 {
    if most <= 0.0 {
        return 1.0;
    }
    let ten = 10_f64.powf((most / 5.0).log10().floor());
    [1.0, 2.0, 5.0, 10.0]
        .map(|times| times * ten)
        .into_iter()
        .find(|s| most / s <= 6.0)
        .unwrap_or(ten)
}

/// Bars side by side, each with its figure: for what has names and no axis.
pub(crate) struct Bars<'a> {
    pub(crate) title: &'a str,
    pub(crate) description: String,
    pub(crate) bars: Vec<Bar>,
}

pub(crate) struct Bar {
    pub(crate) name: String,
    pub(crate) style: usize,
    pub(crate) value: f64,
    pub(crate) text: String,
}

impl Bars<'_> {
    pub(crate) fn draw(&self, id: &str) -> Markup {
        const ROW: f64 = 30.0;
        const NAMES: f64 = 110.0;
        const FIGURES: f64 = 120.0;
        if self.bars.is_empty() {
            return html! {};
        }
        let most = self.bars.iter().map(|bar| bar.value).fold(f64::MIN_POSITIVE, f64::max);
        let height = self.bars.len() as f64 * ROW + 6.0;
        html! {
            figure {
                figcaption { (self.title) }
                svg viewBox=(format!("0 0 {WIDTH} {height}")) role="img"
                    aria-labelledby=(format!("{id}-title {id}-text")) {
                    title id=(format!("{id}-title")) { (self.title) }
                    desc id=(format!("{id}-text")) { (self.description) }
                    @for (row, bar) in self.bars.iter().enumerate() {
                        @let y = row as f64 * ROW + 3.0;
                        @let width = round(bar.value / most * (WIDTH - NAMES - FIGURES));
                        g class=(format!("s{}", bar.style % STYLES)) {
                            text.name x=(NAMES - 8.0) y=(y + 17.0) text-anchor="end" {
                                (shorten(&bar.name))
                            }
                            rect.bar x=(NAMES) y=(y + 3.0) width=(width.max(1.0)) height="18" {
                                title { (bar.name) ": " (bar.text) }
                            }
                            text.figure x=(NAMES + width.max(1.0) + 6.0) y=(y + 17.0) { (bar.text) }
                        }
                    }
                }
            }
        }
    }
}

/// Names of other servers are their users'; what is cut off stands in the title and the table.
fn shorten(name: &str) -> String {
    const MOST: usize = 14;
    if name.chars().count() <= MOST {
        return name.to_string();
    }
    name.chars().take(MOST - 1).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_axis_ends_at_a_round_number_at_or_above_the_largest() {
        for (largest, end) in
            [(0.0, 1.0), (1.0, 1.0), (7.3, 8.0), (99.0, 100.0), (130_000.0, 150_000.0)]
        {
            let range = Range::of(Scale::Linear, [largest].into_iter());
            assert!(range.most >= largest && range.ticks().len() <= 8, "{largest}");
            if largest > 0.0 {
                assert!((range.most - end).abs() < end * 0.3, "{largest}: {}", range.most);
            }
        }
        let range = Range::of(Scale::Logarithmic, [3.0, 1000.0].into_iter());
        assert_eq!(range.ticks().len(), 4);
        assert_eq!((range.place(1.0), range.place(1000.0)), (0.0, 1.0));
    }

    #[test]
    fn whatever_a_server_is_called_the_chart_stays_a_chart() {
        let chart = Chart {
            title: "t",
            description: "d".into(),
            x: Axis { name: "x", scale: Scale::Logarithmic, show: |x| x.to_string() },
            y: Axis { name: "y", scale: Scale::Linear, show: |y| y.to_string() },
            series: vec![Series {
                name: "</svg><script>".into(),
                style: 0,
                points: vec![Point { x: 1.0, y: 0.0, dots: vec![f64::NAN], text: "<b>".into() }],
            }],
        };
        let text = chart.draw("a").into_string();
        assert!(!text.contains("<script>") && !text.contains("<b>"));
        assert_eq!(text.matches("</svg>").count(), 2, "the chart and its legend");
    }
}
