use burn_cubecl::CubeDevice;
use burn_cubecl::cubecl::client::Client;
use burn_cubecl::cubecl::prelude::*;
use burn_cubecl::cubecl::wgpu::WgpuDevice;

use super::RowLaunch;
use super::kernels::test_reductions;

/// Sum and maximum of a cube's values, through planes of `plane` units.
fn reduce(client: &Client, values: &[f32], plane: u32) -> [f32; 2] {
    let units = values.len() as u32;
    let x = client.create_from_slice(f32::as_bytes(values));
    let result = client.empty(2 * size_of::<f32>());
    // SAFETY: the lengths are those of the buffers made above.
    let (x, written) = unsafe {
        (
            BufferArg::from_raw_parts(x, values.len()),
            BufferArg::from_raw_parts(result.clone(), 2),
        )
    };
    let (count, dim) = (CubeCount::new_single(), CubeDim::new_1d(units));
    test_reductions::launch(client, count, dim, x, written, units, plane);
    let bytes = client.read_one_unchecked(result);
    [f32::from_bytes(&bytes)[0], f32::from_bytes(&bytes)[1]]
}

/// CUDA reduces through planes; without planes, only through shared memory.
#[test]
fn reductions_with_and_without_planes_on_wgpu() {
    if crate::kernel::testing::wgpu().is_none() {
        return;
    }
    let client = CubeDevice::Wgpu(WgpuDevice::default()).client();
    let plane = RowLaunch::new(&client, 1, 1).plane;
    println!("planes of {plane} units");
    for units in [32, 64, 256] {
        let values: Vec<f32> = (0..units)
            .map(|i| ((i * 37) % 101) as f32 - 200.0)
            .collect();
        let expected = [
            values.iter().sum(),
            values.iter().copied().fold(-1e9, f32::max),
        ];
        assert_eq!(reduce(&client, &values, 0), expected);
        if plane > 0 {
            assert_eq!(reduce(&client, &values, plane), expected);
        }
    }
}
