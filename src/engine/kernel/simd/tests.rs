use super::*;

struct Exp<'a>(&'a mut [f32]);

impl Vectorised for Exp<'_> {
    type Output = ();
    #[inline(always)]
    fn run<const FMA: bool>(self) {
        for value in self.0 {
            *value = exp::<FMA>(*value);
        }
    }
}

struct Reductions<'a>(&'a [f32], &'a [f32]);

impl Vectorised for Reductions<'_> {
    type Output = (f32, f64, f64);
    #[inline(always)]
    fn run<const FMA: bool>(self) -> Self::Output {
        (max(self.0), sum(self.0), dot::<FMA>(self.0, self.1))
    }
}

fn noise(count: usize, size: f32) -> Vec<f32> {
    (0..count as u32)
        .map(|i| {
            let bits = i
                .wrapping_mul(2_654_435_761)
                .rotate_left(13)
                .wrapping_mul(0x9E37_79B9);
            ((bits >> 8) as f32 / (1 << 23) as f32 - 1.0) * size
        })
        .collect()
}

#[test]
fn exponential_is_right_to_about_one_ulp() {
    let x: Vec<f32> = (0..1_000_000)
        .map(|i| -87.3 + i as f32 * (88.37 + 87.3) / 1e6)
        .chain(noise(500_000, 1.0))
        .collect();
    for vectors in [true, false] {
        let mut y = x.clone();
        if vectors {
            vectorised(Exp(&mut y));
        } else {
            Exp(&mut y).run::<false>();
        }
        let worst = x.iter().zip(&y).map(|(&x, &y)| {
            let exact = f64::from(x).exp();
            ((f64::from(y) - exact) / exact).abs()
        });
        let worst = worst.fold(0.0, f64::max);
        println!("vectors {vectors}: relative error {worst:.2e}");
        assert!(worst < 1.3e-7);
    }
}

#[test]
fn exponential_at_the_edges() {
    let mut y = [
        0.0,
        -87.4,
        -1e30,
        f32::NEG_INFINITY,
        89.0,
        f32::INFINITY,
        f32::NAN,
    ];
    vectorised(Exp(&mut y));
    assert_eq!(y[..4], [1.0, 0.0, 0.0, 0.0]);
    assert!(y[4] > 2.3e38 && y[4].is_finite() && y[5] == y[4]);
    assert!(y[6].is_nan());
}

#[test]
fn reductions_agree_with_f64_at_every_length() {
    for count in (0..70).chain([1023, 1024, 1025, 49_152, 131_072]) {
        let (x, y) = (noise(count, 3.0), noise(2 * count, 2.0)[count..].to_vec());
        let (largest, total, product) = vectorised(Reductions(&x, &y));
        let exact: f64 = x.iter().map(|&x| f64::from(x)).sum();
        let exact_product: f64 = x
            .iter()
            .zip(&y)
            .map(|(&x, &y)| f64::from(x) * f64::from(y))
            .sum();
        assert_eq!(largest, x.iter().copied().fold(f32::NEG_INFINITY, f32::max));
        assert!(
            (total - exact).abs() < 1e-8 * (count as f64 * 3.0) + 1e-5,
            "{count}"
        );
        assert!(
            (product - exact_product).abs() < 1e-8 * (count as f64 * 6.0) + 1e-5,
            "{count}"
        );
    }
}
