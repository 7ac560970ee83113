use proptest::prelude::*;
use ratatui::layout::Rect;

use super::series::{Gaps, columns, gaps, smoothed, y_axis};
use super::*;
use crate::tui::widgets::testing::{ascii, draw_anywhere, drawn, plain};

fn line<'a>(name: &'a str, points: &'a [(f64, f64)]) -> Line<'a> {
    Line {
        name,
        points,
        style: Style::new(),
    }
}

fn points(values: &[f64]) -> Vec<(f64, f64)> {
    values
        .iter()
        .enumerate()
        .map(|(index, value)| (index as f64, *value))
        .collect()
}

fn shown(chart: &Chart<'_>, width: u16, height: u16, look: &Look) -> Vec<String> {
    drawn(width, height, |area, buf| chart.render(area, buf, look))
}

const RISING: [f64; 6] = [0.0, 2.0, 4.0, 6.0, 8.0, 10.0];

#[test]
fn a_line_with_its_axes() {
    let points = points(&RISING);
    let lines = [line("보상", &points)];
    let chart = Chart::new("보상", &lines);
    assert_eq!(
        shown(&chart, 24, 8, &plain()),
        [
            "┌ 보상 · 10 ───────────┐",
            "│10│               ⢀⡠⠔⠊│",
            "│  │            ⣀⠤⠒⠁   │",
            "│  │       ⢀⡠⠔⠊⠉       │",
            "│  │   ⢀⡠⠔⠊⠁           │",
            "│ 0│⡠⠔⠊⠁               │",
            "│   0                 5│",
            "└──────────────────────┘",
        ]
    );
    assert_eq!(
        shown(&chart, 24, 8, &ascii())[..4],
        [
            "+ 보상 | 10 -----------+",
            "|10|                 **|",
            "|  |             ****  |",
            "|  |      *******      |",
        ]
    );
}

#[test]
fn the_crosshair_reads_the_nearest_points() {
    let points = points(&RISING);
    let flat = [(0.0, 1.0), (4.0, f64::NAN), (5.0, 3.0)];
    let lines = [line("reward", &points), line("kl", &flat)];
    let mut chart = Chart::new("both", &lines);
    chart.crosshair = Some(3.4);
    let text = shown(&chart, 40, 9, &ascii());
    assert_eq!(text[0], "+ both | step 3 ---------- 1 nonfinite +");
    assert_eq!(text[1], "|A reward 6  B kl 3                    |");
    // The vertical line, and the letters at the ends.
    let bars = |line: &String| line.chars().filter(|sign| *sign == '|').count();
    assert!(text[2..7].iter().filter(|line| bars(line) == 4).count() >= 3);
    assert!(text[2].ends_with("A|") && text[2..7].concat().contains('B'));
}

#[test]
fn spikes_survive_however_many_points_there_are() {
    let mut many: Vec<(f64, f64)> = (0..20_000).map(|x| (f64::from(x), 0.0)).collect();
    many[12_345].1 = 50.0;
    let lines = [line("loss", &many)];
    let chart = Chart::new("loss", &lines);
    let axis = y_axis(&chart, &[]).unwrap();
    let drawn = columns(&many, (0.0, 19_999.0), 100, &axis);
    let highest = drawn.iter().flatten().map(|column| column.high);
    assert_eq!(highest.fold(0.0, f64::max), 1.0);
    assert!(drawn.iter().all(Option::is_some));
    // The picture does not grow with the points.
    assert!(chart.to_svg(600, 300).len() < 20_000);
}

#[test]
fn gaps_are_counted_and_do_not_move_the_axis() {
    let points = points(&[1.0, f64::NAN, f64::INFINITY, 0.0, -4.0, 100.0]);
    let lines = [line("kl", &points)];
    let mut chart = Chart::new("kl", &lines);
    let count = |nonfinite, nonpositive| Gaps {
        nonfinite,
        nonpositive,
    };
    assert_eq!(gaps(&chart), count(2, 0));
    chart.scale = Scale::Log;
    assert_eq!(gaps(&chart), count(2, 2));
    let axis = y_axis(&chart, &[]).unwrap();
    assert_eq!((axis.share(1.0), axis.share(100.0)), (Some(0.0), Some(1.0)));
    let drawn = columns(&points, (0.0, 5.0), 6, &axis);
    let apart: Vec<Option<bool>> = drawn
        .iter()
        .map(|column| column.map(|column| column.is_apart))
        .collect();
    assert_eq!(apart, [Some(true), None, None, None, None, Some(true)]);
    let note = &shown(&chart, 60, 8, &ascii())[0];
    assert!(note.contains("2 nonfinite | 2 not above 0 | log"), "{note}");
}

#[test]
fn smoothing_starts_at_the_first_value() {
    let flat = points(&[3.0; 20]);
    for ((_, raw), (_, smooth)) in flat.iter().zip(smoothed(&flat, 0.9)) {
        assert!((raw - smooth).abs() < 1e-12);
    }
    // mean = 0.5·0 + 0.5·4 = 2 of weight 1 − 0.5² = 0.75, with one gap between.
    let rising = [(0.0, 0.0), (1.0, f64::NAN), (2.0, 4.0)];
    let smooth = smoothed(&rising, 0.5);
    assert_eq!(smooth[0].1, 0.0);
    assert!(smooth[1].1.is_nan());
    assert!((smooth[2].1 - 2.0 / 0.75).abs() < 1e-12);
}

#[test]
fn the_smoothed_line_lies_over_the_raw_one() {
    let jagged: Vec<f64> = (0..40).map(|step| f64::from(step % 2)).collect();
    let points = points(&jagged);
    let lines = [line("reward", &points)];
    let mut chart = Chart::new("reward", &lines);
    chart.smoothing = 0.9;
    let text = shown(&chart, 46, 12, &ascii());
    assert!(text[0].contains("smooth 0.9"));
    assert!(text[1].contains('.') && !text[1].contains('*'));
    assert!(text[5].contains('*'));
}

#[test]
fn references_near_the_values_are_lines_and_far_ones_arrows() {
    let points = points(&RISING);
    let lines = [line("reward", &points)];
    let references = [
        (12.0, "healthy"),
        (500.0, "far"),
        (900.0, "much farther away"),
    ]
    .map(|(value, label)| Reference {
        value,
        label,
        style: Style::new(),
    });
    let mut chart = Chart::new("reward", &lines);
    chart.references = &references;
    let text = shown(&chart, 40, 10, &ascii());
    let top = &text[1];
    assert!(
        top.contains("^far 500") && !top.contains("farther"),
        "{text:#?}"
    );
    let near = points_row(&text, "healthy 12");
    assert!(text[near].contains("-----"));
}

fn points_row(text: &[String], words: &str) -> usize {
    text.iter()
        .position(|line| line.contains(words))
        .unwrap_or_else(|| panic!("{words} is missing in {text:#?}"))
}

#[test]
fn a_window_shows_a_part() {
    let points = points(&RISING);
    let lines = [line("reward", &points)];
    let mut chart = Chart::new("reward", &lines);
    chart.window = Some((1.0, 3.0));
    assert_eq!(
        chart.summary(),
        ["reward: last 6, min 2, max 6, slope +2 per step"]
    );
    chart.window = Some((f64::NAN, 3.0));
    assert_eq!(chart.shown(), (0.0, 5.0));
}

#[test]
fn nothing_and_little_look_sane() {
    let text = |values: &[f64], scale| {
        let points = points(values);
        let lines = [line("kl", &points)];
        let chart = Chart {
            scale,
            ..Chart::new("kl", &lines)
        };
        shown(&chart, 44, 8, &plain()).join("\n")
    };
    assert!(text(&[], Scale::Linear).contains("no values yet"));
    assert!(text(&[f64::NAN], Scale::Linear).contains("no finite value"));
    assert!(text(&[0.0, -1.0], Scale::Log).contains("no value above 0"));
    let one = text(&[3.25], Scale::Linear);
    assert!(one.contains("3.5") && one.contains("3.0"), "{one}");
    let no_lines = Chart::new("none", &[]);
    assert!(no_lines.summary().is_empty() && no_lines.x_range().is_none());
    let empty = [line("kl", &[])];
    assert_eq!(Chart::new("", &empty).summary(), ["kl: no values"]);
}

#[test]
fn pictures_are_escaped() {
    let values = [(0.0, 1.0), (1.0, f64::NAN), (2.0, f64::NEG_INFINITY)];
    let lines = [line("a<b & \"c\", 보상\u{1b}[31m", &values)];
    let chart = Chart::new("<script>", &lines);
    let svg = chart.to_svg(400, 200);
    assert!(svg.starts_with("<svg xmlns=") && svg.ends_with("</svg>\n"));
    assert!(svg.contains("&lt;script&gt;") && !svg.contains("<script>"));
    assert!(svg.contains("a&lt;b &amp; &quot;c&quot;, 보상<"));
    assert!(!svg.contains('\u{1b}') && !svg.contains("NaN"));
    assert!(chart.to_svg(0, 0).contains("<svg"));
}

proptest! {
    #[test]
    fn any_values_in_any_area(
        x in 0_u16..40, y in 0_u16..14, width in 0_u16..60, height in 0_u16..16,
        first in prop::collection::vec((0.0..50.0, any::<f64>()), 0..40),
        second in prop::collection::vec((any::<f64>(), -2.0..2.0), 0..10),
        window in prop::option::of((any::<f64>(), any::<f64>())),
        crosshair in prop::option::of(any::<f64>()),
        smoothing in any::<f64>(), is_log in any::<bool>(), reference in any::<f64>(),
        is_ascii in any::<bool>(),
    ) {
        let lines = [line("보상", &first), line("kl", &second)];
        let references = [Reference { value: reference, label: "한계", style: Style::new() }];
        let chart = Chart {
            window,
            crosshair,
            smoothing,
            references: &references,
            scale: if is_log { Scale::Log } else { Scale::Linear },
            ..Chart::new("그림", &lines)
        };
        let look = if is_ascii { ascii() } else { plain() };
        draw_anywhere(Rect::new(x, y, width, height), |area, buf| chart.render(area, buf, &look));
        prop_assert!(chart.to_svg(u32::from(width), u32::from(height)).ends_with("</svg>\n"));
        chart.summary();
    }
}
