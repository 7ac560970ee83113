//! Lines of events.jsonl, read fast: of a `step` only its numbers are kept.
//!
//! A million steps would be a million maps as [`Event`]s. They are read into columns instead;
//! every other event, and every line that is not as the trainer writes it, is read as an [`Event`].

use std::fmt;

use moim_core::run::{Event, EventKind, LineChunk, Step};
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use crate::tui::data::series::Columns;

/// The content of lines.
#[derive(Debug, Default)]
pub(super) struct Parsed {
    /// Metrics of the steps among them.
    pub steps: Columns,
    /// How many steps there are.
    pub step_count: usize,
    /// Every other event.
    pub events: Vec<Event>,
    /// Lines that are no events.
    pub bad_lines: usize,
    /// The last of those, as text.
    pub latest_bad_line: Option<String>,
}

/// Reads lines of events.
pub(super) fn parse(lines: LineChunk<'_>) -> Parsed {
    let mut parsed = Parsed::default();
    let mut row = Row::default();
    for (place, line) in lines.each() {
        let columns = &mut parsed.steps;
        let mut deserializer = serde_json::Deserializer::from_slice(line);
        let is_step = row.read(columns, &mut deserializer).is_ok() && deserializer.end().is_ok();
        if is_step && row.add_to(columns) {
            parsed.step_count += 1;
            continue;
        }
        match serde_json::from_slice::<Event>(line) {
            Ok(event) => match event.kind {
                EventKind::Step(step) => {
                    add_step(&step, columns);
                    parsed.step_count += 1;
                }
                // A step without its number.
                EventKind::Other(name) if name == "step" => {}
                _ => parsed.events.push(event),
            },
            Err(error) => {
                parsed.bad_lines += 1;
                parsed.latest_bad_line = Some(format!("at byte {place}: {error}"));
            }
        }
    }
    parsed
}

fn add_step(step: &Step, columns: &mut Columns) {
    for (metric, value) in step.metrics.iter() {
        columns.add(metric, step.step as f64, value);
    }
}

/// The numbers of one step; kept from line to line, so that reading one allocates nothing.
#[derive(Default)]
struct Row {
    step: Option<f64>,
    /// The place of each metric's column, and its value.
    values: Vec<(usize, f64)>,
    /// Columns of fields that are null.
    nulls: Vec<usize>,
    /// Columns of fields that the line calls not finite.
    nonfinite: Vec<usize>,
}

impl Row {
    /// Reads a line that is a step and written as the trainer does.
    fn read<'de>(
        &mut self,
        columns: &mut Columns,
        deserializer: impl Deserializer<'de>,
    ) -> Result<(), impl Error> {
        self.step = None;
        self.values.clear();
        self.nulls.clear();
        self.nonfinite.clear();
        deserializer.deserialize_map(RowVisitor { row: self, columns })
    }

    /// Adds what was read to the columns; false where it has no step.
    fn add_to(&self, columns: &mut Columns) -> bool {
        let Some(step) = self.step else { return false };
        for (place, value) in &self.values {
            columns.push(*place, step, *value);
        }
        for place in self
            .nulls
            .iter()
            .filter(|place| self.nonfinite.contains(place))
        {
            columns.push(*place, step, f64::NAN);
        }
        true
    }
}

struct RowVisitor<'a> {
    row: &'a mut Row,
    columns: &'a mut Columns,
}

impl<'de> Visitor<'de> for RowVisitor<'_> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a step of a run")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Self { row, columns } = self;
        let mut guess = 0;
        let mut is_step = false;
        // A key with an escape cannot be borrowed; such a line is read as any other event.
        while let Some(key) = map.next_key::<&str>()? {
            match key {
                "v" if map.next_value::<u64>()? != 1 => {
                    return Err(A::Error::custom("another version"));
                }
                "event" if map.next_value::<&str>()? != "step" => {
                    return Err(A::Error::custom("another event"));
                }
                "v" => {}
                "event" => is_step = true,
                "time" | "total_steps" => drop(map.next_value::<IgnoredAny>()?),
                "step" => row.step = Some(map.next_value()?),
                "nonfinite" => map.next_value_seed(Names { row, columns })?,
                metric => {
                    let value = map.next_value_seed(NumberOrNull)?;
                    if let Some(value) = value {
                        guess = columns.place(metric, guess);
                        match value {
                            Some(number) => row.values.push((guess, number)),
                            None => row.nulls.push(guess),
                        }
                        guess += 1;
                    }
                }
            }
        }
        if is_step {
            Ok(())
        } else {
            Err(A::Error::custom("no event"))
        }
    }
}

/// A number, or null; nothing for any other value.
struct NumberOrNull;

impl<'de> DeserializeSeed<'de> for NumberOrNull {
    type Value = Option<Option<f64>>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for NumberOrNull {
    type Value = Option<Option<f64>>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("any value")
    }

    fn visit_f64<E>(self, number: f64) -> Result<Self::Value, E> {
        Ok(Some(Some(number)))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Self::Value, E> {
        Ok(Some(Some(number as f64)))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Self::Value, E> {
        Ok(Some(Some(number as f64)))
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(Some(None))
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_str<E>(self, _: &str) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Self::Value, A::Error> {
        while sequence.next_element::<IgnoredAny>()?.is_some() {}
        Ok(None)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(None)
    }
}

/// The list of fields that were not finite.
struct Names<'a> {
    row: &'a mut Row,
    columns: &'a mut Columns,
}

impl<'de> DeserializeSeed<'de> for Names<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Names<'_> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("names of fields")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<(), A::Error> {
        while let Some(name) = sequence.next_element::<&str>()? {
            let place = self.columns.place(name, 0);
            self.row.nonfinite.push(place);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use moim_core::run::{CheckpointEvent, Metrics, SavePoint};

    use super::*;
    use crate::tui::data::series::History;

    fn parsed(text: &str) -> (Parsed, History) {
        let mut parsed = parse(LineChunk {
            offset: 1000,
            bytes: text.as_bytes(),
        });
        let mut history = History::default();
        history.extend(std::mem::take(&mut parsed.steps));
        (parsed, history)
    }

    #[test]
    fn steps_become_columns_and_other_events_stay_events() {
        let mut text = String::new();
        for step in 1..=3_usize {
            let metrics = Metrics::default()
                .with("epoch", 0.5)
                .with("loss", if step == 2 { f64::NAN } else { 0.25 })
                .with("rewards/보상/mean", 1usize)
                .with("count", -3.0);
            let event = Event::new(Step {
                step,
                total_steps: 9,
                metrics,
            })
            .with("note", "\"따옴표\"".to_owned())
            .with("more", serde_json::json!([1.0, 2.0]));
            text.push_str(&(event.to_line() + "\n"));
        }
        let checkpoint = Event::new(CheckpointEvent {
            checkpoint: SavePoint::Epoch(1),
            step: 3,
            adapter_difference: None,
        });
        text.push_str(&format!("\n{}\n", checkpoint.to_line()));
        let (parsed, history) = parsed(&text);
        assert_eq!((parsed.step_count, parsed.bad_lines), (3, 0));
        assert_eq!(parsed.events, [checkpoint]);
        let names: Vec<&str> = history.names().collect();
        assert_eq!(names, ["count", "epoch", "loss", "rewards/보상/mean"]);
        let losses = history.get("loss").unwrap().points();
        assert!(losses[1].1.is_nan());
        assert_eq!([losses[0], losses[2]], [(1.0, 0.25), (3.0, 0.25)]);
        assert_eq!(history.last("count"), Some(-3.0));
    }

    #[test]
    fn lines_of_another_program_are_read_and_bad_ones_are_reported() {
        let time = r#""time":"2026-11-22T03:33:24Z""#;
        let text = format!(
            "{{{time},\"step\":4,\"event\":\"step\",\"v\":1,\"a\\u0062\":2}}\n\
             not json\n\
             {{\"v\":1,{time},\"event\":\"step\",\"loss\":1}}\n\
             {{\"v\":2,{time},\"event\":\"step\",\"step\":5}}\n\
             {{\"v\":1,{time},\"event\":\"step\",\"step\":6}} behind\n\
             {{\"v\":1,\"event\":\"st"
        );
        let (parsed, history) = parsed(&text);
        assert_eq!(history.get("ab").unwrap().points(), [(4.0, 2.0)]);
        assert!(history.get("loss").is_none(), "a step without its number");
        assert_eq!((parsed.step_count, parsed.bad_lines), (1, 4));
        let latest = parsed.latest_bad_line.unwrap();
        assert!(
            latest.starts_with("at byte 12") && latest.contains("EOF"),
            "{latest}"
        );
    }

    #[test]
    fn steps_taken_again_within_a_piece_replace_the_old_ones() {
        let line = |step: usize, loss: f64| {
            let metrics = Metrics::default().with("loss", loss);
            let step = Step {
                step,
                total_steps: 9,
                metrics,
            };
            Event::new(step).to_line()
        };
        let text = [line(1, 0.1), line(2, 0.2), line(3, 0.3), line(2, 9.0)].join("\n");
        let (_, history) = parsed(&text);
        assert_eq!(
            history.get("loss").unwrap().points(),
            [(1.0, 0.1), (2.0, 9.0)]
        );
    }
}
