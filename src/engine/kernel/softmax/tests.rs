use burn::backend::Flex;
use burn::tensor::activation::softmax;
use burn::tensor::{DType, Device, Int, Tensor, TensorData};

use super::reference::{self, sees};
use super::{AttentionMask, SoftmaxBackwardOps, SoftmaxOps, masked_softmax};
use crate::kernel::rows::cpu::tensor;
use crate::kernel::testing::{assert_close, noise, values};

/// A call: shape of the scores, mask and the real lengths of prefixes.
struct Case([usize; 3], AttentionMask, Option<Vec<i32>>);

fn cases() -> Vec<Case> {
    let causal = AttentionMask::causal;
    let after = AttentionMask::after_prefix;
    vec![
        Case([1, 1, 1], causal(1), None),
        Case([4, 6, 3], causal(3), None),
        Case([2, 3 * 77, 77], causal(77), None),
        // Two prompts, two key heads each, a group of two heads over six positions.
        Case([4, 12, 10 + 6], after(10, 2, 6, 6), Some(vec![10, 4])),
        Case([4, 12, 10 + 6], after(10, 2, 6, 6), None),
        // Decoding: the newest of 40 tokens.
        Case([6, 5, 300 + 40], after(300, 3, 1, 40), Some(vec![299, 1])),
        // A middle part of the queries of a prompt.
        Case(
            [2, 8, 32],
            AttentionMask {
                first_position: 9,
                ..causal(4)
            },
            None,
        ),
    ]
}

/// 0 where a row sees a key and −1e9 elsewhere.
fn bias(Case([batch, rows, keys], mask, lengths): &Case, device: &Device) -> Tensor<3> {
    let values: Vec<f32> = (0..batch * rows * keys)
        .map(|i| {
            let (batch, row, key) = (i / (rows * keys), i / keys % rows, i % keys);
            if sees(*mask, lengths.as_deref(), [batch, row, key]) {
                0.0
            } else {
                -1e9
            }
        })
        .collect();
    Tensor::from_data(TensorData::new(values, [*batch, *rows, *keys]), device)
}

fn lengths(case: &Case, device: &Device) -> Option<Tensor<1, Int>> {
    let lengths = case.2.as_ref()?;
    let data = TensorData::new(lengths.clone(), [lengths.len()]);
    Some(Tensor::from_data(data, (device, DType::I32)))
}

fn run(
    f: impl Fn(Tensor<3>) -> Tensor<3>,
    shape: [usize; 3],
    device: &Device,
    dtype: DType,
) -> [Vec<f32>; 2] {
    let scores = noise(shape, 1, 20.0, device).cast(dtype).require_grad();
    let weights = f(scores.clone());
    let gradient = noise(shape, 2, 1.0, device).cast(dtype);
    let gradients = (weights.clone() * gradient).sum().backward();
    [values(weights), values(scores.grad(&gradients).unwrap())]
}

fn check(device: &Device, dtype: DType, tolerance: f32) {
    // The plain expression runs on the CPU: compiling it for a software driver takes a minute.
    let (device, plain_device) = (device.clone().autodiff(), Device::flex().autodiff());
    let scale = 0.125;
    for case in cases() {
        let (shape, mask, lengths) = (case.0, case.1, lengths(&case, &device));
        let bias = bias(&case, &plain_device).cast(dtype);
        let ours = |scores| masked_softmax(scores, scale, mask, lengths.as_ref());
        let ours = run(ours, shape, &device, dtype);
        let plain = |scores: Tensor<3>| softmax(scores.mul_scalar(scale) + bias.clone(), 2);
        let plain = run(plain, shape, &plain_device, dtype);
        assert_close(
            &format!("softmax {shape:?}"),
            &ours[0],
            &plain[0],
            tolerance,
        );
        assert_close(
            &format!("softmax {shape:?} scores"),
            &ours[1],
            &plain[1],
            tolerance,
        );
        for (weight, bias) in ours[0].iter().zip(values(bias)) {
            assert!(bias == 0.0 || *weight == 0.0, "a masked weight is not 0");
        }
    }
}

#[test]
fn masked_softmax_and_gradient_are_those_of_the_plain_expression() {
    check(&Device::flex(), DType::F32, 1e-6);
    check(&Device::flex(), DType::BF16, 2e-2);
}

#[test]
fn masked_softmax_agrees_with_f64() {
    let device = Device::flex();
    for case in cases() {
        let Case(_, mask, prefix) = &case;
        let scores = noise(case.0, 3, 80.0, &device);
        let ours = masked_softmax(
            scores.clone(),
            0.125,
            *mask,
            lengths(&case, &device).as_ref(),
        );
        let exact =
            reference::masked_softmax(&values(scores), case.0, 0.125, *mask, prefix.as_deref());
        assert_close(
            &format!("softmax {:?} against f64", case.0),
            &values(ours),
            &exact,
            3e-7,
        );
    }
}

#[test]
fn a_part_of_the_batch_gives_the_bits_of_the_whole() {
    let device = Device::flex();
    let scores = noise([6, 40 * 3, 120], 1, 20.0, &device);
    let mask = AttentionMask::after_prefix(80, 2, 40, 40);
    let lengths = Tensor::<1, Int>::from_data([80, 17, 63], &device);
    let whole = values(masked_softmax(scores.clone(), 0.2, mask, Some(&lengths)));
    let part = masked_softmax(
        scores.clone().narrow(0, 2, 2),
        0.2,
        mask,
        Some(&lengths.narrow(0, 1, 1)),
    );
    assert_eq!(whole[2 * 120 * 120..4 * 120 * 120], values(part));
    assert_eq!(
        values(scores),
        values(noise([6, 40 * 3, 120], 1, 20.0, &device))
    );
}

#[test]
fn scores_that_nobody_holds_are_overwritten() {
    let scores = tensor(vec![1.0; 60], [2, 6, 5]);
    let place = scores.bytes().as_ptr();
    let weights = Flex::masked_softmax(scores, 1.0, AttentionMask::after_prefix(2, 1, 3, 3));
    assert_eq!(weights.bytes().as_ptr(), place);
    let gradient = tensor(vec![1.0; 60], [2, 6, 5]);
    let place = gradient.bytes().as_ptr();
    assert_eq!(
        Flex::softmax_backward(gradient, weights, 1.0)
            .bytes()
            .as_ptr(),
        place
    );
}

#[cfg(feature = "wgpu")]
#[test]
fn masked_softmax_and_gradient_on_wgpu() {
    let Some(device) = crate::kernel::testing::wgpu() else {
        return;
    };
    check(&device, DType::F32, 2e-6);
}
