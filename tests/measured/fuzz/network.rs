//! Nothing listens on a network, and nothing calls out.

use std::path::Path;
use std::process::Command;

use super::readers::repository;

fn sources(folder: &Path, found: &mut Vec<std::path::PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

#[test]
fn no_source_opens_a_socket() {
    let mut files = Vec::new();
    sources(&repository("src"), &mut files);
    sources(&repository("ui"), &mut files);
    assert!(files.len() > 200, "{}", files.len());
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        for name in [
            "std::net",
            "TcpListener",
            "TcpStream",
            "UdpSocket",
            "UnixListener",
            "rustix::net",
            "libc::socket",
        ] {
            assert!(!text.contains(name), "{} names {name}", file.display());
        }
    }
}

/// Crates of HTTP and of sockets, by the names they go under, among all that the program is built of.
/// Cargo.lock names more: what features that are off would bring.
#[test]
fn no_dependency_speaks_http() {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let arguments = [
        "tree",
        "--locked",
        "--offline",
        "--edges",
        "normal",
        "--prefix",
        "none",
    ];
    let tree = Command::new(cargo)
        .args(arguments)
        .current_dir(repository(""))
        .output()
        .unwrap();
    assert!(
        tree.status.success(),
        "{}",
        String::from_utf8_lossy(&tree.stderr)
    );
    let tree = String::from_utf8(tree.stdout).unwrap();
    let packages: Vec<&str> = tree
        .lines()
        .filter_map(|line| line.split(' ').next())
        .collect();
    assert!(packages.contains(&"minijinja") && packages.len() > 100);
    for name in HTTP {
        assert!(!packages.contains(&name), "{name}");
    }
}

const HTTP: [&str; 15] = [
    "reqwest",
    "hyper",
    "ureq",
    "curl",
    "hf-hub",
    "isahc",
    "attohttpc",
    "tonic",
    "axum",
    "warp",
    "tungstenite",
    "quinn",
    "tokio",
    "rustls",
    "openssl",
];
