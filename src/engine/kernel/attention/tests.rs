use burn::tensor::{DType, Device, Int, Tensor, TensorData};

use super::reference::{self, Sizes};
use super::{DecodeLayout, Keys, decode_attention};

fn cases() -> Vec<Sizes> {
    vec![
        sizes(&[5], 5, [1, 1, 1, 32], [4, 1]),
        sizes(&[7, 3], 7, [8, 3, 3, 64], [16, 9]),
        sizes(&[130, 1, 256], 256, [1, 2, 4, 128], [200, 129]),
        sizes(&[128], 300, [2, 1, 16, 64], [128, 128]),
        sizes(&[33, 40], 40, [2, 2, 8, 256], [3, 2]),
        sizes(&[9], 9, [3, 1, 5, 80], [9, 4]),
        sizes(&[6], 6, [2, 1, 2, 96], [9, 0]),
        sizes(&[0, 2], 2, [2, 2, 2, 36], [64, 63]),
    ]
}

fn sizes(
    lengths: &[usize],
    prompt_width: usize,
    [group, kv_heads, sharing, dim]: [usize; 4],
    [capacity, filled]: [usize; 2],
) -> Sizes {
    Sizes {
        lengths: lengths.to_vec(),
        prompt_width,
        group,
        kv_heads,
        sharing,
        dim,
        capacity,
        filled,
    }
}

/// Values in about [−2, 2), the same for the same seed.
fn values(count: usize, seed: u32) -> Vec<f32> {
    let mut state = seed.wrapping_mul(2_654_435_761).wrapping_add(12_345);
    (0..count)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 17;
            state ^= state << 5;
            (state >> 8) as f32 / (1 << 22) as f32 - 2.0
        })
        .collect()
}

/// Query, prompt keys, prompt values, own keys, own values. Columns that do not count hold 1000.
fn inputs(case: &Sizes) -> [Vec<f32>; 5] {
    let rows = case.rows();
    let Sizes {
        prompt_width,
        kv_heads,
        sharing,
        dim,
        capacity,
        filled,
        ..
    } = *case;
    let mut prompt = [1, 2].map(|s| values(case.lengths.len() * kv_heads * prompt_width * dim, s));
    for tensor in &mut prompt {
        for (i, value) in tensor.iter_mut().enumerate() {
            if i / dim % prompt_width >= case.lengths[i / dim / prompt_width / kv_heads] {
                *value = 1000.0;
            }
        }
    }
    let mut own = [3, 4].map(|s| values(rows * kv_heads * capacity * dim, s));
    for tensor in &mut own {
        for (i, value) in tensor.iter_mut().enumerate() {
            if i / dim % capacity >= filled {
                *value = 1000.0;
            }
        }
    }
    let [prompt_key, prompt_value] = prompt;
    let [own_key, own_value] = own;
    [
        values(rows * kv_heads * sharing * dim, 5),
        prompt_key,
        prompt_value,
        own_key,
        own_value,
    ]
}

/// The largest error over the cases, with keys and queries of these types, both when the device knows how many
/// columns count and when it knows only the capacity.
fn worst(device: &Device, cases: &[Sizes], key_type: DType, query_type: DType) -> f64 {
    let mut worst = 0.0f64;
    let columns = |case: &Sizes| [case.filled, case.capacity];
    for (case, columns) in cases
        .iter()
        .flat_map(|case| columns(case).map(|it| (case, it)))
    {
        let inputs = inputs(case);
        let Sizes {
            prompt_width,
            kv_heads,
            sharing,
            dim,
            capacity,
            filled,
            group,
            ..
        } = *case;
        let prompts = case.lengths.len();
        let rows = case.rows();
        let tensor = |i: usize, shape: [usize; 3], dtype: DType| {
            Tensor::<3>::from_data(TensorData::new(inputs[i].clone(), shape), device).cast(dtype)
        };
        let keys = |i: usize, shape: [usize; 3]| Keys {
            key: tensor(i, shape, key_type),
            value: tensor(i + 1, shape, key_type),
        };
        let lengths: Vec<i32> = case.lengths.iter().map(|&length| length as i32).collect();
        let output = decode_attention(
            tensor(0, [rows, kv_heads * sharing, dim], query_type),
            keys(1, [prompts * kv_heads, prompt_width, dim]),
            keys(3, [rows * kv_heads, capacity, dim]),
            Tensor::<1, Int>::from_data(TensorData::new(lengths, [prompts]), device),
            Tensor::<1, Int>::from_data(TensorData::new(vec![filled as i32], [1]), device),
            DecodeLayout {
                rows_per_prompt: group,
                columns,
                scale: case.scale(),
            },
        );
        assert_eq!(output.dtype(), query_type);
        assert_eq!(output.dims(), [rows, kv_heads * sharing * dim]);
        let output: Vec<f32> = output.cast(DType::F32).into_data().try_to_vec().unwrap();
        let [query, keys @ ..] = &inputs;
        let expected = reference::decode_attention(case, query, keys);
        let error = output
            .iter()
            .zip(expected)
            .map(|(a, b)| {
                if a.is_nan() {
                    f64::INFINITY
                } else {
                    (f64::from(*a) - b).abs()
                }
            })
            .fold(0.0, f64::max);
        println!("{key_type:?} {case:?}: {error:.2e}");
        worst = worst.max(error);
    }
    worst
}

#[test]
fn attends_like_plain_softmax() {
    assert!(worst(&Device::flex(), &cases(), DType::F32, DType::F32) < 5e-6);
}

#[test]
fn half_precision_is_attended_in_single() {
    assert!(worst(&Device::flex(), &cases()[..3], DType::BF16, DType::BF16) < 3e-2);
}

#[test]
fn the_answer_does_not_depend_on_threads() {
    let case = cases().remove(2);
    let run = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(threads)
            .build()
            .unwrap();
        pool.install(|| {
            let inputs = inputs(&case);
            let device = Device::flex();
            let tensor = |i: usize, shape: [usize; 3]| {
                Tensor::<3>::from_data(TensorData::new(inputs[i].clone(), shape), &device)
            };
            let output = decode_attention(
                tensor(0, [3, 8, 128]),
                Keys {
                    key: tensor(1, [6, 256, 128]),
                    value: tensor(2, [6, 256, 128]),
                },
                Keys {
                    key: tensor(3, [6, 200, 128]),
                    value: tensor(4, [6, 200, 128]),
                },
                Tensor::<1, Int>::from_data(TensorData::new(vec![130i32, 1, 256], [3]), &device),
                Tensor::<1, Int>::from_data(TensorData::new(vec![129i32], [1]), &device),
                DecodeLayout {
                    rows_per_prompt: 1,
                    columns: 129,
                    scale: case.scale(),
                },
            );
            output.into_data().try_to_vec::<f32>().unwrap()
        })
    };
    assert_eq!(run(1), run(4));
}

#[cfg(feature = "wgpu")]
mod wgpu {
    use super::*;
    use crate::kernel::testing::wgpu;

    #[test]
    fn attends_like_plain_softmax_on_wgpu() {
        let Some(device) = wgpu() else { return };
        assert!(worst(&device, &cases(), DType::F32, DType::F32) < 5e-6);
    }

    #[test]
    fn attends_in_half_precision_on_wgpu() {
        let Some(device) = wgpu() else { return };
        if !device.supports_dtype(DType::F16) {
            println!("no f16: skipped");
            return;
        }
        assert!(worst(&device, &cases()[..5], DType::F16, DType::F16) < 4e-3);
        assert!(worst(&device, &cases()[..2], DType::F16, DType::F32) < 4e-3);
    }
}
