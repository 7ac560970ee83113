//! Which process runs where, and whether it still does.

use serde::{Deserialize, Serialize};

/// The name of this machine; `unknown` where it has none.
pub fn host_name() -> String {
    let from_file = |path: &str| std::fs::read_to_string(path).ok();
    [
        from_file("/proc/sys/kernel/hostname"),
        from_file("/etc/hostname"),
        std::env::var("HOSTNAME").ok(),
    ]
    .into_iter()
    .flatten()
    .map(|name| name.trim().to_owned())
    .find(|name| !name.is_empty())
    .unwrap_or_else(|| "unknown".to_owned())
}

/// Whether the process behind a run is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Liveness {
    /// The process runs on this machine.
    Alive,
    /// The run says that it is running, but its process has exited.
    Dead,
    /// The run has ended by its own word.
    Ended,
    /// The process is on another machine, or this system does not say.
    Unknown,
}

/// When a process started, in clock ticks since boot; distinguishes it from a later one with the same
/// id. `None` if the process has exited, is a zombie, or the system has no /proc.
pub(super) fn start_ticks(pid: u32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field is the program's name in parentheses and may itself hold any of these.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    let state = fields.next()?;
    // proc(5): field 3 is the state, field 22 the start time.
    if matches!(state, "Z" | "X") {
        None
    } else {
        fields.nth(18)?.parse().ok()
    }
}

/// Whether a process of this id, started at `started` where that is known, runs on `host`.
pub(super) fn liveness(pid: u32, started: Option<u64>, host: &str) -> Liveness {
    if host != host_name() || !std::path::Path::new("/proc/self/stat").exists() {
        return Liveness::Unknown;
    }
    match (start_ticks(pid), started) {
        (None, _) => Liveness::Dead,
        (Some(now), Some(then)) if now != then => Liveness::Dead,
        _ => Liveness::Alive,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_is_alive_and_an_exited_one_is_dead() {
        let host = host_name();
        let own = std::process::id();
        let started = start_ticks(own);
        assert!(started.is_some());
        assert_eq!(liveness(own, started, &host), Liveness::Alive);
        assert_eq!(liveness(own, Some(1), &host), Liveness::Dead);
        assert_eq!(liveness(own, started, "elsewhere"), Liveness::Unknown);

        let mut child = std::process::Command::new("true").spawn().unwrap();
        let pid = child.id();
        child.wait().unwrap();
        assert_eq!(liveness(pid, None, &host), Liveness::Dead);
    }
}
