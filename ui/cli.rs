//! The command line: one definition feeds the parser and the help.

use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use clap::{ArgGroup, Args, Parser, Subcommand};
use moim_core::experiment::{DeviceChoice, RougeTokenizer};
use moim_core::memory::Bytes;

use crate::tui::ThemeName;

/// Fine-tunes a language model with GRPO on one machine and finds the best checkpoint.
#[derive(Debug, Parser)]
#[command(
    name = "moim",
    version,
    args_conflicts_with_subcommands = true,
    after_help = "Exit codes: 0 done, 1 a check failed or nothing was found, 2 usage or configuration, \
                  3 training failed, 4 data invalid, 130/143 stopped by a signal (a run saves first; a second signal stops it immediately)."
)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Option<Command>,
    #[command(flatten)]
    pub train: TrainArguments,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Show the batch, steps and memory of an experiment, without loading weights (except with --probe)
    Plan(PlanArguments),
    /// Score and rank every answer file of a directory
    Rank(RankArguments),
    /// Score and rank answer files as they appear
    Watch(WatchArguments),
    /// Compare answer files item by item
    Compare(CompareArguments),
    /// Write a run in the formats of other programs: TensorBoard, W&B, CSV, SVG
    Export(ExportArguments),
    /// Answer the questions of a file with a model
    Infer(InferArguments),
    /// Supervised warm-up with the same data and model code
    Sft(SftArguments),
    /// Show the capabilities of this machine and this terminal
    Doctor(DoctorArguments),
    /// Write the completions of a shell to stdout
    Completions(CompletionsArguments),
    /// Write the manual page to stdout
    Man,
}

/// `moim`: the terminal UI, or training without it.
#[derive(Debug, Args)]
pub struct TrainArguments {
    /// The experiment file (TOML) to start; in the terminal UI also a run directory to show
    pub experiment: Option<PathBuf>,
    /// Train without the terminal UI: infer, score and rank after each epoch
    #[arg(long)]
    pub no_ui: bool,
    #[command(flatten)]
    pub overrides: Overrides,
    /// Train without the terminal UI and write only the run's events to stdout, one JSON object per
    /// line
    #[arg(long)]
    pub json: bool,
    /// Resume a run from its latest save point
    #[arg(long, value_name = "RUN")]
    pub resume: Option<PathBuf>,
    /// Train despite errors of the checks before the first step; needs --no-ui on a terminal
    #[arg(long)]
    pub force: bool,
    /// Write only warnings and errors to stderr
    #[arg(long, short)]
    pub quiet: bool,
    #[command(flatten)]
    pub terminal: TerminalArguments,
}

/// The appearance of the terminal UI and the folders it reads.
#[derive(Debug, Args)]
#[command(next_help_heading = "Terminal UI")]
pub struct TerminalArguments {
    /// The folder of experiment files
    #[arg(long, value_name = "DIR", default_value = "experiments")]
    pub experiments: PathBuf,
    /// The folder of runs
    #[arg(long, value_name = "DIR", default_value = "outputs")]
    pub outputs: PathBuf,
    /// Colours: dark, light, color-blind, 16 or none (NO_COLOR turns them off as well)
    #[arg(long, default_value = "dark", value_parser = theme)]
    pub theme: ThemeName,
    /// Draw only with ASCII characters, for fonts without braille and terminals that draw
    /// ambiguous characters wide
    #[arg(long)]
    pub ascii: bool,
    /// Leave the mouse to the terminal
    #[arg(long)]
    pub no_mouse: bool,
    /// Only poll files, without the system's notifications
    #[arg(long)]
    pub poll: bool,
}

fn theme(word: &str) -> Result<ThemeName, String> {
    ThemeName::from_word(word).ok_or_else(|| {
        let words = ThemeName::ALL.map(ThemeName::name);
        format!("write one of {}", words.join(", "))
    })
}

#[derive(Debug, Args)]
pub struct Overrides {
    /// Override a key of the experiment (can be repeated); not in the terminal UI
    #[arg(long = "set", value_name = "SECTION.KEY=VALUE")]
    pub set: Vec<String>,
}

/// `moim plan`.
#[derive(Debug, Args)]
pub struct PlanArguments {
    /// The experiment file
    pub experiment: PathBuf,
    #[command(flatten)]
    pub overrides: Overrides,
    /// Write the plan as JSON
    #[arg(long)]
    pub json: bool,
    /// Also run the checks of a training before its first step: prompt, end tokens, lengths, rewards
    /// (the encoder is loaded and programs are run), data, disk, memory; exits with 2 or 4 if they
    /// would stop the training
    #[arg(long)]
    pub check: bool,
    /// The memory to plan for, e.g. 24GiB [default: memory.budget_gib, else the device's]
    #[arg(long, value_name = "SIZE", value_parser = Bytes::from_str)]
    pub gpu_memory: Option<Bytes>,
    /// Also run and measure one rollout and one training step of the worst case on the device
    #[arg(long)]
    pub probe: bool,
    /// The number of steps of --probe; with more than one, the first is a warm-up that is shown
    /// separately, and the numbers are medians of the others
    #[arg(long, value_name = "N", default_value = "1", requires = "probe")]
    pub probe_steps: NonZeroUsize,
}

/// How answers are scored; shared by `rank`, `watch` and `compare`. Missing arguments come from the
/// experiment.
#[derive(Debug, Args)]
pub struct ScoringArguments {
    /// The right answers [default: those of the experiment]
    #[arg(long, value_name = "FILE")]
    pub labels: Option<PathBuf>,
    /// The BERTScore encoder, a Hugging Face folder [default: bertscore.model of the experiment]
    #[arg(long, value_name = "DIR")]
    pub encoder: Option<PathBuf>,
    /// The encoder's layer that is compared [default: bert-score's choice by the model's name]
    #[arg(long, value_name = "N")]
    pub layer: Option<usize>,
    /// What ROUGE-1 counts: eojeol, syllable or mecab [default: that of the experiment, else eojeol]
    #[arg(long, value_name = "TOKENIZER", value_parser = rouge_tokenizer)]
    pub rouge: Option<RougeTokenizer>,
    /// A compiled mecab-ko dictionary, for --rouge mecab
    #[arg(long, value_name = "DIR")]
    pub mecab_dict: Option<PathBuf>,
    /// Take missing arguments from this experiment [default: the run's own experiment.toml]
    #[arg(long, value_name = "FILE")]
    pub experiment: Option<PathBuf>,
    /// Split, compare and average as in the contest's official evaluation
    #[arg(long)]
    pub contest: bool,
    /// Where the encoder runs: auto, cpu, cuda or cuda:N [default: that of the experiment, else auto]
    #[arg(long, value_parser = DeviceChoice::from_str)]
    pub device: Option<DeviceChoice>,
}

fn rouge_tokenizer(word: &str) -> Result<RougeTokenizer, String> {
    RougeTokenizer::from_word(word).ok_or_else(|| {
        let words: Vec<&str> = RougeTokenizer::ALL
            .iter()
            .map(|choice| choice.as_str())
            .collect();
        format!("write one of {}", words.join(", "))
    })
}

/// `moim rank`.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("form").args(["json", "csv", "md"]))]
pub struct RankArguments {
    /// A directory of answer files, or a run directory
    pub directory: PathBuf,
    #[command(flatten)]
    pub scoring: ScoringArguments,
    /// Write the list as JSON
    #[arg(long)]
    pub json: bool,
    /// Write the list as CSV
    #[arg(long)]
    pub csv: bool,
    /// Write the list as Markdown
    #[arg(long)]
    pub md: bool,
}

/// `moim watch`.
#[derive(Debug, Args)]
pub struct WatchArguments {
    /// A directory of answer files, or a run directory; it need not exist yet
    pub directory: PathBuf,
    #[command(flatten)]
    pub scoring: ScoringArguments,
    /// Write one JSON object per line for every file that changed
    #[arg(long)]
    pub json: bool,
    /// Only poll files, without the system's notifications
    #[arg(long)]
    pub poll: bool,
}

/// `moim compare`.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("form").args(["json", "csv", "md"]))]
pub struct CompareArguments {
    /// Answer files, each compared with the first; a run or a folder means all its answer
    /// files
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
    #[command(flatten)]
    pub scoring: ScoringArguments,
    /// Show these items in full, with changes marked [-old-]{+new+}: all, changed, fixed,
    /// broken, both-wrong or both-right [default: changed in brief as text, otherwise all]
    #[arg(long, value_name = "ITEMS")]
    pub only: Option<moim_core::score::ItemFilter>,
    /// Show only items of this question type, such as 선택형
    #[arg(long = "type", value_name = "TYPE")]
    pub question_type: Option<String>,
    /// Write the comparison as JSON
    #[arg(long)]
    pub json: bool,
    /// Write the items as CSV
    #[arg(long)]
    pub csv: bool,
    /// Write the comparison as Markdown
    #[arg(long)]
    pub md: bool,
    /// Exit with 1 if the last file does not have all answers of the first, or if its
    /// Final Mean is lower by more than chance explains (paired permutation test, p up
    /// to 0.05)
    #[arg(long)]
    pub fail_on_regression: bool,
}

/// `moim export`.
#[derive(Debug, Args)]
pub struct ExportArguments {
    /// The run directory, of a finished or a running run
    pub run: PathBuf,
    /// What to write
    pub format: ExportFormat,
    /// The folder to write into [default: export/FORMAT in the run directory]
    #[arg(long, value_name = "DIR")]
    pub output: Option<PathBuf>,
}

/// What `moim export` writes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum ExportFormat {
    /// An event file for TensorBoard
    Tensorboard,
    /// A W&B offline run, for wandb leet and wandb sync
    Wandb,
    /// Every metric as a row of a table
    Csv,
    /// Charts of the main metrics
    Svg,
}

impl ExportFormat {
    /// The word on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tensorboard => "tensorboard",
            Self::Wandb => "wandb",
            Self::Csv => "csv",
            Self::Svg => "svg",
        }
    }
}

/// `moim infer`.
#[derive(Debug, Args)]
pub struct InferArguments {
    /// The model, a Hugging Face folder
    #[arg(long, value_name = "DIR")]
    pub model: PathBuf,
    /// A LoRA adapter in PEFT's format
    #[arg(long, value_name = "DIR")]
    pub adapter: Option<PathBuf>,
    /// Store the model's linear layers in 4 bits (NF4), for an adapter that was trained that way
    #[arg(long)]
    pub load_in_4bit: bool,
    /// Store the scales of 4-bit blocks in 8 bits
    #[arg(long, requires = "load_in_4bit")]
    pub double_quant: bool,
    /// The questions: a JSON array or JSON lines
    #[arg(long, value_name = "FILE")]
    pub input: PathBuf,
    /// The file to write the answers to, in the contest's format
    #[arg(long, value_name = "FILE")]
    pub output: PathBuf,
    /// A JSON file with prompt, selection_prompt and correction_prompt
    #[arg(long, value_name = "FILE")]
    pub instruct: Option<PathBuf>,
    /// The file that examples are drawn from
    #[arg(long, value_name = "FILE", requires = "num_few_shot")]
    pub few_shot: Option<PathBuf>,
    /// Examples before each question
    #[arg(long, value_name = "N", requires = "few_shot")]
    pub num_few_shot: Option<usize>,
    /// The system message
    #[arg(long, value_name = "TEXT")]
    pub system_prompt: Option<String>,
    /// Written before each question [default: "[질문]: "]
    #[arg(long, value_name = "TEXT")]
    pub question_prefix: Option<String>,
    /// A Jinja file instead of the model's own chat template
    #[arg(long, value_name = "FILE")]
    pub chat_template: Option<PathBuf>,
    /// The date that the chat template sees, e.g. "22 Nov 2026" [default: today]
    #[arg(long, value_name = "TEXT")]
    pub date_string: Option<String>,
    /// The longest prompt, in tokens; a longer one is an error
    #[arg(long, value_name = "N", default_value_t = 1024)]
    pub max_prompt_length: usize,
    /// The longest answer, in tokens
    #[arg(long, value_name = "N", default_value_t = 512)]
    pub max_completion_length: usize,
    /// 0 always takes the most likely token, whatever generation_config.json says
    #[arg(long, value_name = "T", default_value_t = 0.0)]
    pub temperature: f64,
    /// Keep the most likely tokens, up to this total probability
    #[arg(long, value_name = "P", default_value_t = 1.0)]
    pub top_p: f64,
    /// Keep the K most likely tokens; 0 keeps all
    #[arg(long, value_name = "K", default_value_t = 0)]
    pub top_k: usize,
    /// Keep tokens with at least this fraction of the most likely token's probability
    #[arg(long, value_name = "P")]
    pub min_p: Option<f64>,
    /// Above 1, tokens that have occurred become less likely
    #[arg(long, value_name = "X", default_value_t = 1.0)]
    pub repetition_penalty: f64,
    /// A token that ends an answer, in addition to the model's own (can be repeated)
    #[arg(long, value_name = "ID")]
    pub stop_token_id: Vec<u32>,
    /// Questions answered together
    #[arg(long, value_name = "N", default_value_t = 16)]
    pub batch_size: usize,
    /// Where the model runs: auto, cpu, cuda or cuda:N
    #[arg(long, default_value_t = DeviceChoice::Auto, value_parser = DeviceChoice::from_str)]
    pub device: DeviceChoice,
    /// Every random draw follows from this number
    #[arg(long, default_value_t = 42)]
    pub seed: u64,
    /// Add token ids and log-probabilities (in nats) to each answer
    #[arg(long)]
    pub logprobs: bool,
    /// Write only warnings and errors to stderr
    #[arg(long, short)]
    pub quiet: bool,
}

/// `moim sft`.
#[derive(Debug, Args)]
pub struct SftArguments {
    /// The experiment file, with an [sft] section
    pub experiment: PathBuf,
    #[command(flatten)]
    pub overrides: Overrides,
    /// Write each step to stdout, one JSON object per line
    #[arg(long)]
    pub json: bool,
    /// Write only warnings and errors to stderr
    #[arg(long, short)]
    pub quiet: bool,
}

/// `moim doctor`.
#[derive(Debug, Args)]
pub struct DoctorArguments {
    /// The folder whose file system is checked
    #[arg(long, value_name = "DIR", default_value = "outputs")]
    pub outputs: PathBuf,
    /// Compare every kernel with its reference instead; exits with 1 if one differs
    #[arg(long)]
    pub kernels: bool,
    /// Where the kernels run: auto, cpu, cuda or cuda:N
    #[arg(long, requires = "kernels", default_value_t = DeviceChoice::Auto, value_parser = DeviceChoice::from_str)]
    pub device: DeviceChoice,
    /// Also measure their speed, at the sizes of an 11.5-billion-parameter model (not on the CPU)
    #[arg(long, requires = "kernels")]
    pub time: bool,
}

/// `moim completions`.
#[derive(Debug, Args)]
pub struct CompletionsArguments {
    /// The shell
    pub shell: clap_complete::Shell,
}

/// An error message for a word that was probably meant as a command.
pub fn not_a_command(word: &Path) -> Option<String> {
    if !is_like_a_command(word) {
        return None;
    }
    let near = nearest_command(word);
    let hint = near.map_or_else(String::new, |near| format!(", did you mean {near}?"));
    let word = word.display().to_string();
    Some(format!(
        "there is no command {word:?}{hint}; moim --help lists them"
    ))
}

/// Whether a word can only be meant as a command: it names no file and has no extension.
fn is_like_a_command(word: &Path) -> bool {
    word.extension().is_none() && word.components().count() == 1 && !word.exists()
}

/// The names of [`Command`].
const COMMANDS: [&str; 10] = [
    "plan",
    "rank",
    "watch",
    "compare",
    "export",
    "infer",
    "sft",
    "doctor",
    "completions",
    "man",
];

fn nearest_command(word: &Path) -> Option<&'static str> {
    let word = word.to_str()?;
    COMMANDS
        .into_iter()
        .map(|command| (strsim::jaro_winkler(word, command), command))
        .filter(|(likeness, _)| *likeness > 0.75)
        .max_by(|left, right| left.0.total_cmp(&right.0))
        .map(|(_, command)| command)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_definition_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn training_and_commands_are_distinguished() {
        let cli = Cli::parse_from(["moim", "--no-ui", "a.toml", "--set", "run.seed=1", "--json"]);
        assert!(cli.command.is_none() && cli.train.no_ui && cli.train.json);
        assert_eq!(cli.train.overrides.set, ["run.seed=1"]);
        let cli = Cli::parse_from([
            "moim", "rank", "outputs", "--labels", "l.json", "--layer", "9",
        ]);
        let Some(Command::Rank(rank)) = cli.command else {
            panic!("{cli:?}")
        };
        assert_eq!(rank.scoring.layer, Some(9));
        for wrong in [
            &["moim", "rank", "x", "--json", "--csv"][..],
            &["moim", "rank", "x", "--rouge", "word"],
            &["moim", "rank", "x", "--device", "tpu"],
            &["moim", "--no-ui", "plan", "x"],
            &[
                "moim",
                "infer",
                "--model",
                "m",
                "--input",
                "i",
                "--output",
                "o",
                "--few-shot",
                "f",
            ],
        ] {
            assert!(Cli::try_parse_from(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_word_that_is_not_a_file_was_meant_as_a_command() {
        let said = |word: &str| not_a_command(Path::new(word));
        assert!(said("rnak").is_some_and(|text| text.contains("did you mean rank?")));
        assert_eq!(said("a.toml"), None);
        let known: Vec<String> = Cli::command()
            .get_subcommands()
            .map(|command| command.get_name().to_owned())
            .collect();
        assert_eq!(known, COMMANDS);
    }
}
