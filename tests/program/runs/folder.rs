//! A folder with a tiny experiment in it, the processes that run there, and what they leave.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use moim_core::health::Monitor;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Map, Value, json};

/// Two epochs of two steps. The reward `length` is a program of ours (see [`REWARD`]).
pub const EXPERIMENT: &str = r#"
[model]
path = "base"
device = "cpu"
[lora]
r = 4
lora_alpha = 8.0
[data]
train = "train.json"
eval = "eval.json"
max_prompt_length = 96
[grpo]
num_generations = 4
per_device_train_batch_size = 16
num_train_epochs = 2
learning_rate = 1e-2
[rollout]
max_completion_length = 32
temperature = 0.8
[inference]
max_completion_length = 32
batch_size = 1
[reward]
formula = "(bertscore + exact_match + (format + 3*rouge1)/2)/3 + length/10"
[[reward.commands]]
name = "length"
command = ["sh", "reward.sh"]
[bertscore]
model = "encoder"
[run]
output_dir = "outputs"
name = "one"
seed = 3
"#;

/// The run directory of [`EXPERIMENT`], seen from the folder.
pub const RUN: &str = "outputs/demo/one";

/// A reward of 0 to 4 by the completion's length. A file `hold_N` holds back the rewards of step N until
/// it is deleted, and `at_N` marks that the step has come that far; `interrupt_N` makes the program
/// interrupt its trainer there.
const REWARD: &str = r#"
while IFS= read -r line; do
    step=${line##*\"step\":}
    step=${step%%,*}
    if [ -e "hold_$step" ]; then
        : > "at_$step"
        while [ -e "hold_$step" ]; do sleep 0.02; done
    fi
    if [ -e "interrupt_$step" ]; then
        rm "interrupt_$step"
        kill -INT "$PPID"
        sleep 0.2
    fi
    completion=${line#*\"completion\":\"}
    completion=${completion%%\",\"label\":*}
    index=${line##*\"index\":}
    echo "{\"index\":${index%%\}*},\"reward\":$(( ${#completion} % 5 ))}"
done
"#;

/// The longest time that a test waits for anything.
const PATIENCE: Duration = Duration::from_secs(60);

/// A folder with an experiment, its data and its model.
pub struct Folder {
    folder: tempfile::TempDir,
}

/// What a command came to.
#[derive(Clone, Debug)]
pub struct Answer {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl From<Output> for Answer {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

impl Answer {
    #[track_caller]
    pub fn expect(self, code: i32, in_stderr: &[&str]) -> Self {
        let both = || format!("stdout: {}\nstderr: {}", self.stdout, self.stderr);
        assert_eq!(self.code, code, "{}", both());
        for words in in_stderr {
            assert!(
                self.stderr.contains(words),
                "{words:?} is not in: {}",
                both()
            );
        }
        for never in ["panicked", "stack backtrace", "RUST_BACKTRACE"] {
            assert!(!self.stderr.contains(never), "{}", both());
        }
        self
    }
}

impl Folder {
    pub fn new() -> Self {
        let folder = Self {
            folder: tempfile::tempdir_in(home()).unwrap(),
        };
        folder.write("demo.toml", EXPERIMENT);
        folder.write("reward.sh", REWARD);
        folder.write("train.json", first_records("train.json", 8));
        folder.write("eval.json", first_records("eval.json", 6));
        let encoder = repository().join("tests/golden/encoder/bert");
        std::os::unix::fs::symlink(encoder, folder.path("encoder")).unwrap();
        std::os::unix::fs::symlink(base_model(), folder.path("base")).unwrap();
        folder
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    #[track_caller]
    pub fn read(&self, name: &str) -> String {
        let path = self.path(name);
        fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }

    #[track_caller]
    pub fn json(&self, name: &str) -> Value {
        serde_json::from_str(&self.read(name)).unwrap()
    }

    /// `moim` with these arguments, to be run in the folder.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_moim"));
        command
            .args(arguments)
            .current_dir(self.folder.path())
            // A message must stay one message even if backtraces are enabled.
            .env("RUST_BACKTRACE", "1")
            .env("MOIM_CACHE_DIR", self.path("cache"))
            .stdin(Stdio::null());
        command
    }

    pub fn moim(&self, arguments: &[&str]) -> Answer {
        self.command(arguments).output().unwrap().into()
    }

    /// Trains the experiment, with `--set` for each of `settings`.
    pub fn train(&self, settings: &[&str]) -> Answer {
        self.moim(&training(settings))
    }

    pub fn resume(&self) -> Answer {
        self.moim(&["--no-ui", "--resume", RUN])
    }

    /// As [`Folder::train`], without waiting for the end.
    pub fn start(&self, settings: &[&str]) -> Trainer<'_> {
        self.spawn(&training(settings))
    }

    pub fn spawn(&self, arguments: &[&str]) -> Trainer<'_> {
        let mut command = self.command(arguments);
        let output = |name| File::create(self.path(name)).unwrap();
        // Files, so that nothing blocks without a reader.
        command
            .stdout(output("stdout.txt"))
            .stderr(output("stderr.txt"));
        Trainer {
            folder: self,
            process: command.spawn().unwrap(),
        }
    }

    /// The events of the run so far, whole lines only.
    pub fn events(&self) -> Vec<Value> {
        let text = fs::read_to_string(self.path(RUN).join("events.jsonl")).unwrap_or_default();
        let whole = &text[..text.rfind('\n').map_or(0, |end| end + 1)];
        whole
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    }

    /// The values of `key` in the events of this name.
    pub fn of_events(&self, name: &str, key: &str) -> Vec<Value> {
        let events = self.events();
        let named = events.iter().filter(|event| event["event"] == name);
        named.map(|event| event[key].clone()).collect()
    }

    /// What must not depend on when a run was interrupted or how fast it was: final adapter and
    /// optimizer, completions, answers, scores, and the trainer's state but for its times.
    #[track_caller]
    pub fn outcome(&self) -> Vec<(String, Vec<u8>)> {
        let mut names = vec![
            "completions.jsonl".to_owned(),
            "experiment.toml".to_owned(),
            "infer_results/inference_epoch0.json".to_owned(),
        ];
        for epoch in [1, 2] {
            names.push(format!("infer_results/inference_epoch{epoch}.json"));
            names.push(format!("epoch_{epoch}/adapter_config.json"));
            names.push(format!("epoch_{epoch}/adapter_model.safetensors"));
            names.push(format!("epoch_{epoch}/optimizer.safetensors"));
        }
        let read = |name: String| {
            let bytes = fs::read(self.path(RUN).join(&name));
            let bytes = bytes.unwrap_or_else(|error| panic!("{name}: {error}"));
            (name, bytes)
        };
        let mut outcome: Vec<_> = names.into_iter().map(read).collect();
        let mut state = self.json(&format!("{RUN}/epoch_2/trainer_state.json"));
        let fields = state.as_object_mut().unwrap();
        fields.retain(|name, _| name != "seconds" && name != "events_position");
        outcome.push(("trainer_state.json".to_owned(), state.to_string().into()));
        outcome
    }

    /// Whether the run ended as another one, byte for byte.
    #[track_caller]
    pub fn expect_outcome_of(&self, other: &Self) {
        for ((name, own), (_, others)) in self.outcome().into_iter().zip(other.outcome()) {
            let shown = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            // Comparing before showing: most of it is binary.
            if own != others && name.ends_with(".safetensors") {
                panic!("{name} differs");
            }
            assert!(
                own == others,
                "{name} differs:\n{}\n{}",
                shown(&own),
                shown(&others)
            );
        }
    }

    /// The events without what was measured (times, speeds, memory), `resume`, and the save points that an interruption added.
    pub fn lasting_events(&self) -> Vec<Value> {
        let lasts = |event: &Value| {
            let saved = event["checkpoint"].as_str().unwrap_or_default();
            // A speed is measured, so an alarm about it is as well.
            let is_measured = [Monitor::SLOW_ROLLOUT, Monitor::SLOW_BACKWARD, "stalled"]
                .iter()
                .any(|code| event["code"] == *code);
            // What was found and mended on the way.
            let is_mended = ["damaged_save_point", "damaged_answers"]
                .iter()
                .any(|code| event["code"] == *code);
            event["event"] != "resume"
                && event["event"] != "moving"
                && !is_mended
                && !(event["event"] == "checkpoint" && saved.starts_with("step_"))
                && !is_measured
        };
        let mut events = self.events();
        events.retain(lasts);
        for event in &mut events {
            // How full the disk is, is the machine's affair.
            if event["event"] == "preflight" {
                let findings = event["findings"].as_array_mut().unwrap();
                findings.retain(|finding| finding["check"] != "disk");
                event["errors"].take();
                event["warnings"].take();
            }
            event.as_object_mut().unwrap().retain(|key, _| {
                let is_time = matches!(
                    key.as_str(),
                    "time" | "seconds" | "step_time" | "elapsed_seconds"
                );
                let is_measured = ["time/", "tokens_per_second/", "memory/"]
                    .iter()
                    .any(|prefix| key.starts_with(prefix));
                !is_time && !is_measured
            });
        }
        events
    }
}

/// Completions of 32 tokens keep the tests quick and are too short for any whole answer, which stops
/// a training before its first step unless it is forced.
fn training<'a>(settings: &[&'a str]) -> Vec<&'a str> {
    let sets = settings.iter().flat_map(|setting| ["--set", setting]);
    let command = ["--no-ui", "demo.toml", "--force"];
    command.into_iter().chain(sets).collect()
}

/// A running `moim`; it does not outlive this value.
pub struct Trainer<'f> {
    folder: &'f Folder,
    process: Child,
}

impl Trainer<'_> {
    /// Polls until something is so. A process that ends before is a failure.
    #[track_caller]
    pub fn wait_until(&mut self, what: &str, is_so: impl Fn(&Folder) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !is_so(self.folder) {
            if let Some(status) = self.process.try_wait().unwrap() {
                // It may have become so in the last moment.
                if is_so(self.folder) {
                    return;
                }
                let stderr = self.folder.read("stderr.txt");
                panic!("{status} before {what}: {stderr}");
            }
            assert!(Instant::now() < deadline, "no {what} within {PATIENCE:?}");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    pub fn has_ended(&mut self) -> bool {
        self.process.try_wait().unwrap().is_some()
    }

    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.process.id().cast_signed()).unwrap();
        kill_process(pid, signal).unwrap();
    }

    /// SIGKILL.
    pub fn kill(mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    #[track_caller]
    pub fn end(mut self) -> Answer {
        let deadline = Instant::now() + PATIENCE;
        let status = loop {
            if let Some(status) = self.process.try_wait().unwrap() {
                break status;
            }
            assert!(Instant::now() < deadline, "still running");
            std::thread::sleep(Duration::from_millis(1));
        };
        Answer {
            code: status.code().unwrap_or(-1),
            stdout: self.folder.read("stdout.txt"),
            stderr: self.folder.read("stderr.txt"),
        }
    }
}

impl Drop for Trainer<'_> {
    fn drop(&mut self) {
        // Of no use where it has ended, which is the usual case.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// [`EXPERIMENT`] from start to end without an interruption, and what it printed.
pub fn uninterrupted() -> &'static (Folder, Answer) {
    static RUN: OnceLock<(Folder, Answer)> = OnceLock::new();
    RUN.get_or_init(|| {
        let folder = Folder::new();
        let answer = folder.train(&[]).expect(0, &[]);
        (folder, answer)
    })
}

pub fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The first records of a file of the demo.
pub fn first_records(name: &str, number: usize) -> String {
    let text = fs::read_to_string(repository().join("data/demo").join(name)).unwrap();
    let mut records: Vec<Value> = serde_json::from_str(&text).unwrap();
    records.truncate(number);
    serde_json::to_string(&records).unwrap()
}

/// A model of 54 thousand parameters that answers some of our questions and may still improve.
/// Made once a process, by `moim sft`.
pub fn base_model() -> &'static Path {
    static MODEL: OnceLock<PathBuf> = OnceLock::new();
    MODEL.get_or_init(|| {
        make_base_model(&home().join("warm_up"));
        home().join("warm_up/base")
    })
}

/// The parent of every folder of this process. A test process cannot clean up at its end, so the
/// leftovers of earlier ones are deleted here.
fn home() -> &'static Path {
    static HOME: OnceLock<PathBuf> = OnceLock::new();
    HOME.get_or_init(|| {
        let all = Path::new(env!("CARGO_TARGET_TMPDIR"));
        for entry in fs::read_dir(all).unwrap().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let owner = name.strip_prefix("loop-");
            if owner.is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
                // Another process may be at it too.
                let _ = fs::remove_dir_all(entry.path());
            }
        }
        let home = all.join(format!("loop-{}", std::process::id()));
        fs::create_dir_all(&home).unwrap();
        home
    })
}

fn make_base_model(folder: &Path) {
    let shape = folder.join("shape");
    fs::create_dir_all(&shape).unwrap();
    let demo = repository().join("data/demo");
    for name in [
        "tokenizer.json",
        "tokenizer_config.json",
        "special_tokens_map.json",
        "generation_config.json",
    ] {
        fs::copy(demo.join("model").join(name), shape.join(name)).unwrap();
    }
    let config = fs::read_to_string(demo.join("model/config.json")).unwrap();
    let mut config: Map<String, Value> = serde_json::from_str(&config).unwrap();
    for (key, value) in [
        ("hidden_size", 32),
        ("num_hidden_layers", 2),
        ("intermediate_size", 64),
        ("num_attention_heads", 4),
        ("num_key_value_heads", 2),
        ("head_dim", 8),
    ] {
        config.insert(key.to_owned(), json!(value));
    }
    fs::write(
        shape.join("config.json"),
        serde_json::to_vec(&config).unwrap(),
    )
    .unwrap();
    let records = |name, number| -> Vec<Value> {
        serde_json::from_str(&first_records(name, number)).unwrap()
    };
    let warm_up = [records("train.json", 8), records("eval.json", 6)].concat();
    fs::write(
        folder.join("warm_up.json"),
        serde_json::to_vec(&warm_up).unwrap(),
    )
    .unwrap();
    fs::write(folder.join("sft.toml"), WARM_UP).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_moim"))
        .args(["sft", "sft.toml", "--quiet"])
        .current_dir(folder)
        .output()
        .unwrap();
    Answer::from(output).expect(0, &[]);
}

const WARM_UP: &str = r#"
[model]
path = "shape"
device = "cpu"
[data]
train = "warm_up.json"
eval = "warm_up.json"
[sft]
init = "random"
full_finetuning = true
output_dir = "base"
max_steps = 100
per_device_train_batch_size = 14
learning_rate = 1e-2
[run]
seed = 7
"#;
