//! system.jsonl: what a run uses of its machine, one sample per line.
//!
//! ```json
//! {"v":1,"time":"2026-11-22T03:33:24.5Z","step":12,"phase":"rollout",
//!  "host":{"rss":812646400,"total":25769803776,"available":20401094656,"cpu_percent":187.5},
//!  "device":{"in_use":8053063680,"reserved":9663676416,"peak_in_use":9126805504},
//!  "card":{"used":11811160064,"total":25769803776,"utilization_percent":93,"temperature_c":61,"power_watts":284.5}}
//! ```
//!
//! Measured, and no part of what a run computes: a resumed run continues to append, and nothing is
//! cut back. What could not be measured is left out.

use std::path::Path;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::jsonl::{JsonLines, Versioned};
use super::publish::WriteError;
use super::state::{read_time, write_time};

/// One line of system.jsonl. Fields that a later version adds are ignored here.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SystemSample {
    /// When.
    #[serde(serialize_with = "write_time", deserialize_with = "read_time")]
    pub time: Timestamp,
    /// Optimizer steps taken so far.
    #[serde(default)]
    pub step: usize,
    /// The current phase, as in [`Progress`](super::Progress); `None` outside of any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub phase: Option<String>,
    /// The machine, and the trainer's process on it.
    #[serde(default)]
    pub host: HostSample,
    /// burn's memory pools on the device; `None` on the CPU.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<DeviceSample>,
    /// The card as its driver reports it, other programs included; `None` on the CPU and if the driver
    /// cannot be asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub card: Option<CardSample>,
    /// A note on the samples, e.g. why they have no `card`; written once per process.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// Memory in bytes, and the processor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct HostSample {
    /// Resident memory of the trainer's process, memory-mapped files included.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rss: Option<u64>,
    /// Memory of the machine.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total: Option<u64>,
    /// Memory of the machine that programs could still take without swapping.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub available: Option<u64>,
    /// Processor time of the process since the sample before, in percent of one core: 400 is four
    /// cores at work.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_percent: Option<f64>,
}

/// Memory pools of a device, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceSample {
    /// Live allocations.
    pub in_use: u64,
    /// Taken from the device: `in_use` and what is kept for later.
    pub reserved: u64,
    /// The largest `in_use` that was seen since the phase started. Readings are some milliseconds
    /// apart, so a shorter peak can be missed; `reserved` never misses one.
    #[serde(default)]
    pub peak_in_use: u64,
}

/// A card as its driver reports it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CardSample {
    /// Bytes in use, by any program.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub used: Option<u64>,
    /// Bytes in all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total: Option<u64>,
    /// Share of the time in which some kernel ran.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub utilization_percent: Option<f64>,
    /// Degrees Celsius.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub temperature_c: Option<f64>,
    /// Watts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub power_watts: Option<f64>,
}

/// The writer of system.jsonl.
#[derive(Debug)]
pub struct SystemLog {
    lines: JsonLines,
}

impl SystemLog {
    /// Opens `path` for appending; a last line that a crash left incomplete is moved to `system.discarded.jsonl`.
    ///
    /// # Errors
    /// Names the file.
    pub fn open(path: &Path) -> Result<Self, WriteError> {
        Ok(Self {
            lines: JsonLines::open(path)?,
        })
    }

    /// Appends one sample, in one write.
    ///
    /// # Errors
    /// Names the file (a full disk, say); the file keeps its whole lines.
    pub fn append(&mut self, sample: &SystemSample) -> Result<(), WriteError> {
        let line = serde_json::to_string(&Versioned::new(sample)).map_err(std::io::Error::from);
        self.lines
            .append(&line.map_err(WriteError::on("append to", self.lines.path()))?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::read_lines;

    #[test]
    fn samples_are_appended_and_say_only_what_was_measured() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("system.jsonl");
        let mut sample = SystemSample {
            time: "2026-11-22T03:33:24.5Z".parse().unwrap(),
            step: 3,
            phase: None,
            host: HostSample {
                rss: Some(1024),
                ..HostSample::default()
            },
            device: None,
            card: None,
            note: None,
        };
        SystemLog::open(&path).unwrap().append(&sample).unwrap();
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(
            text,
            "{\"v\":1,\"time\":\"2026-11-22T03:33:24.5Z\",\"step\":3,\"host\":{\"rss\":1024}}\n"
        );
        let first = sample.clone();
        sample.phase = Some("backward".to_owned());
        sample.device = Some(DeviceSample {
            in_use: 5,
            reserved: 8,
            peak_in_use: 7,
        });
        sample.card = Some(CardSample {
            power_watts: Some(284.5),
            ..CardSample::default()
        });
        sample.note = Some("한국어".to_owned());
        SystemLog::open(&path).unwrap().append(&sample).unwrap();
        let read: Vec<SystemSample> = read_lines(&path).unwrap().map(Result::unwrap).collect();
        assert_eq!(read, [first, sample]);
    }

    #[test]
    fn fields_of_later_versions_are_ignored_and_absent_ones_are_none() {
        let line = r#"{"v":1,"time":"2026-11-22T03:33:24Z","later":[1],"host":{"rss":5,"swap":1}}"#;
        let sample: SystemSample = serde_json::from_str(line).unwrap();
        assert_eq!((sample.step, sample.host.rss), (0, Some(5)));
        assert_eq!((sample.phase, sample.device), (None, None));
    }
}
