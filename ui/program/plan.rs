//! `moim plan`: the batch, steps and memory of an experiment, without loading weights (except with
//! `--probe`, and the encoder's with `--check`).
//!
//! Only the experiment file needs to exist: a missing file becomes a note, and numbers that depend on it
//! stay unknown. The batch of an experiment with faults is still computed if possible.

mod probe;

use std::path::Path;

use anyhow::Result;
use moim_core::dataset::load_records;
use moim_core::experiment::batch::BatchUnit;
use moim_core::experiment::{BatchArithmetic, Experiment, ExperimentError, LongPrompts};
use moim_core::text::Tokenizer;
use moim_engine::setup::{self, Questions, questions};
use serde_json::{Value, json};

use crate::preflight;
use moim_engine::device::cuda_device_count;
use moim_ui::cli::PlanArguments;
use moim_ui::console::{json_to_stdout, to_stderr, to_stdout};
use moim_ui::failure::{Failure, Outcome, exit, usage};
use moim_ui::findings;
use moim_ui::memory_panel::MemoryPanel;
use probe::Probed;

/// Runs the command.
pub fn run(arguments: &PlanArguments) -> Outcome {
    match Experiment::load(&arguments.experiment, &arguments.overrides.set) {
        Ok(experiment) => show(&experiment, arguments),
        Err(error) => show_faults(error, arguments),
    }
}

fn show(experiment: &Experiment, arguments: &PlanArguments) -> Outcome {
    // `--check` reports missing files itself.
    let mut notes: Vec<String> = if arguments.check {
        Vec::new()
    } else {
        experiment
            .check_files()
            .iter()
            .map(ToString::to_string)
            .collect()
    };
    let prompts = match training_prompts(experiment, &mut notes) {
        Err(_) if arguments.check => None,
        prompts => prompts?,
    };
    if prompts.is_none() {
        notes
            .push("the number of training prompts is unknown, so steps are not counted".to_owned());
    }
    let planned = MemoryPanel::of(
        experiment,
        arguments.gpu_memory,
        cuda_device_count() > 0,
        &mut notes,
    );
    let probed = match (&planned, arguments.probe) {
        (Some(panel), true) => Some(Probed::run(
            &panel.inputs,
            experiment,
            arguments.probe_steps,
        )?),
        (None, true) => {
            return Err(usage(
                "--probe runs the model: model.path needs a valid config.json",
            ));
        }
        (_, false) => None,
    };
    let checked = arguments
        .check
        .then(|| preflight::of_experiment(experiment));
    let code = checked.as_ref().map_or(exit::DONE, |(_, code)| *code);
    if arguments.json {
        let mut json = plan_json(experiment, prompts, &notes);
        json["memory"] = planned.as_ref().map_or(Value::Null, MemoryPanel::json);
        if let Some(probed) = &probed {
            json["probe"] = probed.json();
        }
        if let Some((report, _)) = &checked {
            json["preflight"] = report.json();
        }
        json_to_stdout(&json)?;
        return Ok(code);
    }
    let mut text = plan_text(&arguments.experiment, experiment, prompts);
    if let Some(panel) = &planned {
        text.push_str(&panel.text());
    }
    if let Some(probed) = &probed {
        text.push_str(&probed.text());
    }
    for note in &notes {
        text.push_str(&format!("note: {note}\n"));
    }
    if let Some((report, _)) = &checked {
        text.push_str(&findings::text(
            report,
            &arguments.experiment,
            preflight::terminal_columns(),
        ));
    }
    to_stdout(&text)?;
    Ok(code)
}

/// The number of prompts in an epoch: the records, except those that `long_prompts` drops if there is a
/// tokenizer to count their tokens.
fn training_prompts(
    experiment: &Experiment,
    notes: &mut Vec<String>,
) -> Result<Option<usize>, Failure> {
    let data = &experiment.data;
    if !data.train.exists() {
        return Ok(None);
    }
    let records = load_records(&data.train)?;
    if !experiment.model.path.join("tokenizer.json").exists() {
        notes.push(format!(
            "prompt lengths are unknown: {} has no tokenizer.json",
            experiment.model.path.display()
        ));
        return Ok(Some(records.len()));
    }
    let counted = tokenized(experiment, &records);
    Ok(Some(match counted {
        Ok(found) => {
            notes.push(lengths_note(&found, data.max_prompt_length));
            found.kept.len()
        }
        Err(error) => {
            notes.push(format!("prompts: {}", moim_ui::failure::describe(&error)));
            match data.long_prompts {
                // Unknown without the lengths.
                LongPrompts::Drop => return Ok(None),
                _ => records.len(),
            }
        }
    }))
}

fn tokenized(experiment: &Experiment, records: &[moim_core::dataset::Record]) -> Result<Questions> {
    let model = &experiment.model.path;
    let tokenizer = Tokenizer::from_model_dir(model)?;
    let builder = setup::prompt_builder(model, &experiment.data, experiment.run.seed)?;
    questions(records, &builder, &tokenizer, &experiment.data)
}

fn lengths_note(found: &Questions, limit: usize) -> String {
    let lengths = found
        .kept
        .iter()
        .map(|question| question.prompt.tokens.len());
    let mut note = format!(
        "data.train: prompts of up to {} tokens (data.max_prompt_length = {limit})",
        lengths.max().unwrap_or_default()
    );
    if !found.dropped.is_empty() {
        note.push_str(&format!(", {} longer ones left out", found.dropped.len()));
    }
    if !found.shortened.is_empty() {
        note.push_str(&format!(
            ", {} with fewer examples to fit",
            found.shortened.len()
        ));
    }
    note
}

fn plan_text(path: &Path, experiment: &Experiment, prompts: Option<usize>) -> String {
    let batch = experiment.batch();
    let mut text = format!("{}\n{}", path.display(), numbers_line(&batch));
    for line in experiment.batch_lines(prompts) {
        text.push_str(&format!("{line}\n"));
    }
    text
}

fn numbers_line(batch: &BatchArithmetic) -> String {
    format!(
        "B = {} (per_device_train_batch_size), G = {} (num_generations), A = {} (gradient_accumulation_steps), \
         D = {} (num_devices); B counts {}\n",
        batch.b, batch.g, batch.a, batch.d, batch.unit
    )
}

fn plan_json(experiment: &Experiment, prompts: Option<usize>, notes: &[String]) -> Value {
    let batch = experiment.batch();
    let horizon = experiment.horizon(prompts);
    json!({
        "batch": batch_json(&batch),
        "train_prompts": prompts,
        "steps_per_epoch": prompts.map(|n| batch.steps_per_epoch(n) * horizon.num_iterations),
        "dropped_prompts": prompts.map(|n| batch.dropped_prompts(n)),
        "epochs": horizon.epochs,
        "total_steps": prompts.map(|n| batch.total_steps(n, &horizon)).or(horizon.max_steps),
        "lines": experiment.batch_lines(prompts),
        "notes": notes,
        "faults": [],
    })
}

fn batch_json(batch: &BatchArithmetic) -> Value {
    let in_unit = |unit| {
        let batch = batch.in_unit(unit);
        match batch.fault() {
            Some(fault) => json!({ "fault": fault }),
            None => json!({
                "completions_per_step": batch.completions_per_step(),
                "prompts_per_step": batch.prompts_per_step(),
            }),
        }
    };
    json!({
        "B": batch.b,
        "G": batch.g,
        "A": batch.a,
        "D": batch.d,
        "batch_unit": batch.unit,
        "completions": in_unit(BatchUnit::Completions),
        "prompts": in_unit(BatchUnit::Prompts),
        "nearest_legal_b": batch.nearest_legal_b(),
        "nearest_legal_g": batch.nearest_legal_g(),
    })
}

/// Shows the faults on stderr, and the batch as written on stdout.
fn show_faults(error: ExperimentError, arguments: &PlanArguments) -> Outcome {
    let Some(batch) = written_batch(&arguments.experiment, &arguments.overrides.set) else {
        return Err(error.into());
    };
    if arguments.json {
        let faults: Vec<Value> = error.faults().iter().map(fault_json).collect();
        json_to_stdout(&json!({
            "batch": batch_json(&batch),
            "lines": batch.lines(None, 0),
            "faults": faults,
        }))?;
    } else {
        let panel = batch.lines(None, 0).join("\n");
        to_stdout(&format!(
            "{}\n{}{panel}\n",
            arguments.experiment.display(),
            numbers_line(&batch)
        ))?;
    }
    to_stderr(&format!("error: {error}"));
    Ok(exit::USAGE)
}

fn fault_json(fault: &moim_core::experiment::Fault) -> Value {
    json!({
        "key": fault.key,
        "value": fault.value,
        "problem": fault.problem,
        "way_out": fault.hint,
        "line": fault.line(),
    })
}

/// The batch of a file with faults. A value that is not a number is replaced by its default; `None` if the
/// file is not TOML.
fn written_batch(path: &Path, overrides: &[String]) -> Option<BatchArithmetic> {
    let table: toml::Table = moim_core::regular_file::read_to_string(path)
        .ok()?
        .parse()
        .ok()?;
    let written = |section: &str, name: &str| {
        let key = format!("{section}.{name}");
        let overridden = overrides.iter().rev().find_map(|text| {
            let (found, value) = text.split_once('=')?;
            (found.trim() == key).then(|| value.trim().trim_matches('"').to_owned())
        });
        overridden.or_else(|| match table.get(section)?.get(name)? {
            toml::Value::String(word) => Some(word.clone()),
            other => Some(other.to_string()),
        })
    };
    let number = |section, name, default| {
        let value = written(section, name).and_then(|value| value.parse().ok());
        value.unwrap_or(default)
    };
    let usual = Experiment::default().batch();
    Some(BatchArithmetic {
        b: number("grpo", "per_device_train_batch_size", usual.b),
        g: number("grpo", "num_generations", usual.g),
        a: number("grpo", "gradient_accumulation_steps", usual.a),
        d: number("model", "num_devices", usual.d),
        unit: written("grpo", "batch_unit")
            .and_then(|word| BatchUnit::from_word(&word))
            .unwrap_or(usual.unit),
        slices: 1,
    })
}
