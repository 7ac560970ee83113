//! Whether everything that a run writes fits on the disk.

use serde_json::{Value, json};

use super::machine::{Disk, Machine};
use crate::nf4::{BLOCK, CachePlan, NESTED_BLOCK};
use crate::setup::{Texts, lora_config};
use moim_core::architecture::Projection;
use moim_core::dataset::Record;
use moim_core::experiment::SaveStrategy;
use moim_core::findings::Check;
use moim_core::memory::Bytes;
use moim_core::run::model_fingerprint;

const NAME: &str = "disk";

/// Bytes of a parameter in a save point: the adapter and AdamW's two moments, in f32.
const SAVED_BYTES: u64 = 12;
/// Bytes of a save point besides its tensors.
const SAVE_POINT_EXTRA: u64 = 64 << 10;
/// The most bytes of text per token, on average: two syllables of Hangul.
const TOKEN_BYTES: u64 = 6;
/// Bytes of a line besides its texts: rewards, lengths, keys; of an answer: its scores.
const LINE_BYTES: u64 = 600;
/// Bytes of a step in events.jsonl, and in each format of `run.report_to`.
const STEP_BYTES: u64 = 3 << 10;
/// Bytes of machine samples, the log, and small files.
const OTHER_BYTES: u64 = 16 << 20;

/// Everything that a run writes, in bytes. Completions and answers are assumed to have their full length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Writes {
    /// One save point.
    save_point: u64,
    /// Save points that are on the disk at the same time.
    save_points: u64,
    /// Answers and scores of all save points.
    answers: u64,
    /// events.jsonl, completions.jsonl and other files.
    logs: u64,
}

impl Writes {
    fn total(&self) -> u64 {
        let saved = self.save_point.saturating_mul(self.save_points);
        saved.saturating_add(self.answers).saturating_add(self.logs)
    }

    fn words(&self) -> String {
        format!(
            "{} save point(s) of {}, answers {}, logs up to {}",
            self.save_points,
            Bytes(self.save_point),
            Bytes(self.answers),
            Bytes(self.logs)
        )
    }

    fn of(texts: &Texts) -> anyhow::Result<Self> {
        let experiment = &texts.experiment;
        let run = &experiment.run;
        let batch = experiment.batch();
        let prompts = texts.train.kept.len();
        let steps = batch.total_steps(prompts, &experiment.horizon(Some(prompts)));
        let iterations = experiment.grpo.num_iterations.max(1);
        let per_epoch = batch
            .steps_per_epoch(prompts)
            .saturating_mul(iterations)
            .max(1);
        // The last step is a save point with every strategy.
        let points = match run.save_strategy {
            SaveStrategy::Epoch => steps.div_ceil(per_epoch),
            SaveStrategy::Steps => steps.div_ceil(run.save_steps.max(1)),
            SaveStrategy::No => 1,
        };
        // The best one is kept besides the latest, and a new one is written before an old one is deleted.
        let kept = run
            .save_total_limit
            .map_or(points, |limit| points.min(limit.saturating_add(2)));
        let parameters = lora_config(experiment)?.parameter_count(&texts.model);
        let answer = experiment.inference.max_completion_length as u64 * TOKEN_BYTES;
        // A file has each answer twice, verbatim and normalised.
        let answers = text_bytes(&texts.eval_records)
            + texts.eval_records.len() as u64 * (2 * answer + LINE_BYTES);
        let untouched = usize::from(experiment.inference.before_training);
        let completions = if run.log_completions {
            batch.completions_per_step() as u64 * steps.div_ceil(iterations) as u64
        } else {
            0
        };
        let completion = experiment.rollout.max_completion_length as u64 * TOKEN_BYTES;
        let line = mean_prompt_bytes(texts) + completion + LINE_BYTES;
        let reports = 1 + run.report_to.len() as u64;
        Ok(Self {
            save_point: parameters as u64 * SAVED_BYTES + SAVE_POINT_EXTRA,
            save_points: kept as u64,
            answers: answers.saturating_mul((points + untouched) as u64),
            logs: (completions.saturating_mul(line))
                .saturating_add(steps as u64 * STEP_BYTES * reports)
                .saturating_add(OTHER_BYTES),
        })
    }
}

/// Bytes of the records in an answer file.
fn text_bytes(records: &[Record]) -> u64 {
    records
        .iter()
        .map(|record| record.raw.to_string().len() as u64)
        .sum()
}

/// The mean bytes of a prompt with its label in completions.jsonl.
fn mean_prompt_bytes(texts: &Texts) -> u64 {
    let kept = &texts.train.kept;
    let all: usize = kept
        .iter()
        .map(|question| {
            question.text.len() + question.record.answer.as_ref().map_or(0, String::len)
        })
        .sum();
    (all / kept.len().max(1)) as u64
}

/// Checks the disks of the run directory and of the cache of quantised weights, if one would be written.
/// `written` is the current size of the run directory.
pub fn checks(texts: &Texts, machine: &Machine, written: u64) -> Vec<Check> {
    let cache = cache_bytes(texts, machine);
    let mut checks = Vec::new();
    match Writes::of(texts) {
        Ok(writes) => checks.extend(
            machine
                .output
                .as_ref()
                .map(|disk| of_run(writes, written, disk, machine.cache.as_ref().zip(cache))),
        ),
        Err(error) => checks.push(Check::error(NAME, format!("{error:#}"))),
    }
    if let (Some(bytes), Some(disk)) = (cache, &machine.cache) {
        checks.extend(of_cache(bytes, disk));
    }
    checks
}

fn of_run(writes: Writes, written: u64, disk: &Disk, cache: Option<(&Disk, u64)>) -> Check {
    let own = writes.total().saturating_sub(written);
    // Quantised weights are written first, and only if they fit.
    let quantised = cache
        .filter(|(cached, bytes)| cached.id == disk.id && *bytes <= cached.free)
        .map_or(0, |(_, bytes)| bytes);
    let needed = own.saturating_add(quantised);
    let details = json!({
        "free": disk.free,
        "needed": needed,
        "save_point": writes.save_point,
        "save_points": writes.save_points,
        "answers": writes.answers,
        "logs": writes.logs,
        "quantised_weights": quantised,
        "written": written,
    });
    let folder = disk.folder.display();
    let mut parts = writes.words();
    if quantised > 0 {
        parts.push_str(&format!(", quantised weights {}", Bytes(quantised)));
    }
    if written > 0 {
        parts.push_str(&format!(
            ", of which {} are already written",
            Bytes(written)
        ));
    }
    let target = match written {
        0 => format!("run.output_dir = \"{folder}\""),
        _ => folder.to_string(),
    };
    let hint = match written {
        0 => "name another folder",
        _ => "move the run to another disk",
    };
    let free = Bytes(disk.free);
    if needed <= disk.free {
        let message = format!(
            "{target}: {} to write ({parts}), {free} free",
            Bytes(needed)
        );
        return Check::ok(NAME, message).with(details);
    }
    let message = format!(
        "{target}: the run writes {} ({parts}), but the disk has {free} free; free some space, {hint}, or \
         set run.save_total_limit or run.log_completions = false",
        Bytes(needed)
    );
    // Logs are counted as if every completion had its full length.
    let check = if needed.saturating_sub(writes.logs) <= disk.free {
        Check::warning(NAME, message)
    } else {
        Check::error(NAME, message)
    };
    check.with(details)
}

/// `None` if it fits.
fn of_cache(bytes: u64, disk: &Disk) -> Option<Check> {
    let details: Value = json!({ "free": disk.free, "needed": bytes });
    (bytes > disk.free).then(|| {
        Check::warning(
            "cache",
            format!(
                "{}: the quantised weights need {}, but the disk has {} free, so each run quantises them \
                 again; free some space, or set MOIM_CACHE_DIR to another folder",
                disk.folder.display(),
                Bytes(bytes),
                Bytes(disk.free)
            ),
        )
        .with(details)
    })
}

/// Bytes of the quantised weights in the cache; `None` if none are written.
fn cache_bytes(texts: &Texts, machine: &Machine) -> Option<u64> {
    let quantization = &texts.experiment.quantization;
    if !quantization.load_in_4bit || texts.model.stored_in_nf4 {
        return None;
    }
    let folder = &machine.cache.as_ref()?.folder;
    let plan = CachePlan {
        fingerprint: model_fingerprint(&texts.experiment.model.path).ok()?,
        double_quant: quantization.bnb_4bit_use_double_quant,
        matrices: Vec::new(),
    };
    if plan.path(folder).exists() {
        return None;
    }
    let layer: u64 = Projection::ALL
        .into_iter()
        .map(|projection| {
            let (out, input) = projection.shape(&texts.model);
            out as u64 * input as u64
        })
        .sum();
    let weights = layer * texts.model.num_hidden_layers as u64;
    let (block, nested) = (BLOCK as u64, NESTED_BLOCK as u64);
    let scales = if plan.double_quant {
        weights / block + 4 * weights / (block * nested)
    } else {
        4 * weights / block
    };
    Some(weights / 2 + scales)
}

#[cfg(test)]
mod tests {
    use super::super::sample::Folder;
    use super::*;
    use moim_core::experiment::Experiment;
    use moim_core::findings::Severity;

    fn disk(free: u64, id: u64) -> Disk {
        Disk {
            folder: "outputs".into(),
            free,
            id,
        }
    }

    fn machine(free: u64) -> Machine {
        Machine {
            output: Some(disk(free, 1)),
            ..Machine::default()
        }
    }

    fn written(change: impl FnOnce(&mut Experiment)) -> Writes {
        Writes::of(&Folder::new().texts(change)).unwrap()
    }

    #[test]
    fn a_full_disk_is_an_error_that_names_what_needs_space() {
        let texts = Folder::new().texts(|_| ());
        let roomy = checks(&texts, &machine(1 << 40), 0);
        assert_eq!(roomy.len(), 1);
        assert_eq!(roomy[0].severity, Severity::Ok, "{}", roomy[0].message);
        let full = &checks(&texts, &machine(1 << 20), 0)[0];
        assert_eq!(full.severity, Severity::Error);
        for words in [
            "run.output_dir = \"outputs\"",
            "3 save point(s)",
            "1 MiB free",
            "run.save_total_limit",
        ] {
            assert!(full.message.contains(words), "{}", full.message);
        }
        // What a resumed run has already written needs no space again.
        let needed = full.details["needed"].as_u64().unwrap();
        let resumed = &checks(&texts, &machine(1 << 20), needed)[0];
        assert_eq!(resumed.severity, Severity::Ok, "{}", resumed.message);
    }

    #[test]
    fn save_points_are_counted_as_the_trainer_keeps_them() {
        // Four prompts, one per step: three epochs of four steps.
        let points = |change: fn(&mut Experiment)| written(change).save_points;
        assert_eq!(points(|_| ()), 3);
        assert_eq!(points(|experiment| experiment.grpo.max_steps = 6), 2);
        assert_eq!(
            points(|experiment| experiment.run.save_strategy = SaveStrategy::No),
            1
        );
        assert_eq!(
            points(|experiment| {
                experiment.run.save_strategy = SaveStrategy::Steps;
                experiment.run.save_steps = 5;
            }),
            3
        );
        assert_eq!(
            points(|experiment| {
                experiment.run.save_strategy = SaveStrategy::Steps;
                experiment.run.save_steps = 1;
                experiment.run.save_total_limit = Some(2);
            }),
            4
        );
        let whole = written(|_| ());
        let unlogged = written(|experiment| experiment.run.log_completions = false);
        assert!(unlogged.logs < whole.logs && unlogged.answers == whole.answers);
    }

    #[test]
    fn quantised_weights_count_once_and_stop_nothing() {
        let folder = Folder::new();
        let texts = folder.texts(|experiment| experiment.quantization.load_in_4bit = true);
        let with_cache = |free: u64, id: u64| Machine {
            cache: Some(Disk {
                folder: folder.path("cache"),
                ..disk(free, id)
            }),
            ..machine(1 << 40)
        };
        let separate = checks(&texts, &with_cache(1 << 40, 2), 0);
        assert_eq!(separate[0].details["quantised_weights"], 0);
        let together = checks(&texts, &with_cache(1 << 40, 1), 0);
        let bytes = together[0].details["quantised_weights"].as_u64().unwrap();
        // 4.5 bits per weight.
        let weights: usize = Projection::ALL
            .into_iter()
            .map(|projection| {
                let (out, input) = projection.shape(&texts.model);
                out * input * texts.model.num_hidden_layers
            })
            .sum();
        assert_eq!(bytes, (weights * 9 / 16) as u64);
        let full = checks(&texts, &with_cache(1000, 2), 0);
        assert_eq!(
            (full[1].name, full[1].severity),
            ("cache", Severity::Warning),
            "{}",
            full[1].message
        );
        let fingerprint = model_fingerprint(&texts.experiment.model.path).unwrap();
        std::fs::create_dir(folder.path("cache")).unwrap();
        folder.write(&format!("cache/nf4-{fingerprint}-single.safetensors"), "");
        assert_eq!(checks(&texts, &with_cache(1000, 2), 0).len(), 1);
    }
}
