//! Samples of system.jsonl as metrics over time.

use jiff::Timestamp;
use moim_core::run::SystemSample;

/// What was measured, by the names that [`OpenRun::system`](super::run::OpenRun::system) has.
/// Bytes, percent, degrees Celsius and watts.
pub fn metrics_of(sample: &SystemSample) -> impl Iterator<Item = (&'static str, f64)> {
    let bytes = |bytes: u64| bytes as f64;
    let host = sample.host;
    let device = sample.device;
    let card = sample.card.unwrap_or_default();
    [
        ("host/rss", host.rss.map(bytes)),
        ("host/available", host.available.map(bytes)),
        ("host/cpu_percent", host.cpu_percent),
        ("device/in_use", device.map(|device| bytes(device.in_use))),
        (
            "device/reserved",
            device.map(|device| bytes(device.reserved)),
        ),
        (
            "device/peak_in_use",
            device.map(|device| bytes(device.peak_in_use)),
        ),
        ("card/used", card.used.map(bytes)),
        ("card/utilization_percent", card.utilization_percent),
        ("card/temperature_c", card.temperature_c),
        ("card/power_watts", card.power_watts),
    ]
    .into_iter()
    .filter_map(|(name, value)| Some((name, value?)))
}

/// Seconds from one moment to another; negative where the clock was set back.
pub fn seconds_between(start: Timestamp, end: Timestamp) -> f64 {
    end.duration_since(start).as_secs_f64()
}
