//! Completions follow the distribution that they are said to come from.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::*;
use crate::device::Compute;
use crate::model::to_f32;

const GROUP: usize = 6000;

/// Distance of counts from what their probabilities make expected, in standard deviations of the
/// chi-square distribution. Tokens that are expected fewer than five times are counted together.
fn distance(counts: &BTreeMap<u32, usize>, probabilities: &BTreeMap<u32, f64>) -> f64 {
    let all: usize = counts.values().sum();
    let mut bins: Vec<(f64, f64)> = Vec::new();
    let mut rare = (0.0, 0.0);
    for (token, p) in probabilities {
        let expected = p * all as f64;
        let observed = counts.get(token).copied().unwrap_or(0) as f64;
        if expected < 5.0 {
            rare = (rare.0 + observed, rare.1 + expected);
        } else {
            bins.push((observed, expected));
        }
    }
    if rare.1 > 0.0 {
        bins.push(rare);
    }
    let terms = bins
        .iter()
        .map(|(observed, expected)| (observed - expected).powi(2) / expected);
    let freedom = (bins.len().max(2) - 1) as f64;
    (terms.sum::<f64>() - freedom) / (2.0 * freedom).sqrt()
}

/// What `text` is followed by, as the parameters say.
fn expected(model: &Llama, text: &[u32], parameters: &SamplingParameters) -> BTreeMap<u32, f64> {
    let (_, logits) = model.prefill(&[text], (1, 0), None);
    let seen: BTreeSet<u32> = text.iter().copied().collect();
    let candidates = parameters.candidates(&to_f32(logits), |token| seen.contains(&token));
    candidates.into_iter().collect()
}

#[test]
fn completions_follow_the_probabilities_with_every_parameter() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/model/tiny_llama");
    let model = Llama::load(&folder, &Compute::cpu()).unwrap();
    let plain = SamplingParameters::default();
    let cases = [
        ("plain", plain.clone()),
        (
            "cold",
            SamplingParameters {
                temperature: 0.5,
                ..plain.clone()
            },
        ),
        (
            "hot",
            SamplingParameters {
                temperature: 1.8,
                ..plain.clone()
            },
        ),
        (
            "top_k",
            SamplingParameters {
                top_k: 7,
                ..plain.clone()
            },
        ),
        (
            "top_p",
            SamplingParameters {
                top_p: 0.7,
                ..plain.clone()
            },
        ),
        (
            "min_p",
            SamplingParameters {
                min_p: Some(0.2),
                ..plain.clone()
            },
        ),
        (
            "penalty",
            SamplingParameters {
                repetition_penalty: 1.6,
                ..plain.clone()
            },
        ),
        (
            "all",
            SamplingParameters {
                temperature: 0.9,
                top_k: 20,
                top_p: 0.9,
                min_p: Some(0.05),
                repetition_penalty: 1.2,
            },
        ),
    ];
    for (name, sampling) in cases {
        let prompt = vec![5, 17, 42, 9];
        let settings = RolloutSettings {
            sampling: sampling.clone(),
            max_completion_length: 2,
            stop: BTreeSet::new(),
            num_generations: GROUP,
            max_rows: 256,
            seed: 3,
            step: 1,
            purpose: "rollout",
        };
        let prompts = [Prompt {
            tokens: prompt.clone(),
            key: 8,
        }];
        let groups = generate(&model, None, &prompts, &settings, &mut |_| Ok(())).unwrap();
        let mut first: BTreeMap<u32, usize> = BTreeMap::new();
        for completion in &groups[0] {
            *first.entry(completion.tokens[0]).or_default() += 1;
        }
        let probabilities = expected(&model, &prompt, &sampling);
        let far = distance(&first, &probabilities);
        assert!(
            far.abs() < 5.0,
            "{name}: first tokens are {far} deviations off"
        );
        // Nothing is drawn that has no probability.
        assert!(
            first.keys().all(|token| probabilities.contains_key(token)),
            "{name}"
        );
        // What follows the most frequent first token.
        let (&frequent, _) = first.iter().max_by_key(|(_, count)| **count).unwrap();
        let mut second: BTreeMap<u32, usize> = BTreeMap::new();
        for completion in groups[0].iter().filter(|c| c.tokens[0] == frequent) {
            *second.entry(completion.tokens[1]).or_default() += 1;
        }
        let text = [&prompt[..], &[frequent]].concat();
        let far = distance(&second, &expected(&model, &text, &sampling));
        assert!(
            far.abs() < 5.0,
            "{name}: second tokens are {far} deviations off"
        );
    }
}

#[test]
fn a_distance_finds_a_distribution_that_is_not_the_one() {
    let probabilities = BTreeMap::from([(1, 0.5), (2, 0.3), (3, 0.2)]);
    let fair = BTreeMap::from([(1, 3010), (2, 1790), (3, 1200)]);
    let unfair = BTreeMap::from([(1, 3200), (2, 1700), (3, 1100)]);
    assert!(distance(&fair, &probabilities).abs() < 1.0);
    assert!(distance(&unfair, &probabilities) > 5.0);
}
