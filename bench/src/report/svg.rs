//! Line charts as SVG, which read well on a light and on a dark page.

use std::fmt::Write;

use super::number;

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 380.0;
// The area of the lines.
const LEFT: f64 = 64.0;
const RIGHT: f64 = 700.0;
const TOP: f64 = 84.0;
const BOTTOM: f64 = 330.0;

/// How many lines a linear axis has at most.
const TICKS: f64 = 6.0;

const STYLE: &str = "text{font:13px system-ui,sans-serif;fill:#24292f}.title{font-weight:600;font-size:15px}\
.grid{stroke:#d0d7de;stroke-width:1}path{fill:none;stroke-width:2}.dashed{stroke-dasharray:6 4}\
.ours{stroke:#0969da;fill:#0969da}.floor{stroke:#bc4c00;fill:#bc4c00}path.ours,path.floor{fill:none}\
@media(prefers-color-scheme:dark){text{fill:#e6edf3}.grid{stroke:#3d444d}.ours{stroke:#58a6ff;fill:#58a6ff}\
.floor{stroke:#f0883e;fill:#f0883e}path.ours,path.floor{fill:none}}";

/// A chart of values against a rate.
pub(super) struct Chart {
    pub(super) title: String,
    pub(super) y_label: String,
    /// Whether the values differ by orders of magnitude.
    pub(super) is_logarithmic: bool,
    pub(super) lines: Vec<Line>,
}

/// One line of a chart.
pub(super) struct Line {
    pub(super) name: String,
    /// Whether it is of Messages and not of the floor.
    pub(super) is_ours: bool,
    pub(super) is_dashed: bool,
    /// The rates, and the value at each.
    pub(super) points: Vec<(f64, f64)>,
}

/// The values of the vertical axis.
struct Axis {
    from: f64,
    to: f64,
    ticks: Vec<f64>,
    is_logarithmic: bool,
}

impl Axis {
    fn linear(largest: f64) -> Self {
        let rough = largest.max(f64::MIN_POSITIVE) / TICKS;
        let power = 10_f64.powf(rough.log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0].into_iter().map(|it| it * power).find(|it| *it >= rough).unwrap_or(rough);
        let count = (largest / step).ceil().max(1.0);
        let ticks = (0..=count as u32).map(|tick| f64::from(tick) * step).collect();
        Self { from: 0.0, to: count * step, ticks, is_logarithmic: false }
    }

    /// From a power of ten, or three times one, to another.
    fn logarithmic(smallest: f64, largest: f64) -> Self {
        let all = (-4..8).flat_map(|power| [1.0, 3.0].map(|digit| digit * 10_f64.powi(power)));
        let all: Vec<f64> = all.collect();
        let from = all.iter().copied().rfind(|tick| *tick <= smallest).unwrap_or(all[0]);
        let to = all.iter().copied().find(|tick| *tick >= largest && *tick > from).unwrap_or(largest);
        let ticks = all.into_iter().filter(|tick| (from..=to).contains(tick)).collect();
        Self { from, to, ticks, is_logarithmic: true }
    }

    fn y(&self, value: f64) -> f64 {
        let scale = |value: f64| if self.is_logarithmic { value.log10() } else { value };
        let share = (scale(value) - scale(self.from)) / (scale(self.to) - scale(self.from));
        BOTTOM - share * (BOTTOM - TOP)
    }
}

/// Draws a chart.
pub(super) fn render(chart: &Chart) -> String {
    let points = || chart.lines.iter().flat_map(|line| line.points.iter().copied());
    let largest_of = |values: &mut dyn Iterator<Item = f64>| values.fold(f64::MIN_POSITIVE, f64::max);
    let largest = largest_of(&mut points().map(|(_, value)| value));
    let axis = if chart.is_logarithmic {
        Axis::logarithmic(points().map(|(_, value)| value).fold(largest, f64::min), largest)
    } else {
        Axis::linear(largest)
    };
    let rates = Axis::linear(largest_of(&mut points().map(|(rate, _)| rate)));
    let x = |rate: f64| LEFT + rate / rates.to * (RIGHT - LEFT);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" \
         aria-label=\"{title}\">\n<style>{STYLE}</style>\n<text class=\"title\" x=\"16\" y=\"24\">{title}</text>\n",
        title = chart.title
    );
    for tick in &axis.ticks {
        let (y, label) = (axis.y(*tick), number::short(*tick));
        let _ = writeln!(
            svg,
            "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{RIGHT}\" y1=\"{y:.1}\" y2=\"{y:.1}\"/>\
             <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{label}</text>",
            LEFT - 8.0,
            y + 4.0
        );
    }
    for tick in &rates.ticks {
        let label = number::short(*tick);
        let _ = writeln!(svg, "<text x=\"{:.1}\" y=\"350\" text-anchor=\"middle\">{label}</text>", x(*tick));
    }
    let _ = writeln!(
        svg,
        "<text x=\"{:.1}\" y=\"370\" text-anchor=\"middle\">messages a second</text>\
         <text x=\"16\" y=\"{:.1}\">{}</text>",
        f64::midpoint(LEFT, RIGHT),
        TOP - 14.0,
        chart.y_label
    );
    for (number, line) in chart.lines.iter().enumerate() {
        svg += &draw_line(line, number, &x, &axis);
    }
    svg + "</svg>\n"
}

/// A line with its points and its place in the legend.
fn draw_line(line: &Line, number: usize, x: &impl Fn(f64) -> f64, axis: &Axis) -> String {
    let class = if line.is_ours { "ours" } else { "floor" };
    let dashed = if line.is_dashed { " dashed" } else { "" };
    let points = line.points.iter().map(|(rate, value)| (x(*rate), axis.y(*value)));
    let path = points.clone().map(|(x, y)| format!("{x:.1},{y:.1}")).collect::<Vec<_>>().join(" L");
    let mut svg = format!("<path class=\"{class}{dashed}\" d=\"M{path}\"/>");
    for (x, y) in points {
        let _ = write!(svg, "<circle class=\"{class}\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3\"/>");
    }
    let legend_x = 16.0 + 176.0 * number as f64;
    let _ = writeln!(
        svg,
        "<path class=\"{class}{dashed}\" d=\"M{legend_x:.0},46 h28\"/>\
         <text x=\"{:.0}\" y=\"50\">{}</text>",
        legend_x + 34.0,
        line.name
    );
    svg
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_include_all_values_at_round_steps() {
        assert_eq!(Axis::linear(3_000.0).ticks, [0.0, 500.0, 1_000.0, 1_500.0, 2_000.0, 2_500.0, 3_000.0]);
        assert_eq!(Axis::linear(0.65).to, 0.8);
        let latencies = Axis::logarithmic(0.85, 318.0);
        assert!(
            latencies.from < 0.31 && latencies.to >= 1_000.0 && latencies.ticks.len() == 8,
            "{:?}",
            latencies.ticks
        );
        assert_eq!((latencies.y(latencies.from), latencies.y(latencies.to)), (BOTTOM, TOP));
    }

    #[test]
    fn a_chart_has_each_line_with_its_points_and_its_name() {
        let line = |is_ours| Line {
            name: format!("line {is_ours}"),
            is_ours,
            is_dashed: !is_ours,
            points: vec![(1_000.0, 1.0), (2_000.0, 10.0)],
        };
        let chart = Chart {
            title: "Latency".to_owned(),
            y_label: "ms".to_owned(),
            is_logarithmic: true,
            lines: vec![line(true), line(false)],
        };
        let svg = render(&chart);
        for (part, count) in [("<circle", 4), ("class=\"ours\"", 4), ("floor dashed", 2), ("line true", 1)] {
            assert_eq!(svg.matches(part).count(), count, "{part}: {svg}");
        }
        assert!(svg.contains("prefers-color-scheme:dark") && svg.ends_with("</svg>\n"));
    }
}
