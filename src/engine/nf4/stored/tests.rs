use std::collections::BTreeMap;

use super::*;

type File = BTreeMap<String, (Dtype, Vec<usize>, Vec<u8>)>;

fn file(double_quant: bool) -> File {
    let values: Vec<f32> = (0..640)
        .map(|i| ((i * 37 % 101) as f32 - 50.0) / 1000.0)
        .collect();
    let matrix = Nf4Matrix::quantize(&values, 10, 64, double_quant).unwrap();
    let tensors = matrix.stored("q.weight", Dtype::BF16).unwrap();
    tensors
        .into_iter()
        .map(|tensor| {
            (
                tensor.name,
                (tensor.dtype, tensor.shape, tensor.bytes.into_owned()),
            )
        })
        .collect()
}

fn read(file: &File) -> Result<Nf4Matrix> {
    Nf4Matrix::read("q.weight", |name| {
        let (dtype, shape, bytes) = file.get(name)?;
        TensorView::new(*dtype, shape.clone(), bytes).ok()
    })
}

/// The message for a file with one tensor changed.
fn refusal(part: &str, change: impl Fn(&mut (Dtype, Vec<usize>, Vec<u8>))) -> String {
    let mut file = file(true);
    change(file.get_mut(&format!("q.weight{part}")).unwrap());
    format!("{:#}", read(&file).unwrap_err())
}

fn says(from: &str, to: &str) -> String {
    refusal(&format!(".{STATE}"), |(_, shape, bytes)| {
        let text = String::from_utf8(bytes.clone()).unwrap();
        assert!(text.contains(from), "{text}");
        *bytes = text.replace(from, to).into_bytes();
        *shape = vec![bytes.len()];
    })
}

#[test]
fn written_is_read() {
    for double_quant in [false, true] {
        let file = file(double_quant);
        assert_eq!(file.len(), if double_quant { 6 } else { 4 });
        let matrix = read(&file).unwrap();
        assert_eq!((matrix.rows, matrix.columns, matrix.blocks()), (10, 64, 10));
        assert!(is_nf4("q.weight", |name| file.contains_key(name)));
    }
    assert!(!is_nf4("q.weight", |name| name == "q.weight"));
    let matrix = Nf4Matrix::quantize(&[1.0], 1, 1, true).unwrap();
    assert!(matrix.stored("q.weight", Dtype::U8).is_err());
}

#[test]
fn other_states_are_refused_by_name() {
    for (from, to, expected) in [
        ("\"nf4\"", "\"fp4\"", "quant_type is \"fp4\""),
        (
            "\"blocksize\": 64",
            "\"blocksize\": 128",
            "blocksize is 128",
        ),
        (
            "\"nested_blocksize\": 256",
            "\"nested_blocksize\": 512",
            "nested_blocksize is Some(512)",
        ),
        ("float32", "float16", "nested_dtype"),
        ("[10, 64]", "[640]", "shape is [640]"),
        ("[10, 64]", "[0, 64]", "shape"),
        ("[10, 64]", "[18446744073709551615, 2]", "shape"),
        (
            "[10, 64]",
            "[64, 64]",
            "q.weight is U8 [320, 1]; the format has U8 [2048, 1]",
        ),
        ("{", "[", "JSON"),
        (
            "\"nested_offset\": 0.0",
            "\"nested_offset\": 9999999999999999999999999999999999999999.0",
            "not finite",
        ),
    ] {
        let text = says(from, to);
        assert!(
            text.contains(expected) && text.contains("q.weight"),
            "{text}"
        );
    }
}

#[test]
fn broken_tensors_are_refused_by_name() {
    let nan = |(_, _, bytes): &mut (Dtype, Vec<usize>, Vec<u8>)| {
        bytes[..4].copy_from_slice(&f32::NAN.to_le_bytes());
    };
    let text = refusal(".quant_map", nan);
    assert!(
        text.contains("q.weight.quant_map") && text.contains("entry 0"),
        "{text}"
    );
    assert!(refusal(".nested_quant_map", nan).contains("entry 0"));
    assert!(refusal(".nested_absmax", nan).contains("not finite"));
    let text = refusal(".absmax", |tensor| tensor.0 = Dtype::I8);
    assert!(text.contains("q.weight.absmax is I8"), "{text}");
    for name in file(true).keys() {
        let mut file = file(true);
        file.remove(name);
        let text = format!("{:#}", read(&file).unwrap_err());
        assert!(
            text.contains(name.as_str()) && text.contains("missing"),
            "{text}"
        );
    }
    // A map that another version of torch rounded elsewhere.
    let mut near = file(true);
    let (_, _, bytes) = near.get_mut("q.weight.nested_quant_map").unwrap();
    bytes[0] ^= 1;
    read(&near).unwrap();
}

#[test]
fn other_quantised_forms_are_refused_with_the_way_out() {
    for (tensor, expected) in [
        ("q.weight.quant_state.bitsandbytes__fp4", "in FP4"),
        ("q.SCB", "in int8"),
        ("q.qweight", "GPTQ"),
        ("q.weight_scale_inv", "FP8"),
    ] {
        let file = File::from([(tensor.to_owned(), (Dtype::U8, vec![1], vec![0]))]);
        let text = read(&file).unwrap_err().to_string();
        assert!(
            text.contains(expected) && text.contains("original weights"),
            "{text}"
        );
    }
}

#[test]
fn numbers_are_written_as_python_writes_them() {
    for (value, expected) in [
        (0.0, "0.0"),
        (-0.0, "-0.0"),
        (1.0, "1.0"),
        (0.098_475_165_665_149_69, "0.09847516566514969"),
        (1e-4, "0.0001"),
        (1.5e-5, "1.5e-05"),
        (-1e-5, "-1e-05"),
        (1.175_494_350_822_287_5e-38, "1.1754943508222875e-38"),
        (1e15, "1000000000000000.0"),
        (1e16, "1e+16"),
        (3.402_823_466_385_288_6e38, "3.4028234663852886e+38"),
    ] {
        assert_eq!(python_float(value), expected);
    }
}
