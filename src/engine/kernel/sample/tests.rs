use burn::tensor::{Device, Tensor, TensorData};

use super::reference::probabilities;
use super::{Draw, NotNumbers, sample};
use crate::kernel::testing::wgpu;

/// Logits of a spread that a language model has, with ties: multiples of 1/8 in [−8, 8).
fn logits(count: usize, seed: u32) -> Vec<f32> {
    let mut state = seed.wrapping_mul(2_654_435_761).wrapping_add(12_345);
    (0..count)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 17;
            state ^= state << 5;
            (state >> 25) as f32 / 8.0 - 8.0
        })
        .collect()
}

/// The same logits for every uniform.
fn draw_all(
    device: &Device,
    logits: &[f32],
    uniforms: &[f64],
    draw: Draw,
) -> Result<(Vec<u32>, Vec<f32>), NotNumbers> {
    let rows = uniforms.len();
    let data = TensorData::new(logits.repeat(rows), [rows, logits.len()]);
    sample(Tensor::<2>::from_data(data, device), uniforms, draw)
}

/// Draws 1e-5 on either side of every boundary of the cumulative distribution, where tokens around
/// it are wide enough, and at the ends.
fn check(device: &Device, logits: &[f32], draw: Draw, most: usize) {
    const MARGIN: f64 = 1e-5;
    let expected = probabilities(logits, &draw);
    let possible: Vec<(u32, f64)> = expected
        .iter()
        .enumerate()
        .filter(|(_, p)| **p > 0.0)
        .map(|(token, p)| (token as u32, *p))
        .collect();
    let mut uniforms = vec![0.0, 1.0 - f64::EPSILON / 2.0];
    let mut tokens = vec![possible[0].0, possible[possible.len() - 1].0];
    let is_wide = |p: f64| p > 3.0 * MARGIN;
    let wide = possible.iter().filter(|(_, p)| is_wide(*p)).count();
    let (mut before, mut passed) = (0.0, 0);
    for &(token, p) in &possible {
        if is_wide(p) {
            if passed % wide.div_ceil(most) == 0 {
                uniforms.extend([before + MARGIN, before + p - MARGIN]);
                tokens.extend([token, token]);
            }
            passed += 1;
        }
        before += p;
    }
    let (drawn, log_probs) = draw_all(device, logits, &uniforms, draw).unwrap();
    println!(
        "{} tokens possible, {} draws, {draw:?}",
        possible.len(),
        drawn.len()
    );
    // Beyond both ends only a token with a smaller probability than the margin may differ.
    for (i, (&token, &expected_token)) in drawn.iter().zip(&tokens).enumerate() {
        let near_end = i < 2 && expected[token as usize] > 0.0;
        assert!(
            token == expected_token || (near_end && i == 1),
            "{draw:?}: {token} for {expected_token} at {}",
            uniforms[i]
        );
    }
    // Of the whole distribution, untruncated.
    let whole = Draw {
        temperature: draw.temperature,
        ..Draw::default()
    };
    let whole = probabilities(logits, &whole);
    let error = drawn
        .iter()
        .zip(&log_probs)
        .map(|(&token, &log_prob)| (f64::from(log_prob) - whole[token as usize].ln()).abs())
        .fold(0.0, f64::max);
    println!("log-probabilities: {error:.2e}");
    assert!(error < 5e-6);
}

#[test]
fn draws_have_the_truncated_distribution_on_wgpu() {
    let Some(device) = wgpu() else { return };
    let plain = Draw::default();
    let few = logits(37, 1);
    let many = logits(2048, 2);
    check(&device, &few, plain, 40);
    check(
        &device,
        &many,
        Draw {
            temperature: 0.7,
            ..plain
        },
        60,
    );
    check(&device, &few, Draw { top_k: 5, ..plain }, 40);
    check(
        &device,
        &many,
        Draw {
            top_k: 50,
            temperature: 1.3,
            ..plain
        },
        30,
    );
    check(
        &device,
        &few,
        Draw {
            top_p: 0.8,
            ..plain
        },
        40,
    );
    check(
        &device,
        &many,
        Draw {
            top_p: 0.9,
            ..plain
        },
        60,
    );
    check(
        &device,
        &many,
        Draw {
            min_p: 0.05,
            ..plain
        },
        60,
    );
    check(
        &device,
        &many,
        Draw {
            top_k: 300,
            top_p: 0.6,
            min_p: 0.3,
            temperature: 2.0,
        },
        60,
    );
}

#[test]
fn a_large_vocabulary_is_summed_accurately_on_wgpu() {
    let Some(device) = wgpu() else { return };
    let mut logits = logits(131_072, 3);
    // 32 tokens have a third of the probability, all the others between them have the rest.
    logits.iter_mut().for_each(|logit| *logit *= 0.25);
    logits
        .iter_mut()
        .skip(4095)
        .step_by(4096)
        .for_each(|logit| *logit = 8.3);
    check(&device, &logits, Draw::default(), 32);
    check(
        &device,
        &logits,
        Draw {
            top_p: 0.5,
            ..Draw::default()
        },
        32,
    );
    check(
        &device,
        &logits,
        Draw {
            top_k: 1000,
            ..Draw::default()
        },
        32,
    );
}

#[test]
fn ties_at_the_limits_are_cut_as_on_the_host_on_wgpu() {
    let Some(device) = wgpu() else { return };
    // Five equally likely: top-p 0.5 keeps the first three, top-k 2 all five.
    let logits = [1.0, -0.0, 1.0, 1.0, 1.0, 1.0, f32::NEG_INFINITY, -30.0];
    let uniforms: Vec<f64> = (0..64).map(|i| (f64::from(i) + 0.5) / 64.0).collect();
    let kept = |draw: Draw| {
        let (mut tokens, _) = draw_all(&device, &logits, &uniforms, draw).unwrap();
        tokens.dedup();
        tokens
    };
    let plain = Draw {
        temperature: 0.5,
        ..Draw::default()
    };
    assert_eq!(
        kept(Draw {
            top_p: 0.5,
            ..plain
        }),
        [0, 2, 3]
    );
    assert_eq!(kept(Draw { top_k: 2, ..plain }), [0, 2, 3, 4, 5]);
    assert_eq!(kept(Draw { top_k: 6, ..plain }), [0, 1, 2, 3, 4, 5]);
    assert_eq!(
        kept(Draw {
            min_p: 1.0,
            ..plain
        }),
        [0, 2, 3, 4, 5]
    );
    assert_eq!(
        kept(Draw {
            top_p: 1e-6,
            ..plain
        }),
        [0]
    );
    assert_eq!(
        kept(Draw {
            temperature: 0.0,
            ..plain
        }),
        [0]
    );
}

#[test]
fn zero_temperature_takes_the_first_of_the_likeliest_on_wgpu() {
    let Some(device) = wgpu() else { return };
    let mut values = logits(2 * 4096, 4);
    values[3000] = 9.0;
    values[3001] = 9.0;
    values[4096] = -0.0;
    values[4100] = 0.0;
    values[4096..]
        .iter_mut()
        .for_each(|value| *value = -value.abs());
    let draw = Draw {
        temperature: 0.0,
        ..Draw::default()
    };
    let first_zero = values[4096..]
        .iter()
        .position(|value| *value == 0.0)
        .unwrap();
    let tensor = Tensor::<2>::from_data(TensorData::new(values.clone(), [2, 4096]), &device);
    let (tokens, log_probs) = sample(tensor, &[0.999, 0.0], draw).unwrap();
    assert_eq!(tokens, [3000, first_zero as u32]);
    let whole = probabilities(&values[..4096], &Draw::default());
    assert!((f64::from(log_probs[0]) - whole[3000].ln()).abs() < 5e-6);
}

#[test]
fn logits_that_are_not_numbers_are_an_error_on_wgpu() {
    let Some(device) = wgpu() else { return };
    let nothing = f32::NEG_INFINITY;
    for fault in [
        [0.0, f32::NAN, 1.0],
        [0.0, -f32::NAN, nothing],
        [f32::INFINITY, 0.0, 0.0],
        [nothing; 3],
    ] {
        for draw in [
            Draw::default(),
            Draw {
                temperature: 0.0,
                ..Draw::default()
            },
        ] {
            assert_eq!(
                draw_all(&device, &fault, &[0.5, 0.1], draw),
                Err(NotNumbers),
                "{fault:?}"
            );
        }
    }
    let (tokens, log_probs) = draw_all(
        &device,
        &[nothing, 2.0, nothing],
        &[0.0, 0.999_999],
        Draw::default(),
    )
    .unwrap();
    assert_eq!((tokens, log_probs), (vec![1, 1], vec![0.0, 0.0]));
}
