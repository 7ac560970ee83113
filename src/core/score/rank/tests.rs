use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::SystemTime;

use anyhow::Result;

use super::super::average::Averaging;
use super::super::file::FileState;
use super::super::labels::Labels;
use super::super::scorer::WRITING_GRACE;
use super::*;
use crate::metric::{MetricSettings, Metrics, ReasonScorer};

/// Scores every reason as half right and counts the calls.
struct Half(Arc<AtomicUsize>);

impl ReasonScorer for Half {
    fn fingerprint(&self) -> String {
        "half".to_owned()
    }

    fn f1(&mut self, pairs: &[(String, String)]) -> Result<Vec<f64>> {
        self.0.fetch_add(pairs.len(), Ordering::Relaxed);
        Ok(vec![0.5; pairs.len()])
    }
}

fn metrics(contest: bool) -> (Metrics, Arc<AtomicUsize>) {
    let asked = Arc::new(AtomicUsize::new(0));
    let settings = MetricSettings {
        contest,
        ..MetricSettings::default()
    };
    let scorer = Box::new(Half(Arc::clone(&asked)));
    (Metrics::new(settings, Some(scorer)).unwrap(), asked)
}

const LABELS: &str = r#"[
    {"id": "1", "input": {"question_type": "선택형", "question": "q"}, "output": {"answer": "\"가다.\"가 옳다. 규칙 하나."}},
    {"id": "2", "input": {"question_type": "교정형", "question": "q"}, "output": {"answer": "\"오다.\"가 옳다. 규칙 둘."}}
]"#;

fn write(directory: &Path, name: &str, text: &str) -> PathBuf {
    let path = directory.join(name);
    std::fs::write(&path, text).unwrap();
    path
}

fn answers(first: &str, second: &str) -> String {
    serde_json::json!([
        {"id": "1", "output": {"answer": first}},
        {"id": "2", "output": {"answer": second}},
    ])
    .to_string()
}

fn few() -> Resampling {
    Resampling {
        resamples: 200,
        ..Resampling::default()
    }
}

#[test]
fn a_run_directory_is_ranked_and_its_scores_are_kept() {
    let run = tempfile::tempdir().unwrap();
    write(run.path(), "experiment.toml", "");
    let directory = run.path().join("infer_results");
    std::fs::create_dir(&directory).unwrap();
    let labels_path = write(&directory, "labels.json", LABELS);
    let good = answers("\"가다.\"가 옳다. 규칙 하나.", "\"오다.\"가 옳다. 규칙 둘.");
    let bad = answers("가다", "");
    write(&directory, "inference_epoch0.json", &bad);
    write(&directory, "inference_epoch1.json", &good);
    write(&directory, "inference_epoch2.json", "[{\"id\": \"1\",]");
    write(
        &directory,
        "inference_epoch3.json",
        r#"[{"id": "2", "answer": "x"}, {"id": "8"}]"#,
    );
    write(&directory, ".inference_epoch4.json.writing-1", "[");
    write(&directory, "notes.txt", "not JSON, not ours");

    let labels = Labels::load(&labels_path).unwrap();
    let (mut metrics, asked) = metrics(false);
    let ranked = |metrics: &mut Metrics| {
        let mut scorer = Scorer::new(&labels, metrics, "half")
            .unwrap()
            .with_cache(cache_of(&answers_directory(run.path())).unwrap());
        let mut seen = Vec::new();
        let board = rank(run.path(), &mut scorer, few(), &mut |progress| {
            seen.push((progress.done, progress.total));
        })
        .unwrap();
        assert_eq!(seen, [(0, 4), (1, 4), (2, 4), (3, 4), (4, 4)]);
        board
    };
    let board = ranked(&mut metrics);
    let states: Vec<(&str, &str)> = board
        .rows
        .iter()
        .map(|row| (row.scored.file.as_str(), row.scored.state.name()))
        .collect();
    assert_eq!(
        states,
        [
            ("inference_epoch1.json", "complete"),
            ("inference_epoch0.json", "complete"),
            ("inference_epoch3.json", "partial"),
            ("inference_epoch2.json", "broken"),
        ]
    );
    let best = board.best().unwrap().means.unwrap();
    assert_eq!((best.em, best.rouge1, best.bertscore), (1.0, 1.0, 0.5));
    assert_eq!(board.rows[2].scored.coverage.as_ref().unwrap().extra, ["8"]);
    assert_eq!(board.notes.len(), 2, "{:?}", board.notes);

    // The second time every score comes from the kept files.
    let first = asked.load(Ordering::Relaxed);
    let again = ranked(&mut metrics);
    assert_eq!(asked.load(Ordering::Relaxed), first);
    assert_eq!(again, board);
    // A changed answer is scored again, and so is one with a damaged kept file.
    write(&directory, "inference_epoch0.json", &good);
    write(run.path(), "scores/inference_epoch1.json", "{");
    let changed = ranked(&mut metrics);
    assert!(asked.load(Ordering::Relaxed) > first);
    assert_eq!(changed.rows[0].tied_with, ["inference_epoch1.json"]);
    assert_eq!(changed.best().unwrap().scored.file, "inference_epoch0.json");
}

#[test]
fn a_file_that_ends_early_is_pending_while_it_is_fresh() {
    let directory = tempfile::tempdir().unwrap();
    let labels_path = write(directory.path(), "labels.json", LABELS);
    let labels = Labels::load(&labels_path).unwrap();
    let (mut metrics, _) = metrics(false);
    let mut scorer = Scorer::new(&labels, &mut metrics, "half").unwrap();
    let path = write(directory.path(), "epoch1.json", "[{\"id\": \"1\"");
    let state = scorer.score_path(&path).unwrap().state;
    assert_eq!(state.name(), "pending");
    let long_ago = SystemTime::now() - 2 * WRITING_GRACE;
    let file = std::fs::File::options().append(true).open(&path).unwrap();
    file.set_modified(long_ago).unwrap();
    let state = scorer.score_path(&path).unwrap().state;
    assert!(
        matches!(&state, FileState::Broken(fault) if fault.line == Some(1)),
        "{state:?}"
    );
    let absent = scorer
        .score_path(&directory.path().join("absent.json"))
        .unwrap();
    assert_eq!(absent.state.name(), "broken");
}

#[test]
fn contest_mode_pairs_by_position_and_drops_missing_reasons() {
    let directory = tempfile::tempdir().unwrap();
    let labels_path = write(directory.path(), "labels.json", LABELS);
    let labels = Labels::load(&labels_path).unwrap();
    let (mut metrics, _) = metrics(true);
    let mut scorer = Scorer::new(&labels, &mut metrics, "half").unwrap();
    let path = write(
        directory.path(),
        "epoch1.json",
        &answers("\"가다.\"가 옳다. 규칙 하나.", "오다"),
    );
    let scored = scorer.score_path(&path).unwrap();
    let means = scored.means(Averaging::Contest).unwrap();
    assert_eq!((means.em, means.rouge1, means.bertscore), (0.5, 1.0, 0.5));
    assert!((means.final_mean - (0.5 + 0.75) / 2.0).abs() < 1e-12);
    let swapped = r#"[{"id": "2", "answer": "x"}, {"id": "1", "answer": "y"}]"#;
    let path = write(directory.path(), "epoch2.json", swapped);
    let state = scorer.score_path(&path).unwrap().state;
    assert!(
        matches!(&state, FileState::Broken(fault) if fault.reason.contains("by position")),
        "{state:?}"
    );
    assert_eq!(scorer.provenance().averaging, Averaging::Contest);
}

#[test]
fn no_encoder_and_no_files_are_errors_with_a_fix() {
    let directory = tempfile::tempdir().unwrap();
    let labels_path = write(directory.path(), "labels.json", LABELS);
    let labels = Labels::load(&labels_path).unwrap();
    let mut bare = Metrics::new(MetricSettings::default(), None).unwrap();
    let error = Scorer::new(&labels, &mut bare, "").unwrap_err();
    assert!(error.to_string().contains("--encoder DIR"));

    let (mut metrics, _) = metrics(false);
    let mut scorer = Scorer::new(&labels, &mut metrics, "half").unwrap();
    let mut run = |path: &Path| rank(path, &mut scorer, few(), &mut |_| {}).unwrap_err();
    assert!(matches!(
        run(directory.path()),
        RankError::NothingFound { .. }
    ));
    let absent = run(&directory.path().join("absent"));
    assert!(matches!(absent, RankError::Unreadable { .. }));
}

#[test]
fn scores_that_cannot_be_cached_are_a_warning() {
    let directory = tempfile::tempdir().unwrap();
    let labels_path = write(directory.path(), "labels.json", LABELS);
    let in_the_way = write(directory.path(), "scores", "a file");
    let labels = Labels::load(&labels_path).unwrap();
    let (mut metrics, _) = metrics(false);
    let mut scorer = Scorer::new(&labels, &mut metrics, "half")
        .unwrap()
        .with_cache(ScoreCache::new(in_the_way));
    let path = write(directory.path(), "epoch1.json", &answers("a", "b"));
    assert_eq!(scorer.score_path(&path).unwrap().state, FileState::Complete);
    assert_eq!(scorer.take_warnings().len(), 1);
    assert!(scorer.take_warnings().is_empty());
}
