//! A made-up folder of experiments and runs, with Korean names.

use std::path::PathBuf;
use std::sync::Arc;

use jiff::Timestamp;
use moim_core::experiment::Experiment;
use moim_core::run::{BestCheckpoint, Liveness, RunState, RunStatus, SavePoint};
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::layout::Rect;

use crate::tui::data::World;
use crate::tui::data::index::{ExperimentFile, Index, RunEntry};
use crate::tui::screens::ScreenState;
use crate::tui::state::{Context, Settings};
use crate::tui::theme::{ColorDepth, ThemeName};
use crate::tui::widgets::testing::lines;

/// The time at which the sample is drawn.
pub(crate) const NOW: &str = "2026-11-22T12:00:00Z";

/// A valid experiment with Korean comments.
pub(crate) const VALID: &str = r#"# 표준어 고르기: 다섯 에폭
# Runs on one card.
[model]
path = "models/토끼-2B"      # where it lies

[data]
train = "data/train.json"
eval = "data/dev.json"

[grpo]
num_generations = 8         # G
per_device_train_batch_size = 8
gradient_accumulation_steps = 4
num_train_epochs = 5
beta = 0.04

[bertscore]
model = "models/encoder"
"#;

/// An experiment with two faults.
pub(crate) const FAULTY: &str = r#"[model]
path = "models/토끼-2B"
[data]
train = "data/train.json"
eval = "data/dev.json"
[grpo]
num_generations = 8
per_device_train_batch_size = 10
betta = 0.1
"#;

/// An experiment file of the sample.
pub(crate) fn file(name: &str, text: &str) -> ExperimentFile {
    let comments = text.lines().map_while(|line| line.strip_prefix("# "));
    ExperimentFile {
        path: PathBuf::from(format!("experiments/{name}.toml")),
        name: name.to_owned(),
        modified: "2026-11-22T11:00:00Z".parse().ok(),
        description: comments.map(str::to_owned).collect(),
        text: text.into(),
        experiment: Experiment::parse(text, &[]).map(Arc::new),
    }
}

/// A run of the sample.
pub(crate) fn run(experiment: &str, name: &str, status: RunStatus, liveness: Liveness) -> RunEntry {
    let mut state = RunState::begin(format!("{experiment}/{name}"), "cuda:0");
    let at = |time: &str| time.parse::<Timestamp>().unwrap();
    state.state = status;
    state.pid = 4321;
    state.host = "tokki".to_owned();
    state.started = at("2026-11-22T10:00:00Z");
    state.updated = at("2026-11-22T11:59:30Z");
    state.step = 53;
    state.total_steps = 106;
    state.epoch = 1;
    state.reward = Some(0.8125);
    state.latest_checkpoint = Some(SavePoint::Epoch(1));
    state.best = Some(BestCheckpoint {
        file: "inference_epoch1.json".to_owned(),
        final_mean: 0.4512,
    });
    RunEntry {
        path: PathBuf::from(format!("outputs/{experiment}/{name}")),
        experiment: experiment.to_owned(),
        name: name.to_owned(),
        state: Ok(state),
        liveness,
        last_words: Vec::new(),
    }
}

/// Three experiments, one of them with faults, and four runs.
pub(crate) fn world() -> World {
    let mut dead = run("표준어", "두 번째", RunStatus::Running, Liveness::Dead);
    dead.last_words = vec![
        "step 53: reward 0.8125".to_owned(),
        "메모리가 모자랍니다: out of memory".to_owned(),
    ];
    let mut finished = run("demo", "seed42", RunStatus::Finished, Liveness::Ended);
    if let Ok(state) = &mut finished.state {
        state.step = 106;
        state.best = Some(BestCheckpoint {
            file: "inference_epoch2.json".to_owned(),
            final_mean: 0.6213,
        });
    }
    let runs = vec![
        run("표준어", "셋째", RunStatus::Running, Liveness::Alive),
        dead,
        finished,
        run("demo", "seed7", RunStatus::Stopped, Liveness::Ended),
    ];
    World {
        index: Some(Index {
            experiments_dir: PathBuf::from("experiments"),
            output_dir: PathBuf::from("outputs"),
            experiments: vec![
                Arc::new(file("demo", &VALID.replace("토끼-2B", "demo"))),
                Arc::new(file("midm-base", FAULTY)),
                Arc::new(file("표준어", VALID)),
            ],
            runs: runs.into_iter().map(Arc::new).collect(),
            problems: Vec::new(),
        }),
        ..World::default()
    }
}

/// What a screen draws, and where.
pub(crate) struct Scene {
    pub(crate) world: World,
    pub(crate) settings: Settings,
    pub(crate) now: Timestamp,
    pub(crate) body: Rect,
}

impl Scene {
    /// A scene without colour in a terminal of this size, less the lines of title and footer.
    pub(crate) fn new(world: World, width: u16, height: u16) -> Self {
        Self {
            world,
            settings: Settings::new(ThemeName::None, ColorDepth::None, false, true),
            now: NOW.parse().unwrap(),
            body: Rect::new(0, 0, width, height - 3),
        }
    }

    pub(crate) fn context(&self) -> Context<'_> {
        Context {
            world: &self.world,
            settings: &self.settings,
            now: self.now,
            body: self.body,
        }
    }

    /// The screen as it is drawn, line by line.
    pub(crate) fn drawn(&self, screen: &dyn ScreenState) -> Vec<String> {
        let backend = TestBackend::new(self.body.width, self.body.height);
        let mut terminal = Terminal::new(backend).unwrap();
        terminal
            .draw(|frame| screen.draw(&self.context(), frame, self.body))
            .unwrap();
        lines(terminal.backend().buffer())
    }
}
