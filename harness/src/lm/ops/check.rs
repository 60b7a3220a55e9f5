//! What every kernel has to pass: agreement with the reference in the value and in each gradient, agreement with central finite
//! differences, and the same bits on one thread and on two.

use candle_core::{Device, Result, Tensor, Var};

use crate::rng::Rng;

/// Random inputs of given shapes.
pub(super) struct Case {
    inputs: Vec<Tensor>,
    /// Absolute step of the finite differences.
    step: f32,
}

impl Case {
    /// Standard normal inputs.
    pub(super) fn new(shapes: &[&[usize]]) -> Self {
        Self { inputs: shapes.iter().enumerate().map(|(index, shape)| normal(shape, &format!("input{index}"))).collect(), step: 1e-2 }
    }

    /// A tensor that is no input, and so gets no gradient.
    pub(super) fn constant(&self, shape: &[usize]) -> Tensor {
        normal(shape, "constant")
    }

    /// Runs all the checks.
    #[track_caller]
    pub(super) fn check(&self, op: impl Fn(&[Tensor]) -> Result<Tensor> + Sync, reference: impl Fn(&[Tensor]) -> Result<Tensor>) {
        let (value, gradients) = self.run(&op);
        let (expected, expected_gradients) = self.run(&reference);
        close(&value, &expected, 2e-5, "value");
        for (index, (gradient, expected)) in gradients.iter().zip(&expected_gradients).enumerate() {
            close(gradient, expected, 1e-4, &format!("gradient {index}"));
            self.check_slope(&op, index, gradient);
        }
        let threads = |n| rayon::ThreadPoolBuilder::new().num_threads(n).build().unwrap().install(|| self.run(&op));
        assert_eq!(threads(1), threads(2), "one thread and two");
    }

    /// The value, and the gradients of its inner product with a fixed random tensor.
    fn run(&self, op: &dyn Fn(&[Tensor]) -> Result<Tensor>) -> (Vec<f32>, Vec<Vec<f32>>) {
        let vars: Vec<Var> = self.inputs.iter().map(|input| Var::from_tensor(input).unwrap()).collect();
        let tensors: Vec<Tensor> = vars.iter().map(|var| var.as_tensor().clone()).collect();
        let value = op(&tensors).unwrap();
        let store = (&value * probe(&value)).unwrap().sum_all().unwrap().backward().unwrap();
        let gradients = tensors.iter().map(|tensor| flat(store.get(tensor).expect("a gradient for every input"))).collect();
        (flat(&value), gradients)
    }

    /// Compares some elements of a gradient with the slope of the value.
    #[track_caller]
    fn check_slope(&self, op: &dyn Fn(&[Tensor]) -> Result<Tensor>, index: usize, gradient: &[f32]) {
        let scale = gradient.iter().fold(0.5f32, |top, g| top.max(g.abs()));
        let mut rng = Rng::new(11, "coordinates");
        for _ in 0..4 {
            let element = rng.below(gradient.len());
            let moved = |by: f32| self.moved(op, index, element, by);
            let slope = (moved(self.step) - moved(-self.step)) / f64::from(2.0 * self.step);
            let difference = (slope - f64::from(gradient[element])).abs();
            assert!(difference < 0.01 * f64::from(scale), "input {index}[{element}]: slope {slope}, gradient {}", gradient[element]);
        }
    }

    fn moved(&self, op: &dyn Fn(&[Tensor]) -> Result<Tensor>, index: usize, element: usize, by: f32) -> f64 {
        let mut inputs = self.inputs.clone();
        let mut data = flat(&inputs[index]);
        data[element] += by;
        inputs[index] = Tensor::from_vec(data, inputs[index].shape(), &Device::Cpu).unwrap();
        let value = op(&inputs).unwrap();
        flat(&value).iter().zip(flat(&probe(&value))).map(|(a, b)| f64::from(*a) * f64::from(b)).sum()
    }
}

fn probe(value: &Tensor) -> Tensor {
    normal(value.dims(), "probe")
}

fn normal(shape: &[usize], stream: &str) -> Tensor {
    let mut rng = Rng::new(5, stream);
    let data: Vec<f32> = (0..shape.iter().product()).map(|_| rng.normal() as f32).collect();
    Tensor::from_vec(data, shape, &Device::Cpu).unwrap()
}

fn flat(tensor: &Tensor) -> Vec<f32> {
    tensor.flatten_all().unwrap().to_vec1().unwrap()
}

#[track_caller]
fn close(got: &[f32], expected: &[f32], tolerance: f32, what: &str) {
    assert_eq!(got.len(), expected.len(), "{what}");
    let scale = expected.iter().fold(1f32, |top, x| top.max(x.abs()));
    for (index, (got, expected)) in got.iter().zip(expected).enumerate() {
        assert!((got - expected).abs() <= tolerance * scale, "{what}[{index}]: {got}, expected {expected}");
    }
}
