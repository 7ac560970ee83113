//! `moim infer`: answers the questions of a file with a model.

use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use moim_core::architecture::WeightFormat;
use moim_core::dataset::{load_records, question_type_warnings};
use moim_core::experiment::{DataSection, Dtype, LongPrompts};
use moim_core::numbers::{duration, grouped};
use moim_core::run::publish::publish;
use moim_core::text::Tokenizer;
use moim_engine::device::Compute;
use moim_engine::inference::{AnswerSettings, Answered, answer_file, answer_questions};
use moim_engine::model::{Adapter, load_adapter};
use moim_engine::rollout::SamplingParameters;
use moim_engine::session::checkpoint::verify_adapter;
use moim_engine::setup::{Policy, Question, prompt_builder, questions};

use crate::loading::loading;
use moim_ui::cli::InferArguments;
use moim_ui::console::Console;
use moim_ui::failure::{self, Outcome, exit};

/// Runs the command.
pub fn run(arguments: &InferArguments) -> Outcome {
    let console = Console::new(arguments.quiet);
    let sampling = sampling(arguments)?;
    check_output(&arguments.output)?;
    let (questions, warnings, tokenizer) = load_questions(arguments)?;
    for warning in warnings {
        console.report(&format!("warning: {warning}"));
    }
    let compute = Compute::new(arguments.device, Dtype::Auto)?;
    let policy = Policy::load(
        &arguments.model,
        tokenizer,
        std::slice::from_ref(&compute),
        weight_format(arguments),
        &arguments.stop_token_id,
        &mut loading(&console),
    )?;
    let adapter = arguments
        .adapter
        .as_deref()
        .map(|directory| {
            verify_adapter(directory)?;
            load_adapter(directory, &policy.model.config, &compute)
        })
        .transpose()?;
    console.note(&format!(
        "{} on {}, {} parameters, {} questions",
        arguments.model.display(),
        compute.name,
        grouped(policy.model.config.parameter_count()),
        questions.len()
    ));
    let settings = AnswerSettings {
        sampling,
        max_completion_length: arguments.max_completion_length,
        batch_size: arguments.batch_size,
        seed: arguments.seed,
        step: 0,
    };
    let clock = Instant::now();
    let answers = answer(&console, &policy, adapter.as_ref(), &questions, &settings)
        .map_err(failure::of_work)?;
    let bytes = answer_file(&questions, &answers, arguments.logprobs)?;
    publish(&arguments.output, &bytes).map_err(|error| failure::of_work(error.into()))?;
    let seconds = clock.elapsed().as_secs_f64();
    console.note(&summary(&arguments.output, &answers, seconds));
    Ok(exit::DONE)
}

fn weight_format(arguments: &InferArguments) -> WeightFormat {
    if arguments.load_in_4bit {
        WeightFormat::Nf4 {
            double_quant: arguments.double_quant,
        }
    } else {
        WeightFormat::Dense
    }
}

fn sampling(arguments: &InferArguments) -> Result<SamplingParameters> {
    let sampling = SamplingParameters {
        temperature: arguments.temperature,
        top_k: arguments.top_k,
        top_p: arguments.top_p,
        min_p: arguments.min_p,
        repetition_penalty: arguments.repetition_penalty,
    };
    sampling.validate()?;
    if arguments.batch_size == 0 || arguments.max_completion_length == 0 {
        bail!("--batch-size and --max-completion-length must be at least 1");
    }
    Ok(sampling)
}

/// Refuses an output that cannot be written, before the work starts.
fn check_output(output: &Path) -> Result<()> {
    if output.is_dir() {
        bail!("--output {} is a folder; name a file", output.display());
    }
    let folder = match output.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    std::fs::create_dir_all(folder)
        .with_context(|| format!("--output {}: cannot create the folder", output.display()))?;
    tempfile::tempfile_in(folder).with_context(|| {
        format!(
            "--output {}: cannot write into the folder",
            output.display()
        )
    })?;
    Ok(())
}

/// Loads the prompts first, so that problems with them are reported before the weights are read.
fn load_questions(arguments: &InferArguments) -> Result<(Vec<Question>, Vec<String>, Tokenizer)> {
    let records = load_records(&arguments.input)?;
    if records.is_empty() {
        bail!("{} has no questions", arguments.input.display());
    }
    let defaults = DataSection::default();
    let data = DataSection {
        instruct: arguments.instruct.clone(),
        few_shot: arguments.few_shot.clone(),
        num_few_shot: arguments.num_few_shot.unwrap_or(0),
        max_prompt_length: arguments.max_prompt_length,
        // Every question must be answered, with exactly the requested prompt.
        long_prompts: LongPrompts::Error,
        system_prompt: arguments.system_prompt.clone(),
        chat_template: arguments.chat_template.clone(),
        date_string: arguments.date_string.clone(),
        question_prefix: (arguments.question_prefix.clone()).unwrap_or(defaults.question_prefix),
        ..DataSection::default()
    };
    let tokenizer = Tokenizer::from_model_dir(&arguments.model)?;
    let builder = prompt_builder(&arguments.model, &data, arguments.seed)?;
    let found = questions(&records, &builder, &tokenizer, &data)
        .with_context(|| arguments.input.display().to_string())?;
    Ok((
        found.kept,
        question_type_warnings(&arguments.input, &records),
        tokenizer,
    ))
}

fn answer(
    console: &Console,
    policy: &Policy,
    adapter: Option<&Adapter>,
    questions: &[Question],
    settings: &AnswerSettings,
) -> Result<Vec<Answered>> {
    let bar = console.bar("inference", questions.len());
    let answers = answer_questions(policy, adapter, questions, settings, &mut |progress| {
        bar.set_position(progress.finished as u64);
        bar.set_message(format!("{} tokens", progress.tokens));
        Ok(())
    });
    bar.finish_and_clear();
    let answers = answers?;
    if let Some(retry) = &answers.out_of_memory {
        console.report(&format!(
            "warning: the device ran out of memory ({}); retried with {} questions at a time, which does not \
             change the answers (--batch-size)",
            retry.message, retry.rows
        ));
    }
    Ok(answers.answers)
}

fn summary(output: &Path, answers: &[Answered], seconds: f64) -> String {
    let tokens: usize = answers.iter().map(|answer| answer.tokens.len()).sum();
    format!(
        "{} answers in {}, {:.0} tokens/s: {}",
        answers.len(),
        duration(seconds),
        tokens as f64 / seconds.max(1e-9),
        output.display()
    )
}
