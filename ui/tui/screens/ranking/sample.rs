//! A made-up run with answer files in every state.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;
use moim_core::metric::ItemScores;
use moim_core::score::{
    Averaging, Coverage, Fault, FileState, Leaderboard, Provenance, Resampling, ScoredFile,
    ScoredItem,
};
use moim_core::watch::{DirectoryCondition, WatchMode};
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::layout::Rect;

use crate::tui::data::World;
use crate::tui::screens::ScreenState;
use crate::tui::state::{Context, Settings};
use crate::tui::theme::{ColorDepth, ThemeName};
use crate::tui::widgets::testing::lines;

/// Items of a complete file.
pub(crate) const ITEMS: usize = 40;

pub(crate) fn resampling() -> Resampling {
    Resampling {
        resamples: 300,
        ..Resampling::default()
    }
}

/// A file whose first `right` answers are exact matches, over `items` items.
pub(crate) fn scored(file: &str, right: usize, items: usize) -> ScoredFile {
    let answers = (0..items).map(|index| {
        let is_right = index < right;
        ScoredItem {
            id: (426 + index).to_string(),
            question_type: ["선택형", "교정형"][index % 2].to_owned(),
            scores: ItemScores {
                format: 1.0,
                exact_match: f64::from(u8::from(is_right)),
                rouge1: if is_right {
                    0.8
                } else {
                    0.2 + (index % 5) as f64 / 20.0
                },
                bertscore: if is_right { 0.9 } else { 0.6 },
                reason_missing: false,
            },
        }
    });
    let missing: Vec<String> = (items..ITEMS)
        .map(|index| (426 + index).to_string())
        .collect();
    ScoredFile {
        items: answers.collect(),
        coverage: Some(Coverage {
            answered: items,
            expected: ITEMS,
            missing,
            extra: Vec::new(),
        }),
        ..ScoredFile::unscored(
            file,
            if items == ITEMS {
                FileState::Complete
            } else {
                FileState::Partial
            },
        )
    }
}

/// Epochs 0 to 3 complete (3 a tie with 2), 4 partial, 5 pending, 6 broken, 7 gone.
pub(crate) fn board() -> Leaderboard {
    let broken = FileState::Broken(Fault {
        line: Some(3),
        column: Some(14),
        ..Fault::new("쉼표가 하나 더 있다")
    });
    let pending = FileState::Pending {
        reason: "the file ends inside its JSON".to_owned(),
    };
    let files = vec![
        scored("inference_epoch0.json", 8, ITEMS),
        scored("inference_epoch1.json", 20, ITEMS),
        scored("inference_epoch2.json", 23, ITEMS),
        scored("inference_epoch3.json", 23, ITEMS),
        scored("inference_epoch4.json", 20, 36),
        ScoredFile::unscored("inference_epoch5.json", pending),
        ScoredFile::unscored("inference_epoch6.json", broken),
        ScoredFile {
            state: FileState::Gone,
            ..scored("inference_epoch7.json", 30, ITEMS)
        },
    ];
    board_of(files)
}

pub(crate) fn board_of(files: Vec<ScoredFile>) -> Leaderboard {
    let provenance = Provenance {
        averaging: Averaging::AllItems,
        labels: "data/demo/eval.json".to_owned(),
        items: ITEMS,
        rouge_tokenizer: "eojeol".to_owned(),
        encoder: "kobert-tiny, layer 4".to_owned(),
        settings: String::new(),
    };
    Leaderboard::new(files, provenance, resampling())
}

/// A world in which the run of [`board`] is open.
pub(crate) fn world() -> World {
    let mut world = World::default();
    world.attach(Path::new("outputs/demo/seed42"));
    world.ranking.directory = PathBuf::from("outputs/demo/seed42/infer_results");
    world.ranking.board = Some(Arc::new(board()));
    world.ranking.revisions = [("inference_epoch1.json".to_owned(), 2)].into();
    world.ranking.condition = Some(DirectoryCondition::Present);
    world.ranking.mode = Some(WatchMode::Polling {
        reason: "9p does not notify".to_owned(),
    });
    world
}

/// Without colour, in Unicode or in ASCII.
pub(crate) fn settings(is_ascii: bool) -> Settings {
    Settings::new(ThemeName::None, ColorDepth::None, is_ascii, true)
}

/// The part of a terminal of this size that a screen has.
pub(crate) fn body(width: u16, height: u16) -> Rect {
    Rect::new(0, 1, width, height.saturating_sub(3))
}

pub(crate) fn context<'a>(world: &'a World, settings: &'a Settings, body: Rect) -> Context<'a> {
    Context {
        world,
        settings,
        now: Timestamp::UNIX_EPOCH,
        body,
    }
}

/// A screen as lines of text.
pub(crate) fn drawn(
    screen: &dyn ScreenState,
    world: &World,
    is_ascii: bool,
    (width, height): (u16, u16),
) -> Vec<String> {
    let settings = settings(is_ascii);
    let context = context(world, &settings, body(width, height));
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal
        .draw(|frame| screen.draw(&context, frame, context.body))
        .unwrap();
    lines(terminal.backend().buffer())
}
