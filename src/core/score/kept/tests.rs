use std::path::PathBuf;

use super::super::scorer::Scorer;
use super::*;
use crate::metric::ReasonScorer;
use crate::score::rank;

/// Scores every reason with the same value.
struct Constant {
    weights: &'static str,
    value: f64,
}

impl ReasonScorer for Constant {
    fn fingerprint(&self) -> String {
        format!("bert_L4 weights={}", self.weights)
    }

    fn f1(&mut self, pairs: &[(String, String)]) -> Result<Vec<f64>> {
        Ok(vec![self.value; pairs.len()])
    }
}

const LABELS: &str = r#"[
    {"id": "1", "input": {"question_type": "선택형", "question": "q"}, "output": {"answer": "\"가다.\"가 옳다. 규칙 하나."}},
    {"id": "2", "input": {"question_type": "교정형", "question": "q"}, "output": {"answer": "\"오다.\"가 옳다. 규칙 둘."}}
]"#;

struct Run {
    folder: tempfile::TempDir,
    labels: Labels,
    experiment: Experiment,
}

impl Run {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let labels = folder.path().join("labels.json");
        std::fs::write(&labels, LABELS).unwrap();
        std::fs::write(folder.path().join("experiment.toml"), "").unwrap();
        std::fs::create_dir(folder.path().join("infer_results")).unwrap();
        let mut experiment = Experiment::default();
        experiment.bertscore.model = Some("models/encoder".into());
        experiment.bertscore.num_layers = Some(4);
        let run = Self {
            labels: Labels::load(&labels).unwrap(),
            folder,
            experiment,
        };
        run.answer(0, "가다", "오다");
        run.answer(
            1,
            "\"가다.\"가 옳다. 규칙 하나.",
            "\"오다.\"가 옳다. 규칙 셋.",
        );
        run
    }

    fn path(&self, epoch: usize) -> PathBuf {
        let name = format!("infer_results/inference_epoch{epoch}.json");
        self.folder.path().join(name)
    }

    fn answer(&self, epoch: usize, first: &str, second: &str) {
        let answers = serde_json::json!([
            {"id": "1", "output": {"answer": first}},
            {"id": "2", "output": {"answer": second}},
        ]);
        std::fs::write(self.path(epoch), answers.to_string()).unwrap();
    }

    fn sheet(&self, epoch: usize) -> AnswerSheet {
        read_sheet(&self.path(epoch)).unwrap()
    }

    /// As `moim rank` does, with an encoder.
    fn rank(&self, weights: &'static str, name: &str) -> Leaderboard {
        let scorer = Box::new(Constant {
            weights,
            value: 0.25,
        });
        let settings = MetricSettings::from(&self.experiment.reward);
        let mut metrics = Metrics::new(settings, Some(scorer)).unwrap();
        let answers = self.folder.path().join("infer_results");
        let mut scorer = Scorer::new(&self.labels, &mut metrics, name)
            .unwrap()
            .with_cache(cache_of(&answers).unwrap());
        rank(self.folder.path(), &mut scorer, few(), &mut |_| {}).unwrap()
    }

    fn kept(&self) -> KeptScores {
        KeptScores::new(&self.experiment, false).unwrap()
    }
}

fn few() -> Resampling {
    Resampling {
        resamples: 100,
        ..Resampling::default()
    }
}

#[test]
fn the_leaderboard_is_the_one_that_was_made_with_the_encoder() {
    let run = Run::new();
    let scored = run.rank("a", "encoder layer 4");
    let kept = run.kept().rank(run.folder.path(), &run.labels, few());
    assert_eq!(kept.unwrap(), scored);
    assert!(scored.best().is_some());
    // An answer that changed is no longer scored.
    run.answer(0, "오다", "가다");
    let kept = run.kept().rank(run.folder.path(), &run.labels, few());
    let kept = kept.unwrap();
    let unranked: Vec<&str> = kept.unranked().map(|row| row.scored.state.name()).collect();
    assert_eq!((kept.ranked().count(), unranked), (1, vec!["pending"]));
}

#[test]
fn scores_of_other_settings_or_of_another_encoder_are_not_used() {
    let run = Run::new();
    let is_taken = |kept: &mut KeptScores, epoch: usize| {
        let scored = kept.score(&run.path(epoch), &run.sheet(epoch), &run.labels);
        scored.is_some()
    };
    assert!(!is_taken(&mut run.kept(), 0), "nothing is kept yet");
    run.rank("a", "encoder layer 4");
    assert!(is_taken(&mut run.kept(), 0));
    let mut contest = KeptScores::new(&run.experiment, true).unwrap();
    assert!(!is_taken(&mut contest, 0));
    let mut other = run.experiment.clone();
    other.reward.format_pattern = "^x".to_owned();
    assert!(!is_taken(&mut KeptScores::new(&other, false).unwrap(), 0));
    run.rank("a", "other");
    assert!(is_taken(&mut run.kept(), 0), "the scores are the same");
    std::fs::remove_dir_all(run.folder.path().join("scores")).unwrap();
    run.rank("a", "other");
    assert!(!is_taken(&mut run.kept(), 0), "by another encoder");
}

#[test]
fn files_scored_by_different_encoders_of_one_name_are_not_mixed() {
    let run = Run::new();
    run.rank("a", "encoder layer 4");
    let old = std::fs::read(run.folder.path().join("scores/inference_epoch0.json")).unwrap();
    run.rank("b", "encoder layer 4");
    std::fs::write(run.folder.path().join("scores/inference_epoch0.json"), old).unwrap();
    let mut kept = run.kept();
    let mut score = |epoch| kept.score(&run.path(epoch), &run.sheet(epoch), &run.labels);
    assert!(score(0).is_some());
    assert!(score(1).is_none());
    assert!(kept.provenance(&run.labels).settings.ends_with("weights=a"));
}

#[test]
fn answers_outside_a_run_have_no_kept_scores() {
    let run = Run::new();
    let elsewhere = run.folder.path().join("answers.json");
    assert_eq!(
        run.kept().score(&elsewhere, &run.sheet(0), &run.labels),
        None
    );
    assert_eq!(run.kept().provenance(&run.labels).settings, "");
    assert_eq!(encoder_name(&BertScoreSection::default()), "none");
}
