use burn::tensor::{DType, Device, Int, Tensor, TensorData};

use super::{DecodeLayout, Keys, decode_attention};

/// Shapes of a case, and its cache.
#[derive(Clone, Copy, Debug)]
struct Case {
    lengths: &'static [usize],
    prompt_width: usize,
    group: usize,
    kv_heads: usize,
    sharing: usize,
    dim: usize,
    capacity: usize,
    filled: usize,
}

const CASES: &[Case] = &[
    Case {
        lengths: &[5],
        prompt_width: 5,
        group: 1,
        kv_heads: 1,
        sharing: 1,
        dim: 32,
        capacity: 4,
        filled: 1,
    },
    Case {
        lengths: &[7, 3],
        prompt_width: 7,
        group: 8,
        kv_heads: 3,
        sharing: 3,
        dim: 64,
        capacity: 16,
        filled: 9,
    },
    Case {
        lengths: &[130, 1, 256],
        prompt_width: 256,
        group: 1,
        kv_heads: 2,
        sharing: 4,
        dim: 128,
        capacity: 200,
        filled: 129,
    },
    Case {
        lengths: &[128],
        prompt_width: 300,
        group: 2,
        kv_heads: 1,
        sharing: 16,
        dim: 64,
        capacity: 128,
        filled: 128,
    },
    Case {
        lengths: &[33, 40],
        prompt_width: 40,
        group: 2,
        kv_heads: 2,
        sharing: 8,
        dim: 256,
        capacity: 3,
        filled: 2,
    },
    Case {
        lengths: &[9],
        prompt_width: 9,
        group: 3,
        kv_heads: 1,
        sharing: 5,
        dim: 80,
        capacity: 9,
        filled: 4,
    },
    Case {
        lengths: &[6],
        prompt_width: 6,
        group: 2,
        kv_heads: 1,
        sharing: 2,
        dim: 96,
        capacity: 9,
        filled: 0,
    },
    Case {
        lengths: &[0, 2],
        prompt_width: 2,
        group: 2,
        kv_heads: 2,
        sharing: 2,
        dim: 36,
        capacity: 64,
        filled: 63,
    },
];

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
fn inputs(case: &Case) -> [Vec<f32>; 5] {
    let rows = case.lengths.len() * case.group;
    let Case {
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

/// Plain softmax attention in `f64`.
fn reference(case: &Case, inputs: &[Vec<f32>; 5]) -> Vec<f64> {
    let [query, prompt_key, prompt_value, own_key, own_value] = inputs;
    let Case {
        prompt_width,
        kv_heads,
        sharing,
        dim,
        capacity,
        filled,
        group,
        ..
    } = *case;
    let rows = case.lengths.len() * group;
    let mut output = Vec::new();
    for row in 0..rows {
        for head in 0..kv_heads * sharing {
            let query = &query[(row * kv_heads * sharing + head) * dim..][..dim];
            let kv_head = head / sharing;
            let prompt = row / group;
            let places = (0..case.lengths[prompt])
                .map(|c| {
                    (
                        prompt_key,
                        prompt_value,
                        ((prompt * kv_heads + kv_head) * prompt_width + c) * dim,
                    )
                })
                .chain((0..filled).map(|c| {
                    (
                        own_key,
                        own_value,
                        ((row * kv_heads + kv_head) * capacity + c) * dim,
                    )
                }));
            let scored: Vec<(f64, &[f32])> = places
                .map(|(key, value, at)| {
                    let score: f64 = query
                        .iter()
                        .zip(&key[at..])
                        .map(|(q, k)| f64::from(*q) * f64::from(*k))
                        .sum();
                    (score * f64::from(scale(dim)), &value[at..at + dim])
                })
                .collect();
            let largest = scored.iter().map(|s| s.0).fold(f64::NEG_INFINITY, f64::max);
            let sum: f64 = scored.iter().map(|s| (s.0 - largest).exp()).sum();
            for i in 0..dim {
                let weighted: f64 = scored
                    .iter()
                    .map(|(s, value)| (s - largest).exp() * f64::from(value[i]))
                    .sum();
                output.push(weighted / sum);
            }
        }
    }
    output
}

fn scale(dim: usize) -> f32 {
    (dim as f32).powf(-0.5)
}

/// The largest error over the cases, with keys and queries of these types, whether the device is told
/// how many columns count or only how many there is room for.
fn worst(device: &Device, cases: &[Case], key_type: DType, query_type: DType) -> f64 {
    let mut worst = 0.0f64;
    let told = |case: &Case| [case.filled, case.capacity];
    for (case, columns) in cases
        .iter()
        .flat_map(|case| told(case).map(|it| (case, it)))
    {
        let inputs = inputs(case);
        let Case {
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
        let rows = prompts * group;
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
                scale: scale(dim),
            },
        );
        assert_eq!(output.dtype(), query_type);
        assert_eq!(output.dims(), [rows, kv_heads * sharing * dim]);
        let output: Vec<f32> = output.cast(DType::F32).into_data().try_to_vec().unwrap();
        let error = output
            .iter()
            .zip(reference(case, &inputs))
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
    assert!(worst(&Device::flex(), CASES, DType::F32, DType::F32) < 5e-6);
}

#[test]
fn half_precision_is_attended_in_single() {
    assert!(worst(&Device::flex(), &CASES[..3], DType::BF16, DType::BF16) < 3e-2);
}

#[test]
fn the_answer_does_not_depend_on_threads() {
    let case = CASES[2];
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
                    scale: scale(128),
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
    use burn::tensor::{DeviceKind, DeviceType};

    fn device() -> Option<Device> {
        if Device::enumerate(DeviceType::Wgpu).is_empty() {
            println!("no adapter: skipped");
            return None;
        }
        Some(Device::wgpu(DeviceKind::DefaultDevice))
    }

    #[test]
    fn attends_like_plain_softmax_on_wgpu() {
        let Some(device) = device() else { return };
        assert!(worst(&device, CASES, DType::F32, DType::F32) < 5e-6);
    }

    #[test]
    fn attends_in_half_precision_on_wgpu() {
        let Some(device) = device() else { return };
        if !device.supports_dtype(DType::F16) {
            println!("no f16: skipped");
            return;
        }
        assert!(worst(&device, &CASES[..5], DType::F16, DType::F16) < 4e-3);
        assert!(worst(&device, &CASES[..2], DType::F16, DType::F32) < 4e-3);
    }
}
