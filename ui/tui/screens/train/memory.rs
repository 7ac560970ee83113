//! The memory pane: what the run takes of its machine.

use moim_core::run::{CardSample, DeviceSample, HostSample, SystemSample};
use ratatui::buffer::Buffer;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::text::Line as Words;

use crate::tui::data::run::OpenRun;
use crate::tui::state::Context;
use crate::tui::text::{self, bytes};
use crate::tui::theme::Look;
use crate::tui::widgets::chart::{Chart, Line, Reference};
use crate::tui::widgets::scroll::wrapped;
use crate::tui::widgets::stacked_bar::{Part, StackedBar};

const GIB: f64 = (1 << 30) as f64;
/// A lower chart has no room for its shape.
const SMALLEST_CHART: u16 = 5;

/// Draws the pane's inside.
pub(super) fn draw(open: &OpenRun, context: &Context<'_>, buf: &mut Buffer, area: Rect) {
    let look = context.look();
    let Some(sample) = &open.system_now else {
        let words = match open.condition().is_active() {
            true => "Memory, GPU and processor appear with the trainer's first sample.",
            false => "This run has no samples of its machine (system.jsonl).",
        };
        let lines = wrapped(words, area.width.into(), look.theme.text);
        return put(&lines, buf, area);
    };
    let predicted = open.start.as_ref().and_then(|start| start.predicted_bytes);
    let predicted = predicted.map(|bytes| bytes as f64);
    let mut lines = draw_bar(sample, look, buf, area);
    lines.extend(match sample.device {
        Some(device) => device_lines(device, sample.card.unwrap_or_default(), predicted),
        None => vec!["No GPU in use: what grows is host memory.".to_owned()],
    });
    lines.push(host_line(&sample.host));
    lines.extend(sample.note.as_deref().map(text::single_line));
    let lines: Vec<Words<'static>> = lines
        .iter()
        .flat_map(|line| wrapped(line, area.width.into(), look.theme.text))
        .collect();
    let height = u16::try_from(lines.len()).unwrap_or(u16::MAX);
    let [_, numbers, chart] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(height),
        Constraint::Fill(1),
    ])
    .areas(area);
    put(&lines, buf, numbers);
    if chart.height >= SMALLEST_CHART {
        draw_chart(open, sample, predicted, look, buf, chart);
    }
}

fn device_lines(device: DeviceSample, card: CardSample, predicted: Option<f64>) -> Vec<String> {
    let mut pools = format!(
        "in use {}, reserved {}, peak {}",
        bytes(device.in_use),
        bytes(device.reserved),
        bytes(device.peak_in_use)
    );
    if let Some(predicted) = predicted {
        pools.push_str(&format!(", predicted {}", bytes(predicted as u64)));
    }
    let measured = [
        card.utilization_percent
            .map(|percent| format!("GPU {percent:.0}% busy")),
        card.temperature_c.map(|celsius| format!("{celsius:.0} C")),
        card.power_watts.map(|watts| format!("{watts:.0} W")),
    ];
    let measured: Vec<String> = measured.into_iter().flatten().collect();
    match measured.is_empty() {
        true => vec![pools],
        false => vec![pools, measured.join(", ")],
    }
}

fn host_line(host: &HostSample) -> String {
    let measured = [
        host.rss.map(|rss| format!("host: trainer {}", bytes(rss))),
        host.available.zip(host.total).map(|(available, total)| {
            format!("{} of {} available", bytes(available), bytes(total))
        }),
        host.cpu_percent.map(|percent| format!("CPU {percent:.0}%")),
    ];
    let measured: Vec<String> = measured.into_iter().flatten().collect();
    measured.join(", ")
}

/// Draws the card with what this run and what others hold, without a card the same of the host,
/// into the first row of `area`. Answers the same in words.
fn draw_bar(sample: &SystemSample, look: &Look, buf: &mut Buffer, area: Rect) -> Vec<String> {
    let part = |label, bytes, style| Part {
        label,
        bytes,
        style,
    };
    let (name, parts, capacity) = match sample.device {
        Some(device) => {
            let card = sample.card.unwrap_or_default();
            let others = card.used.unwrap_or(0).saturating_sub(device.reserved);
            let kept = device.reserved.saturating_sub(device.in_use);
            let parts = vec![
                part("in use", device.in_use, 0),
                part("kept", kept, 1),
                part("others", others, 2),
            ];
            ("card", parts, card.total)
        }
        None => {
            let host = sample.host;
            let rss = host.rss.unwrap_or(0);
            let taken = host
                .total
                .unwrap_or(0)
                .saturating_sub(host.available.unwrap_or(0));
            let parts = vec![
                part("trainer", rss, 0),
                part("others", taken.saturating_sub(rss), 2),
            ];
            ("host", parts, host.total)
        }
    };
    let stacked = StackedBar::new(&parts, capacity);
    stacked.render_line(area, buf, look);
    let legend: Vec<String> = parts
        .iter()
        .map(|part| format!("{} {}", look.glyphs.part(part.style), part.label))
        .collect();
    let words = [format!("{name} {}", stacked.summary()), legend.join("  ")];
    let line = words.join("  ");
    match text::width(&line) <= area.width.into() {
        true => vec![line],
        false => words.to_vec(),
    }
}

/// Memory over time, in GiB.
fn draw_chart(
    open: &OpenRun,
    sample: &SystemSample,
    predicted: Option<f64>,
    look: &Look,
    buf: &mut Buffer,
    area: Rect,
) {
    let metrics: &[(&str, &str)] = match sample.device {
        Some(_) => &[
            ("card/used", "card"),
            ("device/reserved", "reserved"),
            ("device/in_use", "in use"),
        ],
        None => &[("host/rss", "trainer")],
    };
    let (seconds, x_label) = unit_of(open);
    let mut series: Vec<(&str, Vec<(f64, f64)>)> = metrics
        .iter()
        .filter_map(|(metric, name)| {
            let points = open.system.get(metric)?.points().iter();
            Some((*name, points.map(|(x, y)| (x / seconds, y / GIB)).collect()))
        })
        .collect();
    let total = sample
        .card
        .and_then(|card| card.total)
        .map(|total| total as f64 / GIB);
    // A line and no reference: the axis reaches up to it.
    if let Some((first, total)) = series.first().zip(total) {
        let points = first.1.iter().map(|(x, _)| (*x, total)).collect();
        series.push(("total", points));
    }
    let lines: Vec<Line<'_>> = series
        .iter()
        .enumerate()
        .map(|(index, (name, points))| Line {
            name,
            points,
            style: look.theme.series(index),
        })
        .collect();
    let predicted = predicted.map(|bytes| Reference {
        value: bytes / GIB,
        label: "predicted",
        style: look.theme.warn,
    });
    let mut chart = Chart::new("GiB", &lines);
    chart.x_label = x_label;
    chart.references = predicted.as_slice();
    chart.render(area, buf, look);
}

/// Seconds of the unit of time that suits the samples, and its name.
fn unit_of(open: &OpenRun) -> (f64, &'static str) {
    let lasts = open
        .system
        .names()
        .filter_map(|name| open.system.get(name)?.last());
    let span = lasts.map(|(seconds, _)| seconds).fold(0.0, f64::max);
    match span {
        0.0..300.0 => (1.0, "s"),
        300.0..18_000.0 => (60.0, "min"),
        _ => (3600.0, "h"),
    }
}

fn put(lines: &[Words<'_>], buf: &mut Buffer, area: Rect) {
    let area = area.intersection(buf.area);
    for (line, y) in lines.iter().zip(area.top()..area.bottom()) {
        buf.set_line(area.x, y, line, area.width);
    }
}
