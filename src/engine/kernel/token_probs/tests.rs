use burn::backend::Flex;
use burn::tensor::{DType, Device, Int, Tensor, TensorData};

use super::reference::{self, in_f32};
use super::{TokenProbsOps, logits_gradient, token_log_probs};
use crate::kernel::rows::cpu::tensor;
use crate::kernel::testing::{assert_close, noise, values};

fn targets(rows: usize, vocabulary: usize) -> Vec<i32> {
    (0..rows)
        .map(|row| ((row * 7919 + 5) % vocabulary) as i32)
        .collect()
}

fn ids(targets: &[i32], device: &Device) -> Tensor<1, Int> {
    let data = TensorData::new(targets.to_vec(), [targets.len()]);
    Tensor::from_data(data, (device, DType::I32))
}

fn check(device: &Device) {
    for [rows, vocabulary] in [[1, 1], [3, 7], [5, 1000], [2, 1027], [4, 49_152]] {
        let logits = noise([rows, vocabulary], 1, 10.0, device);
        let targets = targets(rows, vocabulary);
        let ids = ids(&targets, device);
        let scale = noise([rows], 2, 3.0, device);
        let (log_probs, entropies) = token_log_probs(logits.clone(), ids.clone());
        let gradient = logits_gradient(logits.clone(), ids, scale.clone());
        let logits = values(logits);
        let expected = reference::token_log_probs(&logits, vocabulary, &targets);
        let expected_gradient =
            reference::logits_gradient(&logits, vocabulary, &targets, &values(scale));
        let name = |what| format!("{what} [{rows}, {vocabulary}]");
        assert_close(
            &name("log-prob"),
            &values(log_probs),
            &in_f32(expected.0),
            2e-6,
        );
        assert_close(
            &name("entropy"),
            &values(entropies),
            &in_f32(expected.1),
            2e-5,
        );
        assert_close(
            &name("gradient"),
            &values(gradient),
            &in_f32(expected_gradient),
            2e-6,
        );
    }
}

fn check_against_f64(device: &Device, vocabulary: usize) {
    let logits = noise([3, vocabulary], 1, 10.0, device);
    let (targets, scale) = (targets(3, vocabulary), [1.0, -2.5, 0.0]);
    let ids = ids(&targets, device);
    let (log_probs, entropies) = token_log_probs(logits.clone(), ids.clone());
    let gradient = logits_gradient(logits.clone(), ids, Tensor::from_data(scale, device));
    let logits = values(logits);
    let exact = reference::token_log_probs(&logits, vocabulary, &targets);
    let exact_gradient = reference::logits_gradient(&logits, vocabulary, &targets, &scale);
    let worst = [
        (values(log_probs), exact.0),
        (values(entropies), exact.1),
        (values(gradient), exact_gradient),
    ]
    .map(|(ours, exact)| {
        let differences = ours
            .iter()
            .zip(&exact)
            .map(|(a, b)| (f64::from(*a) - b).abs());
        differences.fold(0.0, f64::max)
    });
    println!("vocabulary {vocabulary}: log-prob, entropy, gradient off by {worst:?}");
    assert!(worst[0] < 2e-6 && worst[1] < 5e-6 && worst[2] < 5e-7);
}

#[test]
fn probabilities_and_gradient_are_those_of_the_plain_expressions() {
    check(&Device::flex());
}

#[test]
fn probabilities_and_gradient_agree_with_f64() {
    for vocabulary in [49_152, 131_072] {
        check_against_f64(&Device::flex(), vocabulary);
    }
}

#[test]
fn a_row_does_not_depend_on_the_others_and_logits_stay() {
    let device = Device::flex();
    let logits = noise([40, 3001], 1, 10.0, &device);
    let ids = ids(&targets(40, 3001), &device);
    let scale = noise([40], 2, 1.0, &device);
    let (all, _) = token_log_probs(logits.clone(), ids.clone());
    let gradient = values(logits_gradient(logits.clone(), ids.clone(), scale.clone()));
    let part = |row: usize| {
        (
            logits.clone().narrow(0, row, 1),
            ids.clone().narrow(0, row, 1),
        )
    };
    let (row, id) = part(17);
    assert_eq!(values(all)[17..18], values(token_log_probs(row, id).0));
    let (row, id) = part(17);
    let one = values(logits_gradient(row, id, scale.narrow(0, 17, 1)));
    assert_eq!(gradient[17 * 3001..18 * 3001], one);
    assert_eq!(values(logits), values(noise([40, 3001], 1, 10.0, &device)));
}

#[test]
fn impossible_and_broken_logits() {
    let device = Device::flex();
    let logits = [
        [0.0, f32::NEG_INFINITY, 0.0],
        [0.0, f32::NAN, 0.0],
        [2e4, 0.0, -2e4],
    ];
    let logits = Tensor::<2>::from_data(logits, &device);
    let (log_probs, entropies) = token_log_probs(logits, Tensor::from_data([0, 0, 0], &device));
    let (log_probs, entropies) = (values(log_probs), values(entropies));
    let half = -(0.5f32.ln());
    assert_eq!([log_probs[0], entropies[0]], [-half, half]);
    assert!(log_probs[1].is_nan() && entropies[1].is_nan());
    assert_eq!([log_probs[2], entropies[2]], [0.0, 0.0]);
}

#[test]
fn logits_that_nobody_holds_are_overwritten() {
    let logits = tensor(vec![1.0; 10], [2, 5]);
    let place = logits.bytes().as_ptr();
    let targets = burn::backend::flex::FlexTensor::from_data(TensorData::from([1i32, 2]));
    let gradient = Flex::logits_gradient(logits, targets, tensor(vec![1.0; 2], [2]));
    assert_eq!(gradient.bytes().as_ptr(), place);
}

#[test]
#[should_panic(expected = "not differentiable")]
fn tracked_logits_are_refused() {
    let device = Device::flex().autodiff();
    let logits = noise([2, 5], 1, 1.0, &device).require_grad();
    token_log_probs(logits, ids(&targets(2, 5), &device));
}

#[cfg(feature = "wgpu")]
#[test]
fn probabilities_and_gradient_on_wgpu() {
    let Some(device) = crate::kernel::testing::wgpu() else {
        return;
    };
    check(&device);
    check_against_f64(&device, 131_072);
}
