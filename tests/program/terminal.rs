//! The terminal UI as a user sees it: in a real pseudo-terminal, with real runs of the demo.

mod pty;

use std::path::Path;
use std::time::Duration;

use moim_core::run::{RunDir, RunState, RunStatus, list_runs};
use pty::{Place, Session};

const ENTER: &str = "\r";
const CTRL_C: &str = "\x03";
const CTRL_S: &str = "\x13";
const CTRL_U: &str = "\x15";
const CTRL_Z: &str = "\x1a";

/// Few steps with a save point after each two: enough to watch, kill and rank.
const SHORT: &[(&str, &str)] = &[
    ("grpo.max_steps", "4"),
    ("run.save_strategy", "\"steps\""),
    ("run.save_steps", "2"),
    ("run.logging_steps", "1"),
];

fn open(place: &Place, more: &[&str], columns: u16, rows: u16) -> Session {
    let (experiments, outputs) = (place.experiments(), place.outputs());
    let flags = ["--experiments", &experiments, "--outputs", &outputs];
    let arguments: Vec<&str> = flags.iter().chain(more).copied().collect();
    Session::open(&arguments, columns, rows)
}

/// The only run there is.
fn run_of(place: &Place) -> RunDir {
    let runs = list_runs(Path::new(&place.outputs()));
    assert_eq!(runs.len(), 1, "{runs:?}");
    RunDir::open(&runs[0].path).unwrap()
}

#[test]
fn the_terminal_is_given_back_however_the_program_ends() {
    let place = Place::new();
    place.add_demo("demo", SHORT);
    for end in ["q", CTRL_C] {
        let mut session = open(&place, &[], 80, 24);
        session.wait_for("demo");
        assert!(session.is_in_alternate_screen() && session.cursor().is_none());
        session.press(end);
        let (code, session) = session.end();
        assert_eq!(code, 0);
        assert!(!session.is_in_alternate_screen() && session.cursor().is_some());
    }
    for (signal, code) in [("TERM", 143), ("HUP", 129)] {
        let mut session = open(&place, &[], 80, 24);
        session.wait_for("demo");
        send(signal, session.pid());
        let (ended, session) = session.end();
        assert_eq!(ended, code, "SIG{signal}");
        assert!(!session.is_in_alternate_screen() && session.cursor().is_some());
    }
}

#[test]
fn a_suspended_program_leaves_the_screen_and_comes_back() {
    let place = Place::new();
    place.add_demo("demo", SHORT);
    let mut session = open(&place, &[], 80, 24);
    session.wait_for("demo");
    session.press(CTRL_Z);
    session.wait_until("the screen to be left", |screen| !screen.contains("demo"));
    assert!(!session.is_in_alternate_screen());
    wait_until_stopped(session.pid());
    send("CONT", session.pid());
    session.wait_for("demo");
    assert!(session.is_in_alternate_screen());
    session.press("q");
    assert_eq!(session.end().0, 0);
}

#[test]
fn a_terminal_that_is_too_small_says_so_and_a_larger_one_continues() {
    let place = Place::new();
    place.add_demo("demo", SHORT);
    let mut session = open(&place, &[], 60, 20);
    session.wait_for("moim needs 80x24");
    session.resize(80, 24);
    session.wait_for("Experiments");
    session.resize(160, 50);
    session.wait_for("quit");
    session.resize(79, 50);
    session.wait_for("moim needs 80x24");
    session.press("q");
    assert_eq!(session.end().0, 0);
}

#[test]
fn without_colours_none_is_written_and_ascii_is_ascii() {
    let place = Place::new();
    place.add_demo("demo", SHORT);
    let (experiments, outputs) = (place.experiments(), place.outputs());
    let arguments = [
        "--experiments",
        &experiments,
        "--outputs",
        &outputs,
        "--ascii",
    ];
    let mut session = Session::open_with(&arguments, 120, 40, &[("NO_COLOR", "1")]);
    session.wait_for("demo");
    session.press("?");
    session.wait_for("Keys of Experiments");
    session.escape();
    session.wait_until_gone("Keys of Experiments");
    assert!(session.screen().is_ascii(), "{}", session.screen());
    let written = String::from_utf8_lossy(&session.written).into_owned();
    for colour in ["\x1b[38;", "\x1b[48;", "\x1b[3", "\x1b[4"] {
        let sets_colour = written.match_indices(colour).any(|(at, _)| {
            let rest: String = written[at + 2..]
                .chars()
                .take_while(|letter| !letter.is_ascii_alphabetic())
                .collect();
            let is_colour = |word: &str| {
                word.len() == 2
                    && (word.starts_with('3') || word.starts_with('4'))
                    && !word.ends_with('9')
            };
            written[at + 2 + rest.len()..].starts_with('m') && rest.split(';').any(is_colour)
        });
        assert!(!sets_colour, "{colour:?}");
    }
    session.press("q");
    assert_eq!(session.end().0, 0);
}

#[test]
fn g_is_edited_and_the_arithmetic_follows() {
    let place = Place::new();
    let path = place.add_demo("demo", SHORT);
    let mut session = open(&place, &[], 160, 50);
    session.wait_for("demo");
    session.press("e");
    session.wait_for("B×A×D = 64×1×1 = 64");
    // To the key by the filter, as a user would.
    session.press("/num_generations");
    session.press(ENTER);
    session.press(ENTER);
    session.wait_until("a caret", |_| true);
    session.press(CTRL_U);
    session.press("7");
    session.wait_for("is not a multiple of G");
    session.press(CTRL_U);
    session.press("16");
    session.wait_for("(64÷16)×1×1 = 4");
    session.press(ENTER);
    session.press(CTRL_S);
    session.wait_for("written:");
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.contains("num_generations = 16"), "{text}");
    assert!(
        text.contains("# The whole loop on the embedded demo"),
        "comments stay: {text}"
    );
    session.press("q");
    assert_eq!(session.end().0, 0);
}

#[test]
fn korean_is_typed_with_the_cursor_at_the_caret() {
    let place = Place::new();
    place.add_demo("demo", SHORT);
    let mut session = open(&place, &[], 120, 40);
    session.wait_for("demo");
    // A copy under a Korean name; the initial text of the field is replaced.
    session.press("c");
    session.wait_until("a field", |screen| {
        screen.lines().count() > 0 && !screen.is_empty()
    });
    session.press(CTRL_U);
    let before = wait_for_cursor(&mut session);
    session.press("맞춤법 실험");
    session.wait_for("맞춤법 실험");
    let after = wait_for_cursor(&mut session);
    // Five syllables of two cells and a blank.
    assert_eq!((after.0, after.1 - before.1), (before.0, 11));
    session.press("\x7f\x7f");
    session.wait_until_gone("실험");
    session.press("검사");
    session.press(ENTER);
    session.wait_for("written:");
    assert!(
        Path::new(&place.experiments())
            .join("맞춤법 검사.toml")
            .exists()
    );
    session.press("q");
    assert_eq!(session.end().0, 0);
}

#[test]
fn a_run_is_started_killed_resumed_ranked_compared_and_found_again() {
    let place = Place::new();
    place.add_demo("demo", SHORT);
    let mut session = open(&place, &[], 160, 50);
    session.wait_for("demo");
    session.press("s");
    session.wait_for("running");
    session.wait_for("reward");
    // After the first save point the trainer is killed.
    session.wait_for("step_2 saved");
    let run = run_of(&place);
    let state = RunState::read(&run.run_json()).unwrap();
    send("KILL", state.pid);
    session.wait_for("dead");
    session.press("R");
    session.wait_until_gone("dead");
    // The terminal goes away while it trains; the trainer does not mind.
    session.press("q");
    session.wait_for("detach");
    session.press("d");
    assert_eq!(session.end().0, 0);

    // Another terminal finds the run again.
    let path = run.path().display().to_string();
    let mut session = open(&place, &[&path], 160, 50);
    session.wait_for("finished");
    let state = RunState::read(&run.run_json()).unwrap();
    assert_eq!((state.state, state.step), (RunStatus::Finished, 4));
    session.press("4");
    session.wait_for("교정형");
    session.press("5");
    session.wait_for("inference_epoch0");
    session.wait_for("★");
    // Answers of another program appear, half-written at first.
    let answers = std::fs::read(run.answers(moim_core::run::SavePoint::Step(2))).unwrap();
    let late = run.infer_results().join("inference_epoch9.json");
    std::fs::write(&late, &answers[..answers.len() / 2]).unwrap();
    session.wait_for("inference_epoch9");
    session.wait_for("pending");
    std::fs::write(&late, &answers).unwrap();
    session.wait_until("epoch 9 to be complete", |screen| {
        let of_file = |line: &&str| line.contains("inference_epoch9") && line.contains("complete");
        screen.lines().any(|line| of_file(&line))
    });
    session.press("y");
    session.wait_for("copied (OSC 52)");
    assert!(session.has_written("\x1b]52;c;"));
    session.press("v");
    session.wait_for("170 joined");
    session.press("}f");
    session.wait_for("changed items");
    session.press("1");
    session.wait_for("finished");
    session.press("q");
    assert_eq!(session.end().0, 0);
}

#[test]
fn a_broken_experiment_is_shown_with_its_faults_and_does_not_start() {
    let place = Place::new();
    place.add_demo("broken", &[("grpo.num_generations", "7")]);
    let mut session = open(&place, &[], 120, 40);
    session.wait_for("1 fault");
    session.press("s");
    session.wait_for("is not a multiple of");
    assert!(list_runs(Path::new(&place.outputs())).is_empty());
    session.escape();
    session.press("q");
    assert_eq!(session.end().0, 0);
}

#[test]
fn a_click_on_a_tab_shows_its_screen_until_the_mouse_is_switched_off() {
    let place = Place::new();
    place.add_demo("demo", SHORT);
    let mut session = open(&place, &[], 120, 40);
    session.wait_for("demo");
    // SGR mouse reports: the left button at column 16 of the first row, pressed and released.
    session.press("\x1b[<0;16;1M\x1b[<0;16;1m");
    session.wait_for("No experiment is open");
    session.press("M");
    session.wait_for("mouse off");
    assert!(session.has_written("\x1b[?1000l"));
    session.press("q");
    assert_eq!(session.end().0, 0);
}

#[test]
fn nothing_is_drawn_while_nothing_happens() {
    let place = Place::new();
    place.add_demo("demo", SHORT);
    let mut session = open(&place, &[], 120, 40);
    session.wait_for("demo");
    session.press("2");
    session.listen(Duration::from_millis(1500));
    assert_eq!(
        session.listen(Duration::from_secs(2)),
        0,
        "{}",
        session.screen()
    );
    session.press("q");
    assert_eq!(session.end().0, 0);
}

/// Waits until a process is stopped as a shell's job is.
fn wait_until_stopped(pid: u32) {
    let is_stopped = || {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        let (_, rest) = stat.rsplit_once(')').unwrap();
        rest.trim_start().starts_with('T')
    };
    for _ in 0..500 {
        if is_stopped() {
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    panic!("process {pid} was not stopped");
}

/// Waits until the cursor is shown, and answers where it is.
fn wait_for_cursor(session: &mut Session) -> (u16, u16) {
    for _ in 0..200 {
        session.listen(Duration::from_millis(50));
        if let Some(at) = session.cursor() {
            return at;
        }
    }
    panic!("no cursor is shown:\n{}", session.screen());
}

fn send(signal: &str, pid: u32) {
    let status = std::process::Command::new("kill")
        .args([&format!("-{signal}"), &pid.to_string()])
        .status();
    assert!(status.unwrap().success());
}
