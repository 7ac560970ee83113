use burn::tensor::{Device, Tensor, TensorData};

use super::few_rows_linear;
use super::reference::few_rows_linear as plain;
use moim_core::memory::limits::FEW_ROWS;

fn random(rows: usize, columns: usize) -> Tensor<2> {
    let values = (0..rows * columns)
        .map(|i| (i * 7919 % 1013) as f32 / 506.5 - 1.0)
        .collect::<Vec<_>>();
    Tensor::from_data(TensorData::new(values, [rows, columns]), &Device::flex())
}

fn values(tensor: Tensor<2>) -> Vec<f32> {
    tensor.into_data().try_to_vec().unwrap()
}

fn assert_close(found: Tensor<2>, expected: Tensor<2>) {
    let largest = expected.clone().abs().max().into_scalar::<f32>();
    let error = (found - expected).abs().max().into_scalar::<f32>();
    assert!(error <= 2e-6 * largest, "{error} of {largest}");
}

#[test]
fn the_product_is_that_of_burn() {
    for (out, columns) in [(1, 1), (7, 37), (300, 576), (64, 1536)] {
        for rows in [1, 2, 3, 5, 8, FEW_ROWS, FEW_ROWS + 1] {
            let (x, weight) = (random(rows, columns), random(out, columns));
            assert_close(few_rows_linear(x.clone(), &weight), plain(x, &weight));
        }
    }
}

#[test]
fn a_row_has_the_same_bits_in_any_batch() {
    let (x, weight) = (random(FEW_ROWS, 577), random(301, 577));
    let together = values(few_rows_linear(x.clone(), &weight));
    for row in 0..FEW_ROWS {
        let alone = values(few_rows_linear(x.clone().narrow(0, row, 1), &weight));
        assert_eq!(alone, together[row * 301..(row + 1) * 301]);
    }
}

#[test]
fn other_tensors_take_the_product_of_burn() {
    let (x, weight) = (random(3, 64), random(64, 20).transpose());
    assert_close(
        few_rows_linear(x.clone(), &weight),
        plain(x.clone(), &weight),
    );

    let weight = random(20, 64);
    let leaf = x.autodiff().require_grad();
    let gradients = few_rows_linear(leaf.clone(), &weight.clone().autodiff())
        .sum()
        .backward();
    let expected = Tensor::<2>::ones([3, 20], &Device::flex()).matmul(weight);
    assert_close(leaf.grad(&gradients).unwrap(), expected);
}
