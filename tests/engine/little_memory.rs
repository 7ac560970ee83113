//! Runs with less memory than they would take: they go in smaller parts and come to the same.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use moim::device::Compute;
use moim::experiment::Experiment;
use moim::grpo;
use moim::journal::{Observer, Phase};
use moim::memory::{Inputs, MemoryPlan, Shapes, Verdict, plan};
use moim::model::{load_adapter, to_f32};
use moim::run::Event;
use moim::session::{Ending, Ready};
use serde_json::{Value, json};

use super::folder::{Folder, RUN};

/// All six answers together, as far as memory allows.
const ANSWERS: &str = "inference.batch_size=6";

fn experiment(folder: &Folder, settings: &[String]) -> Experiment {
    Experiment::load(&folder.path("demo.toml"), settings).unwrap()
}

/// The experiment with nothing that depends on the working directory, which tests share.
fn absolute(folder: &Folder, settings: &[&str]) -> Experiment {
    let place = |key: &str, name: &str| format!("{key}={}", folder.path(name).display());
    let script = folder.path("reward.sh");
    let mut all = vec![
        place("model.path", "base"),
        place("data.train", "train.json"),
        place("data.eval", "eval.json"),
        place("bertscore.model", "encoder"),
        place("run.output_dir", "outputs"),
        format!(
            "reward.commands=[{{name = \"length\", command = [\"sh\", \"{}\"]}}]",
            script.display()
        ),
    ];
    all.extend(settings.iter().map(|setting| (*setting).to_owned()));
    experiment(folder, &all)
}

fn adapter(run: &Path) -> Vec<f32> {
    let base = super::folder::base_model();
    let config = moim::architecture::LlamaConfig::from_dir(base).unwrap();
    let adapter = load_adapter(&run.join("epoch_2"), &config, &Compute::cpu()).unwrap();
    adapter.parameters().into_iter().flat_map(to_f32).collect()
}

/// Sums in another order differ by rounding, here by less than 1e-6.
#[track_caller]
fn assert_close(a: &Path, b: &Path, what: &str) {
    let (a, b) = (adapter(a), adapter(b));
    assert_eq!(a.len(), b.len());
    let apart = a.iter().zip(&b).map(|(a, b)| (a - b).abs());
    let largest = apart.fold(0.0_f32, f32::max);
    assert!(
        largest < 1e-5,
        "{what}: parameters are up to {largest} apart"
    );
}

/// Completions with their rewards, and all answers.
#[track_caller]
fn assert_same_texts(a: &Path, b: &Path, what: &str) {
    let answers = [0, 1, 2].map(|epoch| format!("infer_results/inference_epoch{epoch}.json"));
    let files = answers
        .iter()
        .map(String::as_str)
        .chain(["completions.jsonl"]);
    for file in files {
        let read = |run: &Path| std::fs::read_to_string(run.join(file)).unwrap();
        assert!(read(a) == read(b), "{what}: {file} differs");
    }
}

fn planned(experiment: &Experiment, bytes: u64) -> MemoryPlan {
    let inputs = Inputs::of(experiment, &Shapes::read(experiment)).unwrap();
    plan(&inputs, Some(bytes))
}

fn fits(experiment: &Experiment, bytes: u64) -> bool {
    !matches!(
        planned(experiment, bytes).verdict(),
        Verdict::TooLarge { .. }
    )
}

#[test]
fn a_budget_is_kept_to_by_smaller_parts_that_come_to_the_same() {
    let whole = Folder::new();
    whole.train(&[ANSWERS]).expect(0, &[]);
    assert!(whole.of_events("start", "sizes")[0]["rows_per_part"].is_null());

    let folder = Folder::new();
    let experiment = absolute(&folder, &[ANSWERS]);
    // The smallest budget that is one.
    let (mut low, mut high) = (0, 1 << 40);
    while high - low > 1 {
        let middle = low + (high - low) / 2;
        if fits(&experiment, middle) {
            high = middle
        } else {
            low = middle
        }
    }
    let sizes = planned(&experiment, high).sizes;
    assert!(
        sizes.rows_per_part.is_some_and(|rows| rows < 4),
        "{sizes:?}"
    );
    assert!(sizes.rollout_rows < 16, "{sizes:?}");

    let gib = |bytes: u64| {
        format!(
            "memory.budget_gib={:.9}",
            bytes as f64 / (1_u64 << 30) as f64
        )
    };
    let least = gib(high + 4);
    folder
        .train(&[ANSWERS, &least])
        .expect(0, &["memory   training in parts of "]);
    let told = &folder.of_events("start", "sizes")[0];
    assert_eq!(told["rows_per_part"], json!(sizes.rows_per_part));
    assert_eq!(told["rollout_rows"], sizes.rollout_rows);
    assert_eq!(told["answered_together"], sizes.answered_together);
    assert!(
        folder.of_events("start", "predicted_bytes")[0]
            .as_u64()
            .unwrap()
            <= high + 4
    );
    assert_same_texts(&folder.path(RUN), &whole.path(RUN), "budget");
    assert_close(&folder.path(RUN), &whole.path(RUN), "budget");

    // Less is refused before anything is written, and on resume changes nothing.
    let too_small = gib(high - (1 << 21));
    let fresh = Folder::new();
    let words = ["error: memory.budget_gib = 0.", "needs 2 MiB", "moim plan"];
    fresh.train(&[ANSWERS, &too_small]).expect(2, &words);
    assert!(!fresh.path("outputs").exists());
    let files = ["run.json", "events.jsonl", "log.txt"];
    let content = || files.map(|file| folder.read(&format!("{RUN}/{file}")));
    let before = content();
    let resume = ["--no-ui", "--resume", RUN, "--set", &too_small];
    folder.moim(&resume).expect(2, &words);
    assert_eq!(content(), before);
}

/// Layer inputs that wait on the host are the same numbers.
#[test]
fn layer_inputs_on_the_host_change_nothing_and_may_change_on_resume() {
    let (whole, _) = super::folder::uninterrupted();
    let folder = Folder::new();
    let mut trainer = folder.start(&["memory.offload_layer_inputs=true"]);
    trainer.wait_until("steps", |folder| {
        folder.of_events("step", "step").len() >= 3
    });
    trainer.kill();
    let setting = "memory.offload_layer_inputs=false";
    folder
        .moim(&["--no-ui", "--resume", RUN, "--set", setting])
        .expect(
            0,
            &["changed since the run started: memory.offload_layer_inputs"],
        );
    let settings = format!("{RUN}/experiment.toml");
    folder.write(&settings, whole.read(&settings));
    folder.expect_outcome_of(whole);
}

#[derive(Default)]
struct Watcher(Vec<Event>);

impl Observer for Watcher {
    fn phase(&mut self, _: Phase, _: usize, _: usize, _: &str) {}

    fn event(&mut self, event: &Event) {
        self.0.push(event.clone());
    }

    fn wants_to_stop(&self) -> bool {
        false
    }
}

/// A run on devices that fit this many completions; its directory and its alarms.
fn limited(
    folder: &Folder,
    settings: &[&str],
    rows: Option<usize>,
) -> anyhow::Result<(PathBuf, Vec<(u64, String)>)> {
    let mut ready = Ready::load(&absolute(folder, settings), &mut |_| Ok(()))?;
    let policy = Arc::get_mut(&mut ready.policy).unwrap();
    let replicas = policy.replicas.iter_mut();
    for model in std::iter::once(&mut policy.model).chain(replicas) {
        model.compute.fails_above_rows = rows;
    }
    let watcher = Arc::new(Mutex::new(Watcher::default()));
    let (run, ending) = grpo::train(ready, "demo", Box::new(Arc::clone(&watcher)))?;
    assert_eq!(ending, Ending::Finished);
    let watcher = watcher.lock().unwrap();
    let alarms = watcher
        .0
        .iter()
        .flat_map(Event::alarms)
        .filter(|alarm| alarm.code == "out_of_memory");
    let told = alarms.map(|alarm| {
        assert_eq!(alarm.severity.as_str(), "warning");
        let (phase, rest) = alarm
            .message
            .split_once(" ran out of device memory (")
            .unwrap();
        let (_, rest) = rest.split_once(" was retried with ").unwrap();
        let rows = rest.split(' ').next().unwrap();
        (alarm.step as u64, format!("{phase} {rows}"))
    });
    Ok((run.directory.path().to_owned(), told.collect()))
}

#[test]
fn a_device_that_runs_out_of_memory_continues_with_smaller_parts() {
    let folders = [(); 9].map(|()| Folder::new());
    let mut folders = folders.iter();
    let mut run = |settings: &[&str], rows: Option<usize>| {
        limited(folders.next().unwrap(), settings, rows).unwrap()
    };
    let told = |alarms: &[(u64, String)]| -> Vec<Value> {
        alarms
            .iter()
            .map(|(step, words)| json!([step, words]))
            .collect()
    };
    let plain = [ANSWERS];
    let (whole, none) = run(&plain, None);
    assert_eq!(told(&none), [] as [Value; 0]);

    // Six answers, sixteen completions and groups of four are too many: each is reported once.
    let (three, alarms) = run(&plain, Some(3));
    let expected = [
        json!([0, "inference 3"]),
        json!([1, "sampling 2"]),
        json!([1, "training 2"]),
    ];
    assert_eq!(told(&alarms), expected);
    assert_same_texts(&three, &whole, "three rows");
    assert_close(&three, &whole, "three rows");

    let (one, alarms) = run(&plain, Some(1));
    let expected = [
        json!([0, "inference 1"]),
        json!([1, "sampling 1"]),
        json!([1, "training 2"]),
        json!([1, "training 1"]),
    ];
    assert_eq!(told(&alarms), expected);
    assert_same_texts(&one, &whole, "one row");
    assert_close(&one, &whole, "one row");

    // The reference policy's pass is the first to fail, and two devices fail as one does.
    let more = [
        ANSWERS,
        "grpo.beta=0.05",
        "grpo.num_iterations=2",
        "lora.lora_dropout=0.1",
        "grpo.per_device_train_batch_size=8",
        "model.num_devices=2",
    ];
    let (whole, none) = run(&more, None);
    assert_eq!(told(&none), [] as [Value; 0]);
    let (three, alarms) = run(&more, Some(3));
    let expected = [
        json!([0, "inference 3"]),
        json!([1, "sampling 2"]),
        json!([1, "training 2"]),
    ];
    assert_eq!(told(&alarms), expected);
    assert_same_texts(&three, &whole, "two devices");
    assert_close(&three, &whole, "two devices");
}

#[test]
fn a_device_too_small_for_one_completion_ends_the_run_with_a_message() {
    let folder = Folder::new();
    let error = limited(&folder, &["inference.before_training=false"], Some(0)).unwrap_err();
    let error = format!("{error:#}");
    assert!(
        error.contains("no memory for a single completion"),
        "{error}"
    );
    let run = folder.json(&format!("{RUN}/run.json"));
    assert_eq!(run["state"], "failed");
    assert!(run["message"].as_str().unwrap().contains("load_in_4bit"));
}
