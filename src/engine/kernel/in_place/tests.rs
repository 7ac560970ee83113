use burn::tensor::{DType, Device, Int, Tensor, TensorData};

use super::append_rotated;

fn cache(device: &Device) -> Tensor<3> {
    let values: Vec<f32> = (0..24).map(|i| i as f32).collect();
    Tensor::from_data(TensorData::new(values, [2, 3, 4]), device)
}

fn number(value: i32, device: &Device) -> Tensor<1, Int> {
    Tensor::from_data(TensorData::new(vec![value], [1]), (device, DType::I32))
}

/// A key that is not rotated, in a cache of keys.
fn append_column(cache: Tensor<3>, new: Tensor<3>, filled: Tensor<1, Int>) -> Tensor<3> {
    let [rows, _, dim] = new.dims();
    let angles = Tensor::zeros([rows, 1, dim], &new.device());
    let (cos, sin) = (angles.clone() + 1.0, angles);
    let values = cache.zeros_like();
    let all = [new.clone(), new.clone(), new];
    append_rotated(all, [&cos, &sin], [cache, values], filled).1[0].clone()
}

#[test]
fn the_newest_column_is_written_and_no_other() {
    let device = Device::flex();
    let new: Tensor<3> = Tensor::from_data(TensorData::new(vec![-1.0f32; 8], [2, 1, 4]), &device);
    for filled in 1..=3 {
        let written = append_column(cache(&device), new.clone(), number(filled, &device));
        let mut expected: Vec<f32> = (0..24).map(|i| i as f32).collect();
        for row in 0..2 {
            let at = (row * 3 + filled as usize - 1) * 4;
            expected[at..at + 4].fill(-1.0);
        }
        assert_eq!(written.into_data().try_to_vec::<f32>().unwrap(), expected);
    }
}

#[test]
fn others_keep_their_values_on_the_cpu() {
    let device = Device::flex();
    let held = cache(&device);
    let new = Tensor::zeros([2, 1, 4], &device);
    let _ = append_column(held.clone(), new, number(1, &device));
    let values = held.into_data().try_to_vec::<f32>().unwrap();
    assert_eq!(values[..4], [0.0, 1.0, 2.0, 3.0]);
}
