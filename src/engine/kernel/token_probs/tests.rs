use burn::backend::Flex;
use burn::tensor::activation::log_softmax;
use burn::tensor::{DType, Device, IndexingUpdateOp, Int, Tensor, TensorData};

use super::{TokenProbsOps, logits_gradient, token_log_probs};
use crate::kernel::rows::flex::tensor;
use crate::kernel::rows::testing::{assert_close, noise, values};

fn targets(rows: usize, vocabulary: usize, device: &Device) -> Tensor<1, Int> {
    let ids: Vec<i32> = (0..rows)
        .map(|row| ((row * 7919 + 5) % vocabulary) as i32)
        .collect();
    Tensor::from_data(TensorData::new(ids, [rows]), (device, DType::I32))
}

/// As `src/model/head.rs` does it with plain tensors.
fn plain(
    logits: Tensor<2>,
    targets: Tensor<1, Int>,
    scale: Tensor<1>,
) -> (Tensor<1>, Tensor<1>, Tensor<2>) {
    let rows = logits.dims()[0];
    let (targets, scale) = (targets.reshape([rows, 1]), scale.reshape([rows, 1]));
    let log_probs = log_softmax(logits, 1);
    let probabilities = log_probs.clone().exp();
    let entropies = (probabilities.clone() * log_probs.clone()).sum_dim(1).neg();
    let gradient = (probabilities * scale.clone().neg()).scatter(
        1,
        targets.clone(),
        scale,
        IndexingUpdateOp::Add,
    );
    (
        log_probs.gather(1, targets).reshape([rows]),
        entropies.reshape([rows]),
        gradient,
    )
}

fn check(device: &Device) {
    for [rows, vocabulary] in [[1, 1], [3, 7], [5, 1000], [2, 1027], [4, 49_152]] {
        let logits = noise([rows, vocabulary], 1, 10.0, device);
        let targets = targets(rows, vocabulary, device);
        let scale = noise([rows], 2, 3.0, device);
        let (log_probs, entropies) = token_log_probs(logits.clone(), targets.clone());
        let gradient = logits_gradient(logits.clone(), targets.clone(), scale.clone());
        // On the CPU: compiling the plain expression for a software driver takes a minute.
        let cpu = Device::flex();
        let expected = plain(
            logits.to_device(&cpu),
            targets.to_device(&cpu),
            scale.to_device(&cpu),
        );
        let name = |what| format!("{what} [{rows}, {vocabulary}]");
        // The plain sum of 49152 terms is the less exact of the two.
        assert_close(
            &name("log-prob"),
            &values(log_probs),
            &values(expected.0),
            2e-6,
        );
        assert_close(
            &name("entropy"),
            &values(entropies),
            &values(expected.1),
            2e-5,
        );
        assert_close(
            &name("gradient"),
            &values(gradient),
            &values(expected.2),
            2e-6,
        );
    }
}

fn check_against_f64(device: &Device, vocabulary: usize) {
    let logits = noise([3, vocabulary], 1, 10.0, device);
    let ids = targets(3, vocabulary, device);
    let (log_probs, entropies) = token_log_probs(logits.clone(), ids.clone());
    let scale = Tensor::<1>::from_data([1.0, -2.5, 0.0], device);
    let gradient = values(logits_gradient(logits.clone(), ids.clone(), scale));
    let (log_probs, entropies) = (values(log_probs), values(entropies));
    let ids = ids.try_into_vec_as::<i32>().unwrap();
    let mut worst = [0.0f64; 3];
    for (row, logits) in values(logits).chunks(vocabulary).enumerate() {
        let total: f64 = logits.iter().map(|&x| f64::from(x).exp()).sum();
        let log_p = |x: f32| f64::from(x) - total.ln();
        let entropy: f64 = logits.iter().map(|&x| -log_p(x).exp() * log_p(x)).sum();
        let target = ids[row] as usize;
        let difference = |ours: f32, exact: f64| (f64::from(ours) - exact).abs();
        worst[0] = worst[0].max(difference(log_probs[row], log_p(logits[target])));
        worst[1] = worst[1].max(difference(entropies[row], entropy));
        for (id, &x) in logits.iter().enumerate() {
            let onehot = f64::from(u8::from(id == target));
            let exact = [1.0, -2.5, 0.0][row] * (onehot - log_p(x).exp());
            worst[2] = worst[2].max(difference(gradient[row * vocabulary + id], exact));
        }
    }
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
    let ids = targets(40, 3001, &device);
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
    token_log_probs(logits, targets(2, 5, &device));
}

#[cfg(feature = "wgpu")]
#[test]
fn probabilities_and_gradient_on_wgpu() {
    let Some(device) = crate::kernel::rows::testing::wgpu() else {
        return;
    };
    check(&device);
    check_against_f64(&device, 131_072);
}
