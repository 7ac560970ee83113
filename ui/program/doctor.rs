//! `moim doctor`: the capabilities of this machine and this terminal.

mod kernels;
mod terminal;

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use moim_core::memory::Bytes;
use moim_core::run::HostMeter;
use moim_core::watch::filesystem;
use moim_engine::device::cuda_device_count;

use moim_ui::cli::DoctorArguments;
use moim_ui::console::to_stdout;
use moim_ui::failure::{Outcome, exit};

/// Runs the command. It never fails for missing capabilities: the CPU is enough.
pub fn run(arguments: &DoctorArguments) -> Outcome {
    if arguments.kernels {
        return kernels::run(arguments);
    }
    let mut rows = vec![
        ("moim", version()),
        ("system", system()),
        ("processors", processors()),
        ("memory", memory()),
        ("cuda", cuda()),
        ("driver", driver()),
        ("locale", locale()),
        ("outputs", outputs(&arguments.outputs)),
        ("watching", watching()),
    ];
    rows.extend(terminal::rows());
    let mut text = String::new();
    for (name, value) in rows {
        text.push_str(&format!("{name:<11} {value}\n"));
    }
    to_stdout(&text)?;
    Ok(exit::DONE)
}

fn version() -> String {
    format!(
        "{}, event format 1, {}",
        env!("CARGO_PKG_VERSION"),
        env::consts::ARCH
    )
}

fn first_line(path: &str) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    Some(text.lines().next()?.trim().to_owned())
}

fn system() -> String {
    let release = first_line("/proc/sys/kernel/osrelease").unwrap_or_default();
    format!("{} {release}", env::consts::OS)
}

fn processors() -> String {
    match std::thread::available_parallelism() {
        Ok(count) => format!("{count} usable by this process"),
        Err(error) => format!("unknown: {error}"),
    }
}

fn memory() -> String {
    let host = HostMeter::new().sample();
    match (host.total.map(Bytes), host.available.map(Bytes)) {
        (Some(total), Some(available)) => format!("{total}, {available} available"),
        _ => "unknown: /proc/meminfo cannot be read".to_owned(),
    }
}

fn cuda() -> String {
    match cuda_device_count() {
        0 => "no device; training runs on the CPU (device = \"auto\" or \"cpu\")".to_owned(),
        1 => "1 device: cuda:0".to_owned(),
        count => format!("{count} devices: cuda:0 to cuda:{}", count - 1),
    }
}

fn driver() -> String {
    first_line("/proc/driver/nvidia/version").unwrap_or_else(|| "no NVIDIA driver".to_owned())
}

/// The locale as C programs choose it: the first of three variables that is set.
fn locale() -> String {
    let set = ["LC_ALL", "LC_CTYPE", "LANG"]
        .into_iter()
        .find_map(|name| Some((name, env::var(name).ok().filter(|value| !value.is_empty())?)));
    let Some((name, value)) = set else {
        return "none set, so the terminal may not show Korean; set LANG=C.UTF-8".to_owned();
    };
    let lower = value.to_lowercase();
    if lower.contains("utf-8") || lower.contains("utf8") {
        format!("{name}={value}, UTF-8")
    } else {
        format!(
            "{name}={value} is not UTF-8, so the terminal may not show Korean; set LANG=C.UTF-8"
        )
    }
}

fn outputs(directory: &Path) -> String {
    let existing = nearest_existing(directory);
    let kind = fs::read_to_string("/proc/self/mountinfo")
        .ok()
        .and_then(|mounts| filesystem::kind_of(&mounts, &existing))
        .unwrap_or_else(|| "unknown".to_owned());
    let free = rustix::fs::statvfs(&existing).map_or_else(
        |error| format!("free space unknown: {error}"),
        |stat| {
            let bytes = stat.f_bavail as f64 * stat.f_frsize as f64;
            format!("{:.1} GiB free", bytes / f64::from(1 << 30))
        },
    );
    let writable = match tempfile::tempfile_in(&existing) {
        Ok(_) => "writable".to_owned(),
        Err(error) => format!("not writable: {error}"),
    };
    let absent = if directory.exists() {
        ""
    } else {
        " (not created yet)"
    };
    format!(
        "{}{absent}: {kind}, {free}, {writable}",
        directory.display()
    )
}

/// The absolute path of the folder, or of its nearest existing ancestor.
fn nearest_existing(directory: &Path) -> PathBuf {
    let whole = std::path::absolute(directory).unwrap_or_else(|_| directory.to_owned());
    let found = whole.ancestors().find(|path| path.exists());
    let found = found.unwrap_or(&whole);
    found.canonicalize().unwrap_or_else(|_| found.to_owned())
}

fn watching() -> String {
    let limit = |name: &str| {
        first_line(&format!("/proc/sys/fs/inotify/{name}")).unwrap_or_else(|| "unknown".to_owned())
    };
    format!(
        "inotify: at most {} watches, {} instances, {} queued events",
        limit("max_user_watches"),
        limit("max_user_instances"),
        limit("max_queued_events")
    )
}
