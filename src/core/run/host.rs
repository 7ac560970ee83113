//! What this process uses of its machine, from Linux's /proc. On other systems nothing is known.

use std::time::Instant;

use super::system::HostSample;

/// Clock ticks a second of /proc/…/stat. Linux keeps 100 there on every machine it still runs on
/// but Alpha, whatever its own clock does.
const TICKS_PER_SECOND: f64 = 100.0;

/// Memory of this process that is resident, in bytes; memory-mapped files are part of it.
pub fn resident_memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    kibibytes(&status, "VmRSS:")
}

/// Memory of this machine, in bytes.
pub fn total_memory() -> Option<u64> {
    HostMeter::new().sample().total
}

/// Samples the machine. Processor time is counted from one sample to the next.
#[derive(Debug)]
pub struct HostMeter {
    time: Instant,
    ticks: Option<u64>,
}

impl HostMeter {
    /// A meter whose first sample counts processor time from now on.
    pub fn new() -> Self {
        Self {
            time: Instant::now(),
            ticks: processor_ticks(),
        }
    }

    /// A sample of this moment.
    pub fn sample(&mut self) -> HostSample {
        let memory = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let (now, ticks) = (Instant::now(), processor_ticks());
        let seconds = now.duration_since(self.time).as_secs_f64();
        let cpu_percent = match (self.ticks, ticks) {
            // A tick is 10 ms: over less time than a few of them the share would be noise.
            (Some(before), Some(after)) if seconds > 0.1 => {
                let used = after.saturating_sub(before) as f64 / TICKS_PER_SECOND;
                Some((used / seconds * 1000.0).round() / 10.0)
            }
            _ => None,
        };
        (self.time, self.ticks) = (now, ticks);
        HostSample {
            rss: resident_memory(),
            total: kibibytes(&memory, "MemTotal:"),
            available: kibibytes(&memory, "MemAvailable:"),
            cpu_percent,
        }
    }
}

impl Default for HostMeter {
    fn default() -> Self {
        Self::new()
    }
}

/// The value of a line like `VmRSS:     1234 kB`, in bytes.
fn kibibytes(text: &str, key: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(key))?;
    let number: u64 = line.split_whitespace().next()?.parse().ok()?;
    number.checked_mul(1024)
}

/// Processor time of all threads of this process so far.
fn processor_ticks() -> Option<u64> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // The second field is the program's name in parentheses and may itself hold any of these.
    // proc(5): fields 14 and 15 are the time in user and in kernel mode.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let kernel: u64 = fields.next()?.parse().ok()?;
    Some(user + kernel)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_proc_are_read_as_bytes() {
        let text = "Name:\tVmRSS: 7 kB\nVmRSS:\t    1234 kB\nMemTotal:       x kB\n";
        assert_eq!(kibibytes(text, "VmRSS:"), Some(1234 * 1024));
        assert_eq!(kibibytes(text, "MemTotal:"), None);
        assert_eq!(kibibytes(text, "MemAvailable:"), None);
        let memory = "MemTotal:       16384 kB\nMemFree: 1 kB\n";
        assert_eq!(kibibytes(memory, "MemTotal:"), Some(16 << 20));
        assert_eq!(kibibytes("MemFree: 1 kB\n", "MemTotal:"), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_process_and_machine_are_measured() {
        let mut meter = HostMeter::new();
        meter.time = Instant::now() - std::time::Duration::from_secs(1);
        meter.ticks = meter.ticks.map(|ticks| ticks.saturating_sub(50));
        let sample = meter.sample();
        let (rss, total) = (sample.rss.unwrap(), sample.total.unwrap());
        assert!(rss > 100_000 && rss < total, "{sample:?}");
        assert!(sample.available.unwrap() <= total, "{sample:?}");
        assert!(sample.cpu_percent.unwrap() <= 100_000.0, "{sample:?}");
        // The next one comes too soon to measure a share.
        assert_eq!(meter.sample().cpu_percent, None);
    }
}
