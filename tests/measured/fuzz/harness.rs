//! A reader, the cases that it is tried on, and what is asked of each.

use std::any::Any;
use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::{Mutex, Once, PoisonError};
use std::time::{Duration, Instant};

use super::mutate::{Form, generator, input};
use crate::allocator::{ASKED_FOR, alone};

/// A case that takes more of a processor has failed.
const SLOW: Duration = Duration::from_secs(5);
/// A case that takes longer, whatever else the machine does, will not end: the process does, after
/// saying so.
const HANGING: Duration = Duration::from_secs(120);
/// Failures of a reader that are reported in full.
const SHOWN: usize = 12;

/// A reader of the library and how it is tried.
pub struct Reader<'a> {
    pub name: &'static str,
    pub form: Form,
    /// Valid files, which it must read.
    pub examples: Vec<Vec<u8>>,
    /// Words of its format that mutations strew about.
    pub words: &'static [&'static str],
    /// Inputs that are tried unless `MOIM_FUZZ_CASES` says otherwise.
    pub cases: usize,
    /// Bytes of memory that a byte of input may take, and those that any may.
    pub memory: (usize, usize),
    /// What an error must contain: the name of the file.
    pub names: &'static str,
    /// Reads an input and does with it what follows in the program.
    pub read: Read<'a>,
}

/// A reader's work on one input; the error is the message that a user would see.
pub type Read<'a> = Box<dyn FnMut(&[u8]) -> Result<(), String> + 'a>;

/// Trees of JSON take most for their size: a field `"a":0,` has about a hundred bytes.
pub const MEMORY: (usize, usize) = (200, 16 << 20);

/// The description of a running case.
struct Running {
    what: String,
    input: Vec<u8>,
    since: Instant,
}

static RUNNING: Mutex<Option<Running>> = Mutex::new(None);

fn set_running(running: Option<Running>) {
    *RUNNING.lock().unwrap_or_else(PoisonError::into_inner) = running;
}

/// Ends the process if a case hangs: a thread cannot be stopped from outside.
fn start_watchdog() {
    static STARTED: Once = Once::new();
    STARTED.call_once(|| {
        std::thread::spawn(|| {
            loop {
                std::thread::sleep(Duration::from_millis(200));
                let running = RUNNING.lock().unwrap_or_else(PoisonError::into_inner);
                if let Some(case) = running
                    .as_ref()
                    .filter(|case| case.since.elapsed() > HANGING)
                {
                    let kept = keep(&case.what, &case.input);
                    eprintln!("{} hangs; its input is {}", case.what, kept.display());
                    std::process::abort();
                }
            }
        });
    });
}

/// Writes a failing input where it can be looked at.
fn keep(what: &str, input: &[u8]) -> PathBuf {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("fuzz");
    let file = folder.join(what.replace([' ', '/'], "-"));
    let _ = std::fs::create_dir_all(&folder);
    let _ = std::fs::write(&file, input);
    file
}

thread_local! {
    static PANIC_PLACE: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Keeps panics of cases quiet: they are reported with their input at the end.
fn quiet_panics() {
    static SET: Once = Once::new();
    SET.call_once(|| {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            let is_case = RUNNING.lock().is_ok_and(|running| running.is_some());
            if !is_case {
                return usual(panic);
            }
            let place = panic.location().map(ToString::to_string);
            PANIC_PLACE.set(place.unwrap_or_default());
        }));
    });
}

fn message(panic: &(dyn Any + Send)) -> String {
    let text = moim::panics::text(panic).unwrap_or_default();
    format!("panics: {text} at {}", PANIC_PLACE.take())
}

/// What this thread has had of a processor: tests run beside others.
fn processor_time() -> Duration {
    let times = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let nanoseconds = times.split(' ').next().and_then(|first| first.parse().ok());
    Duration::from_nanos(nanoseconds.unwrap_or(0))
}

/// Runs one input and returns what went wrong; `Ok(false)` if the input was refused.
pub fn run_case(
    what: &str,
    input: &[u8],
    (per_byte, constant): (usize, usize),
    names: &str,
    read: impl FnOnce(&[u8]) -> Result<(), String>,
) -> Result<bool, String> {
    start_watchdog();
    quiet_panics();
    set_running(Some(Running {
        what: what.to_owned(),
        input: input.to_vec(),
        since: Instant::now(),
    }));
    let before = processor_time();
    let live = ASKED_FOR.live();
    let (outcome, peak) = ASKED_FOR.peak_of(|| catch_unwind(AssertUnwindSafe(|| read(input))));
    let peak = peak.saturating_sub(live);
    set_running(None);
    let took = processor_time().saturating_sub(before);
    let allowed = constant + per_byte * input.len();
    if peak > allowed {
        return Err(format!(
            "takes {peak} bytes for {} of input, above {allowed}",
            input.len()
        ));
    }
    if took > SLOW {
        return Err(format!("takes {took:?} for {} bytes", input.len()));
    }
    match outcome {
        Err(panic) => Err(message(&*panic)),
        Ok(Err(error)) if !error.contains(names) => {
            Err(format!("the error does not name {names}: {error}"))
        }
        Ok(Err(error)) if error.trim().is_empty() => Err("the error says nothing".to_owned()),
        Ok(outcome) => Ok(outcome.is_ok()),
    }
}

/// The number of cases that the environment asks for.
fn cases_wanted(usual: usize) -> usize {
    let wanted = std::env::var("MOIM_FUZZ_CASES").ok();
    wanted.map_or(usual, |wanted| {
        wanted.parse().expect("MOIM_FUZZ_CASES is a number")
    })
}

/// Where to begin, for a case that is to be looked at alone.
fn first_case() -> usize {
    let wanted = std::env::var("MOIM_FUZZ_FIRST").ok();
    wanted.map_or(0, |wanted| {
        wanted.parse().expect("MOIM_FUZZ_FIRST is a number")
    })
}

/// Tries a reader on its examples and on what is made of them.
pub fn fuzz(mut reader: Reader<'_>) {
    let _alone = alone();
    let name = reader.name;
    for example in &reader.examples {
        let taken = run_case(name, example, reader.memory, "", &mut reader.read);
        assert_eq!(taken, Ok(true), "{name} refuses an example");
        if let Err(error) = (reader.read)(example) {
            panic!("{name} refuses an example: {error}");
        }
    }
    let (first, cases) = (first_case(), cases_wanted(reader.cases));
    let start = Instant::now();
    let mut failures: Vec<(String, usize)> = Vec::new();
    let mut refused = 0;
    for case in first..first + cases {
        let mut rng = generator(name, case);
        let bytes = input(&mut rng, reader.form, &reader.examples, reader.words);
        let what = format!("{name} {case}");
        match run_case(&what, &bytes, reader.memory, reader.names, &mut reader.read) {
            Ok(is_taken) => refused += usize::from(!is_taken),
            Err(problem) => {
                // One defect shows in many cases; its first words tell it from others.
                let same: String = problem
                    .chars()
                    .filter(|c| !c.is_ascii_digit())
                    .take(60)
                    .collect();
                let known = failures.iter_mut().find(|(other, _)| {
                    other.split_once(": ").is_some_and(|(_, other)| {
                        other
                            .chars()
                            .filter(|c| !c.is_ascii_digit())
                            .take(60)
                            .eq(same.chars())
                    })
                });
                match known {
                    Some((_, count)) => *count += 1,
                    None => {
                        let kept = keep(&what, &bytes);
                        failures.push((format!("{what}: {problem}\n    {}", kept.display()), 1));
                    }
                }
            }
        }
    }
    println!(
        "{name:28} cases {first} to {}: {refused} refused, {:.1} s",
        first + cases,
        start.elapsed().as_secs_f64()
    );
    let told: Vec<String> = failures
        .iter()
        .take(SHOWN)
        .map(|(problem, count)| format!("{count} times: {problem}"))
        .collect();
    assert!(told.is_empty(), "{name}:\n{}", told.join("\n"));
}
