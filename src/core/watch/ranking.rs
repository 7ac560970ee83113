//! Keeps a leaderboard current from updates.

use std::collections::BTreeMap;

use anyhow::Result;

use super::WatchUpdate;
use crate::score::{FileState, Leaderboard, Resampling, ScoredFile, Scorer};

/// The scored files of a watched directory.
#[derive(Debug, Default)]
pub struct LiveRanking {
    files: BTreeMap<String, Kept>,
}

#[derive(Debug)]
struct Kept {
    scored: ScoredFile,
    /// The state after scoring, which finds a fault that reading does not: the order of items in contest
    /// mode.
    judged: FileState,
    revision: u32,
}

impl LiveRanking {
    /// Applies an update and scores the answers if they are new. Returns whether the leaderboard has
    /// changed.
    ///
    /// # Errors
    /// The encoder fails.
    pub fn apply(&mut self, update: &WatchUpdate, scorer: &mut Scorer<'_>) -> Result<bool> {
        let WatchUpdate::File(update) = update else {
            return Ok(false);
        };
        let mut kept = match (self.files.remove(&update.name), &update.answers) {
            (Some(kept), _) if kept.revision == update.revision => kept,
            (_, answers) => {
                let scored = match answers {
                    Some(answers) => scorer.score(&update.name, answers)?,
                    None => ScoredFile::unscored(&update.name, update.state.clone()),
                };
                Kept {
                    judged: scored.state.clone(),
                    scored,
                    revision: update.revision,
                }
            }
        };
        let was_read = matches!(update.state, FileState::Complete | FileState::Partial);
        kept.scored.state = if was_read {
            kept.judged.clone()
        } else {
            update.state.clone()
        };
        self.files.insert(update.name.clone(), kept);
        Ok(true)
    }

    /// Every file seen so far, ranked.
    pub fn leaderboard(&self, scorer: &Scorer<'_>, resampling: Resampling) -> Leaderboard {
        let files = self.files.values().map(|kept| kept.scored.clone());
        Leaderboard::new(files.collect(), scorer.provenance(), resampling)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::FileUpdate;
    use super::*;
    use crate::metric::{MetricSettings, Metrics, ReasonScorer};
    use crate::score::{Answer, AnswerSheet, Label, Labels};

    struct Half;

    impl ReasonScorer for Half {
        fn fingerprint(&self) -> String {
            "half".to_owned()
        }

        fn f1(&mut self, pairs: &[(String, String)]) -> Result<Vec<f64>> {
            Ok(vec![0.5; pairs.len()])
        }
    }

    fn update(state: FileState, revision: u32, answer: Option<&str>) -> WatchUpdate {
        let sheet = answer.map(|text| {
            Arc::new(AnswerSheet::new(vec![Answer {
                id: "1".to_owned(),
                text: text.to_owned(),
            }]))
        });
        WatchUpdate::File(FileUpdate {
            name: "epoch1.json".to_owned(),
            epoch: Some(1),
            state,
            revision,
            answers: sheet,
            coverage: None,
        })
    }

    #[test]
    fn the_last_good_scores_stay_until_there_are_better_ones() {
        let labels = Labels::new(vec![Label {
            id: "1".to_owned(),
            question_type: String::new(),
            question: String::new(),
            answer: "가다".to_owned(),
        }])
        .unwrap();
        let mut metrics = Metrics::new(MetricSettings::default(), Some(Box::new(Half))).unwrap();
        let mut scorer = Scorer::new(&labels, &mut metrics, "half").unwrap();
        let mut ranking = LiveRanking::default();
        let pending = || FileState::Pending {
            reason: "growing".to_owned(),
        };
        let steps = [
            (update(pending(), 0, None), "pending", None),
            (
                update(FileState::Complete, 1, Some("오다")),
                "complete",
                Some(0.0),
            ),
            (update(pending(), 1, Some("오다")), "pending", Some(0.0)),
            (
                update(FileState::Complete, 2, Some("가다")),
                "complete",
                Some(1.0),
            ),
            (update(FileState::Gone, 2, Some("가다")), "gone", Some(1.0)),
        ];
        for (update, state, em) in steps {
            assert!(ranking.apply(&update, &mut scorer).unwrap());
            let board = ranking.leaderboard(&scorer, Resampling::default());
            let row = &board.rows[0];
            assert_eq!(row.scored.state.name(), state);
            assert_eq!(row.means.map(|means| means.em), em);
        }
        let settled = WatchUpdate::Settled { pending: 0 };
        assert!(!ranking.apply(&settled, &mut scorer).unwrap());
    }
}
