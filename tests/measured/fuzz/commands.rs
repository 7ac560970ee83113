//! Reward programs that misbehave: they are ended in time, with what they started, and what they
//! write is bounded.

use std::path::Path;
use std::time::{Duration, Instant};

use moim::reward::{CommandError, CommandReward, RewardSample};

use crate::allocator::{ASKED_FOR, alone};

/// Lines that wait, in the largest of forms.
const MEMORY: usize = 320 << 20;

fn ask(script: &str, timeout: Duration) -> Result<Vec<Option<f64>>, CommandError> {
    let argv = ["sh", "-c", script].map(str::to_owned);
    let mut reward = CommandReward::start("custom", &argv, timeout)?;
    reward.send(&[RewardSample {
        id: "7",
        prompt: "질문",
        completion: "답",
        label: "답",
        question_type: "선택형",
        tokens: 0,
        step: 3,
    }])?;
    wait_until_filled();
    reward.collect()
}

/// Waits until the uncollected output of the program needs no more memory.
fn wait_until_filled() {
    let start = Instant::now();
    let (mut live, mut since) = (ASKED_FOR.live(), start);
    while since.elapsed() < Duration::from_millis(300) && start.elapsed() < Duration::from_secs(3) {
        std::thread::yield_now();
        if ASKED_FOR.live() != live {
            (live, since) = (ASKED_FOR.live(), Instant::now());
        }
    }
}

#[test]
fn what_a_program_writes_without_end_is_bounded() {
    let _alone = alone();
    let second = Duration::from_secs(4);
    for (script, part) in [
        ("yes", "which is not JSON"),
        ("cat /dev/zero", "answered too late"),
        (
            "head -c 2000000 /dev/zero; echo; sleep 100",
            "a line of more than",
        ),
        (
            "yes \"$(head -c 60000 /dev/zero | tr '\\0' a)\"",
            "which is not JSON",
        ),
        ("yes '' ", "which is not JSON"),
        ("cat /dev/zero >&2", "answered too late"),
        ("yes >&2", "answered too late"),
        ("while :; do :; done", "answered too late"),
        (
            "trap '' TERM INT HUP PIPE; while :; do sleep 1; done",
            "answered too late",
        ),
        ("exec >&-; sleep 1000", "closed its standard output"),
        ("yes '{\"index\":0,\"reward\":1}'", ""),
    ] {
        let start = Instant::now();
        let live = ASKED_FOR.live();
        let (answer, peak) = ASKED_FOR.peak_of(|| ask(script, second));
        assert!(
            start.elapsed() < Duration::from_secs(20),
            "{script}: {:?}",
            start.elapsed()
        );
        let peak = peak.saturating_sub(live);
        assert!(peak < MEMORY, "{script}: {peak} bytes");
        match answer {
            Ok(_) => assert_eq!(part, "", "{script} was taken"),
            Err(error) => assert!(error.to_string().contains(part), "{script}: {error}"),
        }
    }
}

#[test]
fn what_a_program_started_ends_with_it() {
    let folder = tempfile::tempdir().unwrap();
    let pids = folder.path().join("pids");
    let script = format!(
        "sleep 1000 & echo $! >> '{0}'; (sleep 1000 & echo $! >> '{0}'; wait) & wait",
        pids.display()
    );
    let error = ask(&script, Duration::from_secs(2))
        .unwrap_err()
        .to_string();
    assert!(error.contains("answered too late"), "{error}");
    let text = std::fs::read_to_string(&pids).unwrap();
    assert_eq!(text.lines().count(), 2);
    let is_there = |pid: &str| {
        let stat = std::fs::read_to_string(Path::new("/proc").join(pid).join("stat"));
        // A zombie no longer counts.
        stat.is_ok_and(|stat| !stat.contains(") Z"))
    };
    let deadline = Instant::now() + Duration::from_secs(5);
    while text.lines().any(is_there) {
        assert!(Instant::now() < deadline, "a child outlived its program");
        std::thread::sleep(Duration::from_millis(20));
    }
}
