//! File systems without reliable change notifications: network and other remote file systems only
//! report writes of this machine.

use std::path::{Path, PathBuf};

/// File system types whose changes by other machines go unnoticed.
const REMOTE: [&str; 24] = [
    "9p",
    "acfs",
    "afs",
    "beegfs",
    "ceph",
    "cifs",
    "coda",
    "davfs",
    "drvfs",
    "glusterfs",
    "gpfs",
    "lustre",
    "ncpfs",
    "nfs",
    "nfs3",
    "nfs4",
    "orangefs",
    "prl_fs",
    "pvfs2",
    "smb3",
    "smbfs",
    "vboxsf",
    "virtiofs",
    "vmhgfs",
];

/// Whether files on this type of file system must be polled. Every FUSE file system counts, since it
/// may be remote.
pub fn is_remote(kind: &str) -> bool {
    kind == "fuse" || kind.starts_with("fuse.") || REMOTE.contains(&kind)
}

/// The type of the file system of `path`, from the text of `/proc/self/mountinfo`. `path` must be
/// absolute and without links.
pub fn kind_of(mountinfo: &str, path: &Path) -> Option<String> {
    mountinfo
        .lines()
        .filter_map(mount_point_and_kind)
        .filter(|(mount_point, _)| path.starts_with(mount_point))
        // Of mounts on the same point the last one hides the others.
        .max_by_key(|(mount_point, _)| mount_point.components().count())
        .map(|(_, kind)| kind.to_owned())
}

/// Format: proc_pid_mountinfo(5). Optional fields end with a lone `-`.
fn mount_point_and_kind(line: &str) -> Option<(PathBuf, &str)> {
    let (mount, source) = line.split_once(" - ")?;
    let mount_point = mount.split(' ').nth(4)?;
    Some((
        PathBuf::from(unescape(mount_point)),
        source.split(' ').next()?,
    ))
}

/// Space, tab, newline and backslash are written as `\` and three octal digits.
fn unescape(field: &str) -> String {
    [
        ("\\040", " "),
        ("\\011", "\t"),
        ("\\012", "\n"),
        ("\\134", "\\"),
    ]
    .iter()
    .fold(field.to_owned(), |text, (code, character)| {
        text.replace(code, character)
    })
}

/// Why `directory` must be polled; `None` if notifications work or nothing is known. For a directory
/// that does not exist yet, its nearest existing ancestor decides.
pub fn polling_reason(directory: &Path) -> Option<String> {
    let mountinfo = std::fs::read_to_string("/proc/self/mountinfo").ok()?;
    let existing = directory
        .ancestors()
        .find_map(|ancestor| ancestor.canonicalize().ok())?;
    let kind = kind_of(&mountinfo, &existing)?;
    is_remote(&kind).then(|| format!("{kind} is a network or remote file system"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTINFO: &str = "\
22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
23 22 0:21 / /proc rw shared:13 - proc proc rw
30 22 0:40 / /mnt/data rw shared:2 master:3 - nfs4 server:/export rw,vers=4.2
31 30 0:41 / /mnt/data/local rw - xfs /dev/sdb1 rw
32 22 0:42 / /mnt/two\\040words rw - fuse.sshfs host:/ rw
33 22 0:43 / /over rw - nfs server:/a rw
34 22 0:44 / /over rw - tmpfs tmpfs rw
bad line
";

    #[test]
    fn the_deepest_and_last_mount_decides() {
        let cases = [
            ("/home/me", "ext4"),
            ("/mnt/data/run/infer_results", "nfs4"),
            ("/mnt/database", "ext4"),
            ("/mnt/data/local/x", "xfs"),
            ("/mnt/two words/x", "fuse.sshfs"),
            ("/over/x", "tmpfs"),
        ];
        for (path, kind) in cases {
            let found = kind_of(MOUNTINFO, Path::new(path));
            assert_eq!(found.as_deref(), Some(kind), "{path}");
        }
        assert_eq!(kind_of("", Path::new("/")), None);
    }

    #[test]
    fn remote_types_are_known() {
        for kind in [
            "nfs",
            "nfs4",
            "cifs",
            "9p",
            "fuse.rclone",
            "fuse",
            "lustre",
            "beegfs",
        ] {
            assert!(is_remote(kind), "{kind}");
        }
        for kind in ["ext4", "xfs", "btrfs", "tmpfs", "overlay", "zfs", "fuseblk"] {
            assert!(!is_remote(kind), "{kind}");
        }
    }
}
