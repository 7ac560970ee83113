//! The properties of this machine that the checks use. Read once, so that the checks are pure.

use std::path::{Path, PathBuf};

use crate::device::{cache_folder, cuda_device_count};
use moim_core::experiment::{DeviceChoice, Experiment};
use moim_core::memory::{Bytes, device_memory};

/// A file system, as seen from a folder on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disk {
    /// The folder that will be written to; it need not exist yet.
    pub folder: PathBuf,
    /// Bytes that can still be written.
    pub free: u64,
    /// Identifies the file system.
    pub id: u64,
}

impl Disk {
    /// The file system of `folder`, which need not exist yet; `None` if the system does not report it.
    pub fn of(folder: &Path) -> Option<Self> {
        let whole = std::path::absolute(folder).ok()?;
        let existing = whole.ancestors().find(|path| path.exists())?;
        let disk = rustix::fs::statvfs(existing).ok()?;
        // Some file systems, such as procfs, have no blocks.
        if disk.f_blocks == 0 {
            return None;
        }
        let id = rustix::fs::stat(existing).ok()?.st_dev;
        Some(Self {
            folder: folder.to_owned(),
            free: disk.f_bavail.saturating_mul(disk.f_frsize),
            id,
        })
    }
}

/// Memory and disks of this machine, as far as they are known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Machine {
    /// Whether there is a CUDA device.
    pub has_cuda: bool,
    /// The total memory of the device that the experiment runs on.
    pub memory: Option<Bytes>,
    /// The disk of the run directory.
    pub output: Option<Disk>,
    /// The disk of cached quantised weights, if they are cached.
    pub cache: Option<Disk>,
}

impl Machine {
    /// Reads the properties that `experiment` depends on.
    pub fn of(experiment: &Experiment) -> Self {
        let device = experiment.model.device;
        let has_cuda = device != DeviceChoice::Cpu && cuda_device_count() > 0;
        let is_cpu = match device {
            DeviceChoice::Cpu => true,
            DeviceChoice::Auto => !has_cuda,
            DeviceChoice::Cuda(_) | DeviceChoice::Wgpu => false,
        };
        Self {
            has_cuda,
            memory: device_memory(experiment, is_cpu),
            output: Disk::of(&experiment.run.output_dir),
            cache: cache_folder(|name| std::env::var_os(name)).and_then(|path| Disk::of(&path)),
        }
    }
}

impl Machine {
    /// The same machine with another output folder.
    pub fn with_output(self, folder: &Path) -> Self {
        Self {
            output: Disk::of(folder),
            ..self
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_that_does_not_exist_yet_is_on_the_disk_of_its_parent() {
        let folder = tempfile::tempdir().unwrap();
        let there = Disk::of(folder.path()).unwrap();
        let absent = Disk::of(&folder.path().join("a/b")).unwrap();
        assert_eq!(absent.id, there.id);
        assert!(absent.folder.ends_with("a/b"));
        assert_eq!(Disk::of(Path::new("/proc/outputs")), None);
    }

    #[test]
    fn this_machine_has_memory_and_a_disk() {
        let mut experiment = Experiment::default();
        experiment.model.device = DeviceChoice::Cpu;
        experiment.run.output_dir = std::env::temp_dir();
        let machine = Machine::of(&experiment);
        assert!(!machine.has_cuda);
        assert!(machine.memory.is_some_and(|bytes| bytes.0 > 1 << 20));
        assert!(machine.output.is_some());
    }
}
