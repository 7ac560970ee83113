//! Batch arithmetic in both conventions.
//!
//! B is `per_device_train_batch_size`, G `num_generations`, A `gradient_accumulation_steps` and D
//! the number of devices. What B counts changed between releases of TRL (0.14 counted prompts,
//! 0.15 and later count completions), so both conventions are always worked out.

use super::schema::choice;

choice! {
    /// `grpo.batch_unit`: what B counts.
    pub enum BatchUnit {
        /// A micro-batch is B completions: B÷G prompts (TRL since 0.15).
        Completions = "completions",
        /// A micro-batch is B prompts: B×G completions (TRL 0.14).
        Prompts = "prompts",
    }
}

/// The four numbers of a batch and the unit of B. Any values are allowed, so that a form can
/// show their consequences while they are edited; [`BatchArithmetic::fault`] explains what is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchArithmetic {
    /// B, `per_device_train_batch_size`, in `unit`.
    pub b: usize,
    /// G, `num_generations`.
    pub g: usize,
    /// A, `gradient_accumulation_steps`.
    pub a: usize,
    /// D, the number of devices.
    pub d: usize,
    /// What B counts.
    pub unit: BatchUnit,
    /// S÷A, the optimizer steps that share one generation of completions, each with its own prompts.
    pub slices: usize,
}

/// What determines the length of a run, besides the batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Horizon {
    /// Training prompts in an epoch, if known.
    pub num_prompts: Option<usize>,
    /// `num_train_epochs`.
    pub epochs: usize,
    /// μ, `num_iterations`: optimizer steps on each batch of completions.
    pub num_iterations: usize,
    /// `max_steps`, if it sets the length instead of the epochs.
    pub max_steps: Option<usize>,
}

impl BatchArithmetic {
    /// Completions in a micro-batch of one device: B, or B×G.
    pub fn completions_per_micro_batch(&self) -> usize {
        match self.unit {
            BatchUnit::Completions => self.b,
            BatchUnit::Prompts => self.b.saturating_mul(self.g),
        }
    }

    /// Prompts in a micro-batch of one device: B÷G (rounded down if G does not divide B), or B.
    pub fn prompts_per_micro_batch(&self) -> usize {
        match self.unit {
            BatchUnit::Completions => self.b.checked_div(self.g).unwrap_or(0),
            BatchUnit::Prompts => self.b,
        }
    }

    /// Completions in one optimizer step: B×A×D, or B×G×A×D.
    pub fn completions_per_step(&self) -> usize {
        self.per_step(self.completions_per_micro_batch())
    }

    /// Prompts in one optimizer step: (B÷G)×A×D, or B×A×D.
    pub fn prompts_per_step(&self) -> usize {
        self.per_step(self.prompts_per_micro_batch())
    }

    fn per_step(&self, per_micro_batch: usize) -> usize {
        per_micro_batch
            .saturating_mul(self.a)
            .saturating_mul(self.d)
    }

    /// Prompts that are completed together: those of all the steps that share a generation.
    pub fn prompts_per_generation(&self) -> usize {
        self.prompts_per_step().saturating_mul(self.slices)
    }

    /// Whole batches of prompts in an epoch. Each is one optimizer step, or μ with
    /// `num_iterations` above 1.
    pub fn steps_per_epoch(&self, num_prompts: usize) -> usize {
        num_prompts
            .checked_div(self.prompts_per_generation())
            .unwrap_or(0)
            .saturating_mul(self.slices)
    }

    /// Prompts left over at the end of an epoch: too few for a generation, so no step uses them.
    pub fn dropped_prompts(&self, num_prompts: usize) -> usize {
        num_prompts
            .checked_rem(self.prompts_per_generation())
            .unwrap_or(num_prompts)
    }

    /// Optimizer steps of the whole run.
    pub fn total_steps(&self, num_prompts: usize, horizon: &Horizon) -> usize {
        horizon.max_steps.unwrap_or_else(|| {
            self.steps_per_epoch(num_prompts)
                .saturating_mul(horizon.num_iterations)
                .saturating_mul(horizon.epochs)
        })
    }

    /// The same numbers, with B counted in `unit`.
    pub fn in_unit(self, unit: BatchUnit) -> Self {
        Self { unit, ..self }
    }

    /// Whether every number is legal and B fits G in the selected unit.
    pub fn is_legal(&self) -> bool {
        self.fault().is_none()
    }

    /// What is wrong, with the nearest legal values; `None` if nothing is.
    pub fn fault(&self) -> Option<String> {
        let Self { b, g, a, d, .. } = *self;
        if a == 0 || d == 0 || b == 0 {
            return Some("B, A and D must be at least 1".to_owned());
        }
        if g < 2 {
            return Some(format!(
                "G = {g}: a group needs at least 2 completions to compare"
            ));
        }
        if self.unit == BatchUnit::Completions && !b.is_multiple_of(g) {
            return Some(format!(
                "B = {b} is not a multiple of G = {g}: {}",
                self.suggestion()
            ));
        }
        None
    }

    /// The nearest legal values as a sentence: `set B to 8 or 16, or G to 5 or 10`.
    pub fn suggestion(&self) -> String {
        let mut changes = Vec::new();
        let legal_b = self.nearest_legal_b();
        if !legal_b.is_empty() {
            changes.push(format!("B to {}", either(&legal_b)));
        }
        let legal_g = self.nearest_legal_g();
        if !legal_g.is_empty() {
            changes.push(format!("G to {}", either(&legal_g)));
        }
        format!("set {}", changes.join(", or "))
    }

    /// The legal values of B nearest to the current one, ascending: B itself if it is legal, else
    /// the multiples of G below and above it.
    pub fn nearest_legal_b(&self) -> Vec<usize> {
        let step = match self.unit {
            BatchUnit::Completions => self.g.max(2),
            BatchUnit::Prompts => 1,
        };
        let below = self.b / step * step;
        if below == self.b && below > 0 {
            return vec![below];
        }
        [Some(below), below.checked_add(step)]
            .into_iter()
            .flatten()
            .filter(|&b| b > 0)
            .collect()
    }

    /// The legal values of G nearest to the current one, ascending: G itself if it is legal, else
    /// the divisors of B (of at least 2) below and above it. Empty if B = 1, which allows none.
    pub fn nearest_legal_g(&self) -> Vec<usize> {
        let divides = |g: usize| match self.unit {
            BatchUnit::Completions => self.b > 0 && self.b.is_multiple_of(g),
            BatchUnit::Prompts => true,
        };
        if self.g >= 2 && divides(self.g) {
            return vec![self.g];
        }
        if self.unit == BatchUnit::Prompts {
            return vec![2];
        }
        let below = divisors(self.b).filter(|&g| (2..self.g).contains(&g)).max();
        let above = divisors(self.b).filter(|&g| g >= 2 && g > self.g).min();
        below.into_iter().chain(above).collect()
    }

    /// The batch panel of a run with one optimizer step per batch of completions; see
    /// [`BatchArithmetic::panel`].
    pub fn lines(&self, num_prompts: Option<usize>, epochs: usize) -> Vec<String> {
        self.panel(&Horizon {
            num_prompts,
            epochs,
            num_iterations: 1,
            max_steps: None,
        })
    }

    /// Both conventions worked out with the numbers, the selected one marked, then the length of
    /// an epoch and of the run if the number of prompts is known.
    pub fn panel(&self, horizon: &Horizon) -> Vec<String> {
        let mut lines: Vec<String> = BatchUnit::ALL
            .iter()
            .map(|&unit| self.in_unit(unit).convention_line(unit == self.unit))
            .collect();
        if let Some(num_prompts) = horizon.num_prompts
            && self.is_legal()
        {
            lines.push(self.epoch_line(num_prompts, horizon));
        }
        lines
    }

    fn convention_line(&self, is_selected: bool) -> String {
        let Self {
            b, g, a, d, unit, ..
        } = *self;
        let mark = if is_selected { " (selected)" } else { "" };
        // The other convention is shown for comparison only; a problem in it does no harm.
        if let Some(fault) = self.fault() {
            return if is_selected {
                format!("{unit}{mark}: not possible: {fault}")
            } else {
                format!("{unit}: would not be possible: {fault}")
            };
        }
        let (completions, prompts) = (self.completions_per_step(), self.prompts_per_step());
        match unit {
            BatchUnit::Completions => format!(
                "{unit}{mark}: B×A×D = {b}×{a}×{d} = {completions} completions/step, \
                 (B÷G)×A×D = ({b}÷{g})×{a}×{d} = {prompts} prompts/step"
            ),
            BatchUnit::Prompts => format!(
                "{unit}{mark}: B×G×A×D = {b}×{g}×{a}×{d} = {completions} completions/step, \
                 B×A×D = {b}×{a}×{d} = {prompts} prompts/step"
            ),
        }
    }

    fn epoch_line(&self, num_prompts: usize, horizon: &Horizon) -> String {
        let batches = self.steps_per_epoch(num_prompts);
        let dropped = self.dropped_prompts(num_prompts);
        if let Some(fault) = self.too_few(num_prompts) {
            return fault;
        }
        let iterations = horizon.num_iterations;
        let steps = batches.saturating_mul(iterations);
        let per_epoch = match iterations {
            1 => format!("{steps} steps/epoch"),
            _ => format!("{batches} batches × μ = {iterations} = {steps} steps/epoch"),
        };
        let tail = match dropped {
            0 => "no prompt dropped at an epoch's end".to_owned(),
            1 => "1 prompt dropped at each epoch's end (another one each time if shuffled)"
                .to_owned(),
            _ => format!(
                "{dropped} prompts dropped at each epoch's end (others each time if shuffled)"
            ),
        };
        let total = self.total_steps(num_prompts, horizon);
        let length = match horizon.max_steps {
            Some(_) => format!(
                "max_steps = {total} steps in all ({:.2} epochs)",
                total as f64 / steps as f64
            ),
            None => format!("{} epochs = {total} steps in all", horizon.epochs),
        };
        let division = self.division();
        format!("{num_prompts} prompts {division}: {per_epoch}, {tail}; {length}")
    }

    /// A message if the prompts do not fill one generation, with how to fix it.
    pub fn too_few(&self, num_prompts: usize) -> Option<String> {
        let unit = match self.slices {
            0 | 1 => "step",
            _ => "generation",
        };
        (self.steps_per_epoch(num_prompts) == 0).then(|| {
            format!(
                "{num_prompts} prompts do not fill one {unit} of {}: no step can be taken; lower B, {} or D",
                self.prompts_per_generation(),
                match self.slices {
                    0 | 1 => "A",
                    _ => "S (grpo.steps_per_generation)",
                }
            )
        })
    }

    /// How prompts become steps: `÷ 4`, or `÷ (4×2) × 2` if two steps share a generation.
    pub fn division(&self) -> String {
        let per_step = self.prompts_per_step();
        match self.slices {
            0 | 1 => format!("÷ {per_step}"),
            slices => format!("÷ ({per_step}×{slices}) × {slices}"),
        }
    }
}

/// `8`, or `8 or 16`.
fn either(values: &[usize]) -> String {
    let words: Vec<String> = values.iter().map(usize::to_string).collect();
    words.join(" or ")
}

/// The divisors of `number`, unordered. A pair of divisors both above 2^20 is left out, so that a
/// form stays fast whatever is typed; no batch is that large.
fn divisors(number: usize) -> impl Iterator<Item = usize> {
    (1..=1 << 20)
        .take_while(move |&low| low <= number / low.max(1))
        .filter(move |&low| number.is_multiple_of(low))
        .flat_map(move |low| [low, number / low])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn batch(b: usize, g: usize, a: usize, d: usize, unit: BatchUnit) -> BatchArithmetic {
        BatchArithmetic {
            b,
            g,
            a,
            d,
            unit,
            slices: 1,
        }
    }

    #[test]
    fn works_out_both_conventions() {
        assert_eq!(
            batch(8, 8, 4, 1, BatchUnit::Completions).lines(Some(622), 5),
            [
                "completions (selected): B×A×D = 8×4×1 = 32 completions/step, (B÷G)×A×D = (8÷8)×4×1 = 4 prompts/step",
                "prompts: B×G×A×D = 8×8×4×1 = 256 completions/step, B×A×D = 8×4×1 = 32 prompts/step",
                "622 prompts ÷ 4: 155 steps/epoch, 2 prompts dropped at each epoch's end (others each time if shuffled); 5 epochs = 775 steps in all",
            ]
        );
        let prompts = batch(2, 4, 3, 2, BatchUnit::Prompts).lines(Some(24), 2);
        assert_eq!(
            prompts,
            [
                "completions: would not be possible: B = 2 is not a multiple of G = 4: set B to 4, or G to 2",
                "prompts (selected): B×G×A×D = 2×4×3×2 = 48 completions/step, B×A×D = 2×3×2 = 12 prompts/step",
                "24 prompts ÷ 12: 2 steps/epoch, no prompt dropped at an epoch's end; 2 epochs = 4 steps in all",
            ]
        );
    }

    #[test]
    fn iterations_and_max_steps_change_the_length() {
        let arithmetic = batch(8, 8, 1, 1, BatchUnit::Completions);
        let horizon = Horizon {
            num_prompts: Some(10),
            epochs: 3,
            num_iterations: 2,
            max_steps: None,
        };
        assert_eq!(arithmetic.total_steps(10, &horizon), 60);
        assert!(arithmetic.panel(&horizon)[2].contains("10 batches × μ = 2 = 20 steps/epoch"));
        let capped = Horizon {
            max_steps: Some(30),
            ..horizon
        };
        assert_eq!(arithmetic.total_steps(10, &capped), 30);
        assert!(arithmetic.panel(&capped)[2].contains("max_steps = 30 steps in all (1.50 epochs)"));
    }

    #[test]
    fn too_few_prompts_are_named() {
        let lines = batch(8, 2, 4, 1, BatchUnit::Completions).lines(Some(15), 1);
        assert!(
            lines[2].contains("15 prompts do not fill one step of 16"),
            "{}",
            lines[2]
        );
    }

    #[test]
    fn proposes_the_nearest_legal_values() {
        let broken = batch(10, 8, 1, 1, BatchUnit::Completions);
        assert_eq!(broken.nearest_legal_b(), [8, 16]);
        assert_eq!(broken.nearest_legal_g(), [5, 10]);
        assert_eq!(
            broken.fault().as_deref(),
            Some("B = 10 is not a multiple of G = 8: set B to 8 or 16, or G to 5 or 10")
        );
        assert_eq!(
            batch(3, 8, 1, 1, BatchUnit::Completions).nearest_legal_b(),
            [8]
        );
        assert_eq!(
            batch(1, 8, 1, 1, BatchUnit::Completions).nearest_legal_g(),
            [] as [usize; 0]
        );
        assert_eq!(
            batch(7, 4, 1, 1, BatchUnit::Completions).nearest_legal_g(),
            [7]
        );
        assert_eq!(
            batch(8, 1, 1, 1, BatchUnit::Completions).nearest_legal_g(),
            [2]
        );
        assert_eq!(
            batch(8, 4, 1, 1, BatchUnit::Completions).nearest_legal_b(),
            [8]
        );
    }

    #[test]
    fn no_numbers_make_it_panic() {
        for b in [0, 1, 7, usize::MAX] {
            for g in [0, 1, 2, 3, usize::MAX] {
                for unit in BatchUnit::ALL {
                    let arithmetic = batch(b, g, 0, usize::MAX, *unit);
                    arithmetic.lines(Some(9), usize::MAX);
                    // The divisors of the largest number take too long to list.
                    if b != usize::MAX {
                        arithmetic.nearest_legal_g();
                        arithmetic.lines(Some(9), 3);
                        batch(b, g, 2, 3, *unit).lines(Some(9), 3);
                    }
                    arithmetic.nearest_legal_b();
                }
            }
        }
    }

    proptest! {
        #[test]
        fn a_step_has_g_completions_per_prompt(
            b in 1usize..200, g in 2usize..40, a in 1usize..9, d in 1usize..9, n in 0usize..5000,
        ) {
            for unit in BatchUnit::ALL {
                let arithmetic = batch(b, g, a, d, *unit);
                if !arithmetic.is_legal() { continue; }
                prop_assert_eq!(arithmetic.completions_per_step(), arithmetic.prompts_per_step() * g);
                prop_assert_eq!(
                    arithmetic.steps_per_epoch(n) * arithmetic.prompts_per_step() + arithmetic.dropped_prompts(n), n
                );
                prop_assert!(arithmetic.dropped_prompts(n) < arithmetic.prompts_per_step());
            }
            // B prompts in one convention are B×G completions in the other.
            let prompts = batch(b, g, a, d, BatchUnit::Prompts);
            let completions = batch(b * g, g, a, d, BatchUnit::Completions);
            prop_assert_eq!(prompts.completions_per_step(), completions.completions_per_step());
            prop_assert_eq!(prompts.prompts_per_step(), completions.prompts_per_step());
        }

        #[test]
        fn proposals_are_legal_and_nothing_nearer_is(b in 1usize..300, g in 2usize..60) {
            let arithmetic = batch(b, g, 1, 1, BatchUnit::Completions);
            let legal_b: Vec<usize> = (1..=b + g).filter(|candidate| candidate % g == 0).collect();
            let expected_b: Vec<usize> = if b % g == 0 { vec![b] } else {
                let below = legal_b.iter().copied().filter(|c| *c < b).max();
                let above = legal_b.iter().copied().filter(|c| *c > b).min();
                below.into_iter().chain(above).collect()
            };
            prop_assert_eq!(arithmetic.nearest_legal_b(), expected_b);
            let expected_g: Vec<usize> = if b % g == 0 { vec![g] } else {
                let below = (2..g).filter(|c| b % c == 0).max();
                let above = (g + 1..=b).find(|c| b % c == 0);
                below.into_iter().chain(above).collect()
            };
            prop_assert_eq!(arithmetic.nearest_legal_g(), expected_g);
        }
    }
}
