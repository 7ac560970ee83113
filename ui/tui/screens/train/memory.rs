//! The memory pane: what the run takes of its machine.

use moim_core::run::{CardSample, DeviceSample, HostSample, SystemSample};
use ratatui::buffer::Buffer;
use ratatui::layout::Constraint::{Fill, Length};
use ratatui::layout::{Layout, Rect};
use ratatui::text::Line as Words;
use ratatui::widgets::{Paragraph, Widget};

use crate::tui::data::run::OpenRun;
use crate::tui::state::Context;
use crate::tui::text::{self, bytes};
use crate::tui::theme::Look;
use crate::tui::widgets::chart::{Chart, Line, Reference};
use crate::tui::widgets::scroll::wrapped;
use crate::tui::widgets::stacked_bar::{Part, StackedBar};

const GIB: f64 = (1 << 30) as f64;
/// A lower chart shows no shape.
const SMALLEST_CHART: u16 = 5;

/// Draws the pane's inside.
pub(super) fn draw(open: &OpenRun, context: &Context<'_>, buf: &mut Buffer, area: Rect) {
    let look = context.look();
    let wrapped = |words: &str| wrapped(words, area.width.into(), look.theme.text);
    let Some(sample) = &open.system_now else {
        let words = if open.condition().is_active() {
            "Memory, GPU and processor appear with the trainer's first sample."
        } else {
            "This run has no samples of its machine (system.jsonl)."
        };
        return Paragraph::new(wrapped(words)).render(area, buf);
    };
    let start = open.start.as_ref();
    let predicted = start.and_then(|start| start.predicted_bytes);
    let predicted = predicted.map(|bytes| bytes as f64);
    let (bar, mut words) = bar(sample, look, area.width.into());
    match (sample.device, sample.card) {
        (Some(device), card) => {
            words.extend(device_lines(device, card.unwrap_or_default(), predicted));
        }
        (None, _) => words.push("No GPU in use: what grows is host memory.".to_owned()),
    }
    words.push(host_line(&sample.host));
    words.extend(sample.note.as_deref().map(text::single_line));
    let mut lines = vec![bar];
    lines.extend(words.iter().flat_map(|line| wrapped(line)));
    let height = u16::try_from(lines.len()).unwrap_or(u16::MAX);
    let [numbers, chart] = Layout::vertical([Length(height), Fill(1)]).areas(area);
    Paragraph::new(lines).render(numbers, buf);
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
    let measured = measured
        .into_iter()
        .flatten()
        .collect::<Vec<_>>()
        .join(", ");
    let lines = [pools, measured].into_iter();
    lines.filter(|line| !line.is_empty()).collect()
}

fn host_line(host: &HostSample) -> String {
    let measured = [
        host.rss.map(|rss| format!("host: trainer {}", bytes(rss))),
        host.available.zip(host.total).map(|(available, total)| {
            format!("{} of {} available", bytes(available), bytes(total))
        }),
        host.cpu_percent.map(|percent| format!("CPU {percent:.0}%")),
    ];
    measured
        .into_iter()
        .flatten()
        .collect::<Vec<_>>()
        .join(", ")
}

/// What this run and others take of the card, or of the host if there is no card: a bar of this
/// many cells, and the same as text.
fn bar(sample: &SystemSample, look: &Look, cells: usize) -> (Words<'static>, Vec<String>) {
    let part = |label, bytes, style| Part {
        label,
        bytes,
        style,
    };
    let (name, parts, capacity) = if let Some(device) = sample.device {
        let card = sample.card.unwrap_or_default();
        let others = card.used.unwrap_or(0).saturating_sub(device.reserved);
        let kept = device.reserved.saturating_sub(device.in_use);
        let parts = vec![
            part("in use", device.in_use, 0),
            part("kept", kept, 1),
            part("others", others, 2),
        ];
        ("card", parts, card.total)
    } else {
        let HostSample {
            rss,
            total,
            available,
            ..
        } = sample.host;
        let (rss, available) = (rss.unwrap_or(0), available.unwrap_or(0));
        let taken = total.unwrap_or(0).saturating_sub(available);
        let others = taken.saturating_sub(rss);
        (
            "host",
            vec![part("trainer", rss, 0), part("others", others, 2)],
            total,
        )
    };
    let stacked = StackedBar::new(&parts, capacity);
    let legend = parts
        .iter()
        .map(|part| format!("{} {}", look.glyphs.part(part.style), part.label));
    let legend = legend.collect::<Vec<_>>().join("  ");
    let mut words = vec![format!("{name} {}", stacked.summary()), legend];
    let one = words.join("  ");
    if text::width(&one) <= cells {
        words = vec![one];
    }
    (stacked.line(cells, look), words)
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
    let metrics: &[(&str, &str)] = if sample.device.is_some() {
        &[
            ("card/used", "card"),
            ("device/reserved", "reserved"),
            ("device/in_use", "in use"),
        ]
    } else {
        &[("host/rss", "trainer")]
    };
    let (seconds, x_label) = unit_of(open);
    let mut series: Vec<(&str, Vec<(f64, f64)>)> = metrics
        .iter()
        .filter_map(|(metric, name)| {
            let points = open.system.get(metric)?.points().iter();
            Some((*name, points.map(|(x, y)| (x / seconds, y / GIB)).collect()))
        })
        .collect();
    let total = sample.card.and_then(|card| card.total);
    // A line and no reference: the axis reaches up to it.
    if let Some(((_, first), total)) = series.first().zip(total) {
        let points = first
            .iter()
            .map(|(x, _)| (*x, total as f64 / GIB))
            .collect();
        series.push(("total", points));
    }
    let lines = series
        .iter()
        .enumerate()
        .map(|(index, (name, points))| Line {
            name,
            points,
            style: look.theme.series(index),
        });
    let lines: Vec<Line<'_>> = lines.collect();
    let predicted = predicted.map(|bytes| Reference {
        value: bytes / GIB,
        label: "predicted",
        style: look.theme.warn,
    });
    let chart = Chart {
        x_label,
        references: predicted.as_slice(),
        ..Chart::new("GiB", &lines)
    };
    chart.render(area, buf, look);
}

/// Seconds of the unit of time that suits the samples, and its name.
fn unit_of(open: &OpenRun) -> (f64, &'static str) {
    let names = open.system.names();
    let lasts = names.filter_map(|name| open.system.get(name)?.last());
    match lasts.map(|(seconds, _)| seconds).fold(0.0, f64::max) {
        0.0..300.0 => (1.0, "s"),
        300.0..18_000.0 => (60.0, "min"),
        _ => (3600.0, "h"),
    }
}
