//! The NF4 codec against bitsandbytes 0.50.2 (tests/golden/nf4), byte for byte, and its files.

use std::path::PathBuf;

use moim::architecture::stored_in_nf4;
use moim::nf4::{
    BLOCK, CODEBOOK, CacheFile, CachePlan, CacheWriter, Nf4Matrix, Planned, QuantizeError, Scales,
    dynamic_map, is_nf4,
};
use proptest::prelude::*;
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use serde_json::Value;

fn golden_dir() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden/nf4")
}

fn read_json(name: &str) -> Value {
    serde_json::from_str(&std::fs::read_to_string(golden_dir().join(name)).unwrap()).unwrap()
}

fn crc(bytes: &[u8]) -> String {
    format!("{:08x}", crc32fast::hash(bytes))
}

fn le_bytes(values: &[f32]) -> Vec<u8> {
    values
        .iter()
        .flat_map(|value| value.to_le_bytes())
        .collect()
}

/// `draw` of make_nf4.py.
fn draw(seed: u64, count: usize) -> Vec<f32> {
    let hash = |place: u64| {
        let place = place + (seed << 32);
        let mixed = (place ^ (place >> 31)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let mixed = (mixed ^ (mixed >> 29)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed >> 40
    };
    (0..count as u64)
        .map(|index| {
            let sum: u64 = (4 * index..4 * index + 4).map(hash).sum();
            let half = f64::from(1u32 << 25);
            ((sum as f64 - half) / half * 0.08) as f32
        })
        .collect()
}

struct Case {
    name: String,
    rows: usize,
    columns: usize,
    dtype: Dtype,
    bytes: Vec<u8>,
    golden: Value,
}

impl Case {
    fn quantize(&self, double_quant: bool) -> Nf4Matrix {
        Nf4Matrix::quantize_bytes(
            &self.bytes,
            self.dtype,
            self.rows,
            self.columns,
            double_quant,
        )
        .unwrap()
    }
}

/// Every case of codec.json with its input in its own type.
fn cases() -> Vec<Case> {
    let file = std::fs::read(golden_dir().join("codec.safetensors")).unwrap();
    let tensors = SafeTensors::deserialize(&file).unwrap();
    let golden = read_json("codec.json");
    let case = |(name, golden): (&String, &Value)| {
        let number = |key: &str| golden[key].as_u64().unwrap() as usize;
        let (rows, columns) = (number("rows"), number("columns"));
        let dtype = match golden["dtype"].as_str().unwrap() {
            "float32" => Dtype::F32,
            "float16" => Dtype::F16,
            "bfloat16" => Dtype::BF16,
            other => panic!("{other}"),
        };
        let bytes = match golden["drawn"].as_u64() {
            None => tensors
                .tensor(&format!("{name}.input"))
                .unwrap()
                .data()
                .to_vec(),
            Some(seed) => {
                let values = draw(seed, rows * columns);
                let narrow = |value: &f32| match dtype {
                    Dtype::F32 => value.to_le_bytes().to_vec(),
                    Dtype::F16 => half::f16::from_f32(*value).to_le_bytes().to_vec(),
                    _ => half::bf16::from_f32(*value).to_le_bytes().to_vec(),
                };
                values.iter().flat_map(narrow).collect()
            }
        };
        Case {
            name: name.clone(),
            rows,
            columns,
            dtype,
            bytes,
            golden: golden.clone(),
        }
    };
    golden["cases"]
        .as_object()
        .unwrap()
        .iter()
        .map(case)
        .collect()
}

#[test]
fn the_maps_are_those_of_bitsandbytes() {
    let golden = read_json("codec.json");
    assert_eq!(
        crc(&le_bytes(&moim::nf4::codebook::THRESHOLDS)),
        golden["thresholds"]
    );
    assert_eq!(crc(&le_bytes(dynamic_map())), golden["dynamic_map"]);
}

#[test]
fn codes_scales_and_weights_are_those_of_bitsandbytes() {
    let file = std::fs::read(golden_dir().join("codec.safetensors")).unwrap();
    let small = SafeTensors::deserialize(&file).unwrap();
    for case in cases() {
        let check = |part: &str, bytes: &[u8]| {
            let label = format!("{}.{part}", case.name);
            if let Ok(tensor) = small.tensor(&label) {
                assert_eq!(bytes, tensor.data(), "{label}");
            }
            assert_eq!(crc(bytes), case.golden[part], "{label}");
        };
        let plain = case.quantize(false);
        let double = case.quantize(true);
        check("packed", &plain.packed);
        assert_eq!(plain.packed, double.packed, "{}", case.name);
        let Scales::Plain(scales) = &plain.scales else {
            panic!("asked for plain scales");
        };
        check("absmax", &le_bytes(scales));
        check("weights", &le_bytes(&plain.dequantize()));
        let Scales::Double {
            codes,
            nested,
            offset,
        } = &double.scales
        else {
            panic!("asked for double quantisation");
        };
        let mean = case.golden["offset"].as_f64().unwrap() as f32;
        assert_eq!(*offset, mean, "{}", case.name);
        check("codes", codes);
        check("nested", &le_bytes(nested));
        check("double_weights", &le_bytes(&double.dequantize()));

        let stored = double.stored("w", case.dtype).unwrap();
        let state = stored.last().unwrap();
        assert_eq!(state.name, "w.quant_state.bitsandbytes__nf4");
        let state = std::str::from_utf8(&state.bytes).unwrap();
        assert_eq!(state, case.golden["state"], "{}", case.name);
    }
}

/// The mean of scales, through matrices of one value a block: it is the offset.
#[test]
fn means_are_those_of_torch() {
    let magnitudes = draw(12, 300_000);
    for (count, mean) in read_json("codec.json")["means"].as_object().unwrap() {
        let count: usize = count.parse().unwrap();
        let mut values = vec![0.0; count * BLOCK];
        for (block, value) in magnitudes[..count].iter().enumerate() {
            values[block * BLOCK] = *value;
        }
        let matrix = Nf4Matrix::quantize(&values, count, BLOCK, true).unwrap();
        let Scales::Double { offset, .. } = matrix.scales else {
            panic!("asked for double quantisation");
        };
        assert_eq!(offset, mean.as_f64().unwrap() as f32, "{count}");
    }
}

/// Short enough to be stated whole; a re-implementation in Python agreed with bitsandbytes on them.
#[test]
fn two_matrices_that_were_computed_independently() {
    let values: Vec<f32> = (0..256)
        .map(|i| ((i * 37 % 101 - 50) as f64 / 1000.0) as f32)
        .collect();
    let matrix = Nf4Matrix::quantize(&values, 4, 64, false).unwrap();
    assert_eq!(crc(&matrix.packed), "db50407b");
    assert_eq!(matrix.scales, Scales::Plain(vec![0.05; 4]));
    assert_eq!(
        matrix.dequantize()[..4],
        [-0.05, -0.014_222_07, 0.022_035_493, -0.034_809_64]
    );

    let values: Vec<f32> = (0..24576i64)
        .map(|i| {
            let wave = ((i * 7919 + 13) % 2003 - 1001) as f64 / 1001.0;
            (wave * 0.05 * (1.0 + (i / 64 % 17) as f64 / 8.0)) as f32
        })
        .collect();
    let matrix = Nf4Matrix::quantize(&values, 96, 256, true).unwrap();
    assert_eq!(crc(&matrix.packed), "eeca9eda");
    let Scales::Double {
        codes,
        nested,
        offset,
    } = &matrix.scales
    else {
        panic!("asked for double quantisation");
    };
    assert_eq!(crc(codes), "17aebf2b");
    assert_eq!(codes[..8], [3, 11, 20, 29, 37, 45, 54, 65]);
    assert_eq!(*offset, 0.098_475_166);
    assert_eq!(nested[..], [0.051_524_84, 0.051_374_98]);
    assert_eq!(matrix.bytes(), 12288 + 384 + 8 + 4);
}

#[test]
fn a_folder_that_transformers_saved_is_read_and_written_back() {
    let file = std::fs::read(golden_dir().join("nf4/model.safetensors")).unwrap();
    let tensors = SafeTensors::deserialize(&file).unwrap();
    let plain = std::fs::read(golden_dir().join("plain/model.safetensors")).unwrap();
    let plain = SafeTensors::deserialize(&plain).unwrap();
    assert!(stored_in_nf4(&read_json("nf4/config.json")).unwrap());
    assert!(!stored_in_nf4(&read_json("plain/config.json")).unwrap());
    let contains = |name: &str| tensors.tensor(name).is_ok();
    let mut read = 0;
    for name in plain.names() {
        if !is_nf4(name, contains) {
            assert!(name.contains("norm") || name.contains("embed"), "{name}");
            continue;
        }
        let matrix = Nf4Matrix::read(name, |name| tensors.tensor(name).ok()).unwrap();
        let original = plain.tensor(name).unwrap();
        let ours = Nf4Matrix::quantize_tensor(name, &original, true).unwrap();
        assert_eq!(original.shape(), [ours.rows, ours.columns]);
        assert_eq!(ours, matrix, "{name}");
        // transformers widened the weights to float32 before.
        for part in matrix.stored(name, Dtype::F32).unwrap() {
            let stored = tensors.tensor(&part.name).unwrap();
            assert_eq!(
                (stored.dtype(), stored.shape()),
                (part.dtype, &part.shape[..])
            );
            assert_eq!(stored.data(), &part.bytes[..], "{}", part.name);
        }
        read += 1;
    }
    assert_eq!(read, 14);
}

#[test]
fn a_cache_gives_back_what_was_put_in_and_is_a_safetensors_file() {
    let folder = tempfile::tempdir().unwrap();
    for double_quant in [false, true] {
        let cases: Vec<Case> = cases()
            .into_iter()
            .filter(|it| it.bytes.len() < 1 << 20)
            .collect();
        let planned = |case: &Case| Planned {
            name: case.name.clone(),
            rows: case.rows,
            columns: case.columns,
            dtype: case.dtype,
        };
        let plan = CachePlan {
            fingerprint: "0badc0de".to_owned(),
            double_quant,
            matrices: cases.iter().map(planned).collect(),
        };
        let mut writer = CacheWriter::create(folder.path(), &plan).unwrap();
        for case in cases.iter().rev() {
            writer
                .add(&case.name, &case.quantize(double_quant))
                .unwrap();
        }
        writer.finish().unwrap();

        let cached = CacheFile::open(folder.path(), &plan).unwrap().unwrap();
        let bytes = std::fs::read(plan.path(folder.path())).unwrap();
        let tensors = SafeTensors::deserialize(&bytes).unwrap();
        for case in &cases {
            let matrix = case.quantize(double_quant);
            assert_eq!(cached.read(&case.name).unwrap(), matrix, "{}", case.name);
            let read = Nf4Matrix::read(&case.name, |name| tensors.tensor(name).ok()).unwrap();
            assert_eq!(read, matrix, "{}", case.name);
        }
        for (name, tensor) in tensors.iter() {
            let place = tensor.data().as_ptr() as usize - bytes.as_ptr() as usize;
            assert_eq!(
                place % (tensor.dtype().bitsize() / 8),
                0,
                "{name} is not aligned"
            );
        }
    }
}

#[test]
fn weights_that_are_not_finite_are_refused_with_their_place() {
    for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, -f32::NAN] {
        let mut values = draw(1, 70_000);
        values[69_999] = value;
        values[40_003] = value;
        let error = Nf4Matrix::quantize(&values, 70, 1000, true).unwrap_err();
        let QuantizeError::NotFinite { row, column, .. } = error else {
            panic!("{error}");
        };
        assert_eq!((row, column), (40, 3));
        let bytes = le_bytes(&values);
        let tensor = TensorView::new(Dtype::F32, vec![70, 1000], &bytes).unwrap();
        let error = Nf4Matrix::quantize_tensor("q_proj.weight", &tensor, false).unwrap_err();
        let text = format!("{error:#}");
        assert!(
            text.contains("q_proj.weight") && text.contains("row 40, column 3"),
            "{text}"
        );
    }
    let error = Nf4Matrix::quantize(&[f32::MAX; 640], 10, 64, true).unwrap_err();
    assert_eq!(error, QuantizeError::TooLarge);
    assert!(Nf4Matrix::quantize(&[], 0, 64, true).is_err());
    assert!(Nf4Matrix::quantize(&[1.0; 63], 1, 64, true).is_err());
    assert!(Nf4Matrix::quantize_bytes(&[0; 129], Dtype::BF16, 1, 64, true).is_err());
    assert!(Nf4Matrix::quantize_bytes(&[0; 64], Dtype::U8, 1, 64, true).is_err());
}

/// Weights from many orders of magnitude, without the denormal ones, for which scales are not exact.
fn weights() -> impl Strategy<Value = Vec<f32>> {
    let any_size = (-30f32..30.0, prop::bool::ANY)
        .prop_map(|(power, negative)| power.exp2() * if negative { -1.0 } else { 1.0 });
    let weight = prop_oneof![8 => -0.1f32..0.1, 1 => any_size, 1 => Just(0.0)];
    prop::collection::vec(weight, 1..700)
}

proptest! {
    #[test]
    fn quantising_again_changes_no_code(values in weights()) {
        let once = Nf4Matrix::quantize(&values, 1, values.len(), false).unwrap();
        let again = Nf4Matrix::quantize(&once.dequantize(), 1, values.len(), false).unwrap();
        prop_assert_eq!(once, again);
    }

    #[test]
    fn the_error_is_at_most_half_the_widest_gap(values in weights()) {
        let matrix = Nf4Matrix::quantize(&values, 1, values.len(), false).unwrap();
        let widest = CODEBOOK.windows(2).map(|pair| pair[1] - pair[0]).fold(0.0, f32::max);
        for (index, (value, back)) in values.iter().zip(matrix.dequantize()).enumerate() {
            let scale = matrix.scale(index / BLOCK);
            // A few roundings of f32 beside it.
            prop_assert!((value - back).abs() <= scale * (widest / 2.0 + 1e-6));
        }
    }

    #[test]
    fn no_finite_input_panics(
        bits in prop::collection::vec(any::<u32>(), 1..200),
        double_quant: bool,
    ) {
        let values: Vec<f32> = bits.iter().map(|bits| f32::from_bits(*bits)).collect();
        match Nf4Matrix::quantize(&values, 1, values.len(), double_quant) {
            Ok(matrix) => {
                prop_assert!(values.iter().all(|value| value.is_finite()));
                prop_assert_eq!(matrix.dequantize().len(), values.len());
            }
            Err(QuantizeError::TooLarge) => prop_assert!(double_quant),
            Err(_) => prop_assert!(values.iter().any(|value| !value.is_finite())),
        }
    }

    #[test]
    fn no_state_that_a_file_may_hold_panics(state in "[\\[\\]{}\":,a-z0-9_ -]{0,80}") {
        let state = state.into_bytes();
        let view = |name: &str| {
            let state = name.contains("quant_state").then_some(&state)?;
            TensorView::new(Dtype::U8, vec![state.len()], state).ok()
        };
        prop_assert!(Nf4Matrix::read("w", view).is_err());
    }
}
