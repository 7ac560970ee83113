//! Metrics at a moment, under the names that other programs show.

use jiff::Timestamp;
use serde::Deserialize;

use crate::run::{Event, EventKind, Score, Step, SystemSample};

/// W&B counts memory in MiB and calls it MB.
const MIB: f64 = 1024.0 * 1024.0;

/// Metrics of one moment.
#[derive(Clone, Debug, PartialEq)]
pub struct Point {
    /// When they were measured.
    pub time: Timestamp,
    /// Optimizer steps taken by then.
    pub step: u64,
    /// Each metric by name. NaN stands for every value that was not finite: logs do not keep apart
    /// which of them it was.
    pub scalars: Vec<(String, f64)>,
}

impl Point {
    /// The metrics of a `step` event as `train/…` and those of a `score` event as `eval/…`, which is
    /// how transformers reports what TRL logs; `None` for other events.
    pub fn of_event(event: &Event) -> Option<Self> {
        let (step, scalars) = match &event.kind {
            EventKind::Step(step) => (step.step, step_scalars(step)),
            EventKind::Score(score) => (score.step?, score_scalars(score)),
            _ => return None,
        };
        Some(Self {
            time: event.time,
            step: step as u64,
            scalars,
        })
    }

    /// The metrics of the machine under the names of W&B, whose programs draw them by these names.
    /// The card of the run is `gpu.0`, whatever its number in the machine.
    pub fn of_sample(sample: &SystemSample) -> Self {
        let mut scalars = Vec::new();
        let mut add = |name: &str, value: Option<f64>| {
            scalars.extend(value.map(|value| (name.to_owned(), value)));
        };
        let bytes = |bytes: Option<u64>| bytes.map(|bytes| bytes as f64);
        let percent = |part: Option<f64>, whole: Option<f64>| {
            let (part, whole) = (part?, whole?);
            (whole > 0.0).then(|| 100.0 * part / whole)
        };
        let host = sample.host;
        let (rss, total, available) = (bytes(host.rss), bytes(host.total), bytes(host.available));
        let taken = total.zip(available).map(|(total, free)| total - free);
        add("proc.cpu.percent", host.cpu_percent);
        add("memory_percent", percent(taken, total));
        add("proc.memory.rssMB", rss.map(|bytes| bytes / MIB));
        add("proc.memory.percent", percent(rss, total));
        add(
            "proc.memory.availableMB",
            available.map(|bytes| bytes / MIB),
        );
        if let Some(card) = sample.card {
            let used = bytes(card.used);
            add("gpu.0.gpu", card.utilization_percent);
            add("gpu.0.memoryAllocated", percent(used, bytes(card.total)));
            add("gpu.0.memoryAllocatedBytes", used);
            add("gpu.0.temp", card.temperature_c);
            add("gpu.0.powerWatts", card.power_watts);
        }
        if let Some(pools) = sample.device {
            add("gpu.0.pool.inUseBytes", bytes(Some(pools.in_use)));
            add("gpu.0.pool.reservedBytes", bytes(Some(pools.reserved)));
            add("gpu.0.pool.peakInUseBytes", bytes(Some(pools.peak_in_use)));
        }
        Self {
            time: sample.time,
            step: sample.step as u64,
            scalars,
        }
    }

    /// Seconds since 1970.
    pub fn unix_seconds(&self) -> f64 {
        unix_seconds(self.time)
    }
}

/// Seconds since 1970.
pub(super) fn unix_seconds(time: Timestamp) -> f64 {
    time.as_microsecond() as f64 / 1e6
}

fn step_scalars(step: &Step) -> Vec<(String, f64)> {
    let metrics = step.metrics.iter();
    metrics
        .map(|(name, value)| (format!("train/{name}"), value))
        .collect()
}

/// The means of an answer file, or of one question type in it.
#[derive(Deserialize)]
struct Means {
    final_mean: Option<f64>,
    em: Option<f64>,
    rouge1: Option<f64>,
    bertscore: Option<f64>,
    format: Option<f64>,
}

impl Means {
    /// Each with its name in a `score` event.
    fn named(&self) -> [(&'static str, Option<f64>); 5] {
        [
            ("final_mean", self.final_mean),
            ("em", self.em),
            ("rouge1", self.rouge1),
            ("bertscore", self.bertscore),
            ("format", self.format),
        ]
    }
}

/// What a file has no value for is left out; the first releases wrote it as a null.
fn score_scalars(score: &Score) -> Vec<(String, f64)> {
    let mut scalars = Vec::new();
    scalars.extend(
        score
            .epoch
            .map(|epoch| ("eval/epoch".to_owned(), epoch as f64)),
    );
    let means = Means {
        final_mean: score.final_mean,
        em: score.em,
        rouge1: score.rouge1,
        bertscore: score.bertscore,
        format: score.format,
    };
    for (name, mean) in means.named() {
        let mean = mean.filter(|mean| mean.is_finite());
        scalars.extend(mean.map(|mean| (format!("eval/{name}"), mean)));
        let interval = score.intervals.as_ref().and_then(|all| all.of(name));
        for (end, value) in ["low", "high"]
            .into_iter()
            .zip(interval.into_iter().flatten())
        {
            scalars.push((format!("eval/{name}_{end}"), value));
        }
    }
    for (question_type, means) in score.per_type.iter().flatten() {
        let Ok(means) = Means::deserialize(means) else {
            continue;
        };
        for (name, mean) in means.named() {
            scalars.extend(mean.map(|mean| (format!("eval/{question_type}/{name}"), mean)));
        }
    }
    scalars
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::run::{CardSample, DeviceSample, HostSample};

    fn event(name: &str, fields: Value) -> Event {
        let mut line = json!({"v": 1, "time": "2026-11-22T03:33:24Z", "event": name});
        let object = line.as_object_mut().unwrap();
        object.extend(fields.as_object().cloned().unwrap());
        serde_json::from_value(line).unwrap()
    }

    fn named(point: &Point, name: &str) -> Option<f64> {
        let found = point.scalars.iter().find(|(scalar, _)| scalar == name);
        found.map(|(_, value)| *value)
    }

    #[test]
    fn a_step_has_trls_names_and_keeps_what_is_not_finite() {
        let step = event(
            "step",
            json!({"step": 3, "total_steps": 9, "loss": null, "rewards/format/mean": 0.5,
                   "absent": null, "nonfinite": ["loss"]}),
        );
        let point = Point::of_event(&step).unwrap();
        assert_eq!((point.step, point.scalars.len()), (3, 2));
        assert_eq!(named(&point, "train/rewards/format/mean"), Some(0.5));
        assert!(named(&point, "train/loss").is_some_and(f64::is_nan));
        assert_eq!(Point::of_event(&event("start", json!({"step": 1}))), None);
    }

    #[test]
    fn a_score_tells_of_the_whole_file_and_of_each_type() {
        let score = event(
            "score",
            json!({"step": 53, "epoch": 1, "rank": 1, "final_mean": 0.75, "em": null,
                   "intervals": {"final_mean": [0.7, 0.8]},
                   "per_type": {"선택형": {"items": 85, "em": 0.5}, "교정형": null},
                   "nonfinite": ["em"]}),
        );
        let point = Point::of_event(&score).unwrap();
        assert_eq!(
            point.scalars,
            [
                ("eval/epoch", 1.0),
                ("eval/final_mean", 0.75),
                ("eval/final_mean_low", 0.7),
                ("eval/final_mean_high", 0.8),
                ("eval/선택형/em", 0.5)
            ]
            .map(|(name, value)| (name.to_owned(), value))
        );
    }

    #[test]
    fn a_sample_tells_what_was_measured_in_wandbs_units() {
        let mut sample = SystemSample {
            time: Timestamp::UNIX_EPOCH,
            step: 4,
            phase: None,
            host: HostSample {
                rss: Some(512 * 1024 * 1024),
                total: Some(1024 * 1024 * 1024),
                ..HostSample::default()
            },
            device: None,
            card: None,
            note: None,
        };
        let point = Point::of_sample(&sample);
        assert_eq!(named(&point, "proc.memory.rssMB"), Some(512.0));
        assert_eq!(named(&point, "proc.memory.percent"), Some(50.0));
        assert_eq!(point.scalars.len(), 2);

        sample.card = Some(CardSample {
            used: Some(1),
            total: Some(0),
            temperature_c: Some(61.0),
            ..CardSample::default()
        });
        sample.device = Some(DeviceSample {
            in_use: 5,
            reserved: 8,
            peak_in_use: 7,
        });
        let point = Point::of_sample(&sample);
        assert_eq!(named(&point, "gpu.0.temp"), Some(61.0));
        assert_eq!(named(&point, "gpu.0.memoryAllocated"), None);
        assert_eq!(named(&point, "gpu.0.pool.peakInUseBytes"), Some(7.0));
    }
}
