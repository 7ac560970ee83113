//! A reward that rises while what it measures falls: the model learns the reward, not the task.

use crate::run::{Metrics, Score, Severity};

use super::latch::{Latch, Verdict};
use super::window::Window;

/// Steps over which two metrics are compared, half against half. Ours: with 64 completions per step,
/// twenty steps distinguish an exact match of 0.70 from one of 0.66.
const STEPS: usize = 40;
/// Steps whose mean reward is compared with a score.
const STEPS_BEFORE_SCORE: usize = 20;
/// The fewest of them that mean anything.
const FEWEST_STEPS: usize = 10;
/// A difference of this many standard errors is no chance (2.5 % on one side, for each of two
/// metrics). Ours.
const STANDARD_ERRORS: f64 = 2.0;
/// A smaller fall of the exact match is not worth an alarm. Ours.
const SMALLEST_FALL: f64 = 0.05;
/// The metric of a step that is independent of how the formula weighs it.
const EXACT_MATCH: &str = "rewards/exact_match/mean";

const HINT: &str = "read some completions with a high reward and a wrong answer, give exact_match more weight in \
                       reward.formula, and rank the save points: the best one may be an earlier one";

/// Compares the reward with the exact match of the training completions.
#[derive(Clone, Debug)]
pub(super) struct InTraining {
    rewards: Window,
    matches: Window,
    pub(super) latch: Latch,
}

impl Default for InTraining {
    fn default() -> Self {
        Self {
            rewards: Window::new(STEPS),
            matches: Window::new(STEPS),
            latch: Latch::new("reward_up_exact_match_down"),
        }
    }
}

impl InTraining {
    pub(super) fn judge(&mut self, metrics: &Metrics) -> Verdict {
        // Both or none, so that the halves of the windows are the same steps.
        if let (Some(reward), Some(exact_match)) = (metrics.get("reward"), metrics.get(EXACT_MATCH))
            && reward.is_finite()
            && exact_match.is_finite()
        {
            self.rewards.push(reward);
            self.matches.push(exact_match);
        }
        if !self.rewards.is_full() {
            return Verdict::Between;
        }
        let (rise, rise_error) = self.rewards.change();
        let (change, change_error) = self.matches.change();
        let fall = -change;
        let is_rising = rise > rise_error * STANDARD_ERRORS;
        let is_falling = fall > change_error * STANDARD_ERRORS && fall > SMALLEST_FALL;
        if is_rising && is_falling {
            let message = format!(
                "over the last {STEPS} steps the reward rose by {rise:.3} while the exact match of the same \
                 completions fell by {fall:.3} (healthy: they rise together); {HINT}"
            );
            return Verdict::Bad(Severity::Critical, message);
        }
        if rise <= 0.0 || fall <= 0.0 {
            Verdict::Well
        } else {
            Verdict::Between
        }
    }
}

/// Compares the reward with the exact match of the evaluation set, from one score to the next.
#[derive(Clone, Debug)]
pub(super) struct InValidation {
    first: Window,
    recent: Window,
    best: Option<Scored>,
    pub(super) latch: Latch,
}

/// The score with the highest exact match so far.
#[derive(Clone, Debug)]
struct Scored {
    name: String,
    exact_match: f64,
    /// The lower end of its 95 % interval.
    low: f64,
    /// The mean reward around that time; `None` for a score before training.
    reward: Option<f64>,
}

impl Default for InValidation {
    fn default() -> Self {
        Self {
            first: Window::new(STEPS_BEFORE_SCORE),
            recent: Window::new(STEPS_BEFORE_SCORE),
            best: None,
            latch: Latch::new("validation_down_reward_up"),
        }
    }
}

impl InValidation {
    /// Adds the reward of a step.
    pub(super) fn observe_step(&mut self, reward: f64) {
        if !self.first.is_full() {
            self.first.push(reward);
        }
        self.recent.push(reward);
    }

    /// Judges the scores of a save point.
    pub(super) fn judge(&mut self, score: &Score) -> Verdict {
        let Some(exact_match) = score.em.filter(|em| em.is_finite()) else {
            return Verdict::Between;
        };
        let is_known = self.recent.len() >= FEWEST_STEPS;
        let reward = is_known.then(|| self.recent.mean());
        let name = match score.checkpoint {
            Some(point) => point.to_string(),
            None => "this save point".to_owned(),
        };
        let interval = score.intervals.as_ref().and_then(|all| all.of("em"));
        let scored = Scored {
            name: name.clone(),
            exact_match,
            low: interval.map_or(exact_match - SMALLEST_FALL, |[low, _]| low),
            reward,
        };
        let best = match &self.best {
            Some(best) if exact_match < best.exact_match => best,
            _ => {
                self.best = Some(scored);
                return Verdict::Well;
            }
        };
        let Some(reward) = reward else {
            return Verdict::Between;
        };
        // A score before training is compared with the first steps.
        let reward_then = best.reward.unwrap_or_else(|| self.first.mean());
        if exact_match >= best.low || best.exact_match - exact_match < SMALLEST_FALL {
            return Verdict::Well;
        }
        if reward <= reward_then {
            return Verdict::Between;
        }
        let message = format!(
            "the exact match of the evaluation set fell to {exact_match:.3} at {name}, from {:.3} at {} (whose 95 % \
             interval ends at {:.3}), while the reward rose from {reward_then:.3} to {reward:.3} (healthy: they rise \
             together); {HINT}",
            best.exact_match, best.name, best.low
        );
        Verdict::Bad(Severity::Critical, message)
    }
}
