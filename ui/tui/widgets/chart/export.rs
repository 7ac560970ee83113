//! A chart as an image.

use std::fmt::Write as _;

use super::scale::{Axis, Scale};
use super::series::{self, Column};
use super::{Chart, Line};
use crate::tui::text::{compact, single_line};

/// Colours on white (after Okabe and Ito) and dashes, so that lines can be distinguished in
/// print as well.
const INKS: [(&str, &str); 8] = [
    ("#0072b2", ""),
    ("#d55e00", "7 3"),
    ("#009e73", "2 2"),
    ("#cc79a7", "9 3 2 3"),
    ("#7a5c00", "4 4"),
    ("#3a86c8", "12 4"),
    ("#e69f00", "1 3"),
    ("#444444", "6 2 2 2"),
];

/// Space for the words around the plot, in pixels.
const LEFT: f64 = 70.0;
const RIGHT: f64 = 16.0;
const TOP: f64 = 34.0;
const BOTTOM: f64 = 40.0;
/// Height of a line of the legend.
const LEGEND_LINE: f64 = 16.0;

/// The plot of an image and its axes.
struct Frame {
    width: f64,
    height: f64,
    window: (f64, f64),
    x_axis: Axis,
    y_axis: Axis,
}

impl Frame {
    fn x(&self, share: f64) -> f64 {
        LEFT + share * self.width
    }

    fn y(&self, share: f64) -> f64 {
        TOP + (1.0 - share) * self.height
    }
}

pub fn to_svg(chart: &Chart<'_>, width: u32, height: u32) -> String {
    let smoothed = chart.smoothed();
    let mut svg = String::new();
    let title = escaped(chart.title);
    // Writing to a String cannot fail.
    let _ = write!(
        svg,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" \
         viewBox=\"0 0 {width} {height}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <title>{title}</title>\n<desc>{}</desc>\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n\
         <text x=\"{LEFT}\" y=\"20\" font-size=\"14\" font-weight=\"bold\">{title}</text>\n",
        escaped(&chart.summary().join("; ")),
    );
    let legend = LEGEND_LINE * chart.lines.len() as f64;
    let window = chart.shown();
    match series::y_axis(chart, &smoothed) {
        None => {
            let _ = writeln!(svg, "<text x=\"{LEFT}\" y=\"{TOP}\">no values</text>");
        }
        Some(y_axis) => {
            let frame = Frame {
                width: (f64::from(width) - LEFT - RIGHT).max(1.0),
                height: (f64::from(height) - TOP - BOTTOM - legend).max(1.0),
                window,
                x_axis: Axis::new(Scale::Linear, window.0, window.1),
                y_axis,
            };
            axes(&mut svg, chart, &frame);
            references(&mut svg, chart, &frame);
            for (index, line) in chart.lines.iter().enumerate() {
                let ink = ink(index);
                match smoothed.get(index) {
                    None => path(&mut svg, line.points, &frame, ink, "1.5"),
                    Some(points) => {
                        path(&mut svg, line.points, &frame, ink, "0.5");
                        path(&mut svg, points, &frame, ink, "2");
                    }
                }
            }
        }
    }
    for (index, line) in chart.lines.iter().enumerate() {
        let y = f64::from(height) - legend + LEGEND_LINE * index as f64;
        legend_line(&mut svg, line, y, ink(index));
    }
    svg.push_str("</svg>\n");
    svg
}

fn axes(svg: &mut String, chart: &Chart<'_>, frame: &Frame) {
    let (left, right) = (frame.x(0.0), frame.x(1.0));
    let (top, bottom) = (frame.y(1.0), frame.y(0.0));
    for (share, words) in frame.y_axis.ticks((frame.height / 40.0) as usize + 2) {
        let y = frame.y(share);
        let _ = write!(
            svg,
            "<line x1=\"{left}\" x2=\"{right:.1}\" y1=\"{y:.1}\" y2=\"{y:.1}\" stroke=\"#dddddd\"/>\n\
             <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{words}</text>\n",
            left - 6.0,
            y + 4.0,
        );
    }
    for (share, words) in frame.x_axis.ticks((frame.width / 90.0) as usize + 2) {
        let x = frame.x(share);
        let _ = write!(
            svg,
            "<line x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{bottom:.1}\" y2=\"{:.1}\" stroke=\"#444444\"/>\n\
             <text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{words}</text>\n",
            bottom + 4.0,
            bottom + 17.0,
        );
    }
    let _ = write!(
        svg,
        "<path d=\"M{left} {top:.1} V{bottom:.1} H{right:.1}\" fill=\"none\" stroke=\"#444444\"/>\n\
         <text x=\"{right:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>\n",
        bottom + 32.0,
        escaped(chart.x_label),
    );
}

fn references(svg: &mut String, chart: &Chart<'_>, frame: &Frame) {
    for reference in chart.references {
        let share = frame.y_axis.share(reference.value);
        let Some(share) = share.filter(|share| (0.0..=1.0).contains(share)) else {
            continue;
        };
        let (left, right, y) = (frame.x(0.0), frame.x(1.0), frame.y(share));
        let _ = write!(
            svg,
            "<line x1=\"{left}\" x2=\"{right:.1}\" y1=\"{y:.1}\" y2=\"{y:.1}\" stroke=\"#888888\" \
             stroke-dasharray=\"4 4\"/>\n\
             <text x=\"{right:.1}\" y=\"{:.1}\" text-anchor=\"end\" fill=\"#666666\">{} {}</text>\n",
            y - 4.0,
            escaped(reference.label),
            compact(reference.value),
        );
    }
}

/// A line in columns of one pixel, so that its size does not grow with the points.
fn path(
    svg: &mut String,
    points: &[(f64, f64)],
    frame: &Frame,
    (color, dashes): (&str, &str),
    stroke: &str,
) {
    let count = frame.width as usize + 1;
    let columns = series::columns(points, frame.window, count, &frame.y_axis);
    let last = count.saturating_sub(1).max(1) as f64;
    let mut data = String::new();
    for (index, column) in columns.iter().enumerate() {
        let Some(column) = column else {
            continue;
        };
        let x = frame.x(index as f64 / last);
        for (place, share) in way(column).into_iter().enumerate() {
            let command = if data.is_empty() || (place == 0 && column.is_apart) {
                'M'
            } else {
                'L'
            };
            let _ = write!(data, "{command}{x:.1} {:.1} ", frame.y(share));
        }
    }
    if data.is_empty() {
        return;
    }
    // A round cap draws the dot of a single point.
    let _ = writeln!(
        svg,
        "<path d=\"{}\" fill=\"none\" stroke=\"{color}\" stroke-width=\"{stroke}\" \
         stroke-linecap=\"round\" stroke-linejoin=\"round\" stroke-dasharray=\"{}\"/>",
        data.trim_end(),
        if dashes.is_empty() { "none" } else { dashes },
    );
}

/// The points to draw of a column: in, over both extremes, out. A single value is drawn
/// to itself, which makes a dot.
fn way(column: &Column) -> Vec<f64> {
    let mut way = vec![column.first];
    if column.low < column.first.min(column.last) {
        way.push(column.low);
    }
    if column.high > column.first.max(column.last) {
        way.push(column.high);
    }
    way.push(column.last);
    way
}

fn legend_line(svg: &mut String, line: &Line<'_>, y: f64, (color, dashes): (&str, &str)) {
    let dashes = if dashes.is_empty() { "none" } else { dashes };
    let _ = write!(
        svg,
        "<line x1=\"{LEFT}\" x2=\"{:.1}\" y1=\"{y:.1}\" y2=\"{y:.1}\" stroke=\"{color}\" \
         stroke-width=\"2\" stroke-dasharray=\"{dashes}\"/>\n\
         <text x=\"{:.1}\" y=\"{:.1}\">{}</text>\n",
        LEFT + 28.0,
        LEFT + 34.0,
        y + 4.0,
        escaped(line.name),
    );
}

fn ink(index: usize) -> (&'static str, &'static str) {
    INKS.get(index % INKS.len())
        .copied()
        .unwrap_or(("#000000", ""))
}

/// Text as XML takes it: cleaned of control characters, which XML has no way to write.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in single_line(text).chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\u{fffe}' | '\u{ffff}' => {}
            _ => escaped.push(character),
        }
    }
    escaped
}
