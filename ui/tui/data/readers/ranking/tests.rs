use std::os::unix::fs::PermissionsExt;
use std::sync::mpsc::{Receiver, channel};

use moim_core::experiment::Experiment;
use moim_core::metric::{MetricSettings, Metrics, ReasonScorer};
use moim_core::run::{RunDir, RunState};
use moim_core::score::{Labels, ScoreCache, Scorer, encoder_name};

use super::*;
use crate::tui::data::ranking::Ranking;
use crate::tui::data::readers::comparison::comparison;

const LABELS: &str = r#"[
    {"id": "1", "input": {"question_type": "선택형", "question": "q"}, "output": {"answer": "\"가다.\"가 옳다. 규칙 하나."}},
    {"id": "2", "input": {"question_type": "교정형", "question": "q"}, "output": {"answer": "\"오다.\"가 옳다. 규칙 둘."}}
]"#;

struct Half;

impl ReasonScorer for Half {
    fn fingerprint(&self) -> String {
        "half".to_owned()
    }

    fn f1(&mut self, pairs: &[(String, String)]) -> anyhow::Result<Vec<f64>> {
        Ok(vec![0.5; pairs.len()])
    }
}

/// A run with answers of epochs 0 and 1, and no scores.
fn run(folder: &Path) -> RunDir {
    let labels = folder.join("labels.json");
    std::fs::write(&labels, LABELS).unwrap();
    let mut experiment = Experiment::default();
    experiment.model.path = "m".into();
    experiment.data.train = "t".into();
    experiment.data.eval = labels;
    experiment.bertscore.model = Some("models/encoder".into());
    experiment.bertscore.num_layers = Some(4);
    let run = RunDir::create(&folder.join("outputs"), "demo", Some("첫째"), &experiment).unwrap();
    let mut state = RunState::begin(run.id(), "cpu");
    state.state = moim_core::run::RunStatus::Finished;
    state.save(&run.run_json()).unwrap();
    answer(&run, 0, "오다");
    answer(&run, 1, "가다");
    run
}

fn answer(run: &RunDir, epoch: usize, first: &str) {
    let text = format!(
        r#"[{{"id": "1", "answer": "\"{first}.\"가 옳다. 규칙 하나."}}, {{"id": "2", "answer": "\"가다.\"가 옳다."}}]"#
    );
    let name = format!("inference_epoch{epoch}.json");
    moim_core::run::publish(&run.infer_results().join(name), text.as_bytes()).unwrap();
}

/// Scores every answer file as a trainer does, into `scores`.
fn score(run: &RunDir, scores: &Path) {
    let experiment = run.experiment().unwrap();
    let labels = Labels::load(&experiment.data.eval).unwrap();
    let settings = MetricSettings::from(&experiment.reward);
    let mut metrics = Metrics::new(settings, Some(Box::new(Half))).unwrap();
    let encoder = encoder_name(&experiment.bertscore);
    let mut scorer = Scorer::new(&labels, &mut metrics, &encoder)
        .unwrap()
        .with_cache(ScoreCache::new(scores));
    for entry in std::fs::read_dir(run.infer_results()).unwrap() {
        scorer.score_path(&entry.unwrap().path()).unwrap();
    }
}

struct Terminal {
    ranking: Ranking,
    messages: Receiver<Message>,
    _reader: RankingReader,
}

impl Terminal {
    fn on(run: &Path, program: &str) -> Self {
        let (sender, messages) = channel();
        Self {
            ranking: Ranking::default(),
            messages,
            _reader: RankingReader::start(run, Some(program.into()), false, &sender),
        }
    }

    fn until(&mut self, is_so: impl Fn(&Ranking) -> bool) -> &Ranking {
        while !is_so(&self.ranking) {
            match self.messages.recv_timeout(Duration::from_secs(30)).unwrap() {
                Message::Data(Data::Ranking(update)) => self.ranking.apply(update),
                other => panic!("{other:?}"),
            }
        }
        &self.ranking
    }
}

fn ranked(ranking: &Ranking) -> Vec<&str> {
    let rows = ranking.board.iter().flat_map(|board| board.ranked());
    rows.map(|row| row.scored.file.as_str()).collect()
}

#[test]
fn files_are_ranked_by_kept_scores_as_they_come() {
    let folder = tempfile::tempdir().unwrap();
    let run = run(folder.path());
    score(&run, &run.scores());
    let mut terminal = Terminal::on(run.path(), "/bin/false");
    let ranking = terminal.until(|ranking| ranked(ranking).len() == 2);
    assert_eq!(
        ranked(ranking),
        ["inference_epoch1.json", "inference_epoch0.json"]
    );
    assert_eq!(ranking.directory, run.infer_results());
    assert_eq!(
        ranking.board.as_ref().unwrap().provenance.encoder,
        "encoder layer 4"
    );

    // While a trainer is at work it scores its answers itself, some time after it wrote them.
    RunState::begin(run.id(), "cpu")
        .save(&run.run_json())
        .unwrap();
    answer(&run, 2, "가다");
    let ranking = terminal.until(|ranking| ranking.board.as_ref().unwrap().rows.len() == 3);
    assert_eq!((ranked(ranking).len(), &ranking.scoring), (2, &None));
    score(&run, &run.scores());
    let ranking = terminal.until(|ranking| ranked(ranking).len() == 3);
    assert_eq!(
        (&ranking.problem, ranking.revisions["inference_epoch2.json"]),
        (&None, 1)
    );

    let files = ["inference_epoch0.json", "inference_epoch1.json"].map(str::to_owned);
    let compared = comparison(run.path(), files.to_vec()).unwrap();
    assert_eq!(
        (
            compared.comparison.files.len(),
            compared.comparison.items.len()
        ),
        (2, 2)
    );
    let problem =
        comparison(run.path(), vec!["a.json".to_owned(), "b.json".to_owned()]).unwrap_err();
    assert!(problem.contains("infer_results/a.json"), "{problem}");
}

#[test]
fn scores_that_are_not_there_are_made_by_another_process() {
    let folder = tempfile::tempdir().unwrap();
    let run = run(folder.path());
    let made = folder.path().join("made");
    score(&run, &made);
    let problem = comparison(run.path(), vec!["inference_epoch0.json".to_owned(); 2]).unwrap_err();
    assert!(problem.contains("no scores yet"), "{problem}");

    let program = folder.path().join("moim");
    let text = format!(
        "#!/bin/sh\n[ \"$1 $3\" = 'rank --json' ] && cp {}/* \"$2\"/scores/\n",
        made.display()
    );
    std::fs::write(&program, text).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    let mut terminal = Terminal::on(run.path(), &program.to_string_lossy());
    let ranking = terminal.until(|ranking| ranking.scoring.is_some());
    assert_eq!(
        ranking.scoring.as_deref(),
        Some("scoring inference_epoch0.json, inference_epoch1.json")
    );
    assert!(
        ranking
            .board
            .as_ref()
            .unwrap()
            .rows
            .iter()
            .all(|row| row.rank.is_none())
    );
    let ranking = terminal.until(|ranking| ranked(ranking).len() == 2);
    assert_eq!((&ranking.scoring, &ranking.problem), (&None, &None));
}

#[test]
fn a_failure_to_score_is_told_once_and_in_its_own_words() {
    let folder = tempfile::tempdir().unwrap();
    let run = run(folder.path());
    let program = folder.path().join("moim");
    std::fs::write(
        &program,
        "#!/bin/sh\necho 'error: 인코더가 없다' >&2; exit 2\n",
    )
    .unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    let mut terminal = Terminal::on(run.path(), &program.to_string_lossy());
    let ranking = terminal.until(|ranking| ranking.problem.is_some());
    let problem = ranking.problem.as_ref().unwrap();
    assert!(
        problem.contains("exit status: 2") && problem.contains("인코더가 없다"),
        "{problem}"
    );

    std::fs::remove_file(folder.path().join("labels.json")).unwrap();
    let mut terminal = Terminal::on(run.path(), "/bin/false");
    let ranking = terminal.until(|ranking| ranking.problem.is_some());
    assert!(ranking.problem.as_ref().unwrap().contains("labels.json"));
}
