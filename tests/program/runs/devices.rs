//! Several devices that share a step are one device that takes as many micro-batches one after
//! another. On the CPU they are several models over the same memory.

use super::folder::{Folder, RUN};
use serde_json::Value;

/// Whether a run did what another one did, but for how it cut its steps into micro-batches.
#[track_caller]
fn expect_the_same(folder: &Folder, other: &Folder) {
    let settings = format!("{RUN}/experiment.toml");
    folder.write(&settings, other.read(&settings));
    folder.expect_outcome_of(other);
    assert_eq!(events(folder), events(other));
}

/// What lasts of the events: A, D and the predicted memory are what the runs differ in.
fn events(folder: &Folder) -> Vec<Value> {
    let mut events = folder.lasting_events();
    for event in events.iter_mut().filter(|event| event["event"] == "start") {
        event.as_object_mut().unwrap().remove("predicted_bytes");
        let batch = event["batch"].as_object_mut().unwrap();
        batch.retain(|name, _| !["A", "D", "S"].contains(&name.as_str()));
    }
    events
}

/// Two optimizer steps a generation, whatever the accumulation.
const SHARED: &str = "grpo.steps_per_generation=2A";

fn trained(settings: &[&str], accumulation: usize, devices: usize) -> Folder {
    let folder = Folder::new();
    let shared = format!("grpo.steps_per_generation={}", 2 * accumulation);
    let settings: Vec<&str> = settings
        .iter()
        .map(|setting| {
            if *setting == SHARED {
                shared.as_str()
            } else {
                setting
            }
        })
        .collect();
    let a = format!("grpo.gradient_accumulation_steps={accumulation}");
    let d = format!("model.num_devices={devices}");
    folder
        .train(&[&settings[..], &[&a, &d]].concat())
        .expect(0, &[&format!("×{accumulation}×{devices} = ")]);
    folder
}

const EVERYTHING: [&str; 3] = [
    "grpo.num_iterations=2",
    "grpo.beta=0.05",
    "lora.lora_dropout=0.2",
];

#[test]
fn several_devices_are_one_with_as_much_more_accumulation_to_the_byte() {
    let two = ["grpo.per_device_train_batch_size=8"];
    let one = ["grpo.per_device_train_batch_size=4"];
    let by_prompts = [
        "grpo.per_device_train_batch_size=1",
        "grpo.batch_unit=prompts",
        "grpo.loss_type=grpo",
    ];
    let shared = [SHARED, "grpo.loss_type=vespo"];
    let cases: [(&str, Vec<&str>, (usize, usize)); 5] = [
        ("plain", two.to_vec(), (1, 2)),
        ("everything", [&EVERYTHING[..], &one].concat(), (2, 2)),
        ("three", [&EVERYTHING[..], &one].concat(), (1, 3)),
        ("prompts", by_prompts.to_vec(), (2, 2)),
        ("shared", [&shared[..], &one].concat(), (1, 2)),
    ];
    for (name, settings, (accumulation, devices)) in cases {
        println!("{name}");
        let single = trained(&settings, accumulation * devices, 1);
        let several = trained(&settings, accumulation, devices);
        let of_start = |key: &str| several.of_events("start", "batch")[0][key].clone();
        assert_eq!(
            (of_start("A"), of_start("D")),
            (accumulation.into(), devices.into())
        );
        let iterations = if settings.contains(&EVERYTHING[0]) {
            2
        } else {
            1
        };
        let steps = several.of_events("step", "step").len();
        let per_step = accumulation * devices * if name == "plain" { 2 } else { 1 };
        assert_eq!(steps, 8 / per_step * iterations * 2, "{name}");
        assert_eq!(of_start("prompts_per_step"), per_step);
        assert_eq!(of_start("dropped_prompts"), 8 % per_step);
        expect_the_same(&several, &single);
    }
}

#[test]
fn a_run_resumes_with_more_devices_and_correspondingly_less_accumulation() {
    let settings = [&EVERYTHING[..], &["grpo.per_device_train_batch_size=8"]].concat();
    let whole = trained(&settings, 2, 1);
    let folder = Folder::new();
    let mut trainer = folder.start(&[&settings[..], &["model.num_devices=2"]].concat());
    trainer.wait_until("steps", |folder| {
        folder.of_events("step", "step").len() >= 5
    });
    trainer.kill();
    let resume = |settings: &[&str]| {
        let sets = settings.iter().flat_map(|setting| ["--set", setting]);
        let words = ["--no-ui", "--resume", RUN].into_iter().chain(sets);
        folder.moim(&words.collect::<Vec<_>>())
    };
    let one_device = "model.num_devices=1";
    resume(&[one_device]).expect(2, &["error: ", "model.num_devices: 2 → 1"]);
    resume(&[one_device, "grpo.gradient_accumulation_steps=3"]).expect(
        2,
        &[
            "model.num_devices: 2 → 1",
            "gradient_accumulation_steps: 1 → 3",
        ],
    );
    let answer = resume(&[one_device, "grpo.gradient_accumulation_steps=2"]);
    answer.expect(
        0,
        &["changed since the run started: model.num_devices: 2 → 1"],
    );
    expect_the_same(&folder, &whole);
}
